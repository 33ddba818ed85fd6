// SPDX-License-Identifier: Apache-2.0
// See gpus.h.
#include "nccl/gpus.h"

#include <unistd.h>

#include <atomic>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/env.h"
#include "base/fork.h"
#include "gpu/cuda_shared.h"

namespace tutti::nccl {
namespace {

// Mapped where the device can, so that it can be a window of ranks in any processes.
struct GpuMemory {
  gpu::DeviceMemory ordinary;
  std::optional<gpu::MappedMemory> mapped;
  void* at() const { return reinterpret_cast<void*>(mapped ? mapped->address() : ordinary.get()); }
};

// Never destroyed. Memory that ncclMemAlloc gave, by its address.
struct Given {
  std::mutex mutex;
  std::unordered_map<void*, GpuMemory> memory;
};
Given& given() {
  static Given& only = *[] {
    auto* const made = new Given;
    guard_at_fork(made->mutex);
    return made;
  }();
  return only;
}

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

// Peers of this process use it as they use memory of cuMemAlloc.
Status open_to_peers(const gpu::CudaDevicePtr& owner, const gpu::MappedMemory& memory) {
  const gpu::CudaRun& cuda = owner->cuda();
  std::vector<int> readers;
  int count = 0;
  gpu::CudaDevice mine = 0, other = 0;
  TUTTI_TRY(owner->status(cuda.count(&count), "cuDeviceGetCount"));
  TUTTI_TRY(owner->status(cuda.by_ordinal(&mine, owner->ordinal()), "cuDeviceGet"));
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    int can = ordinal == owner->ordinal();
    if (can == 0 && cuda.by_ordinal(&other, ordinal) == gpu::kCudaSuccess)
      (void)cuda.can_access_peer(&can, other, mine);
    if (can != 0) readers.push_back(ordinal);
  }
  return gpu::give_access(owner, memory.address(), memory.size(), readers);
}

Result<GpuMemory> allocate(const gpu::CudaDevicePtr& device, size_t bytes) {
  GpuMemory made;
  if (device->attribute(gpu::kCudaVirtualMemory) == 0 || device->attribute(gpu::kCudaPosixHandles) == 0) {
    TUTTI_ASSIGN_OR_RETURN(made.ordinary, gpu::allocate_device(device, bytes));
    return made;
  }
  TUTTI_ASSIGN_OR_RETURN(made.mapped, gpu::MappedMemory::create(device, bytes));
  TUTTI_TRY(open_to_peers(device, *made.mapped));
  return made;
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
  TUTTI_ASSIGN_OR_RETURN(GpuMemory memory, allocate(device, bytes));
  void* const at = memory.at();
  const std::lock_guard lock(given().mutex);
  given().memory.emplace(at, std::move(memory));
  return at;
}

bool free_on_gpu(void* memory) {
  GpuMemory freed;  // outlives the lock: freeing waits for the device
  const std::lock_guard lock(given().mutex);
  const auto found = given().memory.find(memory);
  if (found == given().memory.end()) return false;
  freed = std::move(found->second);
  given().memory.erase(found);
  return true;
}

}  // namespace tutti::nccl
