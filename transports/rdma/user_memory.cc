// SPDX-License-Identifier: Apache-2.0
// See user_memory.h.
#include "transports/rdma/user_memory.h"

#include <algorithm>

#include "base/log.h"

namespace tutti {

UserMemory::Lease UserMemory::lease(const RdmaNic& nic, const std::byte* at, uint64_t bytes, RdmaNic::Access access) {
  const bool written = access == RdmaNic::Access::PeersWrite;
  for (Entry& entry : entries_) {
    if (entry.nic != &nic || !entry.contains(at, bytes) || entry.memory.expired()) continue;
    if (written && entry.access == RdmaNic::Access::Read) continue;
    entry.used = ++uses_;
    return entry.lease;
  }
  const std::shared_ptr<SharedMemory> memory = find_shared_memory(at, bytes);
  if (memory == nullptr) return nullptr;
  make_room();
  Result<verbs::MemoryRegion> made = nic.register_memory(memory->base(), memory->bytes(), access);
  if (made.ok())
    log_info(Subsystem::Transport, "rdma: {} {} {} bytes of tuttiMemAlloc where they lie", nic.name(),
             written ? "reads and writes" : "reads", memory->bytes());
  else
    log_warn(Subsystem::Transport, "rdma: {} bytes of tuttiMemAlloc are copied {}: {}", memory->bytes(),
             written ? "when they have come" : "before they are sent", made.status().message());
  entries_.push_back({.nic = &nic,
                      .memory = memory,
                      .base = memory->base(),
                      .bytes = memory->bytes(),
                      .access = access,
                      .lease = made.ok() ? Lease(std::move(*made)) : nullptr,
                      .used = ++uses_});
  return entries_.back().lease;
}

// Of what has ended, and else of what has not been used for the longest.
void UserMemory::make_room() {
  std::erase_if(entries_, [](const Entry& entry) { return entry.memory.expired(); });
  if (entries_.size() < most_) return;
  entries_.erase(std::min_element(entries_.begin(), entries_.end(),
                                  [](const Entry& a, const Entry& b) { return a.used < b.used; }));
}

}  // namespace tutti
