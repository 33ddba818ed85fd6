// SPDX-License-Identifier: Apache-2.0
#include "topology/paths.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <functional>
#include <queue>

namespace tutti::topology {
namespace {

// What crossing one link makes of a path.
PathClass class_of(const Graph& graph, const Link& link) {
  const NodeKind a = graph.node(link.a).kind, b = graph.node(link.b).kind;
  switch (link.kind) {
    case LinkKind::NvLink:
    case LinkKind::Xgmi:
      return PathClass::Nvl;
    case LinkKind::C2C:
      return PathClass::C2C;
    case LinkKind::Pcie:
      if (a == NodeKind::Cpu || b == NodeKind::Cpu) return PathClass::Phb;
      return a == NodeKind::PciSwitch && b == NodeKind::PciSwitch ? PathClass::Pxb : PathClass::Pix;
    case LinkKind::InterSocket:
      return PathClass::Sys;
    case LinkKind::Network:
      return a == NodeKind::Network || b == NodeKind::Network ? PathClass::Net : PathClass::Loc;
  }
  return PathClass::Dis;
}

// May a path go on over `link` at a node where it did not begin? GPUs and NVSwitches forward nothing here: their links
// between GPUs are computed apart. A NIC forwards between the bus and its ports only.
bool forwards(const Graph& graph, NodeId node, const Link& came, const Link& link) {
  switch (graph.node(node).kind) {
    case NodeKind::Cpu:
    case NodeKind::PciSwitch:
    case NodeKind::Port:
    case NodeKind::Network:
      return true;
    case NodeKind::Nic:
      return (came.kind == LinkKind::Network) != (link.kind == LinkKind::Network);
    default:
      return false;
  }
}

}  // namespace

// Which links a search may take.
struct Paths::Scope {
  bool fabric = true;   // NVLink, xGMI, C2C; else PCIe alone
  bool network = true;  // leave the host
  bool closed(const Link& link, NodeKind to) const {
    return (!fabric && is_fabric(link.kind)) || (!network && to == NodeKind::Network);
  }
};

const char* to_string(PathClass type) {
  constexpr const char* kNames[] = {"LOC", "NVL", "NVB", "C2C", "PIX", "PXB", "PXN", "PHB", "SYS", "NET", "DIS"};
  return kNames[static_cast<size_t>(type)];
}

// From one source to all nodes. Widest first is not found by one ordered search (a prefix that is wider but longer may
// end in a pair that needs no such width), so: the widths of all nodes by one search, then for each width that occurs
// the fewest hops over links of at least that width.
struct Paths::Search {
  explicit Search(const Graph& graph) : width(graph.nodes().size()), step(graph.nodes().size()) {
    const auto size = graph.links().size();
    classes.reserve(size);
    for (const Link& link : graph.links()) classes.push_back(class_of(graph, link));
  }

  struct Step {
    uint32_t mark = 0;  // of the search that wrote it
    int32_t hops = 0;
    PathClass type = PathClass::Loc;
    double latency_us = 0;
    LinkId link = -1;  // by which it was reached
  };

  // Fewest hops, then nearest class, then least latency, over links of at least `floor`.
  void shortest(const Graph& graph, NodeId source, double floor, Scope scope) {
    ++mark;
    step[static_cast<size_t>(source)] = {.mark = mark};
    line.assign(1, source);
    for (size_t next = 0; next < line.size(); ++next) {
      const NodeId node = line[next];
      const Step here = step[static_cast<size_t>(node)];
      for (const LinkId id : graph.links_of(node)) {
        const Link& link = graph.link(id);
        if (link.from(node).gbps.value < floor || link.from(node).gbps.value <= 0) continue;
        const NodeId to = link.other(node);
        if (scope.closed(link, graph.node(to).kind)) continue;
        if (node != source && !forwards(graph, node, graph.link(here.link), link)) continue;
        Step& there = step[static_cast<size_t>(to)];
        const Step candidate{mark, here.hops + 1, std::max(here.type, classes[static_cast<size_t>(id)]),
                             here.latency_us + link.latency_us.value, id};
        if (there.mark != mark) {
          there = candidate;
          line.push_back(to);
        } else if (there.hops == candidate.hops &&
                   std::pair(candidate.type, candidate.latency_us) < std::pair(there.type, there.latency_us)) {
          there = candidate;  // of the same distance: not yet visited itself
        }
      }
    }
  }

  void widths(const Graph& graph, NodeId source, Scope scope) {
    std::fill(width.begin(), width.end(), 0.0);
    via.assign(width.size(), -1);
    std::priority_queue<std::pair<double, NodeId>> queue;
    width[static_cast<size_t>(source)] = 1e30;
    queue.emplace(1e30, source);
    while (!queue.empty()) {
      const auto [wide, node] = queue.top();
      queue.pop();
      if (wide < width[static_cast<size_t>(node)]) continue;
      const LinkId came = via[static_cast<size_t>(node)];
      for (const LinkId id : graph.links_of(node)) {
        const Link& link = graph.link(id);
        const NodeId to = link.other(node);
        if (scope.closed(link, graph.node(to).kind)) continue;
        if (node != source && !forwards(graph, node, graph.link(came), link)) continue;
        const double through = std::min(wide, link.from(node).gbps.value);
        if (through <= width[static_cast<size_t>(to)]) continue;
        width[static_cast<size_t>(to)] = through;
        via[static_cast<size_t>(to)] = id;
        queue.emplace(through, to);
      }
    }
  }

  std::vector<double> width;
  std::vector<LinkId> via;
  std::vector<Step> step;
  std::vector<NodeId> line;
  std::vector<PathClass> classes;  // of each link
  uint32_t mark = 0;
};

Paths::Paths(const Graph& graph)
    : graph_(graph), gpus_(graph.of_kind(NodeKind::Gpu)), nics_(graph.of_kind(NodeKind::Nic)) {
  endpoints_ = gpus_;
  endpoints_.insert(endpoints_.end(), nics_.begin(), nics_.end());
  index_.assign(graph.nodes().size(), -1);
  for (size_t i = 0; i < endpoints_.size(); ++i) index_[static_cast<size_t>(endpoints_[i])] = static_cast<int32_t>(i);
  table_.resize(endpoints_.size() * endpoints_.size());
  Search search(graph);
  for (const NodeId source : endpoints_) search_from(source, &search);
  for (const NodeId from : gpus_)
    for (const NodeId to : gpus_) {
      if (from == to) continue;
      const Path path = fabric(from, to, nullptr);
      if (path.type == PathClass::Nvl) table_[at(from, to)].direct = path;
    }
  add_relays();
}

void Paths::search_from(NodeId source, Search* search) {
  const auto any_link = [&](auto&& is) { return std::any_of(graph_.links().begin(), graph_.links().end(), is); };
  const bool networks = !graph_.of_kind(NodeKind::Network).empty();
  // Two devices of one host that reach each other inside it do so, however wide the network is.
  const auto search_both = [&](bool with_fabric, Path Pair::*kept) {
    fill_from(source, {with_fabric, false}, kept, search);
    if (networks) fill_from(source, {with_fabric, true}, kept, search);
    table_[at(source, source)].*kept = {.type = PathClass::Loc, .gbps = 5000};
  };
  search_both(false, &Pair::pcie);
  // Without NVLinks to CPUs (POWER) both searches are one.
  if (any_link([&](const Link& link) {
        return is_fabric(link.kind) &&
               (graph_.node(link.a).kind == NodeKind::Cpu || graph_.node(link.b).kind == NodeKind::Cpu);
      })) {
    search_both(true, &Pair::direct);
  } else {
    for (const NodeId to : endpoints_) table_[at(source, to)].direct = table_[at(source, to)].pcie;
  }
}

// Paths to the endpoints that have none yet.
void Paths::fill_from(NodeId source, Scope scope, Path Pair::*kept, Search* search) {
  search->widths(graph_, source, scope);
  const auto wanted = [&](NodeId to) {
    return to != source && search->width[static_cast<size_t>(to)] > 0 &&
           (table_[at(source, to)].*kept).type == PathClass::Dis;
  };
  std::vector<double> floors;
  for (const NodeId to : endpoints_)
    if (wanted(to)) floors.push_back(search->width[static_cast<size_t>(to)]);
  std::sort(floors.begin(), floors.end());
  floors.erase(std::unique(floors.begin(), floors.end()), floors.end());
  for (const double floor : floors) {
    search->shortest(graph_, source, floor, scope);
    for (const NodeId to : endpoints_) {
      if (!wanted(to) || search->width[static_cast<size_t>(to)] != floor) continue;
      const Search::Step& step = search->step[static_cast<size_t>(to)];
      // A widest path may forward at a NIC it came to by the one and the shortest by the other kind of link.
      if (step.mark != search->mark) continue;
      table_[at(source, to)].*kept = {
          .type = step.type, .gbps = floor, .latency_us = step.latency_us, .hops = step.hops};
    }
  }
}

// GPU to GPU over NVLink or xGMI: direct links, or through NVSwitches side by side, or through two switches and what
// joins them. The ways of the shortest kind that exists are added up. A link between switches serves one way only.
Path Paths::fabric(NodeId from, NodeId to, std::vector<Hop>* hops) const {
  struct Way {
    double gbps = 0;
    int32_t lanes = 0;
    std::array<Hop, 3> hops{};
    int32_t count = 0;
  };
  std::vector<Way> ways;
  const auto narrow = [&](std::initializer_list<Hop> path) {
    Way way{.gbps = 1e30, .lanes = INT32_MAX};
    for (const Hop& hop : path) {
      const Direction& flow = graph_.link(hop.link).from(hop.from);
      way.gbps = std::min(way.gbps, flow.gbps.value);
      way.lanes = std::min(way.lanes, flow.lanes);
      way.hops[static_cast<size_t>(way.count++)] = hop;
    }
    if (way.gbps > 0) ways.push_back(way);
  };
  for (const LinkId id : graph_.links_of(from)) {
    const Link& link = graph_.link(id);
    if (is_fabric(link.kind) && link.other(from) == to) narrow({{id, from, to}});
  }
  const auto switches = [&](NodeId gpu, auto&& each) {
    for (const LinkId id : graph_.links_of(gpu)) {
      const Link& link = graph_.link(id);
      const NodeId far = link.other(gpu);
      if (is_fabric(link.kind) && graph_.node(far).kind == NodeKind::NvSwitch) each(id, far);
    }
  };
  if (ways.empty())
    switches(from, [&](LinkId up, NodeId one) {
      switches(to, [&](LinkId down, NodeId other) {
        if (one == other) narrow({{up, from, one}, {down, one, to}});
      });
    });
  if (ways.empty())
    switches(from, [&](LinkId up, NodeId one) {
      switches(to, [&](LinkId down, NodeId other) {
        for (const LinkId trunk : graph_.links_of(one))
          if (is_fabric(graph_.link(trunk).kind) && graph_.link(trunk).other(one) == other)
            narrow({{up, from, one}, {trunk, one, other}, {down, other, to}});
      });
    });
  if (ways.empty()) return {};
  if (ways[0].count == 3) {  // each first and last link carries one way
    std::stable_sort(ways.begin(), ways.end(), [](const Way& a, const Way& b) { return a.gbps > b.gbps; });
    std::vector<Way> disjoint;
    for (const Way& way : ways)
      if (std::none_of(disjoint.begin(), disjoint.end(), [&](const Way& taken) {
            return taken.hops[0].link == way.hops[0].link || taken.hops[2].link == way.hops[2].link;
          }))
        disjoint.push_back(way);
    ways = std::move(disjoint);
  }
  Path path{.type = PathClass::Nvl, .hops = ways[0].count, .ways = static_cast<int32_t>(ways.size())};
  const Way* widest = &ways[0];
  for (const Way& way : ways) {
    path.gbps += way.gbps;
    path.nvlinks = static_cast<int32_t>(std::min<int64_t>(int64_t{path.nvlinks} + way.lanes, INT32_MAX));
    if (way.gbps > widest->gbps) widest = &way;
  }
  for (int32_t i = 0; i < widest->count; ++i) {
    const Hop& hop = widest->hops[static_cast<size_t>(i)];
    path.latency_us += graph_.link(hop.link).latency_us.value;
    if (hops != nullptr) hops->push_back(hop);
  }
  return path;
}

void Paths::add_relays() {
  for (const NodeId from : endpoints_)
    for (const NodeId to : endpoints_) {
      Pair& pair = table_[at(from, to)];
      pair.best = pair.direct;
    }
  const auto through = [&](NodeId from, NodeId relay, NodeId to, PathClass type) {
    const Path &first = table_[at(from, relay)].direct, &second = table_[at(relay, to)].direct;
    return Path{.type = type,
                .gbps = std::min(first.gbps, second.gbps),
                .latency_us = first.latency_us + second.latency_us,
                .hops = first.hops + second.hops,
                .relay = relay};
  };
  for (const NodeId from : gpus_) {
    std::vector<NodeId> peers;  // with NVLinks to `from`
    for (const NodeId peer : gpus_)
      if (peer != from && table_[at(from, peer)].direct.type == PathClass::Nvl) peers.push_back(peer);
    if (peers.empty()) continue;
    for (const NodeId to : gpus_) {
      if (to == from) continue;
      Pair& pair = table_[at(from, to)];
      if (pair.direct.type <= PathClass::Nvl) continue;
      for (const NodeId peer : peers) {
        if (peer == to || table_[at(peer, to)].direct.type != PathClass::Nvl) continue;
        const Path path = through(from, peer, to, PathClass::Nvb);
        if (path.gbps > pair.best.gbps || (path.gbps == pair.best.gbps && path.type < pair.best.type)) pair.best = path;
      }
    }
    for (const NodeId nic : nics_) {
      if (graph_.host_of(nic) != graph_.host_of(from)) continue;
      for (const bool in : {false, true}) {  // to the NIC, and from it
        Pair& pair = table_[in ? at(nic, from) : at(from, nic)];
        if (pair.direct.type <= PathClass::Pxb) continue;
        for (const NodeId peer : peers) {
          const Path& last = table_[in ? at(nic, peer) : at(peer, nic)].direct;
          const Path& nvlink = table_[in ? at(peer, from) : at(from, peer)].direct;
          if (last.type > PathClass::Pxb || nvlink.type != PathClass::Nvl) continue;
          const Path path = in ? through(nic, peer, from, PathClass::Pxn) : through(from, peer, nic, PathClass::Pxn);
          const bool better =
              pair.best.type == PathClass::Pxn ? path.gbps > pair.best.gbps : path.gbps >= pair.best.gbps;
          if (better) pair.best = path;
        }
      }
    }
  }
}

std::vector<Hop> Paths::plain_route(NodeId from, NodeId to) const {
  std::vector<Hop> hops;
  if (from == to) return hops;
  const Path& path = direct(from, to);
  if (path.type == PathClass::Dis) return hops;
  if (graph_.node(from).kind == NodeKind::Gpu && graph_.node(to).kind == NodeKind::Gpu &&
      fabric(from, to, &hops).type == PathClass::Nvl)
    return hops;
  Search search(graph_);
  search.shortest(graph_, from, path.gbps, {.fabric = true, .network = path.type == PathClass::Net});
  for (NodeId at = to; at != from;) {
    const LinkId link = search.step[static_cast<size_t>(at)].link;
    const NodeId before = graph_.link(link).other(at);
    hops.push_back({link, before, at});
    at = before;
  }
  std::reverse(hops.begin(), hops.end());
  return hops;
}

std::vector<Hop> Paths::route(NodeId from, NodeId to) const {
  const NodeId relay = best(from, to).relay;
  if (relay == kNone) return plain_route(from, to);
  std::vector<Hop> hops = plain_route(from, relay);
  const std::vector<Hop> rest = plain_route(relay, to);
  hops.insert(hops.end(), rest.begin(), rest.end());
  return hops;
}

size_t Paths::bottleneck(const std::vector<Hop>& route) const {
  const auto gbps = [&](const Hop& hop) { return graph_.link(hop.link).from(hop.from).gbps.value; };
  return static_cast<size_t>(
      std::min_element(route.begin(), route.end(), [&](const Hop& a, const Hop& b) { return gbps(a) < gbps(b); }) -
      route.begin());
}

std::vector<NodeId> Paths::nearest_nics(NodeId gpu) const {
  std::vector<NodeId> nearest;
  for (const NodeId nic : nics_) {
    const Path& path = direct(gpu, nic);
    if (path.type >= PathClass::Net) continue;
    if (!nearest.empty()) {
      const Path& known = direct(gpu, nearest[0]);
      if (path.type > known.type || (path.type == known.type && path.gbps < known.gbps)) continue;
      if (path.type < known.type || path.gbps > known.gbps) nearest.clear();
    }
    nearest.push_back(nic);
  }
  return nearest;
}

CpuSet Paths::affinity(NodeId device) const {
  const NodeId cpu = graph_.cpu_of(device);
  return cpu == kNone ? CpuSet() : graph_.node(cpu).cpu.cpus;
}

std::string matrix_cell(const Graph& graph, const Paths& paths, NodeId from, NodeId to) {
  if (from == to) return "X";
  const Path& direct = paths.direct(from, to);
  if (direct.type == PathClass::Nvl && graph.node(from).kind == NodeKind::Gpu && graph.node(to).kind == NodeKind::Gpu) {
    const bool xgmi = graph.link_between(LinkKind::Xgmi, from, to).has_value();
    if (xgmi) return direct.nvlinks > 0 ? fmt::format("XG{}", direct.nvlinks) : "XGMI";
    if (direct.nvlinks > 0) return fmt::format("NV{}", direct.nvlinks);
    return "NVL";
  }
  const Path& pcie = paths.pcie(from, to);
  if (pcie.type == PathClass::Phb) {
    const std::string &one = graph.node(from).pci.root, &other = graph.node(to).pci.root;
    if (!one.empty() && !other.empty() && one != other) return "NODE";
  }
  return pcie.type == PathClass::Dis ? "-" : to_string(pcie.type);
}

}  // namespace tutti::topology
