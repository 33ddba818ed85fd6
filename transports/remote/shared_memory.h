// SPDX-License-Identifier: Apache-2.0
// SharedMemory: memory of tuttiMemAlloc. An object of its own (a sealed memfd, or a nameless file of /dev/shm where
// memfd is refused), filled with pages at once, so that what runs out runs out at the allocation and not in the middle
// of a collective. Peers that map it keep its pages alive, whatever happens to its owner.
//
// Huge pages are used when the system has free ones reserved (MFD_HUGETLB); otherwise, where the kernel backs shared
// memory with transparent ones.
//
// Threads: any. The list of living objects is locked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/handle.h"
#include "base/status.h"
#include "transports/arena.h"

namespace tutti {

class SharedMemory {
 public:
  // At least `bytes` > 0 bytes, zeroed, at a page boundary.
  static Result<std::shared_ptr<SharedMemory>> create(uint64_t bytes);

  std::byte* base() const { return mapping_.base(); }
  uint64_t bytes() const { return mapping_.bytes(); }
  int descriptor() const { return descriptor_.get(); }
  bool is_file() const { return is_file_; }

 private:
  SharedMemory() = default;

  UniqueFd descriptor_;
  Mapping mapping_;
  bool is_file_ = false;
};

// The living objects of this process, by address: those that the user has and has not freed.
void keep_shared_memory(std::shared_ptr<SharedMemory> memory);
// Ends the user's hold on the object that starts at `base`; null if there is none. Windows may hold it longer.
std::shared_ptr<SharedMemory> drop_shared_memory(const void* base);
// The object that contains [address, address + bytes); null if there is none.
std::shared_ptr<SharedMemory> find_shared_memory(const void* address, uint64_t bytes);

}  // namespace tutti
