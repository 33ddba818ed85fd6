// SPDX-License-Identifier: Apache-2.0
// Bounds: no algorithm can be faster on this network. From minimum cuts; docs/planner.md has the argument and its
// sources. All figures are bus bandwidth as the tests of collectives define it: what one rank's link would have to
// carry in a ring, so that bounds, rings and trees compare.
#pragma once

#include <vector>

#include "topology/channels/network.h"

namespace tutti::topology {

// What is asked, as far as bandwidth cares.
enum class Pattern : uint8_t {
  AllReduce,
  Reduce,
  Broadcast,
  AllGather,
  ReduceScatter,
  AllToAll,
  Gather,
  Scatter,
  SendRecv,  // from rank 0 (the root) to the next
};

// Bytes of bus bandwidth per byte of the whole buffer: 2 (n - 1) / n of an all-reduce.
double bus_factor(Pattern pattern, int32_t ranks);

// A network, and how many domains have one like it.
struct DomainClass {
  const Network* network = nullptr;
  int32_t domains = 1;
};

struct Bound {
  double bus_gbps = 0;
  // The cut that is full: the devices on the one side, by vertex of the network of `domain_class`; its GB/s.
  int32_t domain_class = 0;
  std::vector<int32_t> side;
  double cut_gbps = 0;
  bool many_sides = false;  // every group of devices against all others (a partition), `side` being the first group
};

// What crosses the narrowest cut between any two ranks, in its narrower direction: every ring and every tree has to.
double narrowest_cut_gbps(const Network& network);

// `root` is a device of class 0 where the pattern has one; `next`, for SendRecv, holds the rank after it: a vertex of that
// network, its world included. Ranks that share a device are joined by `local_gbps`.
Bound bandwidth_bound(const std::vector<DomainClass>& classes, Pattern pattern, int32_t root, int32_t next,
                      double local_gbps);

}  // namespace tutti::topology
