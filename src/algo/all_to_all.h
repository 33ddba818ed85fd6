// SPDX-License-Identifier: Apache-2.0
// All-to-all: everything at once, or by pairwise exchange.
#pragma once

#include "algo/schedule.h"

namespace tutti {

// All blocks leave before the first is awaited: one dependent exchange whatever n is, and with several ranks on a core
// one round of switches.
//
//   rank 0 of 3    k     0     1     2     3     4
//                  move  S     S     C     RC    RC
//                  block 1     2     0     2     1
//
// Invariant: of each round, all of the input has been read (k < n) before any of the output is written (k >= n), but
// for my own block: in place works.
struct DirectAllToAll : ScheduleArgs {
  TUTTI_HD constexpr int steps() const { return 2 * n - 1; }
  TUTTI_HD constexpr Step at(int k) const {
    if (k == n - 1) return {.src = Buffer::Input, .src_block = me, .dst_block = me};
    if (k < n - 1) {
      const int to = (me + 1 + k) % n;
      return {.src = Buffer::Input, .src_block = to, .to = Peers::one(to)};
    }
    const int from = (me + 2 * n - 1 - k) % n;  // me - 1 sends to me first
    return {.dst_block = from, .from = Peers::one(from)};
  }
};

// n exchanges; in exchange x the partner of `me` is (x - me) mod n, and I am my partner's partner. First my block for
// the partner leaves, then the partner's block for me takes its place. Once per tour the partner is myself: a copy.
//
//   n = 4   exchange   0     1     2     3
//           rank 0     self  1     2     3
//           rank 1     3     0     self  2
//           rank 2     self  3     0     1
//           rank 3     1     2     self  0
//
// Invariant: block p of the input leaves before block p of the output is written: in place works.
struct PairwiseAllToAll : ScheduleArgs {
  TUTTI_HD constexpr int steps() const { return 2 * n - 1; }
  TUTTI_HD constexpr Step at(int k) const {
    const int self = 2 * (2 * me % n);  // my own exchange has one step, all others two
    if (k == self) return {.src = Buffer::Input, .src_block = me, .dst_block = me};
    const int slot = k < self ? k : k + 1;
    const int peer = wrap(slot / 2 - me, n);
    if (slot % 2 == 0) return {.src = Buffer::Input, .src_block = peer, .to = Peers::one(peer)};
    return {.dst_block = peer, .from = Peers::one(peer)};
  }
};

}  // namespace tutti
