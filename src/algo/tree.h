// SPDX-License-Identifier: Apache-2.0
// Tree schedules over a pair of binary trees: logarithmic latency at nearly full bandwidth. Used for medium buffers.
//
// Ranks are placed at positions 0 (the root) to n - 1. Positions 1 ... n - 1 form an in-order binary tree: a position
// divisible by 2^h but not 2^(h+1) has height h, so odd positions are leaves and neighbours in rank are near in the
// tree. The root hangs above it, with one child.
//
//   n = 8                  0
//                          |            height
//                          4            2
//                     2         6       1
//                  1     3   5     7    0
//
// Channels alternate between two trees. The second one shifts positions 1 ... n - 1 by one place, so that who is inside
// one tree is a leaf of the other (both are leaves at one position when n is even), and each rank sends about as much
// as every other. Sanders, Speck, Traeff: "Two-tree algorithms for full bandwidth broadcast, reduction and scan" (2009)
// gives the idea of two trees with swapped roles; keeping one root for both is what a rooted collective needs, and does
// no harm to an all-reduce.
//
// Where trees were found on a topology (channel_map.h), channels use those: chains inside a host, spanning trees that
// are packed onto uneven links, double binary trees across hosts.
#pragma once

#include "algo/schedule.h"

namespace tutti {

// Where `me` stands in the tree that this channel uses.
struct TreeArgs : ScheduleArgs {
  TUTTI_HD constexpr bool is_root() const { return mapped() ? trees().parent_of(tree(), me) < 0 : me == root; }
  TUTTI_HD constexpr Peers parent() const {
    if (mapped()) return trees().parent(tree(), me);
    const int v = place();
    if (v == 0) return {};
    const int height = v & -v;
    const int above = (v - height) | (2 * height);  // the in-order parent; where it lies beyond n, the one below it
    return Peers::one(rank_at(above < n ? above : v - height));
  }
  TUTTI_HD constexpr Peers children() const {
    if (mapped()) return trees().below(tree(), me);
    const int v = place();
    Peers below;
    if (v == 0) {
      if (n > 1) below.add(rank_at(1 << floor_log2(n - 1)));
      return below;
    }
    const int half = (v & -v) / 2;
    if (half == 0) return below;
    below.add(rank_at(v - half));
    for (int step = half; step > 0; step /= 2) {  // the right subtree's top, or what is left of it below n
      if (v + step >= n) continue;
      below.add(rank_at(v + step));
      break;
    }
    return below;
  }

 private:
  // Trees of the topology that hang from the root wanted (an all-reduce wants none).
  TUTTI_HD constexpr bool mapped() const {
    return channel_map != nullptr && channel_map->trees.count > 0 &&
           (channel_map->root < 0 || channel_map->root == root);
  }
  TUTTI_HD constexpr const SpanningTrees& trees() const { return channel_map->trees; }
  TUTTI_HD constexpr int tree() const { return channel % trees().count; }
  TUTTI_HD constexpr bool shifted() const { return channel % 2 == 1 && n > 1; }
  TUTTI_HD constexpr int place() const {
    const int v = wrap(me - root, n);
    return v == 0 || !shifted() ? v : v % (n - 1) + 1;
  }
  TUTTI_HD constexpr int rank_at(int v) const {
    if (v != 0 && shifted()) v = v == 1 ? n - 1 : v - 1;
    return (root + v) % n;
  }
};

// Two parts, so that a slice can go down while the next comes up. Part 0 reduces upward; at the root it completes the
// sum, keeps it and sends it down. Part 1 brings it down at everyone else.
//
//   n = 4, part 0          0  RRCS        part 1       0  (nothing)
//                          |                           |
//                          2  RRS                      2  RCS
//                        1   3  S                    1   3  RC
//
// Invariant: part 0 sends the sum over its subtree. A result for a slice comes down only after the own input of that
// slice has left, so writing it in place destroys nothing.
struct TreeAllReduce : TreeArgs {
  TUTTI_HD constexpr int steps() const { return part == 0 || !is_root() ? 1 : 0; }
  TUTTI_HD constexpr Step at(int) const {
    if (part == 1) return {.dst_block = 0, .from = parent(), .to = children()};
    if (is_root()) {
      return {.src = Buffer::Input, .reduce = true, .last = true, .dst_block = 0, .from = children(), .to = children()};
    }
    return {.src = Buffer::Input, .reduce = !children().none(), .from = children(), .to = parent()};
  }
};

// Invariant: no rank waits for one below it, so one slot is enough.
struct TreeBroadcast : TreeArgs {
  TUTTI_HD constexpr int steps() const { return 1; }
  TUTTI_HD constexpr Step at(int) const {
    return {.src = is_root() ? Buffer::Input : Buffer::None, .dst_block = 0, .from = parent(), .to = children()};
  }
};

// Invariant: each rank sends the sum over its subtree.
struct TreeReduce : TreeArgs {
  TUTTI_HD constexpr int steps() const { return 1; }
  TUTTI_HD constexpr Step at(int) const {
    return {.src = Buffer::Input,
            .reduce = is_root() || !children().none(),
            .last = is_root(),
            .dst_block = is_root() ? 0 : -1,
            .from = children(),
            .to = parent()};
  }
};

}  // namespace tutti
