// SPDX-License-Identifier: Apache-2.0
// PeerArena: where each connection lies in the memory that ranks of different processes share. Computed from numbers
// that are the same on all ranks, so that handles are exchanged once, at the start, and nothing is negotiated later.
//
//   arena of a rank (its GPU's memory, or the host's)
//       controls      by use, channel and peer: its heads towards the peer; tail and descriptors of what comes from it
//       lines         by use, channel and peer: slots of LL from the peer, then of all those of LL128
//       slots         by use, channel and peer: slots of Simple from the peer
//   words of a rank (host memory), instead of the heads and tails above where streams wait for them
//       by use, channel and peer: head and tail of Simple
//
// Controls and lines start zeroed.
#pragma once

#include <cstdint>

#include "exec/cuda/work.h"
#include "transports/transport.h"

namespace tutti::cuda {

struct PeerArena {
  int n = 1, channels = 1;     // ranks that have arenas, and are numbered among themselves
  uint64_t simple_bytes = 0;   // slots of a Simple connection, together
  uint64_t line_bytes = 0;     // slots of an LL connection, together; 0: there are none
  uint64_t line128_bytes = 0;  // the same of LL128

  struct Control {
    CounterLine head, line_head, line128_head;
    TailLine tail;
    SlotDescriptor descriptors[SimpleMemory::kMaxSlots];
  };
  struct Words {
    CounterLine head;
    TailLine tail;
  };

  static constexpr uint64_t kAlign = 4096;
  static constexpr uint64_t align(uint64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

  uint64_t connections() const { return 2 * static_cast<uint64_t>(channels) * static_cast<uint64_t>(n); }
  uint64_t lines() const { return align(connections() * sizeof(Control)); }
  uint64_t lines128() const { return lines() + align(connections() * line_bytes); }
  uint64_t slots() const { return lines128() + align(connections() * line128_bytes); }
  uint64_t bytes() const { return slots() + connections() * simple_bytes; }
  uint64_t zeroed() const { return slots(); }
  uint64_t words_bytes() const { return align(connections() * sizeof(Words)); }  // of one rank

  uint64_t index(Use use, int channel, int peer) const {
    return (static_cast<uint64_t>(use) * static_cast<uint64_t>(channels) + static_cast<uint64_t>(channel)) *
               static_cast<uint64_t>(n) +
           static_cast<uint64_t>(peer);
  }
  uint64_t control_at(uint64_t index) const { return index * sizeof(Control); }
  uint64_t line_at(uint64_t index) const { return lines() + index * line_bytes; }
  uint64_t line128_at(uint64_t index) const { return lines128() + index * line128_bytes; }
  uint64_t slot_at(uint64_t index) const { return slots() + index * simple_bytes; }
};

// Where a rank's part is found by kernels of one device.
struct PeerPlace {
  std::byte* arena = nullptr;
  std::byte* words = nullptr;  // null: heads and tails are in the arena
};

}  // namespace tutti::cuda
