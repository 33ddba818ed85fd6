// SPDX-License-Identifier: Apache-2.0
// The arenas of this process, by communicator and host group (inproc_transport.h).
#include "transports/inproc/inproc_transport.h"

#include <map>
#include <mutex>
#include <utility>

#include "base/fork.h"

namespace tutti {
namespace {

// A process may stand for several hosts (TUTTI_HOST_ID in tests), so the group's first rank is part of the key.
using ArenaKey = std::pair<CommunicatorTag, int>;

struct Registry {
  std::mutex mutex;
  std::map<ArenaKey, std::weak_ptr<ProcessArena>> arenas;  // guarded by mutex; expired entries go in ~ProcessArena
};

Registry& registry() {
  static Registry& one = *[] {
    auto* const made = new Registry;  // never destroyed: transports may outlive static destruction
    guard_at_fork(made->mutex);
    return made;
  }();
  return one;
}

}  // namespace

class ProcessArena {
 public:
  ProcessArena(ArenaKey key, const ArenaLayout& layout, Mapping memory)
      : key_(std::move(key)), layout_(layout), memory_(std::move(memory)) {}
  ~ProcessArena() {
    Registry& all = registry();
    const std::lock_guard lock(all.mutex);
    const auto at = all.arenas.find(key_);
    // Another arena may have taken the place since our last reference went.
    if (at != all.arenas.end() && at->second.expired()) all.arenas.erase(at);
  }

  const ArenaLayout& layout() const { return layout_; }
  std::byte* base() const { return memory_.base(); }

 private:
  ArenaKey key_;
  ArenaLayout layout_;
  Mapping memory_;
};

namespace {

Result<std::shared_ptr<ProcessArena>> join(const ArenaKey& key, const ArenaLayout& layout) {
  Registry& all = registry();
  std::shared_ptr<ProcessArena> arena;  // outlives the lock: its destructor takes it too
  const std::lock_guard lock(all.mutex);
  const auto at = all.arenas.find(key);
  if (at != all.arenas.end()) arena = at->second.lock();
  if (arena == nullptr) {
    TUTTI_ASSIGN_OR_RETURN(Mapping memory, Mapping::anonymous(layout.bytes()));
    arena = std::make_shared<ProcessArena>(key, layout, std::move(memory));
    all.arenas[key] = arena;
  }
  return arena;
}

}  // namespace

Result<std::unique_ptr<InprocTransport>> InprocTransport::create(const CommunicatorTag& tag, HostGroup group,
                                                                 const ArenaLayout& layout) {
  TUTTI_TRY(check_group(group, layout));
  TUTTI_ASSIGN_OR_RETURN(std::shared_ptr<ProcessArena> arena, join({tag, group.ranks.front()}, layout));
  if (arena->layout() != layout)
    return invalid_usage(
        "rank {} computed an arena of {} bytes, another rank of this process one of {}: "
        "give all ranks the same channels and TUTTI_BUFFER_BYTES",
        group.me, layout.bytes(), arena->layout().bytes());
  return std::unique_ptr<InprocTransport>(new InprocTransport(std::move(group), layout, std::move(arena)));
}

InprocTransport::InprocTransport(HostGroup group, const ArenaLayout& layout, std::shared_ptr<ProcessArena> arena)
    : MappedTransport(std::move(group), layout, arena->base()), arena_(std::move(arena)) {}

}  // namespace tutti
