// SPDX-License-Identifier: Apache-2.0
// LoadedKernels: the kernels of all protocols on one device, loaded when the first communicator there asks and shared
// by all of them. Host only.
//
// Nothing of it may be left to the first launch: a launch that had to load code, or to make room for a kernel's stack,
// would wait for all work of the device, also for kernels that wait for this very launch.
#pragma once

#include <memory>
#include <string>

#include "exec/cuda/work.h"
#include "gpu/cuda_module.h"

namespace tutti::cuda {

std::string kernel_name(KernelProto proto);

class LoadedKernels {
 public:
  // Loads them if nobody holds them on this device. May wait for work of the device; not while a stream is captured in
  // this thread, unless gpu::AllowedWhileCapturing. Threads: any.
  static Result<std::shared_ptr<const LoadedKernels>> on(const gpu::CudaDevicePtr& device);

  const gpu::CudaKernel& kernel(KernelProto proto) const { return kernels_[static_cast<int>(proto)]; }
  // Blocks of `threads` threads that the device holds at once if nothing else runs.
  Result<int> most_blocks_at_once(KernelProto proto, unsigned threads, unsigned shared_bytes) const {
    return gpu::most_blocks_at_once(device_, kernel(proto), threads, shared_bytes);
  }
  const gpu::CudaDevicePtr& device() const { return device_; }

 private:
  explicit LoadedKernels(gpu::CudaDevicePtr device) : device_(std::move(device)) {}
  Status load();

  gpu::CudaDevicePtr device_;
  std::unique_ptr<gpu::CudaModuleOwner> modules_[kKernelProtos];
  gpu::CudaKernel kernels_[kKernelProtos];
};

// All blocks of the launch at once, or an error; of stepped launches, which never wait, as they come.
Status launch(const LoadedKernels& kernels, KernelProto proto, const gpu::CudaStream& stream, unsigned blocks,
              unsigned threads, unsigned shared_bytes, const CudaLaunch& what);

}  // namespace tutti::cuda
