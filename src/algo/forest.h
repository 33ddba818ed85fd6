// SPDX-License-Identifier: Apache-2.0
// Forest schedules: for what is cut into blocks, a tree of its own for the block of each rank. Where no circle comes
// near what the cuts of a topology allow, trees that were packed onto its links do, one away from (or towards) each
// rank (channel_map.h). Without a topology the tree of a rank is the circle, cut open there: the tours of ring.h.
#pragma once

#include "algo/schedule.h"

namespace tutti {

struct ForestArgs : ScheduleArgs {
  TUTTI_HD constexpr int steps() const { return n; }

 protected:
  TUTTI_HD constexpr bool mapped() const { return channel_map != nullptr && channel_map->forests.count > 0; }
  // Whose tree step k is about.
  TUTTI_HD constexpr int owner(int k, int unmapped) const {
    return mapped() ? channel_map->steps[(channel % channel_map->forest_count() * n + me) * n + k] : unmapped;
  }
  TUTTI_HD constexpr int tree(int of) const { return channel % channel_map->forest_count() * n + of; }
  TUTTI_HD constexpr Peers parent(int of) const { return channel_map->forests.parent(tree(of), me); }
  TUTTI_HD constexpr Peers children(int of) const { return channel_map->forests.below(tree(of), me); }
};

// Each block comes down its tree. On the circle:
//
//   rank 0 of 4    k     0     1     2     3
//                  move  CS    RCS   RCS   RC
//                  block 0     3     2     1
//
// Invariant: a block is sent on in the step in which it arrives.
struct ForestAllGather : ForestArgs {
  TUTTI_HD constexpr Step at(int k) const {
    const int block = owner(k, wrap(me - k, n));
    Step step{.src = block == me ? Buffer::Input : Buffer::None, .dst_block = block};
    if (mapped()) {
      step.from = parent(block);
      step.to = children(block);
      return step;
    }
    if (k > 0) step.from = Peers::one(wrap(me - 1, n));
    if (k < n - 1) step.to = Peers::one(wrap(me + 1, n));
    return step;
  }
};

// Each block is summed up its tree, and is complete at its rank. On the circle:
//
//   rank 0 of 4    k     0     1     2     3
//                  move  S     RRS   RRS   RRC
//                  block 3     2     1     0
//
// Invariant: what leaves a rank is the sum over its subtree.
struct ForestReduceScatter : ForestArgs {
  TUTTI_HD constexpr Step at(int k) const {
    const int block = owner(k, (me - 1 - k + 2 * n) % n);
    const bool mine = block == me;
    Step step{.src = Buffer::Input, .last = mine, .src_block = block, .dst_block = mine ? 0 : -1};
    if (mapped()) {
      step.from = children(block);
      step.to = parent(block);
    } else {
      if (k > 0) step.from = Peers::one(wrap(me - 1, n));
      if (k < n - 1) step.to = Peers::one(wrap(me + 1, n));
    }
    step.reduce = mine || !step.from.none();
    return step;
  }
};

}  // namespace tutti
