// SPDX-License-Identifier: Apache-2.0
#include "topology/graph.h"

#include <algorithm>

namespace tutti::topology {
namespace {

constexpr const char* kNodeKinds[] = {"host", "numa", "pci_switch", "pci_device", "gpu",
                                      "nic",  "port", "nvswitch",   "network"};
constexpr const char* kLinkKinds[] = {"nvlink", "c2c", "xgmi", "pcie", "inter_socket", "network"};
constexpr const char* kSources[] = {"none",  "assumed", "table", "file", "sysfs",
                                    "hwloc", "verbs",   "nvml",  "cuda", "measured"};

template <class Enum, size_t N>
std::optional<Enum> find(const char* const (&names)[N], std::string_view text) {
  for (size_t i = 0; i < N; ++i)
    if (names[i] == text) return static_cast<Enum>(i);
  return std::nullopt;
}

// A node that belongs to no host and is the same thing as `wanted`; kNone.
NodeId same_shared_node(const Graph& graph, const Node& wanted) {
  for (NodeId id = 0; id < graph.size(); ++id) {
    const Node& node = graph.node(id);
    if (node.parent != kNone || node.kind != wanted.kind) continue;
    if (node.kind == NodeKind::Network && node.name == wanted.name) return id;
    if (node.kind == NodeKind::NvSwitch && !node.nvswitch.domain.empty() &&
        node.nvswitch.domain == wanted.nvswitch.domain && node.name == wanted.name)
      return id;
  }
  return kNone;
}

}  // namespace

std::string_view Node::attribute(std::string_view key) const {
  for (const auto& [name, value] : attributes)
    if (name == key) return value;
  return {};
}

void Node::set_attribute(std::string_view key, std::string_view value) {
  for (auto& [name, old] : attributes)
    if (name == key) {
      old = value;
      return;
    }
  attributes.emplace_back(key, value);
}

NodeId Graph::add_node(Node node) {
  const NodeId id = size();
  if (node.parent != kNone) children_[static_cast<size_t>(node.parent)].push_back(id);
  nodes_.push_back(std::move(node));
  children_.emplace_back();
  links_of_.emplace_back();
  return id;
}

LinkId Graph::add_link(Link link) {
  const auto id = static_cast<LinkId>(links_.size());
  links_of_[static_cast<size_t>(link.a)].push_back(id);
  links_of_[static_cast<size_t>(link.b)].push_back(id);
  links_.push_back(link);
  return id;
}

std::vector<NodeId> Graph::of_kind(NodeKind kind) const {
  std::vector<NodeId> found;
  for (NodeId id = 0; id < size(); ++id)
    if (node(id).kind == kind) found.push_back(id);
  return found;
}

NodeId Graph::ancestor(NodeId id, NodeKind kind) const {
  while (id != kNone && node(id).kind != kind) id = node(id).parent;
  return id;
}

NodeId Graph::by_bus_id(NodeId host, std::string_view bus_id) const {
  const std::string wanted = canonical_bus_id(bus_id);
  for (NodeId id = 0; id < size(); ++id)
    if (node(id).pci.bus_id == wanted && host_of(id) == host) return id;
  return kNone;
}

std::optional<LinkId> Graph::link_between(LinkKind kind, NodeId one, NodeId two) const {
  for (const LinkId id : links_of(one))
    if (link(id).kind == kind && link(id).other(one) == two) return id;
  return std::nullopt;
}

std::optional<LinkId> Graph::uplink(NodeId id) const {
  for (const LinkId candidate : links_of(id))
    if (link(candidate).kind == LinkKind::Pcie && link(candidate).b == id) return candidate;
  return std::nullopt;
}

void Graph::move(NodeId id, NodeId parent) {
  if (const NodeId old = node(id).parent; old != kNone) std::erase(children_[static_cast<size_t>(old)], id);
  node(id).parent = parent;
  if (parent != kNone) children_[static_cast<size_t>(parent)].push_back(id);
  if (const auto up = uplink(id); up && parent != kNone) {
    Link& edge = link(*up);
    std::erase(links_of_[static_cast<size_t>(edge.a)], *up);
    edge.a = parent;
    links_of_[static_cast<size_t>(parent)].push_back(*up);
  }
}

void merge(Graph& into, const Graph& from) {
  std::vector<NodeId> place(static_cast<size_t>(from.size()), kNone);
  for (NodeId id = 0; id < from.size(); ++id) {
    Node node = from.node(id);
    if (node.parent == kNone) place[static_cast<size_t>(id)] = same_shared_node(into, node);
    if (place[static_cast<size_t>(id)] != kNone) continue;
    // add_node() demands parents first; a graph whose nodes were moved may list them later.
    std::vector<NodeId> chain{id};
    while (from.node(chain.back()).parent != kNone &&
           place[static_cast<size_t>(from.node(chain.back()).parent)] == kNone)
      chain.push_back(from.node(chain.back()).parent);
    for (size_t i = chain.size(); i-- > 0;) {
      Node next = from.node(chain[i]);
      if (next.parent != kNone) next.parent = place[static_cast<size_t>(next.parent)];
      place[static_cast<size_t>(chain[i])] = into.add_node(std::move(next));
    }
  }
  for (Link link : from.links()) {
    link.a = place[static_cast<size_t>(link.a)];
    link.b = place[static_cast<size_t>(link.b)];
    into.add_link(link);
  }
  for (const Warning& warning : from.warnings()) into.warn(warning.line, warning.text);
  if (into.origin.empty()) into.origin = from.origin;
}

std::string canonical_bus_id(std::string_view text) {
  std::string id;
  for (const char c : text) id += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  const size_t colons = static_cast<size_t>(std::count(id.begin(), id.end(), ':'));
  if (colons == 0 || colons > 2 || id.find_first_not_of("0123456789abcdef:.") != std::string::npos) return id;
  if (colons == 1) id = "0000:" + id;
  const size_t digits = id.find(':');
  if (digits > 4) id.erase(0, std::min(id.find_first_not_of('0'), digits - 4));
  if (id.find(':') < 4) id.insert(0, 4 - id.find(':'), '0');
  if (id.find('.') == std::string::npos) id += ".0";
  return id;
}

const char* to_string(NodeKind kind) { return kNodeKinds[static_cast<size_t>(kind)]; }
const char* to_string(LinkKind kind) { return kLinkKinds[static_cast<size_t>(kind)]; }
const char* to_string(Source source) { return kSources[static_cast<size_t>(source)]; }
std::optional<NodeKind> node_kind_of(std::string_view text) { return find<NodeKind>(kNodeKinds, text); }
std::optional<LinkKind> link_kind_of(std::string_view text) { return find<LinkKind>(kLinkKinds, text); }
std::optional<Source> source_of(std::string_view text) { return find<Source>(kSources, text); }

}  // namespace tutti::topology
