// SPDX-License-Identifier: Apache-2.0
// Times calls of ranks on the GPUs of this machine, all of this process, through the public API.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "gpu/cuda.h"
#include "tools/tutti/tune/calls.h"

namespace tutti::tool {

class GpuBench {
 public:
  // All GPUs of the first one's kind. The error says why there is none that can be used.
  static Result<std::unique_ptr<GpuBench>> open();

  const std::string& gpu() const { return gpu_; }
  int gpus() const { return static_cast<int>(devices_.size()); }

  // As time_calls(): ranks go round the GPUs, each with a stream, and a call of all ranks is one group. A batch is so
  // many groups, from the first call until all streams are done. Buffers are those of the batch before, on the GPU.
  Result<std::vector<std::vector<double>>> time(const Calls& calls, double budget_ms) const;

 private:
  GpuBench() = default;

  std::string gpu_;
  std::vector<gpu::CudaDevicePtr> devices_;
};

}  // namespace tutti::tool
