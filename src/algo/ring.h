// SPDX-License-Identifier: Apache-2.0
// Ring schedules: every rank receives from its predecessor and sends to its successor only. Bandwidth-optimal, and the
// fewest connections; latency grows with n. Used for large buffers.
//
// All but the chains relay: a step takes a slice and sends one on. Were every FIFO full, nobody could move, so a ring
// needs one slot more than the slices of a step (catalog: slots).
#pragma once

#include "algo/schedule.h"

namespace tutti {

struct RingArgs : ScheduleArgs {
  TUTTI_HD constexpr Peers prev() const { return Peers::one(wrap(me - 1, n)); }
  TUTTI_HD constexpr Peers next() const { return Peers::one(wrap(me + 1, n)); }
};

// n blocks travel once to collect the sum, once more to deliver it.
//
//   rank 0 of 4    k     0     1     2     3     4     5     6
//                  move  S     RRS   RRS   RRCS  RCS   RCS   RC    R receive  R reduce  C keep  S send
//                  block 3     2     1     0     3     2     1
//
// Invariant: what arrives at step k (1 <= k < n) is the sum over exactly the k ranks before me; from k = n on, over
// all.
struct RingAllReduce : RingArgs {
  TUTTI_HD constexpr int steps() const { return 2 * n - 1; }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(true);
    const int block = (me - 1 - k + 3 * n) % n;
    if (k == 0) return {.src = Buffer::Input, .src_block = block, .to = next()};
    if (k < n - 1) {
      return {.src = Buffer::Input, .reduce = true, .src_block = block, .from = prev(), .to = next()};
    }
    if (k == n - 1) {
      return {.src = Buffer::Input,
              .reduce = true,
              .last = true,
              .src_block = block,
              .dst_block = block,
              .from = prev(),
              .to = next()};
    }
    return {.dst_block = block, .from = prev(), .to = k < 2 * n - 2 ? next() : Peers{}};
  }
};

// The first half of the all-reduce: block b starts at rank b + 1 and ends, complete, at rank b.
//
//   rank 0 of 4    k     0     1     2     3
//                  move  S     RRS   RRS   RRC
//                  block 3     2     1     0
//
// Invariant: what arrives at step k >= 1 is the sum over exactly the k ranks before me.
struct RingReduceScatter : RingArgs {
  TUTTI_HD constexpr int steps() const { return n; }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(true);
    const int block = (me - 1 - k + 2 * n) % n;
    if (k == 0) return {.src = Buffer::Input, .src_block = block, .to = next()};
    if (k < n - 1) {
      return {.src = Buffer::Input, .reduce = true, .src_block = block, .from = prev(), .to = next()};
    }
    return {.src = Buffer::Input, .reduce = true, .last = true, .src_block = me, .dst_block = 0, .from = prev()};
  }
};

// Everyone's block makes one tour.
//
//   rank 0 of 4    k     0     1     2     3
//                  move  CS    RCS   RCS   RC
//                  block 0     3     2     1
//
// Invariant: what arrives at step k >= 1 is the block of the rank k places before me.
struct RingAllGather : RingArgs {
  TUTTI_HD constexpr int steps() const { return n; }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(false);
    if (k == 0) return {.src = Buffer::Input, .dst_block = me, .to = next()};
    return {.dst_block = wrap(me - k, n), .from = prev(), .to = k < n - 1 ? next() : Peers{}};
  }
};

// A chain from the root: one step per rank, pipelined over slices.
//
//   root 1 of 4:   1 -> 2 -> 3 -> 0
//
// Invariant: no rank waits for one after it, so one slot is enough.
struct RingBroadcast : RingArgs {
  TUTTI_HD constexpr int steps() const { return 1; }
  TUTTI_HD constexpr Step at(int) const {
    const int place = wrap(me - root, n);
    Step step{.dst_block = 0};
    if (place == 0) step.src = Buffer::Input;
    if (place != 0) step.from = prev();
    if (place != n - 1) step.to = next();
    return step;
  }
};

// The chain that ends at the root, in the same direction, so that it shares the broadcast's connections.
//
//   root 1 of 4:   2 -> 3 -> 0 -> 1
//
// Invariant: what leaves the rank k places behind the root (k >= 1) is the sum over k ranks.
struct RingReduce : RingArgs {
  TUTTI_HD constexpr int steps() const { return 1; }
  TUTTI_HD constexpr Step at(int) const {
    if (n == 1) return local_step(true);
    const int place = wrap(me - root, n);
    if (place == 1) return {.src = Buffer::Input, .to = next()};
    if (place != 0) return {.src = Buffer::Input, .reduce = true, .from = prev(), .to = next()};
    return {.src = Buffer::Input, .reduce = true, .last = true, .dst_block = 0, .from = prev()};
  }
};

}  // namespace tutti
