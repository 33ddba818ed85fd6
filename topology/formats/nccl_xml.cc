// SPDX-License-Identifier: Apache-2.0
// NCCL's topology XML in all its dialects: dumps of NCCL and RCCL, hand-written templates of cloud images, files of
// several hosts. Unknown elements and attributes are ignored, as NCCL does; a network's unknown attributes are kept.
//
// Decisions where dialects disagree: "16.0 GT/s" is generation 4 with or without " PCIe" (NCCL takes the latter only);
// width 0 or a missing one counts as 16 lanes; a `pci` without class is what its children say, or a device of unknown
// kind.
#include <algorithm>
#include <map>
#include <unordered_map>

#include "topology/figures.h"
#include "topology/formats/formats.h"
#include "topology/formats/xml.h"

namespace tutti::topology {
namespace {

constexpr int kMostGpuLinks = 72;  // of one GPU to all its targets; today's largest has 18
constexpr int kMostLinksOfOneElement = 1024;
constexpr size_t kMostCpus = 1024;  // NUMA nodes of one host: as many as Linux can have
constexpr const char* kHiddenSwitch = "fffffff:ff:ff.0";

bool is_class(int32_t code, int32_t prefix) { return code >= 0 && code >> 16 == prefix; }

// By prefix, as NCCL matches: 03 and 12 are GPUs, 02 NICs, 0680 NVSwitches, and everything else is a bridge.
NodeKind kind_of_class(int32_t code) {
  if (is_class(code, 0x03) || is_class(code, 0x12)) return NodeKind::Gpu;
  if (is_class(code, 0x02)) return NodeKind::Nic;
  if (code == 0x068000) return NodeKind::NvSwitch;
  return NodeKind::PciSwitch;
}

class Reader {
 public:
  Reader(const XmlText& xml) : xml_(xml) { graph_.origin = "NCCL topology XML"; }

  Result<Graph> read() {
    const pugi::xml_node system = xml_.root();
    if (std::string_view(system.name()) == "graphs")
      return xml_.wrong(system,
                        "this is a NCCL graph file (the rings and trees it chose), not a topology; dump one with "
                        "NCCL_TOPO_DUMP_FILE");
    if (std::string_view(system.name()) != "system")
      return xml_.wrong(system, "the root of a NCCL topology is <system>, not <{}>", system.name());
    TUTTI_TRY(integer(system, "version", &graph_.system_version));
    for (const pugi::xml_node& cpu : system.children("cpu")) TUTTI_TRY(read_cpu(cpu));
    if (graph_.of_kind(NodeKind::Cpu).empty()) return xml_.wrong(system, "<system> has no <cpu>: nothing to read");
    TUTTI_TRY(read_gpu_links());
    join_cpus();
    join_hosts();
    warn_of_one_way_links();
    return std::move(graph_);
  }

 private:
  struct GpuElement {
    NodeId node;
    pugi::xml_node element;
  };

  // An attribute into a field; missing or empty leaves the field as it is.
  template <class Int>
  Status integer(const pugi::xml_node& element, const char* attribute, Int* field) {
    const std::string_view text = text_of(element, attribute);
    if (text.empty()) return {};
    const auto value = to_integer(text);
    if (!value || static_cast<Int>(*value) != *value)
      return xml_.wrong(element, "<{}> {}=\"{}\" is not an integer", element.name(), attribute, text);
    *field = static_cast<Int>(*value);
    return {};
  }
  Status number(const pugi::xml_node& element, const char* attribute, double* field) {
    const std::string_view text = text_of(element, attribute);
    if (text.empty()) return {};
    const auto value = to_number(text);
    if (!value) return xml_.wrong(element, "<{}> {}=\"{}\" is not a number", element.name(), attribute, text);
    *field = *value;
    return {};
  }

  void warn(const pugi::xml_node& element, std::string text) { graph_.warn(xml_.line(element), std::move(text)); }

  NodeId host(const pugi::xml_node& cpu) {
    const std::string hash(text_of(cpu, "host_hash"));
    const auto [place, added] = hosts_.try_emplace(hash, kNone);
    if (added)
      place->second =
          graph_.add_node({.kind = NodeKind::Host, .number = static_cast<int>(hosts_.size()) - 1, .name = hash});
    return place->second;
  }

  Status read_cpu(const pugi::xml_node& element) {
    Node node;
    node.kind = NodeKind::Cpu;
    node.parent = host(element);
    if (text_of(element, "numaid").empty()) warn(element, "<cpu> without numaid: taken as -1, no NUMA information");
    TUTTI_TRY(integer(element, "numaid", &node.number));
    node.name = fmt::format("NUMA{}", node.number);
    node.cpu.arch = text_of(element, "arch");
    node.cpu.vendor = text_of(element, "vendor");
    TUTTI_TRY(integer(element, "familyid", &node.cpu.family));
    TUTTI_TRY(integer(element, "modelid", &node.cpu.model));
    const std::string_view affinity = text_of(element, "affinity");
    const auto cpus = CpuSet::from_mask(affinity);
    if (!cpus) return xml_.wrong(element, "<cpu> affinity=\"{}\" is not a list of hexadecimal words", affinity);
    node.cpu.cpus = *cpus;
    if (graph_.children(node.parent).size() >= kMostCpus)
      return xml_.wrong(element, "more than {} <cpu> on one host", kMostCpus);
    for (const NodeId other : graph_.children(node.parent))
      if (graph_.node(other).number == node.number)
        return xml_.wrong(element, "NUMA node {} appears twice on one host: which devices are near it is contradictory",
                          node.number);
    const NodeId cpu = graph_.add_node(std::move(node));
    for (const pugi::xml_node& child : element.children()) {
      const std::string_view name = child.name();
      if (name == "pci") TUTTI_TRY(read_pci(child, cpu));
      if (name == "nic") TUTTI_TRY(read_nic(child, cpu));
    }
    return {};
  }

  Status read_pci(const pugi::xml_node& element, NodeId parent) {
    Node node;
    node.parent = parent;
    const std::string_view bus_id = text_of(element, "busid");
    if (bus_id.empty()) return xml_.wrong(element, "<pci> has no busid");
    node.pci.bus_id = canonical_bus_id(bus_id);
    TUTTI_TRY(integer(element, "class", &node.pci.class_code));
    TUTTI_TRY(integer(element, "vendor", &node.pci.vendor));
    TUTTI_TRY(integer(element, "device", &node.pci.device));
    TUTTI_TRY(integer(element, "subsystem_vendor", &node.pci.subsystem_vendor));
    TUTTI_TRY(integer(element, "subsystem_device", &node.pci.subsystem_device));
    node.pci.link_speed = text_of(element, "link_speed");
    TUTTI_TRY(integer(element, "link_width", &node.pci.link_width));
    if (node.pci.link_width == 0) warn(element, fmt::format("PCIe width 0 at {}: 16 lanes assumed", node.pci.bus_id));
    if (node.pci.link_width < -1 || node.pci.link_width > 32)
      warn(element, fmt::format("PCIe width {} at {} does not exist", node.pci.link_width, node.pci.bus_id));

    const pugi::xml_node gpu = element.child("gpu");
    const pugi::xml_node nic = element.child("nic");
    if (gpu && nic) return xml_.wrong(element, "<pci> {} is both a GPU and a NIC", node.pci.bus_id);
    if (gpu && gpu.next_sibling("gpu")) return xml_.wrong(element, "<pci> {} holds two GPUs", node.pci.bus_id);
    const bool known = node.pci.class_code >= 0;
    node.kind = gpu                    ? NodeKind::Gpu
                : nic                  ? NodeKind::Nic
                : element.child("pci") ? NodeKind::PciSwitch
                : known                ? kind_of_class(node.pci.class_code)
                                       : NodeKind::PciDevice;

    const NodeId on = graph_.host_of(parent);
    const auto [twin, fresh] = by_bus_.try_emplace(fmt::format("{}/{}", on, node.pci.bus_id), graph_.size());
    if (!fresh)
      return xml_.wrong(element, "bus id {} appears twice on one host: a PCI function has one place", node.pci.bus_id);
    if (gpu)
      TUTTI_TRY(read_gpu(gpu, &node));
    else if (node.kind == NodeKind::Gpu)
      node.number = unnamed_gpus_[on]++;  // a template: runtime numbers it
    name(&node, on);
    const Figure gbps = pcie_gbps(node.pci.link_speed, node.pci.link_width, Source::File);
    const int32_t lanes = node.pci.link_width > 0 && node.pci.link_width <= 32 ? node.pci.link_width : 0;
    const NodeId id = graph_.add_node(std::move(node));
    graph_.add_link({.kind = LinkKind::Pcie,
                     .a = parent,
                     .b = id,
                     .forward = {lanes, gbps},
                     .backward = {lanes, gbps},
                     .latency_us = link_latency_us(LinkKind::Pcie)});
    if (gpu) gpu_elements_.push_back({id, gpu});
    for (const pugi::xml_node& child : element.children()) {
      const std::string_view child_name = child.name();
      if (child_name == "pci") TUTTI_TRY(read_pci(child, id));
      if (child_name == "nic") TUTTI_TRY(read_ports(child, id));
    }
    return {};
  }

  // Names are unique per host and kind: GPU<dev>, NIC<order>, PCI<order>.
  void name(Node* node, NodeId on) {
    int& next = next_number_[{on, node->kind}];
    switch (node->kind) {
      case NodeKind::Gpu:
        node->name = fmt::format("GPU{}", node->number);
        return;
      case NodeKind::Nic:
        node->name = fmt::format("NIC{}", next);
        break;
      case NodeKind::PciDevice:
        node->name = fmt::format("DEV{}", next);
        break;
      case NodeKind::NvSwitch:
        node->name = fmt::format("NVSwitch{}", next);
        break;
      default:
        node->name = fmt::format("PCI{}", next);
        break;
    }
    node->number = next++;
  }

  Status read_gpu(const pugi::xml_node& element, Node* node) {
    node->gpu.present = true;
    if (text_of(element, "dev").empty()) return xml_.wrong(element, "<gpu> has no dev");
    TUTTI_TRY(integer(element, "dev", &node->number));
    TUTTI_TRY(integer(element, "sm", &node->gpu.sm));
    TUTTI_TRY(integer(element, "rank", &node->gpu.rank));
    TUTTI_TRY(integer(element, "gdr", &node->gpu.gdr));
    TUTTI_TRY(integer(element, "arch", &node->gpu.arch));
    node->gpu.gcn = text_of(element, "gcn");
    const NodeId on = graph_.host_of(node->parent);
    const auto [twin, fresh] = gpu_numbers_.try_emplace({on, node->number}, xml_.line(element));
    if (!fresh)
      return xml_.wrong(element, "GPU dev {} appears twice on one host (first on line {})", node->number, twin->second);
    return {};
  }

  // A NIC that hangs off the CPU: what some virtual machines and hand-written files have.
  Status read_nic(const pugi::xml_node& element, NodeId cpu) {
    Node node;
    node.kind = NodeKind::Nic;
    node.parent = cpu;
    name(&node, graph_.host_of(cpu));
    const NodeId id = graph_.add_node(std::move(node));
    const Figure gbps = pcie_gbps("", 0, Source::File);
    graph_.add_link({.kind = LinkKind::Pcie,
                     .a = cpu,
                     .b = id,
                     .forward = {0, gbps},
                     .backward = {0, gbps},
                     .latency_us = link_latency_us(LinkKind::Pcie)});
    return read_ports(element, id);
  }

  Status read_ports(const pugi::xml_node& nic, NodeId parent) {
    for (const pugi::xml_node& element : nic.children("net")) {
      Node node;
      node.kind = NodeKind::Port;
      node.parent = parent;
      node.name = text_of(element, "name");
      TUTTI_TRY(integer(element, "dev", &node.number));
      TUTTI_TRY(integer(element, "port", &node.port.port));
      TUTTI_TRY(number(element, "speed", &node.port.speed_mbps));
      TUTTI_TRY(number(element, "latency", &node.port.latency_us));
      TUTTI_TRY(integer(element, "maxconn", &node.port.max_connections));
      TUTTI_TRY(integer(element, "gdr", &node.port.gdr));
      TUTTI_TRY(integer(element, "coll", &node.port.coll));
      node.port.guid = text_of(element, "guid");
      constexpr std::string_view kFields[] = {"name", "dev",     "port", "speed", "latency",
                                              "guid", "maxconn", "gdr",  "coll",  "keep"};
      for (const pugi::xml_attribute& attribute : element.attributes())
        if (std::find(std::begin(kFields), std::end(kFields), attribute.name()) == std::end(kFields))
          node.set_attribute(attribute.name(), attribute.value());
      const Figure gbps = network_gbps(node.port.speed_mbps, Source::File);
      const Figure latency =
          node.port.latency_us > 0 ? Figure{node.port.latency_us, Source::File} : link_latency_us(LinkKind::Network);
      const NodeId id = graph_.add_node(std::move(node));
      graph_.add_link({.kind = LinkKind::Network,
                       .a = parent,
                       .b = id,
                       .forward = {0, gbps},
                       .backward = {0, gbps},
                       .latency_us = latency});
    }
    return {};
  }

  // The second pass: a link's target may come later in the file, or never.
  Status read_gpu_links() {
    for (const GpuElement& gpu : gpu_elements_) {
      int64_t lanes = 0;
      for (const pugi::xml_node& element : gpu.element.children()) {
        const std::string_view name = element.name();
        if (name == "nvlink") TUTTI_TRY(read_link(element, gpu.node, LinkKind::NvLink, &lanes));
        if (name == "xgmi") TUTTI_TRY(read_link(element, gpu.node, LinkKind::Xgmi, &lanes));
        if (name == "c2c") TUTTI_TRY(read_c2c(element, gpu.node));
      }
      if (lanes > kMostGpuLinks)
        warn(gpu.element,
             fmt::format("{} has {} NVLinks or xGMI links: no GPU has so many", graph_.node(gpu.node).name, lanes));
    }
    return {};
  }

  Status read_link(const pugi::xml_node& element, NodeId gpu, LinkKind kind, int64_t* sum) {
    const std::string target = canonical_bus_id(text_of(element, "target"));
    const std::string& from = graph_.node(gpu).name;
    if (target.empty()) return xml_.wrong(element, "<{}> of {} has no target", element.name(), from);
    int32_t count = 1, target_class = -1;
    TUTTI_TRY(integer(element, "count", &count));
    TUTTI_TRY(integer(element, "tclass", &target_class));
    if (count <= 0) {
      warn(element, fmt::format("{} links from {} to {}: ignored", count, from, target));
      return {};
    }
    if (count > kMostLinksOfOneElement) {
      warn(element, fmt::format("{} links from {} to {}: impossible, ignored", count, from, target));
      return {};
    }
    *sum += count;
    const NodeId on = graph_.host_of(gpu);
    const auto found = by_bus_.find(fmt::format("{}/{}", on, target));
    NodeId to = found == by_bus_.end() ? kNone : found->second;
    if (target_class == 0x068001) to = graph_.cpu_of(gpu);  // NVLink into the CPU of POWER
    if (to == kNone && target_class == 0x068000) to = nv_switch(on, target);
    if (to == kNone) {
      warn(element, fmt::format("{} links to {}, which is not in this file", from, target));
      return {};
    }
    if (to == gpu) {
      warn(element, fmt::format("{} links to itself: ignored", from));
      return {};
    }
    const Figure one =
        kind == LinkKind::NvLink ? nvlink_gbps(graph_.node(gpu).gpu.sm) : xgmi_gbps(graph_.node(gpu).gpu.gcn);
    const NodeKind far = graph_.node(to).kind;
    if (far != NodeKind::Gpu && far != NodeKind::NvSwitch && far != NodeKind::Cpu) {
      warn(element, fmt::format("{} links to {}, which is a {}: ignored", from, target, to_string(far)));
      return {};
    }
    add_lanes(kind, gpu, to, count, one);
    // GPUs each list their own direction. A switch or CPU lists nothing: the GPU speaks for both.
    if (far != NodeKind::Gpu) add_lanes(kind, to, gpu, count, one);
    return {};
  }

  void add_lanes(LinkKind kind, NodeId from, NodeId to, int32_t count, Figure one) {
    const auto [place, added] = fabric_.try_emplace({kind, std::min(from, to), std::max(from, to)}, LinkId{0});
    if (added) {
      Link link{.kind = kind, .a = from, .b = to, .latency_us = link_latency_us(kind)};
      place->second = graph_.add_link(link);
    }
    Link& link = graph_.link(place->second);
    Direction& way = link.a == from ? link.forward : link.backward;
    way.lanes = std::min(way.lanes + count, 1 << 20);
    way.gbps = {one.value * way.lanes, one.source};
  }

  NodeId nv_switch(NodeId on, const std::string& target) {
    const bool hidden = target == kHiddenSwitch;
    // The hidden switch is one fabric for all hosts of the file: NCCL puts hosts into one file only then.
    const auto [place, added] = by_bus_.try_emplace(fmt::format("{}/{}", hidden ? kNone : on, target), graph_.size());
    if (added) {
      Node node;
      node.kind = NodeKind::NvSwitch;
      node.parent = on;
      node.pci.bus_id = target;
      node.pci.class_code = 0x068000;
      node.nvswitch.hidden = hidden;
      name(&node, on);
      graph_.add_node(std::move(node));
    } else if (graph_.node(place->second).parent != kNone && graph_.host_of(place->second) != on) {
      graph_.move(place->second, kNone);
    }
    return place->second;
  }

  Status read_c2c(const pugi::xml_node& element, NodeId gpu) {
    double megabytes = 0;
    int32_t count = 1;
    TUTTI_TRY(number(element, "bw", &megabytes));
    TUTTI_TRY(integer(element, "count", &count));
    if (megabytes <= 0 || megabytes > 1e9 || count <= 0 || count > kMostLinksOfOneElement) {
      warn(element, fmt::format("C2C of {} with bw {} and count {}: ignored", graph_.node(gpu).name, megabytes, count));
      return {};
    }
    const Direction way{count, {megabytes * count / 1000, Source::File}};
    graph_.add_link({.kind = LinkKind::C2C,
                     .a = graph_.cpu_of(gpu),
                     .b = gpu,
                     .forward = way,
                     .backward = way,
                     .latency_us = link_latency_us(LinkKind::C2C)});
    return {};
  }

  // Every NUMA node of a host reaches every other.
  void join_cpus() {
    for (const NodeId one : graph_.of_kind(NodeKind::Cpu))
      for (const NodeId other : graph_.children(graph_.host_of(one))) {
        if (other <= one || graph_.node(other).kind != NodeKind::Cpu) continue;
        const Direction way{0, inter_socket_gbps(graph_.node(one).cpu)};
        graph_.add_link({.kind = LinkKind::InterSocket,
                         .a = one,
                         .b = other,
                         .forward = way,
                         .backward = way,
                         .latency_us = link_latency_us(LinkKind::InterSocket)});
      }
  }

  void join_hosts() {
    if (hosts_.size() < 2) return;
    const NodeId network = graph_.add_node({.kind = NodeKind::Network, .number = 0, .name = "network"});
    for (const NodeId port : graph_.of_kind(NodeKind::Port)) {
      const Figure gbps = network_gbps(graph_.node(port).port.speed_mbps, Source::File);
      graph_.add_link({.kind = LinkKind::Network,
                       .a = port,
                       .b = network,
                       .forward = {0, gbps},
                       .backward = {0, gbps},
                       .latency_us = link_latency_us(LinkKind::Network)});
    }
  }

  void warn_of_one_way_links() {
    std::vector<std::string> texts;
    for (const Link& link : graph_.links())
      if (link.forward.lanes != link.backward.lanes)
        texts.push_back(fmt::format("{} has {} links to {}, which has {} back", graph_.node(link.a).name,
                                    link.forward.lanes, graph_.node(link.b).name, link.backward.lanes));
    for (std::string& text : texts) graph_.warn(0, std::move(text));
  }

  const XmlText& xml_;
  Graph graph_;
  std::map<std::string, NodeId> hosts_;
  std::unordered_map<std::string, NodeId> by_bus_;             // "host/bus id"
  std::map<std::pair<NodeId, int32_t>, int32_t> gpu_numbers_;  // (host, dev) -> line
  std::map<NodeId, int32_t> unnamed_gpus_;
  std::map<std::pair<NodeId, NodeKind>, int32_t> next_number_;
  std::map<std::tuple<LinkKind, NodeId, NodeId>, LinkId> fabric_;
  std::vector<GpuElement> gpu_elements_;
};

void set_hex(pugi::xml_node element, const char* name, int32_t value, const char* format) {
  if (value >= 0) element.append_attribute(name) = fmt::format(fmt::runtime(format), value).c_str();
}
void set(pugi::xml_node element, const char* name, const std::string& value) {
  if (!value.empty()) element.append_attribute(name) = value.c_str();
}
void set_number(pugi::xml_node element, const char* name, int64_t value) {
  if (value >= 0) element.append_attribute(name) = static_cast<long long>(value);
}

class Writer {
 public:
  explicit Writer(const Graph& graph) : graph_(graph) {}

  std::string write() {
    pugi::xml_node system = document_.append_child("system");
    const bool amd = std::any_of(graph_.links().begin(), graph_.links().end(),
                                 [](const Link& link) { return link.kind == LinkKind::Xgmi; });
    system.append_attribute("version") = graph_.system_version > 0 ? graph_.system_version : amd ? 2 : 1;
    for (const NodeId cpu : graph_.of_kind(NodeKind::Cpu)) write_cpu(system, cpu);
    struct Text : pugi::xml_writer {
      std::string text;
      void write(const void* data, size_t size) override { text.append(static_cast<const char*>(data), size); }
    } text;
    document_.save(text, "  ", pugi::format_default | pugi::format_no_declaration, pugi::encoding_utf8);
    return text.text;
  }

 private:
  void write_cpu(pugi::xml_node system, NodeId id) {
    const Node& node = graph_.node(id);
    pugi::xml_node cpu = system.append_child("cpu");
    const NodeId host = graph_.host_of(id);
    if (host != kNone) set(cpu, "host_hash", graph_.node(host).name);
    cpu.append_attribute("numaid") = node.number;
    set(cpu, "affinity", node.cpu.cpus.mask());
    set(cpu, "arch", node.cpu.arch);
    set(cpu, "vendor", node.cpu.vendor);
    set_number(cpu, "familyid", node.cpu.family);
    set_number(cpu, "modelid", node.cpu.model);
    for (const NodeId child : graph_.children(id)) write_device(cpu, child);
  }

  // Devices of graphs that know no PCI (nvidia-smi's) get made-up ids, as cloud templates have.
  std::string bus_id(NodeId id) const {
    const Node& node = graph_.node(id);
    return !node.pci.bus_id.empty() ? node.pci.bus_id : fmt::format("ffff:{:02x}:{:02x}.0", id >> 5, id & 0x1f);
  }

  void write_device(pugi::xml_node parent, NodeId id) {
    const Node& node = graph_.node(id);
    if (node.kind == NodeKind::Port || node.kind == NodeKind::Cpu) return;
    if (node.kind == NodeKind::Nic && node.pci == PciFunction{}) {
      write_ports(parent.append_child("nic"), id);
      return;
    }
    pugi::xml_node pci = parent.append_child("pci");
    pci.append_attribute("busid") = bus_id(id).c_str();
    int32_t code = node.pci.class_code;
    if (code < 0 && node.pci.bus_id.empty()) code = 0x060400;
    set_hex(pci, "class", code, "0x{:06x}");
    set_hex(pci, "vendor", node.pci.vendor, "0x{:04x}");
    set_hex(pci, "device", node.pci.device, "0x{:04x}");
    set_hex(pci, "subsystem_vendor", node.pci.subsystem_vendor, "0x{:04x}");
    set_hex(pci, "subsystem_device", node.pci.subsystem_device, "0x{:04x}");
    set(pci, "link_speed", node.pci.link_speed);
    set_number(pci, "link_width", node.pci.link_width);
    if (node.kind == NodeKind::Gpu && node.gpu.present) write_gpu(pci, id);
    if (node.kind == NodeKind::Nic && !graph_.children(id).empty()) write_ports(pci.append_child("nic"), id);
    for (const NodeId child : graph_.children(id)) write_device(pci, child);
  }

  void write_gpu(pugi::xml_node pci, NodeId id) {
    const Node& node = graph_.node(id);
    pugi::xml_node gpu = pci.append_child("gpu");
    gpu.append_attribute("dev") = node.number;
    set_number(gpu, "sm", node.gpu.sm);
    set(gpu, "gcn", node.gpu.gcn);
    set_number(gpu, "arch", node.gpu.arch);
    set_number(gpu, "rank", node.gpu.rank);
    set_number(gpu, "gdr", node.gpu.gdr);
    for (const LinkId link_id : graph_.links_of(id)) {
      const Link& link = graph_.link(link_id);
      const Direction& way = link.from(id);
      if (link.kind == LinkKind::C2C) {
        pugi::xml_node c2c = gpu.append_child("c2c");
        const int32_t count = std::max(way.lanes, 1);
        c2c.append_attribute("bw") = fmt::format("{:g}", way.gbps.value * 1000 / count).c_str();
        c2c.append_attribute("count") = count;
      }
      if ((link.kind != LinkKind::NvLink && link.kind != LinkKind::Xgmi) || way.gbps.value <= 0) continue;
      const Node& far = graph_.node(link.other(id));
      pugi::xml_node element = gpu.append_child(link.kind == LinkKind::NvLink ? "nvlink" : "xgmi");
      const bool hidden = far.kind == NodeKind::NvSwitch && far.nvswitch.hidden;
      element.append_attribute("target") = hidden ? kHiddenSwitch : bus_id(link.other(id)).c_str();
      element.append_attribute("count") = std::max(way.lanes, 1);
      int32_t code = far.pci.class_code;
      if (far.kind == NodeKind::NvSwitch) code = 0x068000;
      if (far.kind == NodeKind::Cpu) code = 0x068001;
      element.append_attribute("tclass") = fmt::format("0x{:06x}", code >= 0 ? code : 0x030200).c_str();
    }
  }

  void write_ports(pugi::xml_node nic, NodeId id) {
    for (const NodeId child : graph_.children(id)) {
      const Node& node = graph_.node(child);
      if (node.kind != NodeKind::Port) continue;
      pugi::xml_node net = nic.append_child("net");
      set(net, "name", node.name);
      set_number(net, "dev", node.number);
      if (node.port.latency_us >= 0) net.append_attribute("latency") = fmt::format("{}", node.port.latency_us).c_str();
      if (node.port.speed_mbps > 0) net.append_attribute("speed") = fmt::format("{}", node.port.speed_mbps).c_str();
      set_number(net, "port", node.port.port);
      set(net, "guid", node.port.guid);
      set_number(net, "maxconn", node.port.max_connections);
      set_number(net, "gdr", node.port.gdr);
      set_number(net, "coll", node.port.coll);
      for (const auto& [key, value] : node.attributes) set(net, key.c_str(), value);
    }
  }

  const Graph& graph_;
  pugi::xml_document document_;
};

}  // namespace

Result<Graph> read_nccl_xml(std::string_view text, std::string_view name) {
  TUTTI_ASSIGN_OR_RETURN(const XmlText xml, XmlText::parse(text, name));
  return Reader(xml).read();
}

std::string write_nccl_xml(const Graph& graph) { return Writer(graph).write(); }

}  // namespace tutti::topology
