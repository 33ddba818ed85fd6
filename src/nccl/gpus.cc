// SPDX-License-Identifier: Apache-2.0
// See gpus.h.
#include "nccl/gpus.h"

#include <unistd.h>

#include <atomic>

#include "base/env.h"
#include "gpu/cuda_given.h"

namespace tutti::nccl {
namespace {

// The control device of NVIDIA's driver, or that of its paravirtual form under WSL.
bool look() {
  if (env().nccl_cpu) return false;
  if (!env().cuda_library.empty()) return true;
  return access("/dev/nvidiactl", F_OK) == 0 || access("/dev/dxg", F_OK) == 0;
}

// The driver, or why ranks cannot be on GPUs and what else there is.
Result<const gpu::CudaRun*> driver(const char* function) {
  Result<const gpu::CudaRun*> loaded = gpu::load_cuda(env().cuda_library);
  if (loaded.ok()) return loaded;
  return Status(loaded.status().code(), fmt::format("{}: {}; or set TUTTI_NCCL_CPU=1 if all buffers are host memory",
                                                    function, loaded.status().message()));
}

}  // namespace

bool on_gpus() {
  static std::atomic<int> answer{-1};  // relaxed: whoever looks finds the same
  int known = answer.load(std::memory_order_relaxed);
  if (known < 0) [[unlikely]] {
    known = look() ? 1 : 0;
    answer.store(known, std::memory_order_relaxed);
  }
  return known != 0;
}

Result<int> current_device(const char* function) {
  TUTTI_ASSIGN_OR_RETURN(const gpu::CudaRun* const cuda, driver(function));
  gpu::CudaContext context = nullptr;
  TUTTI_TRY(gpu::cuda_status(*cuda, cuda->context_current(&context), "cuCtxGetCurrent", -1));
  gpu::CudaDevice device = 0;
  if (context != nullptr) TUTTI_TRY(gpu::cuda_status(*cuda, cuda->context_device(&device), "cuCtxGetDevice", -1));
  return device;
}

Result<void*> allocate_on_gpu(const char* function, size_t bytes) {
  TUTTI_ASSIGN_OR_RETURN(const int ordinal, current_device(function));
  TUTTI_ASSIGN_OR_RETURN(const gpu::CudaRun* const cuda, driver(function));
  TUTTI_ASSIGN_OR_RETURN(const gpu::CudaDevicePtr device, gpu::CudaContextOwner::retain(*cuda, ordinal));
  return gpu::give_memory(device, bytes, gpu::Unmappable::Ordinary);
}

}  // namespace tutti::nccl
