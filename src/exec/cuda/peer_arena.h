// SPDX-License-Identifier: Apache-2.0
// Where connections lie in memory that ranks of different processes use, or that a third GPU lends. Computed from
// numbers that are the same on all ranks, so that handles are exchanged once, at the start, and nothing is negotiated
// later.
//
//   end of a rank towards a peer: its heads towards the peer; tail, descriptors, lines and slots of what comes from it
//   arena: ends that lie in the memory of one GPU, or of the host
//       controls      by use, channel and end: heads, tail and descriptors
//       lines         by use, channel and end: slots of LL, then of all those of LL128
//       slots         by use, channel and end: slots of Simple
//   words of a rank, in memory of the host: instead of heads and tails of Simple, where streams wait for them
//
// An end lies in the arena of its rank. Where the peer's GPU cannot map that, both ends of the two lie in the arena of
// a rank whose GPU both map, as guests, or in that of the host (comm/cuda_routes.h). Controls and lines start zeroed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "exec/cuda/work.h"
#include "transports/transport.h"

namespace tutti::cuda {

struct PeerArena {
  int ends = 1, channels = 1;
  uint64_t simple_bytes = 0;   // slots of a Simple connection, together
  uint64_t line_bytes = 0;     // slots of an LL connection, together; 0: there are none
  uint64_t line128_bytes = 0;  // the same of LL128

  struct Control {
    CounterLine head, line_head, line128_head;
    TailLine tail;
    SlotDescriptor descriptors[SimpleMemory::kMostInFlight];
  };

  static constexpr uint64_t kAlign = 4096;
  static constexpr uint64_t align(uint64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

  uint64_t places() const { return 2 * static_cast<uint64_t>(channels) * static_cast<uint64_t>(ends); }
  uint64_t lines() const { return align(places() * sizeof(Control)); }
  uint64_t lines128() const { return lines() + align(places() * line_bytes); }
  uint64_t slots() const { return lines128() + align(places() * line128_bytes); }
  uint64_t bytes() const { return slots() + places() * simple_bytes; }
  uint64_t zeroed() const { return slots(); }

  uint64_t index(Use use, int channel, int end) const {
    return (static_cast<uint64_t>(use) * static_cast<uint64_t>(channels) + static_cast<uint64_t>(channel)) *
               static_cast<uint64_t>(ends) +
           static_cast<uint64_t>(end);
  }
  uint64_t control_at(uint64_t index) const { return index * sizeof(Control); }
  uint64_t line_at(uint64_t index) const { return lines() + index * line_bytes; }
  uint64_t line128_at(uint64_t index) const { return lines128() + index * line128_bytes; }
  uint64_t slot_at(uint64_t index) const { return slots() + index * simple_bytes; }
};

// Of one rank, by use, channel and peer.
struct PeerWords {
  int n = 1, channels = 1;
  struct Words {
    CounterLine head;
    TailLine tail;
  };
  uint64_t connections() const { return 2 * static_cast<uint64_t>(channels) * static_cast<uint64_t>(n); }
  uint64_t bytes() const { return PeerArena::align(connections() * sizeof(Words)); }
  uint64_t index(Use use, int channel, int peer) const {
    return (static_cast<uint64_t>(use) * static_cast<uint64_t>(channels) + static_cast<uint64_t>(channel)) *
               static_cast<uint64_t>(n) +
           static_cast<uint64_t>(peer);
  }
};

// Which arena each end lies in, and as which of its ends. Ranks are numbered among those that have arenas; so are
// arenas, by their ranks, and last comes that of the host.
class PeerMap {
 public:
  struct Place {
    int home = 0, end = 0;
  };
  PeerMap() = default;
  // home(me, peer): the arena in which my end towards the peer lies. Ends count up in the order of (me, peer).
  template <class Home>
  PeerMap(int n, Home home) : n_(n), places_(pair(n, 0)), ends_(static_cast<size_t>(n) + 1) {
    for (int me = 0; me < n; ++me) {
      for (int peer = 0; peer < n; ++peer) {
        const int where = home(me, peer);
        places_[pair(me, peer)] = {where, ends_[static_cast<size_t>(where)]++};
      }
    }
  }
  int n() const { return n_; }
  int host() const { return n_; }
  Place of(int me, int peer) const { return places_[pair(me, peer)]; }
  int ends(int home) const { return ends_[static_cast<size_t>(home)]; }
  bool any_by_host() const { return n_ > 0 && ends(host()) > 0; }
  // In the memory of one rank's GPU.
  int most_ends() const { return n_ == 0 ? 0 : *std::max_element(ends_.begin(), ends_.end() - 1); }

 private:
  size_t pair(int me, int peer) const {
    return static_cast<size_t>(me) * static_cast<size_t>(n_) + static_cast<size_t>(peer);
  }
  int n_ = 0;
  std::vector<Place> places_;
  std::vector<int> ends_;
};

}  // namespace tutti::cuda
