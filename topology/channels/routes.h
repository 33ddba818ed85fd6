// SPDX-License-Identifier: Apache-2.0
// Routes: the way data takes between two devices of a network, and between a device and the world. One way per pair, as
// hardware has it: a direct NVLink (or xGMI) if there is one, else through NVSwitches, else the shortest way through
// PCIe and NUMA nodes. To the world there is one way per NIC, the nearest NICs first.
#pragma once

#include <cstdint>
#include <vector>

#include "topology/channels/network.h"

namespace tutti::topology {

struct Route {
  std::vector<int32_t> arcs;  // none: there is no way
  double gbps = 0;            // of the narrowest arc

  bool exists() const { return !arcs.empty(); }
  int32_t hops() const { return static_cast<int32_t>(arcs.size()); }
};

// Between a device and the world through one NIC.
struct Exit {
  int32_t nic = -1;      // vertex
  int32_t distance = 0;  // equal: equally near (NUMA nodes crossed count most, then hops)
  Route out, in;
};

class Routes {
 public:
  explicit Routes(const Network& network);
  // Two different devices.
  const Route& between(int32_t from, int32_t to) const { return routes_[static_cast<size_t>(from * devices_ + to)]; }
  const std::vector<Exit>& exits(int32_t device) const { return exits_[static_cast<size_t>(device)]; }
  // Is no NIC nearer to this device?
  bool is_nearest(int32_t device, int32_t nic) const;
  const std::vector<int32_t>& nics() const { return nics_; }  // vertices that lead to the world

 private:
  int32_t devices_;
  std::vector<Route> routes_;
  std::vector<std::vector<Exit>> exits_;
  std::vector<int32_t> nics_;
};

}  // namespace tutti::topology
