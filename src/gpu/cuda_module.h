// SPDX-License-Identifier: Apache-2.0
// Kernels of an image that this library carries, and their launches.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "gpu/cuda_stream.h"

namespace tutti::gpu {

// Valid as long as its module.
struct CudaKernel {
  CudaFunction function = nullptr;
  int most_threads = 0;  // of a block
  int registers = 0;     // of a thread
  int local_bytes = 0;   // of a thread: stack and spilled registers
};

struct GridShape {
  unsigned blocks = 1, threads = 32, shared_bytes = 0;
  // All blocks run at once, or the launch fails: for blocks that wait for each other. A launch of which a part has no
  // place yet does not begin.
  bool all_at_once = false;
};

class CudaModuleOwner {
 public:
  // `built_for` is for the error: the architectures in the image; empty: none was built.
  static Result<CudaModuleOwner> load(const CudaDevicePtr& device, std::span<const unsigned char> image,
                                      std::string_view built_for);

  // Loads its code now: a launch that had to do it would wait for all work of the device. Not cached here.
  Result<CudaKernel> kernel(const std::string& name) const;

 private:
  explicit CudaModuleOwner(CudaDevicePtr device) : device_(std::move(device)) {}

  CudaDevicePtr device_;
  CudaOwned<CudaModule, &end::module> module_;
};

// `parameter`: the kernel's only one, passed by value; it may be changed when this has returned.
Status launch(const CudaStream& stream, const CudaKernel& kernel, const GridShape& shape, const void* parameter);

// Blocks of this kernel that the device holds at once, if nothing else runs.
Result<int> most_blocks_at_once(const CudaDevicePtr& device, const CudaKernel& kernel, unsigned threads,
                                unsigned shared_bytes);

// Makes room for kernels with so much local memory in each thread. A launch that needs more than there is would wait
// for all work of the device, which deadlocks where that work waits for the launch. Waits for the device itself where
// it has to make room: for set-up.
Status reserve_local_memory(const CudaDevicePtr& device, int bytes_per_thread);

}  // namespace tutti::gpu
