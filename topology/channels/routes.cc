// SPDX-License-Identifier: Apache-2.0
#include "topology/channels/routes.h"

#include <algorithm>
#include <functional>

namespace tutti::topology {
namespace {

size_t at(int32_t index) { return static_cast<size_t>(index); }

// Fewest hops, then the widest, from one vertex to all, over vertices that `forwards` admits.
class Shortest {
 public:
  Shortest(const Network& network, int32_t from, const std::function<bool(int32_t)>& forwards)
      : network_(network), from_(from), reached_(at(network.size())) {
    reached_[at(from)] = {.hops = 0, .gbps = 1e30};
    std::vector<int32_t> line{from};
    for (size_t next = 0; next < line.size(); ++next) {
      const int32_t v = line[next];
      if (v != from && !forwards(v)) continue;
      for (const int32_t id : network.out[at(v)]) {
        const Arc& arc = network.arcs[at(id)];
        if (arc.gbps <= 0) continue;
        const Reached candidate{reached_[at(v)].hops + 1, std::min(reached_[at(v)].gbps, arc.gbps), id};
        Reached& there = reached_[at(arc.to)];
        if (there.hops < 0) line.push_back(arc.to);
        if (there.hops < 0 || (there.hops == candidate.hops && there.gbps < candidate.gbps)) there = candidate;
      }
    }
  }

  Route to(int32_t end) const {
    Route route;
    if (reached_[at(end)].hops <= 0) return route;
    route.gbps = reached_[at(end)].gbps;
    for (int32_t v = end; v != from_; v = network_.arcs[at(route.arcs.back())].from)
      route.arcs.push_back(reached_[at(v)].arc);
    std::reverse(route.arcs.begin(), route.arcs.end());
    return route;
  }

 private:
  struct Reached {
    int32_t hops = -1;
    double gbps = 0;
    int32_t arc = -1;
  };
  const Network& network_;
  int32_t from_;
  std::vector<Reached> reached_;
};

Route turned(const Network& network, const Route& route) {
  Route back;
  back.gbps = 1e30;
  for (auto arc = route.arcs.rbegin(); arc != route.arcs.rend(); ++arc) {
    back.arcs.push_back(*arc ^ 1);
    back.gbps = std::min(back.gbps, network.arcs[at(*arc ^ 1)].gbps);
  }
  return back.gbps > 0 ? back : Route();
}

// Between NUMA nodes is farther than any number of switches.
int32_t distance(const Network& network, const Route& route) {
  int32_t far = 0;
  for (const int32_t id : route.arcs)
    far += 1 + (network.arcs[at(id)].kind == LinkKind::InterSocket ? 1000 : 0) +
           (network.vertices[at(network.arcs[at(id)].to)].kind == NodeKind::Cpu ? 100 : 0);
  return far;
}

}  // namespace

Routes::Routes(const Network& network)
    : devices_(network.devices), routes_(at(network.devices) * at(network.devices)), exits_(at(network.devices)) {
  const auto kind = [&](int32_t v) { return network.vertices[at(v)].kind; };
  const auto by_switch = [&](int32_t v) { return !network.is_device(v) && kind(v) == NodeKind::NvSwitch; };
  const auto by_any = [&](int32_t v) {
    return !network.is_device(v) && v != network.world && kind(v) != NodeKind::Nic;
  };
  for (int32_t from = 0; from < devices_; ++from) {
    const Shortest fabric(network, from, by_switch), any(network, from, by_any);
    for (int32_t to = 0; to < devices_; ++to) {
      if (to == from) continue;
      Route& route = routes_[at(from) * at(devices_) + at(to)];
      route = fabric.to(to);
      const bool only_fabric = std::all_of(route.arcs.begin(), route.arcs.end(),
                                           [&](int32_t id) { return network.is_fabric(network.arcs[at(id)]); });
      if (!route.exists() || !only_fabric) route = any.to(to);
    }
  }
  if (network.world < 0) return;
  for (const int32_t id : network.out[at(network.world)]) nics_.push_back(network.arcs[at(id)].to);
  for (int32_t device = 0; device < devices_; ++device) {
    const Shortest any(network, device, by_any);
    for (const int32_t id : network.out[at(network.world)]) {
      const int32_t nic = network.arcs[at(id)].to;
      Exit exit;
      exit.nic = nic;
      exit.out = any.to(nic);
      if (!exit.out.exists()) continue;
      exit.out.arcs.push_back(id ^ 1);
      exit.out.gbps = std::min(exit.out.gbps, network.arcs[at(id ^ 1)].gbps);
      exit.in = turned(network, exit.out);
      if (!exit.in.exists() || exit.out.gbps <= 0) continue;
      exit.distance = distance(network, exit.out);
      exits_[at(device)].push_back(std::move(exit));
    }
    std::stable_sort(exits_[at(device)].begin(), exits_[at(device)].end(),
                     [](const Exit& a, const Exit& b) { return a.distance < b.distance; });
  }
}

bool Routes::is_nearest(int32_t device, int32_t nic) const {
  const std::vector<Exit>& all = exits(device);
  return std::any_of(all.begin(), all.end(),
                     [&](const Exit& exit) { return exit.nic == nic && exit.distance == all[0].distance; });
}

}  // namespace tutti::topology
