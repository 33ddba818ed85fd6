// SPDX-License-Identifier: Apache-2.0
// The arena: the memory that the ranks of one communicator share on one host, and where each connection lies in it.
//
// Every place is computed from {local ranks, channels, sizes}, the same on every rank, so nothing is negotiated. The
// memory is sparse and starts zeroed: zeroed memory is a valid empty FIFO, and pages that no one touches cost nothing.
//
//   arena          | joined lines | control page of each rank | pair connections           | fan-out connections |
//                  |              | (health board)            | [sender][receiver][index]  | [sender][channel]   |
//                                                               index: channel, or the one for point-to-point
//
//   pair           | page: descriptors | tail .. head .. LL head | LL slots, staggered | Simple slots |
//   fan-out        | page(s): descriptors | tail .. heads[] | LL heads[] | LL slots, near ones | Simple slots |
//
// Who writes what is said in proto/slots.h; here lines of different writers are 128 bytes apart, because the
// adjacent-line prefetcher pulls 64-byte lines in pairs. The counters of connections that one rank polls would all
// share a set of its L1 cache if each lay at the start of a page, so they rotate inside their page, and so do the LL
// slots.
//
// Not here: who gets the memory (inproc/, shm/) and what uses it (mapped.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "base/status.h"
#include "proto/slots.h"
#include "transports/transport.h"

namespace tutti {

inline constexpr uint64_t kPageBytes = 4096;

// Offsets of one connection from the start of the arena. [begin, begin + bytes) belongs to it alone.
struct ConnectionPlace {
  uint64_t begin = 0, bytes = 0;
  uint64_t descriptors = 0, tail = 0, heads = 0, ll_heads = 0, ll_slots = 0, slots = 0;
  uint64_t ll_near = 0;  // 0: none
  int readers = 0;
  uint64_t capacity = 0;
  uint64_t ll_slot_count = 0;

  SimpleMemory simple(std::byte* base) const;
  LLMemory ll(std::byte* base) const;
};

struct ArenaShape {
  int local_ranks = 0;        // ranks of the communicator on this host
  int channels = 0;           // 0: most_channels(local_ranks)
  uint64_t buffer_bytes = 0;  // bytes of Simple slots of one connection (TUTTI_BUFFER_BYTES); 0: by local_ranks
  bool share_cores = false;   // more ranks than cores: fan-outs have near LL slots
};

class ArenaLayout {
 public:
  static constexpr int kMostLocalRanks = 4096;
  static constexpr int kMostChannels = 64;
  // Channels for which an arena of this many ranks has room by default.
  static int most_channels(int local_ranks);
  static Result<ArenaLayout> compute(const ArenaShape& shape);

  int local_ranks() const { return local_ranks_; }
  uint64_t bytes() const { return bytes_; }
  const TransportLimits& limits() const { return limits_; }

  // One line per rank, written by that rank when it has mapped the arena.
  uint64_t joined_line(int local) const { return static_cast<uint64_t>(local) * sizeof(CounterLine); }
  // In the same line, written by that rank when it has moved to another core.
  uint64_t core_word(int local) const { return joined_line(local) + sizeof(uint64_t); }
  // 4 KiB written by that rank alone, read by all.
  uint64_t control_page(int local) const { return control_ + static_cast<uint64_t>(local) * kPageBytes; }
  // Joined lines and control pages together: [0, shared_head_bytes()).
  uint64_t shared_head_bytes() const { return pairs_; }
  // Pair connections per (sender, receiver): one per channel, one for point-to-point.
  int per_pair() const { return limits_.channels + 1; }
  int pair_index(int channel, Use use) const { return use == Use::PointToPoint ? limits_.channels : channel; }
  ConnectionPlace pair(int sender, int receiver, int index) const;
  ConnectionPlace fan(int sender, int channel) const;
  // Which of a fan-out connection's readers `reader` is: the ranks other than the sender, in order.
  static int fan_reader(int sender, int reader) { return reader < sender ? reader : reader - 1; }

  bool operator==(const ArenaLayout&) const = default;

 private:
  int local_ranks_ = 0;
  TransportLimits limits_;
  uint64_t control_ = 0, pairs_ = 0, fans_ = 0, bytes_ = 0;
  uint64_t pair_bytes_ = 0, fan_bytes_ = 0, ll_area_bytes_ = 0, near_area_bytes_ = 0, fan_counters_bytes_ = 0;
};

// Memory of the arena, or of a FIFO at one end of a network connection: unmapped once.
class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept
      : base_(std::exchange(other.base_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(base_, other.base_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Mapping();

  // Zeroed memory of this process; small pages, so that what is not touched costs nothing.
  static Result<Mapping> anonymous(uint64_t bytes);
  // The first `bytes` of a shared memory object. `what` names it in errors.
  static Result<Mapping> shared(int fd, uint64_t bytes, std::string_view what);

  // Makes the pages present now rather than at their first use. Best effort.
  void populate() const;

  std::byte* base() const { return base_; }
  uint64_t bytes() const { return bytes_; }

 private:
  std::byte* base_ = nullptr;
  uint64_t bytes_ = 0;
};

}  // namespace tutti
