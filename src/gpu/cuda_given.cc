// SPDX-License-Identifier: Apache-2.0
// See cuda_given.h.
#include "gpu/cuda_given.h"

#include <map>
#include <mutex>
#include <vector>

#include "base/fork.h"
#include "gpu/cuda_shared.h"
#include "gpu/cuda_stream.h"

namespace tutti::gpu {

class GivenMemory {
 public:
  std::optional<MappedMemory> mapped;
  DeviceMemory ordinary;
  size_t bytes = 0;
  uint64_t process = process_generation();

  CudaAddress start() const { return mapped ? mapped->address() : ordinary.get(); }
};

namespace {

// What the program holds, by address.
struct Given {
  std::mutex mutex;
  std::map<CudaAddress, std::shared_ptr<const GivenMemory>> held;
};
Given& given() {
  static Given& only = *[] {
    auto* const made = new Given;  // never destroyed: memory may outlive static destruction
    guard_at_fork(made->mutex);
    return made;
  }();
  return only;
}

CudaAddress address(const void* at) { return static_cast<CudaAddress>(reinterpret_cast<uintptr_t>(at)); }

// Peers of this process use it as they use memory of cuMemAlloc.
Status open_to_peers(const CudaDevicePtr& owner, const MappedMemory& memory) {
  const CudaRun& cuda = owner->cuda();
  std::vector<int> readers;
  int count = 0;
  CudaDevice mine = 0, other = 0;
  TUTTI_TRY(owner->status(cuda.count(&count), "cuDeviceGetCount"));
  TUTTI_TRY(owner->status(cuda.by_ordinal(&mine, owner->ordinal()), "cuDeviceGet"));
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    int can = ordinal == owner->ordinal();
    if (can == 0 && cuda.by_ordinal(&other, ordinal) == kCudaSuccess) (void)cuda.can_access_peer(&can, other, mine);
    if (can != 0) readers.push_back(ordinal);
  }
  return give_access(owner, memory.address(), memory.size(), readers);
}

}  // namespace

Result<void*> give_memory(const CudaDevicePtr& device, size_t bytes, Unmappable otherwise) {
  const AllowedWhileCapturing allowed(device->cuda());
  const bool maps = device->attribute(kCudaVirtualMemory) != 0 && device->attribute(kCudaPosixHandles) != 0;
  if (!maps && otherwise == Unmappable::Refuse)
    return error(Code::CudaError,
                 "CUDA device {} or its driver has no virtual memory management with file descriptors (cuMemCreate): "
                 "allocate with cudaMalloc, whose memory can be a window as well",
                 device->ordinal());
  auto made = std::make_shared<GivenMemory>();
  made->bytes = bytes;
  if (maps) {
    TUTTI_ASSIGN_OR_RETURN(made->mapped, MappedMemory::create(device, bytes));
    made->bytes = made->mapped->size();
    TUTTI_TRY(open_to_peers(device, *made->mapped));
  } else {
    TUTTI_ASSIGN_OR_RETURN(made->ordinary, allocate_device(device, bytes));
  }
  const CudaAddress start = made->start();
  const std::lock_guard lock(given().mutex);
  given().held[start] = std::move(made);
  return reinterpret_cast<void*>(static_cast<uintptr_t>(start));
}

Result<bool> take_back_memory(const void* at) {
  std::shared_ptr<const GivenMemory> freed;  // outlives the lock: its end may wait for the device
  const std::lock_guard lock(given().mutex);
  const auto found = given().held.find(address(at));
  if (found == given().held.end()) return false;
  if (found->second->process != process_generation())
    return invalid_usage("the memory was allocated before this process was forked: it is the parent's to free");
  freed = std::move(found->second);
  given().held.erase(found);
  return true;
}

std::shared_ptr<const GivenMemory> find_given_memory(const void* at) {
  const std::lock_guard lock(given().mutex);
  auto next = given().held.upper_bound(address(at));
  if (next == given().held.begin()) return nullptr;
  const auto& [start, memory] = *--next;
  return address(at) - start < memory->bytes ? memory : nullptr;
}

}  // namespace tutti::gpu
