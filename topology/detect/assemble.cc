// SPDX-License-Identifier: Apache-2.0
// See assemble.h. Order: host and NUMA nodes; GPUs, NICs and NVSwitches at their places below them; ports;
// NVLinks.
//
// Bridges: a switch is one node, named by its upstream port. On the way down from a host bridge PCI Express alternates:
// root port, then (upstream port, downstream port) per switch. So among the bridges above a device, counted from the
// root port as 0, those at odd places are upstream ports. The type of a port is in its configuration space, but beyond
// the first 64 bytes, which only root may read.
#include "topology/detect/assemble.h"

#include <algorithm>
#include <map>
#include <set>

#include "topology/figures.h"

namespace tutti::topology {
namespace {

constexpr int32_t kNvidia = 0x10de, kAmd = 0x1002, kIntel = 0x8086;

// What computes, among what draws: the display chip of a management controller is no GPU.
bool known_gpu(const PciEntry& entry) {
  const int32_t kind = entry.class_code >> 8;
  if (entry.vendor == kNvidia) return kind == 0x0300 || kind == 0x0302;
  if (entry.vendor == kAmd) return kind == 0x0300 || kind == 0x0302 || kind == 0x0380 || kind == 0x1200;
  return entry.vendor == kIntel && kind == 0x0380;
}

std::string subnet_of(const verbs::Port& port) {
  if (port.gids.empty()) return "";
  std::string text;
  for (size_t i = 0; i < 8; ++i) text += fmt::format("{:02x}", port.gids[0].bytes[i]);
  return text;
}

class Assembler {
 public:
  Assembler(const Sources& sources, std::vector<Note>& notes) : in_(sources), notes_(notes) {}

  Graph run() {
    graph_.origin = "this machine";
    add_processors();
    add_gpus();
    add_rdma();
    add_interfaces();
    add_nvlinks();
    add_peer_access();
    if (unplaced_ > 0)
      note("sysfs", fmt::format("{} devices do not say which NUMA node they are near; taken to be near node {}",
                                unplaced_, in_.cpus.nodes.front().id));
    std::vector<const PciEntry*> used;
    for (const auto& [address, id] : placed_)
      if (const PciEntry* entry = find(in_.pci, address); entry != nullptr && !entry->bridge()) used.push_back(entry);
    if (const std::string hidden = hidden_pci_note(in_.machine, used); !hidden.empty()) {
      note("machine", hidden);
      graph_.warn(0, hidden);
    } else if (in_.machine.virtual_machine) {
      note("machine", fmt::format("this is a virtual machine ({}): PCI figures are the hypervisor's",
                                  in_.machine.product.empty() ? "unknown" : in_.machine.product));
    }
    return std::move(graph_);
  }

 private:
  void note(const char* source, std::string text) { notes_.push_back({source, std::move(text)}); }

  void add_processors() {
    Node host;
    host.kind = NodeKind::Host;
    host.name = in_.host;
    if (in_.machine.virtual_machine) host.set_attribute("virtual_machine", in_.machine.product);
    host_ = graph_.add_node(host);
    std::string caches;
    for (const Cache& cache : in_.cpus.caches)
      caches +=
          fmt::format("{}L{} {} KiB x{}", caches.empty() ? "" : ", ", cache.level, cache.bytes >> 10, cache.count);
    for (const NumaNode& numa : in_.cpus.nodes) {
      Node node;
      node.kind = NodeKind::Cpu;
      node.parent = host_;
      node.number = numa.id;
      node.name = fmt::format("NUMA{}", numa.id);
      node.cpu.package = numa.package;
      node.cpu.cpus = numa.cpus;
      node.cpu.arch = in_.cpus.arch;
      node.cpu.vendor = in_.cpus.vendor;
      node.cpu.family = in_.cpus.family;
      node.cpu.model = in_.cpus.model;
      node.cpu.memory_bytes = numa.memory_bytes;
      if (!in_.cpus.model_name.empty()) node.set_attribute("model", in_.cpus.model_name);
      if (!caches.empty()) node.set_attribute("caches", caches);
      // What this process may use of the node, when that is not all of it.
      CpuSet usable;
      for (uint32_t cpu = 0; cpu < CpuSet::kMost && usable.count() < numa.cpus.count() && cpu < 1 << 14; ++cpu)
        if (numa.cpus.contains(cpu) && in_.cpus.allowed.contains(cpu)) usable.add(cpu);
      if (!in_.cpus.allowed.empty() && usable != numa.cpus) node.set_attribute("allowed_cpus", usable.list());
      cpus_[numa.id] = graph_.add_node(node);
    }
    for (size_t a = 0; a < in_.cpus.nodes.size(); ++a) {
      for (size_t b = a + 1; b < in_.cpus.nodes.size(); ++b) {
        const NodeId one = cpus_[in_.cpus.nodes[a].id], two = cpus_[in_.cpus.nodes[b].id];
        const Figure gbps = inter_socket_gbps(graph_.node(one).cpu);
        graph_.add_link(
            {LinkKind::InterSocket, one, two, {0, gbps}, {0, gbps}, link_latency_us(LinkKind::InterSocket)});
      }
    }
  }

  NodeId cpu_of(const PciEntry& entry) {
    if (const auto known = cpus_.find(entry.numa_node); known != cpus_.end()) return known->second;
    // Firmware that says nothing of a device may say it of another one below the same host bridge.
    for (const PciEntry& other : in_.pci)
      if (!entry.root.empty() && other.root == entry.root)
        if (const auto known = cpus_.find(other.numa_node); known != cpus_.end()) return known->second;
    return first_cpu();
  }
  NodeId first_cpu() {
    if (cpus_.size() > 1) ++unplaced_;
    return cpus_.at(in_.cpus.nodes.front().id);
  }

  void fill_pci(Node& node, const PciEntry& entry) const {
    node.pci.bus_id = entry.address.text();
    node.pci.class_code = entry.class_code;
    node.pci.vendor = entry.vendor;
    node.pci.device = entry.device;
    node.pci.subsystem_vendor = entry.subsystem_vendor;
    node.pci.subsystem_device = entry.subsystem_device;
    node.pci.link_speed = entry.link_speed;
    node.pci.link_width = entry.link_width > 0 ? entry.link_width : -1;
    node.pci.root = entry.root;
  }
  void link_up(NodeId node, NodeId parent, const PciEntry* entry) {
    const Figure gbps = entry != nullptr ? pcie_gbps(entry->link_speed, entry->link_width, Source::Sysfs)
                                         : pcie_gbps("", 0, Source::Assumed);
    const Direction way{entry != nullptr ? entry->link_width : 0, gbps};
    graph_.add_link({LinkKind::Pcie, parent, node, way, way, link_latency_us(LinkKind::Pcie)});
  }

  // The node that a device hangs off: the lowest switch above it, made as needed, or its NUMA node.
  NodeId parent_of(const PciEntry& entry) {
    NodeId parent = cpu_of(entry);
    for (size_t i = 1; i < entry.bridges.size(); i += 2) {
      const PciAddress& upstream = entry.bridges[i];
      const auto known = placed_.find(upstream);
      if (known != placed_.end()) {
        parent = known->second;
        continue;
      }
      const PciEntry* bridge = find(in_.pci, upstream);
      Node node;
      node.kind = NodeKind::PciSwitch;
      node.parent = parent;
      node.number = switches_;
      node.name = fmt::format("PCI{}", switches_++);
      if (bridge != nullptr) fill_pci(node, *bridge);
      node.pci.bus_id = upstream.text();
      const NodeId made = graph_.add_node(node);
      link_up(made, parent, bridge);
      placed_[upstream] = parent = made;
    }
    return parent;
  }
  // Adds `node` at its place on PCI; where the kernel shows no such function, below `fallback`.
  NodeId add_at(Node node, const PciAddress& address, NodeId fallback) {
    const PciEntry* entry = find(in_.pci, address);
    node.parent = entry != nullptr ? parent_of(*entry) : fallback;
    if (entry != nullptr) fill_pci(node, *entry);
    node.pci.bus_id = address.text();
    const NodeId made = graph_.add_node(std::move(node));
    link_up(made, graph_.node(made).parent, entry);
    placed_[address] = made;
    return made;
  }
  NodeId numa_or_first(const std::optional<int>& numa) {
    if (numa)
      if (const auto known = cpus_.find(*numa); known != cpus_.end()) return known->second;
    return first_cpu();
  }

  void add_gpus() {
    int32_t next = 0;
    if (in_.gpus) {
      for (const gpu::GpuDevice& device : *in_.gpus) {
        Node node;
        node.kind = NodeKind::Gpu;
        node.number = device.index;
        node.name = fmt::format("GPU{}", device.index);
        node.gpu.present = true;
        node.gpu.model = device.name;
        node.gpu.uuid = device.uuid;
        node.gpu.sm = device.capability_major > 0 ? device.capability_major * 10 + device.capability_minor : -1;
        node.gpu.memory_bytes = device.memory_bytes;
        if (device.mig_enabled) {
          std::string uuids;
          for (const gpu::MigInstance& one : device.mig)
            uuids += fmt::format("{}{}", uuids.empty() ? "" : ",", one.uuid);
          node.set_attribute("mig", uuids.empty() ? "enabled, no instances" : uuids);
        }
        // A GPU that the kernel does not show is placed by what the driver says of it.
        const bool shown = find(in_.pci, device.pci) != nullptr;
        const NodeId made = add_at(std::move(node), device.pci, shown ? kNone : numa_or_first(device.numa_node));
        graph_.node(made).pci.vendor = device.pci_vendor;
        graph_.node(made).pci.device = device.pci_device;
        gpus_[device.index] = made;
        next = std::max(next, device.index + 1);
      }
    }
    if (in_.cuda) add_cuda_facts(next);
    int hidden = 0;
    for (const PciEntry& entry : in_.pci) {
      if (!counts_as_gpu(entry) || placed_.contains(entry.address)) continue;
      // The driver knows its own GPUs: one that it does not offer belongs to somebody else (another container).
      if (entry.vendor == kNvidia && in_.gpu_class.empty() && in_.gpus && !in_.gpus->empty()) {
        ++hidden;
        continue;
      }
      Node node;
      node.kind = NodeKind::Gpu;
      node.number = next;
      node.name = fmt::format("GPU{}", next++);
      node.gpu.present = true;
      if (entry.driver.empty()) node.set_attribute("driver", "none");
      gpus_[node.number] = add_at(std::move(node), entry.address, kNone);
    }
    if (hidden > 0)
      note("nvml",
           fmt::format("{} more NVIDIA GPUs are on PCI, but the driver does not offer them to this process", hidden));
  }

  // CUDA completes what NVML said, or stands in for it.
  void add_cuda_facts(int32_t& next) {
    for (const gpu::CudaDeviceFacts& facts : in_.cuda->devices) {
      NodeId id = kNone;
      if (facts.pci)
        if (const auto known = placed_.find(*facts.pci); known != placed_.end()) id = known->second;
      if (id == kNone) {
        if (in_.gpus || !facts.pci) continue;  // NVML's list is the better one
        Node node;
        node.kind = NodeKind::Gpu;
        node.number = next;
        node.name = fmt::format("GPU{}", next++);
        node.gpu.present = true;
        const bool shown = find(in_.pci, *facts.pci) != nullptr;
        id = add_at(std::move(node), *facts.pci, shown ? kNone : numa_or_first(facts.host_numa_node));
        gpus_[graph_.node(id).number] = id;
      }
      Node& node = graph_.node(id);
      if (node.gpu.model.empty()) node.gpu.model = facts.name;
      if (node.gpu.sm < 0) node.gpu.sm = facts.capability_major * 10 + facts.capability_minor;
      if (node.gpu.memory_bytes == 0) node.gpu.memory_bytes = facts.memory_bytes;
      node.gpu.gdr = facts.gpu_direct_rdma ? 1 : 0;
      node.set_attribute("cuda_ordinal", std::to_string(facts.ordinal));
      node.set_attribute("dma_buf", facts.dma_buf ? "1" : "0");
      node.set_attribute("multicast", facts.multicast ? "1" : "0");
    }
  }

  bool counts_as_gpu(const PciEntry& entry) const {
    if (in_.gpu_class.empty()) return known_gpu(entry);
    return entry.class_code >= 0 && fmt::format("{:06x}", entry.class_code).starts_with(in_.gpu_class);
  }

  NodeId nic_at(const std::optional<PciAddress>& pci, int32_t numa, const std::string& name) {
    if (pci)
      if (const auto known = placed_.find(*pci); known != placed_.end()) return known->second;
    Node node;
    node.kind = NodeKind::Nic;
    node.number = nics_;
    node.name = fmt::format("NIC{}", nics_++);
    if (pci) return add_at(std::move(node), *pci, find(in_.pci, *pci) != nullptr ? kNone : first_cpu());
    // On a hypervisor's own bus there is no PCI function to link.
    node.parent = numa_or_first(numa >= 0 ? std::optional<int>(numa) : std::nullopt);
    node.set_attribute("device", name);
    const NodeId made = graph_.add_node(node);
    link_up(made, node.parent, nullptr);
    return made;
  }
  void add_port(Node node, NodeId nic, bool active, const std::string& network, Source source) {
    node.kind = NodeKind::Port;
    node.parent = nic;
    node.number = ports_++;
    const double speed = node.port.speed_mbps;
    if (active) node.set_attribute("network", network);  // else no traffic leaves it: it leads nowhere
    const NodeId made = graph_.add_node(std::move(node));
    const Direction way{0, network_gbps(speed, source)};
    graph_.add_link({LinkKind::Network, nic, made, way, way, link_latency_us(LinkKind::Network)});
  }

  void add_rdma() {
    for (const RdmaDevice& rdma : in_.rdma) {
      const NodeId nic = nic_at(rdma.pci, -1, rdma.device.name);
      if (graph_.node(nic).kind != NodeKind::Nic) continue;
      with_rdma_.insert(nic);
      int dead = 0;
      for (const verbs::Port& port : rdma.device.ports) {
        Node node;
        node.name = port.number == 1 ? rdma.device.name : fmt::format("{}:{}", rdma.device.name, port.number);
        node.port.port = port.number;
        if (port.gbit_per_second > 0) node.port.speed_mbps = port.gbit_per_second * 1000;
        node.port.guid = rdma.guid_text;
        node.set_attribute("transport", "rdma");
        node.set_attribute("link_layer", verbs::name(port.layer));
        node.set_attribute("state", port.state);
        if (!rdma.driver.empty()) node.set_attribute("driver", rdma.driver);
        if (rdma.software) node.set_attribute("software", "1");
        for (const verbs::Gid& gid : port.gids)
          if (!gid.interface.empty()) node.set_attribute("interface", gid.interface);
        if (const verbs::Gid* best = routed_gid(port)) {
          node.set_attribute("gid_index", std::to_string(best->index));
          node.set_attribute("gid", best->text());
        }
        const bool infiniband = port.layer == verbs::LinkLayer::InfiniBand;
        dead += port.active ? 0 : 1;
        add_port(std::move(node), nic, port.active, infiniband ? "InfiniBand " + subnet_of(port) : "Ethernet",
                 Source::Sysfs);
      }
      if (dead > 0)
        note("rdma",
             fmt::format("{}: {} of {} ports are not active", rdma.device.name, dead, rdma.device.ports.size()));
    }
  }
  // What a RoCE connection should use: version 2, IPv4 before IPv6, anything before link-local.
  static const verbs::Gid* routed_gid(const verbs::Port& port) {
    const verbs::Gid* best = nullptr;
    const auto rank = [](const verbs::Gid& gid) { return gid.ipv4_mapped() ? 2 : gid.link_local() ? 0 : 1; };
    for (const verbs::Gid& gid : port.gids)
      if (gid.type == verbs::GidType::RoCEv2 && (best == nullptr || rank(gid) > rank(*best))) best = &gid;
    return best;
  }

  void add_interfaces() {
    std::map<std::string, std::string> bond_of;
    for (const Interface& interface : in_.interfaces)
      for (const std::string& part : interface.parts) bond_of[part] = interface.name;
    for (const Interface& interface : in_.interfaces) {
      if (!interface.hardware) continue;  // bridges, veth: they lead to hardware, or nowhere
      const NodeId nic = nic_at(interface.pci, interface.numa_node, interface.name);
      if (with_rdma_.contains(nic) || graph_.node(nic).kind != NodeKind::Nic) continue;
      Node node;
      node.name = interface.name;
      node.port.port = 1;
      node.port.speed_mbps = interface.speed_mbps;
      node.set_attribute("transport", "socket");
      node.set_attribute("state", interface.up ? "up" : "down");
      if (!interface.driver.empty()) node.set_attribute("driver", interface.driver);
      if (const auto bond = bond_of.find(interface.name); bond != bond_of.end())
        node.set_attribute("bond", bond->second);
      add_port(std::move(node), nic, interface.up, "Ethernet", Source::Sysfs);
    }
  }

  // ---- NVLink ----

  NodeId switch_at(const PciAddress& address) {
    if (const auto known = placed_.find(address); known != placed_.end()) return known->second;
    Node node;
    node.kind = NodeKind::NvSwitch;
    node.number = nvswitches_;
    node.name = fmt::format("NVSwitch{}", nvswitches_++);
    if (find(in_.pci, address) != nullptr) return add_at(std::move(node), address, kNone);
    node.parent = host_;  // a container may not show it
    node.pci.bus_id = address.text();
    return placed_[address] = graph_.add_node(node);
  }
  NodeId hidden_switch(const gpu::GpuDevice& device) {
    std::string domain;
    if (device.fabric && device.fabric->cluster != decltype(device.fabric->cluster){}) {
      for (const uint8_t byte : device.fabric->cluster) domain += fmt::format("{:02x}", byte);
      domain += fmt::format("/{}", device.fabric->clique);
    }
    const auto known = hidden_.find(domain);
    if (known != hidden_.end()) return known->second;
    Node node;
    node.kind = NodeKind::NvSwitch;
    node.parent = domain.empty() ? host_ : kNone;  // one of several hosts belongs to none of them
    node.number = nvswitches_;
    node.name = fmt::format("NVSwitch{}", nvswitches_++);
    node.nvswitch.hidden = true;
    node.nvswitch.domain = domain;
    return hidden_[domain] = graph_.add_node(node);
  }
  NodeId far_end(const gpu::GpuDevice& device, const gpu::NvLink& link) {
    if (!link.remote)
      return link.end == gpu::LinkEnd::Cpu ? graph_.cpu_of(gpus_.at(device.index)) : hidden_switch(device);
    if (const auto known = placed_.find(*link.remote); known != placed_.end()) return known->second;
    if (link.end == gpu::LinkEnd::Cpu) return graph_.cpu_of(gpus_.at(device.index));
    const PciEntry* entry = find(in_.pci, *link.remote);
    const bool bridge_chip = entry != nullptr && entry->class_code >> 8 == 0x0680;
    if (link.end == gpu::LinkEnd::Switch || bridge_chip) return switch_at(*link.remote);
    return kNone;
  }

  void add_nvlinks() {
    if (!in_.gpus) return;
    std::map<std::pair<NodeId, NodeId>, int32_t> lanes;  // from a GPU
    for (const gpu::GpuDevice& device : *in_.gpus) {
      int down = 0, lost = 0;
      for (const gpu::NvLink& link : device.links) {
        if (!link.active) {
          ++down;
          continue;
        }
        const NodeId end = far_end(device, link);
        if (end == kNone || end == gpus_.at(device.index)) {
          ++lost;
          continue;
        }
        ++lanes[{gpus_.at(device.index), end}];
      }
      const auto all = device.links.size();
      if (down > 0) warn(fmt::format("GPU{}: {} of {} NVLinks are down", device.index, down, all));
      if (lost > 0)
        warn(fmt::format("GPU{}: {} of {} NVLinks lead to devices that this process does not see", device.index, lost,
                         all));
    }
    for (const auto& [ends, count] : lanes) {
      const NodeId from = ends.first, to = ends.second;  // no structured binding: clang 14 captures none
      const bool both_gpus = graph_.node(to).kind == NodeKind::Gpu;
      const auto back = lanes.find({to, from});
      if (both_gpus && to < from && back != lanes.end()) continue;  // made from the other end
      const LinkKind kind = graph_.node(to).kind == NodeKind::Cpu ? LinkKind::C2C : LinkKind::NvLink;
      const int32_t returning = both_gpus ? (back != lanes.end() ? back->second : 0) : count;
      if (both_gpus && returning != count)
        warn(fmt::format("NVLinks of {} and {} disagree: {} one way, {} the other", graph_.node(from).name,
                         graph_.node(to).name, count, returning));
      const auto way = [&](int32_t links) {
        Figure gbps = nvlink_gbps(graph_.node(from).gpu.sm);
        gbps.value *= links;
        return Direction{links, gbps};
      };
      graph_.add_link({kind, from, to, way(count), way(returning), link_latency_us(kind)});
    }
  }
  void warn(const std::string& text) {
    note("nvml", text);
    graph_.warn(0, text);
  }

  // Which peers' memory a GPU may not read or write, with the driver's reason.
  void add_peer_access() {
    std::map<int, std::map<std::string, std::string>> denied;
    for (const gpu::PeerAttributes& peer : in_.peers) {
      const gpu::PeerAccess worst = peer.write != gpu::PeerAccess::Ok ? peer.write : peer.read;
      if (worst == gpu::PeerAccess::Ok || worst == gpu::PeerAccess::Unknown) continue;
      std::string& list = denied[peer.from][gpu::name(worst)];
      list += fmt::format("{}GPU{}", list.empty() ? "" : ",", peer.to);
    }
    for (const auto& [from, reasons] : denied) {
      std::string text;
      for (const auto& [reason, list] : reasons)
        text += fmt::format("{}{}: {}", text.empty() ? "" : "; ", list, reason);
      if (const auto known = gpus_.find(from); known != gpus_.end())
        graph_.node(known->second).set_attribute("no_peer_access", text);
    }
  }

  const Sources& in_;
  std::vector<Note>& notes_;
  Graph graph_;
  NodeId host_ = kNone;
  std::map<int32_t, NodeId> cpus_;  // by NUMA id
  std::map<PciAddress, NodeId> placed_;
  std::map<int, NodeId> gpus_;  // by number
  std::map<std::string, NodeId> hidden_;
  std::set<NodeId> with_rdma_;
  int32_t switches_ = 0, nics_ = 0, ports_ = 0, nvswitches_ = 0;
  int unplaced_ = 0;
};

}  // namespace

void connect_networks(Graph& graph) {
  std::map<std::string, NodeId, std::less<>> networks;
  for (const NodeId id : graph.of_kind(NodeKind::Network)) networks[graph.node(id).name] = id;
  for (const NodeId port : graph.of_kind(NodeKind::Port)) {
    const std::string name(graph.node(port).attribute("network"));
    const auto uplink = graph.link_between(LinkKind::Network, graph.node(port).parent, port);
    if (name.empty() || !uplink) continue;
    auto known = networks.find(name);
    if (known == networks.end()) {
      Node node;
      node.kind = NodeKind::Network;
      node.number = static_cast<int32_t>(networks.size());
      node.name = name;
      known = networks.emplace(name, graph.add_node(node)).first;
    }
    const Link link = graph.link(*uplink);
    graph.add_link({LinkKind::Network, port, known->second, link.forward, link.backward, link.latency_us});
  }
}

Graph assemble(const Sources& sources, std::vector<Note>& notes) { return Assembler(sources, notes).run(); }

}  // namespace tutti::topology
