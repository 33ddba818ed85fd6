// SPDX-License-Identifier: Apache-2.0
// ChannelMap: the rings and trees that were found on a topology, as schedules see them: who is next to whom in each
// channel. Without one, ranks stand on the circle in the order of their numbers, and trees are binary. Made once per
// collective and root (ChannelTable, host only; plan/fabric.h makes it from what the search found), and read by
// schedules, executors, the planner and the prover.
//
//   rings     a circle over all ranks; channel c uses circle c mod rings
//   trees     a spanning tree over all ranks; channel c uses tree c mod trees
//   forests   n spanning trees, one away from (or towards) each rank; channel c uses forest c mod forests
//
// A forest is walked level by level, all of its trees at once: away from the roots a rank takes the trees in the order
// of its depth in them (its own tree first), towards the roots the other way round. What arrives at one level left at
// the level before, so both ends of a connection have one order, and slots for what two successive levels send there
// are enough: when all have done level t - 1, all that left up to t - 2 has been received, and everybody can do level
// t.
#pragma once

#include <span>
#include <vector>

#include "algo/step.h"
#include "base/host_device.h"

namespace tutti {

// Spanning trees over the same ranks, side by side. Lists of children are in increasing order.
struct SpanningTrees {
  int n = 1, count = 0;
  int depth = 0;                 // messages from a root to its farthest leaf, at most
  const int* parents = nullptr;  // tree by tree, by rank; -1: the root
  const int* begin = nullptr;    // tree by tree, by rank, and one more: where its children begin in `children`
  const int* children = nullptr;

  TUTTI_HD constexpr int parent_of(int tree, int rank) const { return parents[tree * n + rank]; }
  TUTTI_HD constexpr Peers parent(int tree, int rank) const {
    const int above = parent_of(tree, rank);
    return above < 0 ? Peers{} : Peers::one(above);
  }
  TUTTI_HD constexpr Peers below(int tree, int rank) const {
    const int* const from = begin + tree * n + rank;
    return from[1] == from[0] ? Peers{} : Peers::all_of(children + from[0], from[1] - from[0]);
  }
};

struct ChannelMap {
  int n = 1;
  int root = -1;  // the trees hang from this rank, for a rooted collective; -1: from any
  int rings = 0;
  const int* order = nullptr;  // ring by ring: the ranks along the circle
  const int* place = nullptr;  // ring by ring, by rank: where it is on the circle
  SpanningTrees trees;
  SpanningTrees forests;       // `count` is n times their number; tree r of a forest is that of rank r
  const int* steps = nullptr;  // forest by forest, by rank: the n trees in the order in which it takes them
  int forest_slots = 1;        // of a connection, per slice of a step

  TUTTI_HD constexpr int forest_count() const { return forests.count / n; }
};

// Owns what a ChannelMap refers to. Not copyable: the map points into it.
class ChannelTable {
 public:
  using Parents = std::vector<int>;  // by rank; -1: the root
  struct Shapes {
    std::vector<std::vector<int>> rings;  // the ranks along each circle
    std::vector<Parents> trees;
    std::vector<Parents> forests;  // n trees each: that of rank 0 first
    bool towards_roots = false;    // the forests sum up
    int root = -1;
  };
  // Every ring passes every rank once, every tree spans all ranks (a programmer's error otherwise).
  ChannelTable(int n, const Shapes& shapes);
  ChannelTable(const ChannelTable&) = delete;
  ChannelTable& operator=(const ChannelTable&) = delete;

  const ChannelMap& map() const { return map_; }

 private:
  struct Trees {
    std::vector<int> parents, begin, children;
    SpanningTrees make(int n, const std::vector<Parents>& trees);
  };

  void order_steps(const Shapes& shapes);

  std::vector<int> order_, place_, steps_;
  Trees trees_, forests_;
  ChannelMap map_;
};

// Turns a tree round so that it hangs from `root`.
void hang_from(int root, ChannelTable::Parents& parents);

}  // namespace tutti
