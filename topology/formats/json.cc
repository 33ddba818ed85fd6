// SPDX-License-Identifier: Apache-2.0
// Our own format: the whole graph, so that reading what was written gives an equal graph. docs/topology.md has the
// schema. Members that hold their default are left out; unknown members are ignored, so that a later version may add
// some.
#include <nlohmann/json.hpp>

#include <algorithm>

#include "topology/formats/formats.h"

namespace tutti::topology {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kMostGbps = 1e9;
constexpr int kMostDepth = 256;  // of parents above a node
constexpr int kMostLanes = 1 << 20;

// One list of members per struct serves writing and reading: `Visitor` sees (name, field, default).
template <class Visitor, class Pci>
void visit(Visitor& visitor, Pci& pci, const PciFunction& none) {
  visitor("bus_id", pci.bus_id, none.bus_id);
  visitor("class", pci.class_code, none.class_code);
  visitor("vendor", pci.vendor, none.vendor);
  visitor("device", pci.device, none.device);
  visitor("subsystem_vendor", pci.subsystem_vendor, none.subsystem_vendor);
  visitor("subsystem_device", pci.subsystem_device, none.subsystem_device);
  visitor("link_speed", pci.link_speed, none.link_speed);
  visitor("link_width", pci.link_width, none.link_width);
  visitor("root", pci.root, none.root);
}
template <class Visitor, class Cpu>
void visit(Visitor& visitor, Cpu& cpu, const CpuInfo& none) {
  visitor("package", cpu.package, none.package);
  visitor("cpus", cpu.cpus, none.cpus);
  visitor("arch", cpu.arch, none.arch);
  visitor("vendor", cpu.vendor, none.vendor);
  visitor("family", cpu.family, none.family);
  visitor("model", cpu.model, none.model);
  visitor("memory_bytes", cpu.memory_bytes, none.memory_bytes);
}
template <class Visitor, class Gpu>
void visit(Visitor& visitor, Gpu& gpu, const GpuInfo& none) {
  visitor("present", gpu.present, none.present);
  visitor("model", gpu.model, none.model);
  visitor("uuid", gpu.uuid, none.uuid);
  visitor("sm", gpu.sm, none.sm);
  visitor("gcn", gpu.gcn, none.gcn);
  visitor("arch", gpu.arch, none.arch);
  visitor("rank", gpu.rank, none.rank);
  visitor("gdr", gpu.gdr, none.gdr);
  visitor("memory_bytes", gpu.memory_bytes, none.memory_bytes);
}
template <class Visitor, class Port>
void visit(Visitor& visitor, Port& port, const PortInfo& none) {
  visitor("port", port.port, none.port);
  visitor("speed_mbps", port.speed_mbps, none.speed_mbps);
  visitor("latency_us", port.latency_us, none.latency_us);
  visitor("guid", port.guid, none.guid);
  visitor("max_connections", port.max_connections, none.max_connections);
  visitor("gdr", port.gdr, none.gdr);
  visitor("coll", port.coll, none.coll);
}
template <class Visitor, class Switch>
void visit(Visitor& visitor, Switch& nvswitch, const NvSwitchInfo& none) {
  visitor("hidden", nvswitch.hidden, none.hidden);
  visitor("domain", nvswitch.domain, none.domain);
}

struct Write {
  Json object = Json::object();
  template <class T>
  void operator()(const char* name, const T& field, const T& none) {
    if (!(field == none)) object[name] = field;
  }
  void operator()(const char* name, const CpuSet& field, const CpuSet& none) {
    if (!(field == none)) object[name] = field.list();
  }
};

template <class T>
void write_member(Json* object, const char* name, const T& info) {
  Write write;
  visit(write, info, T());
  if (!write.object.empty()) (*object)[name] = std::move(write.object);
}

Json write_direction(const Direction& way) {
  Json json = {{"gbps", way.gbps.value}, {"source", to_string(way.gbps.source)}};
  if (way.lanes != 0) json["lanes"] = way.lanes;
  return json;
}

// Reads members of one object; the first that has the wrong type is remembered with its place.
struct Read {
  const Json& object;
  std::string place;
  Status status;

  const Json* member(const char* name) const {
    const auto found = object.find(name);
    return found == object.end() ? nullptr : &*found;
  }
  void wrong(const char* name, const char* wanted) {
    if (status.ok()) status = invalid_argument("{}.{} is not {}", place, name, wanted);
  }
  void operator()(const char* name, std::string& field, const std::string& = {}) {
    const Json* json = member(name);
    if (json == nullptr) return;
    if (!json->is_string()) return wrong(name, "a string");
    field = json->get<std::string>();
  }
  void operator()(const char* name, bool& field, bool = false) {
    const Json* json = member(name);
    if (json == nullptr) return;
    if (!json->is_boolean()) return wrong(name, "true or false");
    field = json->get<bool>();
  }
  void operator()(const char* name, double& field, double = 0) {
    const Json* json = member(name);
    if (json == nullptr) return;
    if (!json->is_number()) return wrong(name, "a number");
    field = json->get<double>();
  }
  template <class Int>
  requires std::is_integral_v<Int>
  void operator()(const char* name, Int& field, Int = 0) {
    const Json* json = member(name);
    if (json == nullptr) return;
    if (!json->is_number_integer()) return wrong(name, "an integer");
    const bool fits = json->is_number_unsigned() ? std::in_range<Int>(json->get<uint64_t>())
                                                 : std::in_range<Int>(json->get<int64_t>());
    if (!fits) return wrong(name, "an integer of that size");
    field = json->get<Int>();
  }
  void operator()(const char* name, CpuSet& field, const CpuSet&) {
    std::string text;
    (*this)(name, text);
    const auto set = CpuSet::from_list(text);
    if (!set) return wrong(name, "a list of CPUs such as \"0-3,8\"");
    field = *set;
  }
};

template <class T>
Status read_member(const Json& node, const std::string& place, const char* name, T* info) {
  const auto found = node.find(name);
  if (found == node.end()) return {};
  if (!found->is_object()) return invalid_argument("{}.{} is not an object", place, name);
  Read read{*found, fmt::format("{}.{}", place, name), {}};
  visit(read, *info, T());
  return read.status;
}

Status read_direction(const Json& json, const std::string& place, Direction* way) {
  if (!json.is_object()) return invalid_argument("{} is not an object", place);
  Read read{json, place, {}};
  std::string source = "none";
  read("lanes", way->lanes);
  read("gbps", way->gbps.value);
  read("source", source);
  TUTTI_TRY(read.status);
  const auto known = source_of(source);
  if (!known) return invalid_argument("{}.source: \"{}\" is no source of figures", place, source);
  way->gbps.source = *known;
  if (way->lanes < 0 || way->lanes > kMostLanes)
    return invalid_argument("{}.lanes: {} is not between 0 and {}", place, way->lanes, kMostLanes);
  if (way->gbps.value < 0 || way->gbps.value > kMostGbps)
    return invalid_argument("{}.gbps: {} is not between 0 and {:.0e}", place, way->gbps.value, kMostGbps);
  return {};
}

Status read_node(const Json& json, const std::string& place, Node* node, NodeId* parent) {
  if (!json.is_object()) return invalid_argument("{} is not an object", place);
  Read read{json, place, {}};
  std::string kind;
  read("kind", kind);
  read("parent", *parent);
  read("number", node->number);
  read("name", node->name);
  TUTTI_TRY(read.status);
  const auto known = node_kind_of(kind);
  if (!known) return invalid_argument("{}.kind: \"{}\" is no kind of node", place, kind);
  node->kind = *known;
  TUTTI_TRY(read_member(json, place, "pci", &node->pci));
  TUTTI_TRY(read_member(json, place, "cpu", &node->cpu));
  TUTTI_TRY(read_member(json, place, "gpu", &node->gpu));
  TUTTI_TRY(read_member(json, place, "port", &node->port));
  TUTTI_TRY(read_member(json, place, "nvswitch", &node->nvswitch));
  const auto attributes = json.find("attributes");
  if (attributes == json.end()) return {};
  if (!attributes->is_object()) return invalid_argument("{}.attributes is not an object", place);
  for (const auto& [key, value] : attributes->items()) {
    if (!value.is_string()) return invalid_argument("{}.attributes.{} is not a string", place, key);
    node->attributes.emplace_back(key, value.get<std::string>());
  }
  return {};
}

Status read_link(const Json& json, const std::string& place, NodeId nodes, Link* link) {
  if (!json.is_object()) return invalid_argument("{} is not an object", place);
  Read read{json, place, {}};
  std::string kind, source = "none";
  read("kind", kind);
  read("a", link->a);
  read("b", link->b);
  read("latency_us", link->latency_us.value);
  read("latency_source", source);
  TUTTI_TRY(read.status);
  const auto known = link_kind_of(kind);
  if (!known) return invalid_argument("{}.kind: \"{}\" is no kind of link", place, kind);
  link->kind = *known;
  const auto known_source = source_of(source);
  if (!known_source) return invalid_argument("{}.latency_source: \"{}\" is no source of figures", place, source);
  link->latency_us.source = *known_source;
  for (const NodeId end : {link->a, link->b})
    if (end < 0 || end >= nodes) return invalid_argument("{}: there is no node {}", place, end);
  if (link->a == link->b) return invalid_argument("{}: node {} is linked to itself", place, link->a);
  const auto forward = json.find("forward");
  if (forward == json.end()) return invalid_argument("{} has no forward", place);
  TUTTI_TRY(read_direction(*forward, place + ".forward", &link->forward));
  link->backward = link->forward;
  const auto backward = json.find("backward");
  if (backward != json.end()) {
    link->backward = Direction();  // members that are left out have their default, not forward's value
    TUTTI_TRY(read_direction(*backward, place + ".backward", &link->backward));
  }
  return {};
}

Result<Graph> read_graph(const Json& json) {
  if (!json.is_object() || !json.contains("tutti_topology"))
    return invalid_argument("no \"tutti_topology\" member: not a topology of this library");
  Graph graph;
  int version = 0;
  Read read{json, "topology", {}};
  read("tutti_topology", version);
  read("origin", graph.origin);
  read("system_version", graph.system_version);
  TUTTI_TRY(read.status);
  if (version != kJsonVersion)
    return invalid_argument("version {} of the format; this library reads {}", version, kJsonVersion);
  for (const char* list : {"nodes", "links"})
    if (!json.contains(list) || !json[list].is_array()) return invalid_argument("\"{}\" is not a list", list);

  std::vector<NodeId> parents;
  for (const Json& element : json["nodes"]) {
    Node node;
    NodeId parent = kNone;
    TUTTI_TRY(read_node(element, fmt::format("nodes[{}]", graph.size()), &node, &parent));
    parents.push_back(parent);
    graph.add_node(std::move(node));
  }
  for (NodeId id = 0; id < graph.size(); ++id) {
    int depth = 0;
    for (NodeId at = parents[static_cast<size_t>(id)]; at != kNone; at = parents[static_cast<size_t>(at)]) {
      if (at < 0 || at >= graph.size()) return invalid_argument("nodes[{}].parent: there is no node {}", id, at);
      if (++depth > kMostDepth) return invalid_argument("nodes[{}]: its parents form a ring or go too deep", id);
    }
    const NodeId parent = parents[static_cast<size_t>(id)];
    if (graph.node(id).kind == NodeKind::Port && (parent == kNone || graph.node(parent).kind != NodeKind::Nic))
      return invalid_argument("nodes[{}]: a port belongs to a nic, its parent", id);
    graph.move(id, parent);
  }
  for (const Json& element : json["links"]) {
    Link link;
    TUTTI_TRY(read_link(element, fmt::format("links[{}]", graph.links().size()), graph.size(), &link));
    graph.add_link(link);
  }
  if (const auto warnings = json.find("warnings"); warnings != json.end()) {
    if (!warnings->is_array()) return invalid_argument("\"warnings\" is not a list");
    for (const Json& warning : *warnings) {
      if (!warning.is_string()) return invalid_argument("\"warnings\" holds something else than strings");
      graph.warn(0, warning.get<std::string>());
    }
  }
  return graph;
}

}  // namespace

std::string write_json(const Graph& graph) {
  Json json = {{"tutti_topology", kJsonVersion}, {"origin", graph.origin}};
  if (graph.system_version != 0) json["system_version"] = graph.system_version;
  Json& nodes = json["nodes"] = Json::array();
  for (const Node& node : graph.nodes()) {
    Json out = {{"kind", to_string(node.kind)}, {"name", node.name}};
    if (node.parent != kNone) out["parent"] = node.parent;
    if (node.number != -1) out["number"] = node.number;
    write_member(&out, "pci", node.pci);
    write_member(&out, "cpu", node.cpu);
    write_member(&out, "gpu", node.gpu);
    write_member(&out, "port", node.port);
    write_member(&out, "nvswitch", node.nvswitch);
    for (const auto& [key, value] : node.attributes) out["attributes"][key] = value;
    nodes.push_back(std::move(out));
  }
  Json& links = json["links"] = Json::array();
  for (const Link& link : graph.links()) {
    Json out = {{"kind", to_string(link.kind)}, {"a", link.a}, {"b", link.b}};
    out["forward"] = write_direction(link.forward);
    if (!(link.backward == link.forward)) out["backward"] = write_direction(link.backward);
    if (!(link.latency_us == Figure())) {
      out["latency_us"] = link.latency_us.value;
      out["latency_source"] = to_string(link.latency_us.source);
    }
    links.push_back(std::move(out));
  }
  Json& warnings = json["warnings"] = Json::array();
  for (const Warning& warning : graph.warnings())
    warnings.push_back(warning.line > 0 ? fmt::format("line {}: {}", warning.line, warning.text) : warning.text);
  // One node or link a line: a person can read it, and a diff shows what changed. Names of any bytes are let through.
  const auto text = [](const Json& value) {
    return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  };
  std::string out = "{";
  for (const auto& [key, value] : json.items()) {
    out += fmt::format("{}\n  {}: ", out.size() > 1 ? "," : "", text(key));
    if (!value.is_array() || value.empty()) {
      out += text(value);
      continue;
    }
    for (size_t i = 0; i < value.size(); ++i) out += fmt::format("{}\n    {}", i == 0 ? "[" : ",", text(value[i]));
    out += "\n  ]";
  }
  return out + "\n}\n";
}

Result<Graph> read_json(std::string_view text, std::string_view name) {
  Json json;
  try {  // nlohmann-json tells the place of a syntax error by exception only
    json = Json::parse(text.begin(), text.end());
  } catch (const Json::out_of_range& problem) {  // a number beyond any double
    return invalid_argument("{}: {}", name, problem.what());
  } catch (const Json::parse_error& problem) {
    const size_t end = std::min(problem.byte, text.size());
    return invalid_argument("{}:{}: not well-formed JSON: {}", name,
                            std::count(text.begin(), text.begin() + static_cast<ptrdiff_t>(end), '\n') + 1,
                            problem.what());
  }
  Result<Graph> graph = read_graph(json);
  if (!graph.ok()) return invalid_argument("{}: {}", name, graph.status().message());
  return graph;
}

}  // namespace tutti::topology
