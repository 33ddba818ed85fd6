// SPDX-License-Identifier: Apache-2.0
// Names, the summary, and what differs between two graphs.
#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "topology/draw/draw.h"

namespace tutti::topology {
namespace {

int32_t host_order(const Graph& graph, NodeId id) {
  const auto hosts = graph.of_kind(NodeKind::Host);
  const NodeId host = graph.host_of(id);
  const auto found = std::find(hosts.begin(), hosts.end(), host);
  return found == hosts.end() ? -1 : static_cast<int32_t>(found - hosts.begin());
}

// What a node is called in both of two graphs.
std::string key_of(const Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  const int32_t host = host_order(graph, id);
  std::string name = !node.pci.bus_id.empty() ? node.pci.bus_id : node.name;
  if (node.kind == NodeKind::Host) name = std::to_string(host);
  if (node.kind == NodeKind::Port) name = key_of(graph, node.parent) + "/" + node.name;
  return fmt::format("{}{} {}", host > 0 ? fmt::format("{}:", host) : "", to_string(node.kind), name);
}

std::string shown(const Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  const std::string name = display_name(graph, id);
  return node.pci.bus_id.empty() ? name : fmt::format("{} ({})", name, node.pci.bus_id);
}

std::string link_text(const Direction& way) {
  return way.lanes > 0 ? fmt::format("x{} {}", way.lanes, gbps_text(way.gbps.value)) : gbps_text(way.gbps.value);
}

template <class T>
void compare(std::vector<std::string>* lines, const std::string& what, const char* field, const T& a, const T& b) {
  if (!(a == b)) lines->push_back(fmt::format("{}: {} is {} there, {} here", what, field, a, b));
}

using Keys = std::multimap<std::string, NodeId>;

Keys keys_of(const Graph& graph) {
  Keys keys;
  for (NodeId id = 0; id < graph.size(); ++id) keys.emplace(key_of(graph, id), id);
  return keys;
}

}  // namespace

std::string display_name(const Graph& graph, NodeId id) {
  const Node& node = graph.node(id);
  if (node.kind == NodeKind::Host) return node.name.empty() ? fmt::format("host {}", host_order(graph, id)) : node.name;
  const int32_t host = graph.of_kind(NodeKind::Host).size() > 1 ? host_order(graph, id) : -1;
  return host >= 0 ? fmt::format("{}:{}", host, node.name) : node.name;
}

std::string gbps_text(double gbps) {
  return gbps >= 100 ? fmt::format("{:.0f} GB/s", gbps) : fmt::format("{:.3g} GB/s", gbps);
}

std::string summary_json(const Graph& graph) {
  int gpus = 0, nics = 0, depth = 0;
  std::set<std::pair<NodeId, std::string>> numa;
  for (NodeId id = 0; id < graph.size(); ++id) {
    const Node& node = graph.node(id);
    gpus += node.gpu.present;
    nics += node.pci.class_code >= 0 && node.pci.class_code >> 16 == 0x02;
    // Groups that a matrix keeps apart share the NUMA node it names; those it does not place are none.
    if (node.kind == NodeKind::Cpu && node.attribute("numa_affinity") != "unknown") {
      const std::string_view stated = node.attribute("numa_affinity");
      numa.emplace(graph.host_of(id), stated.empty() ? fmt::format("{} {}", node.number, node.number < 0 ? id : 0)
                                                     : fmt::format("{} 0", stated));
    }
    int chain = 0;
    for (NodeId at = id; at != kNone && graph.node(at).kind != NodeKind::Cpu; at = graph.node(at).parent)
      chain += !graph.node(at).pci.bus_id.empty() && graph.cpu_of(at) != kNone;
    depth = std::max(depth, chain);
  }
  nlohmann::ordered_json json = {{"hosts", graph.of_kind(NodeKind::Host).size()},
                                 {"gpus", gpus},
                                 {"nics", nics},
                                 {"nets", graph.of_kind(NodeKind::Port).size()},
                                 {"numa", numa.size()},
                                 {"nvswitches", graph.of_kind(NodeKind::NvSwitch).size()},
                                 {"pci_depth", depth},
                                 {"warnings", nlohmann::ordered_json::array()}};
  for (const Warning& warning : graph.warnings())
    json["warnings"].push_back(warning.line > 0 ? fmt::format("line {}: {}", warning.line, warning.text)
                                                : warning.text);
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

Result<NodeId> find_endpoint(const Graph& graph, std::string_view text) {
  const auto hosts = graph.of_kind(NodeKind::Host);
  size_t host = 0;
  std::string_view name = text;
  if (const size_t colon = text.find(':'); colon == 1 && text[0] >= '0' && text[0] <= '9') {
    host = static_cast<size_t>(text[0] - '0');
    name.remove_prefix(2);
  } else if (colon == 2 && text[0] >= '0' && text[0] <= '9' && text[1] >= '0' && text[1] <= '9' &&
             text.find('.') == std::string_view::npos) {
    host = static_cast<size_t>(text[0] - '0') * 10 + static_cast<size_t>(text[1] - '0');
    name.remove_prefix(3);
  }
  if (host >= hosts.size()) return invalid_argument("there is no host {}: the graph has {}", host, hosts.size());
  std::string upper;
  for (const char c : name) upper += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  NodeId by_port = kNone;
  std::string known;
  for (NodeId id = 0; id < graph.size(); ++id) {
    const Node& node = graph.node(id);
    if (graph.host_of(id) != hosts[host]) continue;
    const bool endpoint = node.kind == NodeKind::Gpu || node.kind == NodeKind::Nic;
    if (endpoint && (node.name == upper || node.pci.bus_id == canonical_bus_id(name))) return id;
    if (node.kind == NodeKind::Port && node.name == name && by_port == kNone) by_port = node.parent;
    if (endpoint && known.size() < 200) known += (known.empty() ? "" : " ") + node.name;
  }
  if (by_port != kNone) return by_port;
  return invalid_argument("there is no GPU, NIC, port or bus id \"{}\" here; there are: {}", text, known);
}

std::vector<std::string> differences(const Graph& one, const Graph& other) {
  std::vector<std::string> lines;
  const Keys keys = keys_of(one), other_keys = keys_of(other);
  std::map<NodeId, NodeId> twin;  // of `one` -> of `other`
  for (auto at = keys.begin(); at != keys.end();) {
    const auto [from, to] = keys.equal_range(at->first);
    const auto [other_from, other_to] = other_keys.equal_range(at->first);
    auto a = from;
    auto b = other_from;
    for (; a != to && b != other_to; ++a, ++b) twin[a->second] = b->second;
    for (; a != to; ++a)
      lines.push_back(fmt::format("only there: {} {}", to_string(one.node(a->second).kind), shown(one, a->second)));
    at = to;
  }
  std::set<NodeId> matched;
  for (const auto& [a, b] : twin) matched.insert(b);
  for (NodeId id = 0; id < other.size(); ++id)
    if (!matched.contains(id))
      lines.push_back(fmt::format("only here: {} {}", to_string(other.node(id).kind), shown(other, id)));
  for (const auto& [a, b] : twin) {
    const Node &node = one.node(a), &here = other.node(b);
    const std::string what = fmt::format("{} {}", to_string(here.kind), shown(other, b));
    const auto above = [](const Graph& graph, NodeId id) { return id == kNone ? "nothing" : shown(graph, id); };
    const bool moved = node.parent != kNone && here.parent != kNone && one.node(node.parent).kind != NodeKind::Host &&
                       (!twin.contains(node.parent) || twin.at(node.parent) != here.parent);
    if (moved)
      lines.push_back(
          fmt::format("{}: below {} there, below {} here", what, above(one, node.parent), above(other, here.parent)));
    if (node.kind != NodeKind::Host) compare(&lines, what, "name", node.name, here.name);
    compare(&lines, what, "number", node.number, here.number);
    compare(&lines, what, "link speed", node.pci.link_speed, here.pci.link_speed);
    compare(&lines, what, "link width", node.pci.link_width, here.pci.link_width);
    compare(&lines, what, "device id", node.pci.device, here.pci.device);
    compare(&lines, what, "CPUs", node.cpu.cpus.list(), here.cpu.cpus.list());
    compare(&lines, what, "model", node.gpu.model, here.gpu.model);
    compare(&lines, what, "sm", node.gpu.sm, here.gpu.sm);
    compare(&lines, what, "GPUDirect", node.gpu.gdr, here.gpu.gdr);
    compare(&lines, what, "rank", node.gpu.rank, here.gpu.rank);
    compare(&lines, what, "speed (Mb/s)", node.port.speed_mbps, here.port.speed_mbps);
  }
  // Links, each by its ends; of several between two nodes in their order.
  std::map<std::tuple<LinkKind, NodeId, NodeId>, std::vector<LinkId>> left;
  for (size_t i = 0; i < other.links().size(); ++i) {
    const Link& link = other.links()[i];
    left[{link.kind, std::min(link.a, link.b), std::max(link.a, link.b)}].push_back(static_cast<LinkId>(i));
  }
  for (const Link& link : one.links()) {
    const auto a = twin.find(link.a), b = twin.find(link.b);
    if (a == twin.end() || b == twin.end()) continue;  // the missing node has its line
    auto& candidates = left[{link.kind, std::min(a->second, b->second), std::max(a->second, b->second)}];
    const std::string what =
        fmt::format("{} {} - {}", to_string(link.kind), display_name(one, link.a), display_name(one, link.b));
    if (candidates.empty()) {
      if (link.kind != LinkKind::Pcie) lines.push_back(fmt::format("only there: {} {}", what, link_text(link.forward)));
      continue;
    }
    const Link& here = other.link(candidates.front());
    candidates.erase(candidates.begin());
    for (const auto& [end, other_end] : {std::pair(link.a, a->second), std::pair(link.b, b->second)}) {
      const Direction &there = link.from(end), &way = here.from(other_end);
      if (there.lanes != way.lanes || there.gbps.value != way.gbps.value)
        lines.push_back(fmt::format("{} from {}: {} there, {} here", what, display_name(one, end), link_text(there),
                                    link_text(way)));
      if (link.forward == link.backward && here.forward == here.backward) break;
    }
  }
  for (const auto& [key, links] : left)
    for (const LinkId id : links) {
      const Link& link = other.link(id);
      if (link.kind != LinkKind::Pcie && matched.contains(link.a) && matched.contains(link.b))
        lines.push_back(fmt::format("only here: {} {} - {} {}", to_string(link.kind), display_name(other, link.a),
                                    display_name(other, link.b), link_text(link.forward)));
    }
  return lines;
}

}  // namespace tutti::topology
