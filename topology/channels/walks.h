// SPDX-License-Identifier: Apache-2.0
// Walks: rings and chains through all devices of a network, as many at a time as its links carry. A link carries as
// many walks of one speed as that speed goes into its bandwidth; the search tries speeds, and for each as many walks as
// the devices' links could carry, by depth first with a limit on its steps: it always ends, and always in the same way.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "topology/channels/routes.h"

namespace tutti::topology {

enum class WalkKind : uint8_t {
  Ring,   // a circle; where there is a world, from it and back to it
  Chain,  // every link both ways: what goes up and what comes down; its first device talks to the world
};

// How rings meet the NICs of other domains.
enum class Rails : uint8_t {
  None,       // there is no world
  Same,       // in and out by one NIC
  Alternate,  // in and out by the nearest NICs; every other domain walks the other way round, so rails are kept
};

struct Walk {
  std::vector<int32_t> devices;       // in order
  int32_t nic_in = -1, nic_out = -1;  // vertices; a chain has one
  std::vector<int32_t> arcs;          // what it uses, an entry per use
};

struct WalkSet {
  double unit_gbps = 0;                  // what each arc of a walk carries per use
  std::vector<std::vector<Walk>> walks;  // by class of networks; as many in each
  size_t count() const { return walks.empty() ? 0 : walks[0].size(); }
  double total() const { return unit_gbps * static_cast<double>(count()); }
};

struct WalkClass {
  const Network* network;
  const Routes* routes;
};

struct WalkLimits {
  int32_t most = 32;             // walks
  double most_unit_gbps = 1e30;  // of one walk
  double enough_gbps = 1e30;     // a total that cannot be surpassed: the search may stop
  int64_t steps = 0;             // in all
  int32_t chain_end_uses = 2;    // of a chain's link to the world, each way
  std::function<void(double unit, int32_t count, double best)> progress = {};
};

// The most that was found; the same speed and number in all classes. Empty when some device cannot be reached at all.
WalkSet search_walks(const std::vector<WalkClass>& classes, WalkKind kind, Rails rails, const WalkLimits& limits);

// Speed at which these walks of one network fit, given what each uses.
double fitting_unit(const Network& network, const std::vector<Walk>& walks);

}  // namespace tutti::topology
