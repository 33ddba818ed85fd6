// SPDX-License-Identifier: Apache-2.0
// Ring schedules: every rank receives from its predecessor and sends to its successor only. Bandwidth-optimal, and the
// fewest connections; latency grows with n. Used for large buffers. The circle is that of the channel (channel_map.h),
// or the ranks in the order of their numbers, as in the pictures.
//
// All but the chains relay: a step takes a slice and sends one on. Were every FIFO full, nobody could move, so a ring
// needs one slot more than the slices of a step (catalog: slots).
#pragma once

#include "algo/schedule.h"

namespace tutti {

struct RingArgs : ScheduleArgs {
  // Where I am on the circle of this channel, and who is at a place. Blocks that belong to ranks are named by rank.
  TUTTI_HD constexpr int place() const { return place_of(me); }
  TUTTI_HD constexpr int place_of(int rank) const { return mapped() ? channel_map->place[first() + rank] : rank; }
  TUTTI_HD constexpr int rank_at(int place) const { return mapped() ? channel_map->order[first() + place] : place; }
  TUTTI_HD constexpr Peers prev() const { return Peers::one(rank_at(wrap(place() - 1, n))); }
  TUTTI_HD constexpr Peers next() const { return Peers::one(rank_at(wrap(place() + 1, n))); }

 private:
  TUTTI_HD constexpr bool mapped() const { return channel_map != nullptr && channel_map->rings > 0; }
  TUTTI_HD constexpr int first() const { return channel % channel_map->rings * n; }
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
    const int block = (place() - 1 - k + 3 * n) % n;
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
    const int block = rank_at((place() - 1 - k + 2 * n) % n);
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
    return {.dst_block = rank_at(wrap(place() - k, n)), .from = prev(), .to = k < n - 1 ? next() : Peers{}};
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
    const int behind = wrap(place() - place_of(root), n);
    Step step{.dst_block = 0};
    if (behind == 0) step.src = Buffer::Input;
    if (behind != 0) step.from = prev();
    if (behind != n - 1) step.to = next();
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
    const int behind = wrap(place() - place_of(root), n);
    if (behind == 1) return {.src = Buffer::Input, .to = next()};
    if (behind != 0) return {.src = Buffer::Input, .reduce = true, .from = prev(), .to = next()};
    return {.src = Buffer::Input, .reduce = true, .last = true, .dst_block = 0, .from = prev()};
  }
};

}  // namespace tutti
