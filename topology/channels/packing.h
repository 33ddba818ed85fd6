// SPDX-License-Identifier: Apache-2.0
// Packing: spanning trees that share the links of a network, so that in sum they carry as much as the cuts allow. Each
// tree is the cheapest under prices that grow exponentially with what a link already carries (Garg and Koenemann's
// method for packing linear programs, in whole trees), and is then put back once more at the prices of all others.
// Where that leaves much of what trees could carry, a number of trees of a speed that divides the links' is negotiated:
// links with too many trees become dearer from round to round until none has too many (McMurchie and Ebeling,
// PathFinder, 1995).
#pragma once

#include <cstdint>
#include <vector>

#include "topology/channels/routes.h"

namespace tutti::topology {

// Over the devices of a network: the parent of each by vertex, -1 for the root.
struct SpanningTree {
  int32_t root = 0;
  std::vector<int32_t> parent;
};

struct TreeSet {
  double unit_gbps = 0;  // what each tree carries (per direction, if it is used both ways)
  std::vector<SpanningTree> trees;
  double limit_gbps = 0;  // what any set of such trees carries at most; 0: nobody had to ask
  double total() const { return unit_gbps * static_cast<double>(trees.size()); }
};

// Trees used both ways at a time, up and down (all-reduce). `most_gbps`: what cuts allow in sum.
//
// Below 0.9 of that `limit_gbps` says how much is left to trees at all: whatever prices links have, no tree costs less
// than the cheapest, so trees carry no more in sum than all links are worth by its cost. The prices are those of Garg
// and Koenemann's method, and what they give is an upper bound wherever the method stops.
TreeSet pack_two_way_trees(const Network& network, const Routes& routes, double most_gbps, int32_t most_trees);
// Trees away from roots. `roots` lists each root as often as its share of the data: every tree carries one such share.
TreeSet pack_rooted_trees(const Network& network, const Routes& routes, const std::vector<int32_t>& roots,
                          double most_gbps, int32_t most_trees);

}  // namespace tutti::topology
