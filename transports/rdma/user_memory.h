// SPDX-License-Identifier: Apache-2.0
// UserMemory: which buffers of the user the devices reach where they lie, so that what is lent to a connection
// (transport.h) leaves without a copy to its slots, and what a lane waits for arrives without one. A cache of
// registrations, one for each device and object of tuttiMemAlloc, made when something of it is first sent or awaited.
//
// A registration speaks of pages, a buffer of addresses: the two part when memory is freed and its addresses are used
// again. So only memory whose end this library sees is registered. An entry is good while its SharedMemory lives, and
// that unmaps its pages only after the last hold on it is gone: an address found in a living entry is the memory that
// was registered, and what is later allocated there is another object with an entry of its own. Other memory (malloc,
// mmap) is copied: nobody tells when it ends, and a fork would part it from its pages.
//
// At most `most` registrations; the one not used for the longest goes first, and its pages are let go when the last
// message that leaves from them, or was told to go there, is through (Lease).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "transports/rdma/rdma_devices.h"
#include "transports/remote/shared_memory.h"

namespace tutti {

class UserMemory {
 public:
  // Who holds it keeps the memory registered. Null: it is not.
  using Lease = std::shared_ptr<const ibv_mr>;

  static constexpr size_t kMost = 64;  // chosen: an object or two for each buffer of a training step's calls
  explicit UserMemory(size_t most = kMost) : most_(most) {}

  // To be read, or for peers to write as well, who have its key then.
  Lease lease(const RdmaNic& nic, const std::byte* at, uint64_t bytes, RdmaNic::Access access = RdmaNic::Access::Read);
  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    const RdmaNic* nic = nullptr;
    std::weak_ptr<SharedMemory> memory;
    const std::byte* base = nullptr;
    uint64_t bytes = 0;
    RdmaNic::Access access = RdmaNic::Access::Read;
    Lease lease;  // null: the device has refused it
    uint64_t used = 0;

    bool contains(const std::byte* at, uint64_t count) const {
      return at >= base && count <= bytes && static_cast<uint64_t>(at - base) <= bytes - count;
    }
  };
  void make_room();

  size_t most_;
  std::vector<Entry> entries_;
  uint64_t uses_ = 0;
};

}  // namespace tutti
