// SPDX-License-Identifier: Apache-2.0
// hwloc's XML, versions 1, 2 and 3, read by ourselves: the format is small, the library may be missing or too old for
// the file (version 2 of the library refuses version 3 files), and text from strangers stays inside code that is fuzzed
// here.
//
// NUMA nodes, the PCI tree and OS devices are taken; caches and cores only as the CPU sets of NUMA nodes. Bridges at an
// odd depth below a host bridge are root ports and downstream ports of switches; those at an even depth are switches.
#include <algorithm>
#include <cmath>
#include <map>
#include <unordered_map>

#include "topology/figures.h"
#include "topology/formats/formats.h"
#include "topology/formats/xml.h"

namespace tutti::topology {
namespace {

// hwloc states PCIe speeds after line coding; ours are payload, without packet headers: 12 of 15.75 GB/s.
constexpr double kPciePayload = 12 / 15.753846;
constexpr size_t kMostObjects = 4096;  // of one distance matrix
constexpr size_t kMostNumas = 1024;    // as many as Linux can have

struct Numa {
  NodeId node;
  int64_t os_index;
};

// Where an object sits, as the walk goes down.
struct Place {
  int64_t package = -1;
  pugi::xml_node package_element;
  CpuSet nodeset;         // of the nearest object that has one
  NodeId parent = kNone;  // below a host bridge: the switch, or the NUMA node
  int depth = 0;          // bridges since the host bridge; the host bridge is 0
  std::string root;
};

std::string_view info_of(const pugi::xml_node& object, std::string_view name) {
  for (const pugi::xml_node& info : object.children("info"))
    if (name == info.attribute("name").value()) return text_of(info, "value");
  return {};
}

bool is_type(const pugi::xml_node& object, std::string_view type) { return type == object.attribute("type").value(); }

class Reader {
 public:
  explicit Reader(const XmlText& xml) : xml_(xml) {}

  Result<Graph> read() {
    const pugi::xml_node root = xml_.root();
    if (std::string_view(root.name()) != "topology" && std::string_view(root.name()) != "root")
      return xml_.wrong(root, "the root of hwloc's XML is <topology>, not <{}>", root.name());
    const std::string_view version = text_of(root, "version");
    const auto number = version.empty() ? std::optional<double>(1) : to_number(version);
    if (!number || *number < 1 || *number >= 4)
      return xml_.wrong(root, "hwloc XML version \"{}\"; versions 1, 2 and 3 are read", version);
    version_ = static_cast<int>(*number);
    osdev_bits_ = version_ >= 3;
    const pugi::xml_node machine = root.child("object");
    if (!machine || !is_type(machine, "Machine")) return xml_.wrong(root, "<topology> has no object of type Machine");
    graph_.origin = fmt::format("hwloc XML {}.x", version_);
    machine_ = machine;
    host_ = graph_.add_node({.kind = NodeKind::Host, .number = 0, .name = std::string(info_of(machine, "HostName"))});
    TUTTI_TRY(read_numa(machine, Place()));
    if (numas_.empty()) {
      TUTTI_TRY(add_numa(machine, Place(), -1));
      graph_.warn(xml_.line(machine), "no NUMA node in the file: one without number stands for the machine");
    }
    join_cpus();
    TUTTI_TRY(read_devices(machine, Place()));
    for (const pugi::xml_node& child : root.children()) {
      const std::string_view name = child.name();
      if (name == "distances2" || name == "distances2hetero") TUTTI_TRY(read_distances(child));
    }
    TUTTI_TRY(use_distances());
    return std::move(graph_);
  }

 private:
  Status descend(const pugi::xml_node& object, Place* place) {
    if (is_type(object, "Package") || is_type(object, "Socket")) {
      place->package = to_integer(text_of(object, "os_index")).value_or(-1);
      place->package_element = object;
    }
    const std::string_view nodeset = text_of(object, "nodeset");
    if (nodeset.empty()) return {};
    const auto set = CpuSet::from_mask(nodeset);
    if (!set) return xml_.wrong(object, "nodeset=\"{}\" is not a list of hexadecimal words", nodeset);
    if (!set->empty()) place->nodeset = *set;
    return {};
  }

  Status read_numa(const pugi::xml_node& object, Place place) {
    TUTTI_TRY(descend(object, &place));
    if (is_type(object, "NUMANode")) {
      const std::string_view text = text_of(object, "os_index");
      const auto index = to_integer(text);
      if (!index || *index < 0 || *index >= CpuSet::kMost)
        return xml_.wrong(object, "NUMANode os_index=\"{}\" is no index", text);
      for (const Numa& other : numas_)
        if (other.os_index == *index) return xml_.wrong(object, "NUMA node {} appears twice", *index);
      if (numas_.size() >= kMostNumas) return xml_.wrong(object, "more than {} NUMA nodes", kMostNumas);
      TUTTI_TRY(add_numa(object, place, *index));
    }
    if (is_type(object, "Package"))
      by_gp_.try_emplace(std::string("Package:") + object.attribute("gp_index").value(), kNone);
    const size_t before = numas_.size();
    for (const pugi::xml_node& child : object.children("object")) TUTTI_TRY(read_numa(child, place));
    if (is_type(object, "Package") && numas_.size() > before)
      by_gp_[std::string("Package:") + object.attribute("gp_index").value()] = numas_[before].node;
    return {};
  }

  Status add_numa(const pugi::xml_node& object, const Place& place, int64_t index) {
    Node node{.kind = NodeKind::Cpu, .parent = host_, .number = static_cast<int32_t>(index)};
    node.name = index < 0 ? "NUMA-1" : fmt::format("NUMA{}", index);
    pugi::xml_node package = place.package_element;
    node.cpu.package = static_cast<int32_t>(std::clamp<int64_t>(place.package, -1, INT32_MAX));
    if (!package) {  // version 1: packages may sit below NUMA nodes
      package = object.find_node(
          [](const pugi::xml_node& child) { return is_type(child, "Socket") || is_type(child, "Package"); });
      if (package)
        node.cpu.package = static_cast<int32_t>(
            std::clamp<int64_t>(to_integer(text_of(package, "os_index")).value_or(-1), -1, INT32_MAX));
    }
    const std::string_view cpuset = text_of(object, "cpuset");
    const auto cpus = CpuSet::from_mask(cpuset);
    if (!cpus) return xml_.wrong(object, "cpuset=\"{}\" is not a list of hexadecimal words", cpuset);
    node.cpu.cpus = *cpus;
    const auto info = [&](std::string_view name) {
      const std::string_view text = package ? info_of(package, name) : std::string_view();
      return std::string(text.empty() ? info_of(machine_, name) : text);
    };
    node.cpu.arch = info("Architecture");
    node.cpu.vendor = info("CPUVendor");
    if (node.cpu.arch.empty() && (node.cpu.vendor == "GenuineIntel" || node.cpu.vendor == "AuthenticAMD"))
      node.cpu.arch = "x86_64";
    node.cpu.family =
        static_cast<int32_t>(std::clamp<int64_t>(to_integer(info("CPUFamilyNumber")).value_or(-1), -1, INT32_MAX));
    node.cpu.model =
        static_cast<int32_t>(std::clamp<int64_t>(to_integer(info("CPUModelNumber")).value_or(-1), -1, INT32_MAX));
    node.cpu.memory_bytes =
        static_cast<uint64_t>(std::max<int64_t>(0, to_integer(text_of(object, "local_memory")).value_or(0)));
    numas_.push_back({graph_.add_node(std::move(node)), index});
    return {};
  }

  void join_cpus() {
    for (size_t i = 0; i < numas_.size(); ++i)
      for (size_t j = i + 1; j < numas_.size(); ++j) {
        const Direction way{0, inter_socket_gbps(graph_.node(numas_[i].node).cpu)};
        join(LinkKind::InterSocket, numas_[i].node, numas_[j].node, way, way);
      }
  }

  void join(LinkKind kind, NodeId a, NodeId b, Direction forward, Direction backward) {
    graph_.add_link(
        {.kind = kind, .a = a, .b = b, .forward = forward, .backward = backward, .latency_us = link_latency_us(kind)});
  }

  // The NUMA node that is near an object: the first of its node set.
  NodeId numa_of(const Place& place) const {
    for (const Numa& numa : numas_)
      if (numa.os_index >= 0 && place.nodeset.contains(static_cast<uint32_t>(numa.os_index))) return numa.node;
    return numas_.front().node;
  }

  Status read_devices(const pugi::xml_node& object, Place place) {
    TUTTI_TRY(descend(object, &place));
    if (is_type(object, "Bridge")) {
      TUTTI_TRY(read_bridge(object, &place));
    } else if (is_type(object, "PCIDev")) {
      return read_device(object, place);
    } else if (is_type(object, "OSDev") && is_net(object)) {
      // A network interface without PCI device: a paravirtual or a software one.
      return read_bare_port(object, place);
    }
    for (const pugi::xml_node& child : object.children("object")) TUTTI_TRY(read_devices(child, place));
    return {};
  }

  Status read_bridge(const pugi::xml_node& object, Place* place) {
    if (text_of(object, "bridge_type").starts_with("0")) {
      const std::string_view range = text_of(object, "bridge_pci");
      place->parent = numa_of(*place);
      place->depth = 0;
      place->root = "pci";
      for (const char c : range.substr(0, range.find('-')))
        if (c != '[') place->root += c;
      return {};
    }
    if (place->parent == kNone) place->parent = numa_of(*place);
    if (++place->depth % 2 != 0) return {};  // a port, not a switch
    Node node{.kind = NodeKind::PciSwitch, .parent = place->parent, .number = next_[NodeKind::PciSwitch]++};
    node.name = fmt::format("PCI{}", node.number);
    TUTTI_TRY(read_pci(object, *place, &node.pci));
    TUTTI_TRY(claim(object, node.pci));
    const NodeId id = graph_.add_node(std::move(node));
    add_uplink(object, place->parent, id);
    place->parent = id;
    return {};
  }

  // "0302 [10de:1db8] [10de:131d] a1 00": class without its last byte, ids, subsystem ids; the rest is revision and
  // such.
  Status read_pci(const pugi::xml_node& object, const Place& place, PciFunction* pci) {
    const std::string_view bus_id = text_of(object, "pci_busid");
    if (bus_id.empty()) return xml_.wrong(object, "{} has no pci_busid", object.attribute("type").value());
    pci->bus_id = canonical_bus_id(bus_id);
    const std::string_view type = text_of(object, "pci_type");
    const auto hex = [&](size_t at) -> int32_t {
      if (at + 4 > type.size()) return -1;
      const auto value = to_integer("0x" + std::string(type.substr(at, 4)));
      return value ? static_cast<int32_t>(*value) : -1;
    };
    const int32_t code = hex(0);
    if (code < 0) return xml_.wrong(object, "pci_type=\"{}\" does not begin with a class", type);
    pci->class_code = code << 8;
    pci->vendor = hex(6);
    pci->device = hex(11);
    pci->subsystem_vendor = hex(18);
    pci->subsystem_device = hex(23);
    pci->root = place.root;
    return {};
  }

  // Only what becomes a node: files do name one bus id for a disk and for an adapter.
  Status claim(const pugi::xml_node& object, const PciFunction& pci) {
    if (seen_.try_emplace(pci.bus_id, xml_.line(object)).second) return {};
    return xml_.wrong(object, "bus id {} appears twice (first on line {}): a PCI function has one place", pci.bus_id,
                      seen_[pci.bus_id]);
  }

  void add_uplink(const pugi::xml_node& object, NodeId parent, NodeId id) {
    const auto speed = to_number(text_of(object, "pci_link_speed"));
    Figure gbps = pcie_gbps("", 0, Source::Hwloc);
    if (speed && *speed > 0) gbps = {*speed * kPciePayload, Source::Hwloc};
    join(LinkKind::Pcie, parent, id, {0, gbps}, {0, gbps});
  }

  bool is_net(const pugi::xml_node& osdev) const {
    const auto type = to_integer(text_of(osdev, "osdev_type")).value_or(-1);
    return osdev_bits_ ? type > 0 && (type & (16 | 32)) != 0 : type == 2 || type == 3;
  }
  bool is_rdma(const pugi::xml_node& osdev) const {
    const auto type = to_integer(text_of(osdev, "osdev_type")).value_or(-1);
    return osdev_bits_ ? type > 0 && (type & 32) != 0 : type == 3;
  }

  Status read_device(const pugi::xml_node& object, const Place& place) {
    Node node;
    node.parent = place.parent == kNone ? numa_of(place) : place.parent;
    PciFunction pci;
    TUTTI_TRY(read_pci(object, place, &pci));
    node.pci = std::move(pci);
    const int32_t top = node.pci.class_code >> 16, code = node.pci.class_code >> 8;
    bool computes = false, nets = false;
    for (const pugi::xml_node& child : object.children("object")) {
      const std::string_view name = text_of(child, "name");
      computes |= name.starts_with("cuda") || name.starts_with("nvml") || name.starts_with("rsmi");
      nets |= is_type(child, "OSDev") && is_net(child);
    }
    // 0300 is the VGA adapter of a management controller, unless something computes on it.
    if (computes || ((top == 0x03 || top == 0x12) && code != 0x0300)) {
      node.kind = NodeKind::Gpu;
      node.gpu.present = true;
    } else if (top == 0x02 || nets) {
      node.kind = NodeKind::Nic;
    } else if (code == 0x0680 || text_of(object, "subtype") == "NVSwitch") {
      if (text_of(object, "subtype") != "NVSwitch" && node.pci.vendor != 0x10de) return {};
      node.kind = NodeKind::NvSwitch;
    } else {
      return {};  // storage, management: nothing that a job moves data through
    }
    TUTTI_TRY(claim(object, node.pci));
    node.number = next_[node.kind]++;
    node.name = fmt::format("{}{}",
                            node.kind == NodeKind::Gpu   ? "GPU"
                            : node.kind == NodeKind::Nic ? "NIC"
                                                         : "NVSwitch",
                            node.number);
    if (node.kind == NodeKind::Gpu)
      for (const pugi::xml_node& child : object.children("object")) {
        if (const auto model = info_of(child, "GPUModel"); !model.empty()) node.gpu.model = model;
        if (const auto uuid = info_of(child, "NVIDIAUUID"); !uuid.empty()) node.gpu.uuid = uuid;
        const std::string_view name = text_of(child, "name");
        for (const char* runtime : {"cuda", "nvml", "rsmi"})
          if (name.starts_with(runtime)) node.set_attribute(runtime, name);
      }
    const NodeKind kind = node.kind;
    const NodeId parent = node.parent, id = graph_.add_node(std::move(node));
    add_uplink(object, parent, id);
    by_gp_[std::string("PCIDev:") + object.attribute("gp_index").value()] = id;
    by_gp_[std::string(":") + object.attribute("gp_index").value()] = id;
    for (const pugi::xml_node& child : object.children("object")) {
      by_gp_[std::string("OSDev:") + child.attribute("gp_index").value()] = id;
      by_gp_[std::string(":") + child.attribute("gp_index").value()] = id;
    }
    if (kind == NodeKind::Nic) add_ports(object, id);
    return {};
  }

  // RDMA devices are what a job uses by name; the interfaces over them are noted. Without any, the interfaces are
  // ports.
  void add_ports(const pugi::xml_node& device, NodeId nic) {
    std::string interfaces;
    bool rdma = false;
    for (const pugi::xml_node& child : device.children("object")) {
      if (!is_type(child, "OSDev") || !is_net(child)) continue;
      if (is_rdma(child))
        rdma = true;
      else
        interfaces += fmt::format("{}{}", interfaces.empty() ? "" : ",", text_of(child, "name"));
    }
    for (const pugi::xml_node& child : device.children("object")) {
      if (!is_type(child, "OSDev") || !is_net(child) || is_rdma(child) != rdma) continue;
      add_port(child, nic, rdma ? interfaces : "");
    }
  }

  void add_port(const pugi::xml_node& object, NodeId nic, const std::string& interfaces) {
    Node node{.kind = NodeKind::Port,
              .parent = nic,
              .number = next_[NodeKind::Port]++,
              .name = std::string(text_of(object, "name"))};
    if (!interfaces.empty()) node.set_attribute("netdev", interfaces);
    node.port.guid = info_of(object, "NodeGUID");
    const Figure gbps = network_gbps(-1, Source::Hwloc);
    join(LinkKind::Network, nic, graph_.add_node(std::move(node)), {0, gbps}, {0, gbps});
  }

  Status read_bare_port(const pugi::xml_node& object, const Place& place) {
    Node node{.kind = NodeKind::Nic, .parent = numa_of(place), .number = next_[NodeKind::Nic]++};
    node.name = fmt::format("NIC{}", node.number);
    const NodeId parent = node.parent, id = graph_.add_node(std::move(node));
    add_uplink(object, parent, id);
    add_port(object, id, "");
    return {};
  }

  struct Matrix {
    std::vector<NodeId> nodes;
    std::vector<int64_t> values;  // row after row
    int32_t line = 0;
    bool empty() const { return nodes.empty(); }
    int64_t at(size_t row, size_t column) const { return values[row * nodes.size() + column]; }
  };

  Status read_distances(const pugi::xml_node& element) {
    const std::string_view name = text_of(element, "name");
    Matrix* matrix = name == "NVLinkBandwidth" ? &nvlink_
                     : name == "XGMIBandwidth" ? &xgmi_
                     : name == "XGMIHops"      ? &xgmi_hops_
                                               : nullptr;
    if (matrix == nullptr) return {};
    if (!matrix->empty()) return xml_.wrong(element, "a second matrix {}", name);
    const auto count = to_integer(text_of(element, "nbobjs"));
    if (!count || *count < 1 || static_cast<size_t>(*count) > kMostObjects)
      return xml_.wrong(element, "{} over nbobjs=\"{}\" objects", name, text_of(element, "nbobjs"));
    for (const pugi::xml_node& indexes : element.children("indexes"))
      for (const std::string_view word : words(indexes.child_value())) {
        const std::string key = word.find(':') == std::string_view::npos ? ":" + std::string(word) : std::string(word);
        const auto found = by_gp_.find(key);
        if (found == by_gp_.end())
          graph_.warn(xml_.line(element), fmt::format("{} names the object {}, which is not in the file", name, word));
        matrix->nodes.push_back(found == by_gp_.end() ? kNone : found->second);
      }
    for (const pugi::xml_node& values : element.children("u64values"))
      for (const std::string_view word : words(values.child_value())) {
        const auto value = to_integer(word);
        if (!value || *value < 0) return xml_.wrong(element, "{}: \"{}\" is not a count of MB/s", name, word);
        matrix->values.push_back(*value);
      }
    const auto size = static_cast<size_t>(*count);
    if (matrix->nodes.size() != size || matrix->values.size() != size * size)
      return xml_.wrong(element, "{} over {} objects has {} indexes and {} values, not {}", name, size,
                        matrix->nodes.size(), matrix->values.size(), size * size);
    matrix->line = xml_.line(element);
    return {};
  }

  Status use_distances() {
    add_matrix(nvlink_, LinkKind::NvLink);
    if (!xgmi_hops_.empty() && xgmi_hops_.nodes != xgmi_.nodes) xgmi_hops_ = Matrix();
    add_matrix(xgmi_, LinkKind::Xgmi);
    return {};
  }

  // A link where both the matrix has a bandwidth and, if hops are stated, there is one hop: more are no link.
  void add_matrix(const Matrix& matrix, LinkKind kind) {
    for (size_t i = 0; i < matrix.nodes.size(); ++i)
      for (size_t j = i + 1; j < matrix.nodes.size(); ++j) {
        const NodeId a = matrix.nodes[i], b = matrix.nodes[j];
        if (a == kNone || b == kNone || a == b) continue;
        if (kind == LinkKind::Xgmi && !xgmi_hops_.empty() && xgmi_hops_.at(i, j) != 1) continue;
        const int64_t there = matrix.at(i, j), back = matrix.at(j, i);
        if (there == 0 && back == 0) continue;
        if (there != back)
          graph_.warn(matrix.line, fmt::format("{} to {} is {} MB/s, back it is {}", graph_.node(a).name,
                                               graph_.node(b).name, there, back));
        const auto way = [&](int64_t megabytes) {
          // NVLinks carry 20 (Pascal) or 25 GB/s of signal each: the number follows where it divides.
          const int64_t lanes = kind == LinkKind::Xgmi   ? megabytes / 50000
                                : megabytes % 25000 == 0 ? megabytes / 25000
                                : megabytes % 20000 == 0 ? megabytes / 20000
                                                         : 0;
          return Direction{static_cast<int32_t>(std::min<int64_t>(lanes, 1 << 20)),
                           {static_cast<double>(megabytes) / 1000, megabytes > 0 ? Source::Hwloc : Source::None}};
        };
        join(kind, a, b, way(there), way(back));
      }
  }

  const XmlText& xml_;
  Graph graph_;
  pugi::xml_node machine_;
  NodeId host_ = kNone;
  int version_ = 1;
  bool osdev_bits_ = false;  // version 3 writes types of OS devices as bits
  std::vector<Numa> numas_;
  std::map<NodeKind, int32_t> next_;
  std::unordered_map<std::string, int32_t> seen_;  // bus id -> line
  std::unordered_map<std::string, NodeId> by_gp_;  // "OSDev:802", and ":802" where one type is meant
  Matrix nvlink_, xgmi_, xgmi_hops_;
};

}  // namespace

Result<Graph> read_hwloc_xml(std::string_view text, std::string_view name) {
  TUTTI_ASSIGN_OR_RETURN(const XmlText xml, XmlText::parse(text, name));
  return Reader(xml).read();
}

}  // namespace tutti::topology
