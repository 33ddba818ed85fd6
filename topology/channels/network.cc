// SPDX-License-Identifier: Apache-2.0
#include "topology/channels/network.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "base/name_list.h"
#include "topology/figures.h"

namespace tutti::topology {
namespace {

size_t at(int32_t index) { return static_cast<size_t>(index); }

// Hosts that share NVSwitches, or whose GPUs are linked: a domain each. By union.
class Domains {
 public:
  explicit Domains(const Graph& graph) : graph_(graph), leader_(at(graph.size())) {
    for (NodeId id = 0; id < graph.size(); ++id) {
      const NodeId host = graph.host_of(id);
      leader_[at(id)] = host == kNone ? id : host;
    }
    for (const Link& link : graph.links())
      if (is_fabric(link.kind)) join(link.a, link.b);
  }
  NodeId of(NodeId id) const {
    while (leader_[at(id)] != id) id = leader_[at(id)];
    return id;
  }

 private:
  void join(NodeId one, NodeId other) {
    one = of(one);
    other = of(other);
    leader_[at(std::max(one, other))] = std::min(one, other);
  }
  const Graph& graph_;
  std::vector<NodeId> leader_;
};

class Builder {
 public:
  Builder(const Graph& graph, const NameList& admitted, std::string_view nics)
      : graph_(graph), admitted_(admitted), nics_(nics) {}

  void add_devices(const std::vector<NodeId>& ranks) {
    for (const NodeId device : ranks) {
      if (const auto known = vertex_.find(device); known != vertex_.end()) {
        ++network_.vertices[at(known->second)].ranks;
      } else {
        vertex_[device] = network_.size();
        network_.vertices.push_back({device, graph_.node(device).kind, 1});
      }
      ++network_.ranks;
    }
    network_.devices = network_.size();
  }

  // `members`: the nodes of the domain.
  Status build(const std::vector<NodeId>& members, int32_t outside) {
    network_.outside = outside;
    add_transit(members);
    std::set<LinkId> seen;
    for (const NodeId id : members)
      for (const LinkId link : graph_.links_of(id))
        if (graph_.link(link).kind != LinkKind::Network && seen.insert(link).second) add_link(graph_.link(link));
    // A rank on a CPU uses its memory; the NUMA node itself forwards.
    for (const auto& [cpu, transit] : memory_)
      add_pair(vertex_.at(cpu), transit, LinkKind::C2C, local_gbps(graph_.node(cpu)));
    if (outside > 0) TUTTI_TRY(add_world(members));
    drop_slow_links();
    drop_needless_pcie();
    drop_dead_ends();
    return {};
  }
  Network take() { return std::move(network_); }

 private:
  void add_transit(const std::vector<NodeId>& members) {
    std::map<std::vector<NodeId>, int32_t> groups;  // NVSwitches by their GPUs
    for (const NodeId id : members) {
      const NodeKind kind = graph_.node(id).kind;
      if (kind == NodeKind::NvSwitch) {
        std::set<NodeId> gpus;
        for (const LinkId link : graph_.links_of(id))
          if (is_fabric(graph_.link(link).kind) && graph_.node(graph_.link(link).other(id)).kind == NodeKind::Gpu)
            gpus.insert(graph_.link(link).other(id));
        const auto [group, fresh] = groups.try_emplace({gpus.begin(), gpus.end()}, network_.size());
        if (fresh) network_.vertices.push_back({id, kind, 0});
        vertex_[id] = group->second;
      } else if (kind == NodeKind::Cpu || kind == NodeKind::PciSwitch || kind == NodeKind::Nic) {
        if (vertex_.contains(id)) {
          memory_[id] = network_.size();
        } else {
          vertex_[id] = network_.size();
        }
        network_.vertices.push_back({id, kind, 0});
      }
    }
    network_.out.resize(network_.vertices.size());
  }

  int32_t end_of(NodeId id) const {
    if (const auto memory = memory_.find(id); memory != memory_.end()) return memory->second;
    const auto known = vertex_.find(id);
    return known == vertex_.end() ? -1 : known->second;
  }

  void add_link(const Link& link) {
    const int32_t a = end_of(link.a), b = end_of(link.b);
    if (a < 0 || b < 0 || a == b) return;
    const int32_t lanes = is_fabric(link.kind) ? std::max(link.forward.lanes, link.backward.lanes) : 0;
    add_pair(a, b, link.kind, link.forward.gbps.value, link.backward.gbps.value, lanes);
  }

  void add_pair(int32_t a, int32_t b, LinkKind kind, Figure both) { add_pair(a, b, kind, both.value, both.value, 0); }
  void add_pair(int32_t a, int32_t b, LinkKind kind, double forward, double backward, int32_t lanes) {
    for (const int32_t id : network_.out[at(a)]) {
      Arc& arc = network_.arcs[at(id)];
      if (arc.to != b || arc.kind != kind) continue;
      arc.gbps += forward;
      arc.lanes += lanes;
      network_.arcs[at(id ^ 1)].gbps += backward;
      network_.arcs[at(id ^ 1)].lanes += lanes;
      return;
    }
    const auto id = static_cast<int32_t>(network_.arcs.size());
    network_.arcs.push_back({a, b, forward, lanes, kind});
    network_.arcs.push_back({b, a, backward, lanes, kind});
    network_.out[at(a)].push_back(id);
    network_.out[at(b)].push_back(id + 1);
  }

  Status add_world(const std::vector<NodeId>& members) {
    network_.world = network_.size();
    network_.vertices.push_back({});
    network_.out.emplace_back();
    std::string excluded;
    bool found = false;
    for (const bool real : {true, false}) {
      for (const NodeId id : members) {
        const Node& nic = graph_.node(id);
        if (nic.kind != NodeKind::Nic || nic.pci.bus_id.empty() == real) continue;
        for (const LinkId link_id : graph_.links_of(id)) {
          const Link& link = graph_.link(link_id);
          if (link.kind != LinkKind::Network) continue;
          const Node& port = graph_.node(link.other(id));
          if (!admitted_.admits(port.name)) {
            excluded += (excluded.empty() ? "" : ", ") + port.name;
            continue;
          }
          add_pair(vertex_.at(id), network_.world, LinkKind::Network, link.from(id).gbps.value,
                   link.from(link.other(id)).gbps.value, 0);
          found = true;
        }
        raise_guess(id);
      }
      if (found) return {};
    }
    const NodeId host = graph_.host_of(members[0]);
    const std::string name = host == kNone ? "a host" : "host " + graph_.node(host).name;
    if (!excluded.empty())
      return invalid_usage("no NIC is left on {}: '{}' ({}) excludes {}", name, nics_, kNicList, excluded);
    return invalid_usage("{} has no NIC, and there are ranks elsewhere", name);
  }

  // A NIC whose PCIe link nobody states, but whose ports somebody does: the guess gives way.
  void raise_guess(NodeId nic) {
    const auto up = graph_.uplink(nic);
    if (!up || graph_.link(*up).forward.gbps.source != Source::Assumed) return;
    const int32_t vertex = vertex_.at(nic);
    double ports = 0;
    for (const int32_t id : network_.out[at(vertex)])
      if (network_.arcs[at(id)].to == network_.world) ports = network_.arcs[at(id)].gbps;
    for (const int32_t id : network_.out[at(vertex)])
      if (network_.arcs[at(id)].kind == LinkKind::Pcie)
        for (const int32_t way : {id, id ^ 1})
          network_.arcs[at(way)].gbps = std::max(network_.arcs[at(way)].gbps, ports);
  }

  // GB/s of the faster direction of a device's PCIe link (or what it has in its place).
  double pcie_of(int32_t device) const {
    double pcie = 0;
    for (const int32_t id : network_.out[at(device)])
      if (!is_fabric(network_.arcs[at(id)].kind))
        pcie = std::max({pcie, network_.arcs[at(id)].gbps, network_.arcs[at(id ^ 1)].gbps});
    return pcie;
  }

  // A link that is slower than the way over PCIe is not taken: two ends go by one way.
  void drop_slow_links() {
    std::vector<double> pcie(network_.vertices.size(), std::numeric_limits<double>::infinity());
    for (int32_t device = 0; device < network_.devices; ++device) pcie[at(device)] = pcie_of(device);
    keep_arcs([&](int32_t id) {
      const Arc &arc = network_.arcs[at(id)], &back = network_.arcs[at(id ^ 1)];
      return !is_fabric(arc.kind) || std::max(arc.gbps, back.gbps) >= std::min(pcie[at(arc.from)], pcie[at(arc.to)]) ||
             !(network_.is_device(arc.from) || network_.is_device(arc.to));
    });
  }

  // Does this device reach all others by NVLinks or xGMI, directly or through NVSwitches?
  bool reaches_all(int32_t device) const {
    std::vector<char> seen(network_.vertices.size(), 0);
    std::vector<int32_t> line{device};
    seen[at(device)] = 1;
    int32_t reached = 1;
    for (size_t next = 0; next < line.size(); ++next)
      for (const int32_t id : network_.out[at(line[next])]) {
        const Arc& arc = network_.arcs[at(id)];
        if (!is_fabric(arc.kind) || arc.gbps <= 0 || network_.arcs[at(id ^ 1)].gbps <= 0 || seen[at(arc.to)]) continue;
        seen[at(arc.to)] = 1;
        if (network_.is_device(arc.to)) ++reached;
        if (network_.vertices[at(arc.to)].kind == NodeKind::NvSwitch) line.push_back(arc.to);
      }
    return reached == network_.devices;
  }

  void drop_needless_pcie() {
    if (network_.world >= 0 || network_.devices < 2) return;
    std::vector<char> drop(network_.arcs.size(), 0);
    for (int32_t device = 0; device < network_.devices; ++device) {
      if (network_.vertices[at(device)].kind != NodeKind::Gpu || !reaches_all(device)) continue;
      for (const int32_t id : network_.out[at(device)])
        if (!is_fabric(network_.arcs[at(id)].kind)) drop[at(id)] = drop[at(id ^ 1)] = 1;
    }
    keep_arcs([&](int32_t id) { return !drop[at(id)]; });
  }

  // What joins one neighbour only carries nothing between others.
  void drop_dead_ends() {
    for (bool again = true; again;) {
      again = false;
      std::vector<std::set<int32_t>> neighbours(network_.vertices.size());
      for (const Arc& arc : network_.arcs) neighbours[at(arc.from)].insert(arc.to);
      std::vector<char> keep(network_.vertices.size(), 1);
      for (int32_t v = network_.devices; v < network_.size(); ++v)
        if (v != network_.world && neighbours[at(v)].size() < 2) keep[at(v)] = 0, again = true;
      if (again) keep_vertices(keep);
    }
  }

  void keep_vertices(const std::vector<char>& keep) {
    std::vector<int32_t> now(keep.size(), -1);
    std::vector<Vertex> vertices;
    for (size_t v = 0; v < keep.size(); ++v)
      if (keep[v]) now[v] = static_cast<int32_t>(vertices.size()), vertices.push_back(network_.vertices[v]);
    keep_arcs(
        [&](int32_t id) { return now[at(network_.arcs[at(id)].from)] >= 0 && now[at(network_.arcs[at(id)].to)] >= 0; });
    for (Arc& arc : network_.arcs) arc.from = now[at(arc.from)], arc.to = now[at(arc.to)];
    network_.vertices = std::move(vertices);
    if (network_.world >= 0) network_.world = now[at(network_.world)];
    index_arcs();
  }

  template <class Keep>
  void keep_arcs(Keep&& keep) {
    std::vector<Arc> arcs;
    for (size_t i = 0; i < network_.arcs.size(); i += 2) {
      if (!keep(static_cast<int32_t>(i))) continue;
      arcs.push_back(network_.arcs[i]);
      arcs.push_back(network_.arcs[i + 1]);
    }
    network_.arcs = std::move(arcs);
    index_arcs();
  }

  void index_arcs() {
    network_.out.assign(network_.vertices.size(), {});
    for (size_t i = 0; i < network_.arcs.size(); ++i) {
      const auto from = at(network_.arcs[i].from);
      if (from < network_.out.size()) network_.out[from].push_back(static_cast<int32_t>(i));
    }
  }

  const Graph& graph_;
  const NameList& admitted_;
  std::string_view nics_;  // the same, as it was written
  Network network_;
  std::map<NodeId, int32_t> vertex_;
  std::map<NodeId, int32_t> memory_;  // a NUMA node with ranks: the vertex that forwards
};

}  // namespace

Network Network::reversed() const {
  Network turned = *this;
  for (size_t i = 0; i < arcs.size(); ++i) turned.arcs[i].gbps = arcs[i ^ 1].gbps;
  return turned;
}

std::string Network::signature() const {
  std::string text = fmt::format("{} {} {};", devices, world, outside);
  for (const Vertex& vertex : vertices) text += fmt::format("{},{};", static_cast<int>(vertex.kind), vertex.ranks);
  for (const Arc& arc : arcs)
    text += fmt::format("{},{},{},{},{};", arc.from, arc.to, arc.gbps, arc.lanes, static_cast<int>(arc.kind));
  return text;
}

Result<std::vector<Network>> make_networks(const Graph& graph, const std::vector<NodeId>& ranks,
                                           std::string_view nics) {
  if (ranks.empty()) return invalid_usage("no ranks: the topology names no GPU and no NUMA node that could hold one");
  TUTTI_ASSIGN_OR_RETURN(const NameList admitted, parse_nic_list(nics));
  const Domains domains(graph);
  std::map<NodeId, size_t> order;
  std::vector<std::vector<NodeId>> placed, members;
  for (const NodeId device : ranks) {
    const auto [domain, fresh] = order.try_emplace(domains.of(device), placed.size());
    if (fresh) placed.emplace_back();
    placed[domain->second].push_back(device);
  }
  members.resize(placed.size());
  for (NodeId id = 0; id < graph.size(); ++id)
    if (const auto domain = order.find(domains.of(id)); domain != order.end()) members[domain->second].push_back(id);
  std::vector<Network> networks;
  for (size_t d = 0; d < placed.size(); ++d) {
    Builder builder(graph, admitted, nics);
    builder.add_devices(placed[d]);
    TUTTI_TRY(builder.build(members[d], static_cast<int32_t>(ranks.size() - placed[d].size())));
    networks.push_back(builder.take());
  }
  return networks;
}

}  // namespace tutti::topology
