// SPDX-License-Identifier: Apache-2.0
// A file's gaps filled from the live machine: templates of cloud images name places and leave the devices to run time.
#include <algorithm>
#include <map>

#include "topology/formats/formats.h"

namespace tutti::topology {
namespace {

template <class T>
void fill(T* field, const T& none, const T& live) {
  if (*field == none) *field = live;
}

void fill_pci(PciFunction* pci, const PciFunction& live) {
  const PciFunction none;
  fill(&pci->class_code, none.class_code, live.class_code);
  fill(&pci->vendor, none.vendor, live.vendor);
  fill(&pci->device, none.device, live.device);
  fill(&pci->subsystem_vendor, none.subsystem_vendor, live.subsystem_vendor);
  fill(&pci->subsystem_device, none.subsystem_device, live.subsystem_device);
  fill(&pci->link_speed, none.link_speed, live.link_speed);
  fill(&pci->link_width, none.link_width, live.link_width);
  fill(&pci->root, none.root, live.root);
}

void fill_gpu(Node* node, const Node& live) {
  const GpuInfo none;
  GpuInfo& gpu = node->gpu;
  if (!gpu.present) {  // the template knows the place only: the machine's number is the device's
    node->number = live.number;
    node->name = live.name;
  }
  gpu.present |= live.gpu.present;
  fill(&gpu.model, none.model, live.gpu.model);
  fill(&gpu.uuid, none.uuid, live.gpu.uuid);
  fill(&gpu.sm, none.sm, live.gpu.sm);
  fill(&gpu.gcn, none.gcn, live.gpu.gcn);
  fill(&gpu.arch, none.arch, live.gpu.arch);
  fill(&gpu.gdr, none.gdr, live.gpu.gdr);
  fill(&gpu.memory_bytes, none.memory_bytes, live.gpu.memory_bytes);
}

void fill_cpu(CpuInfo* cpu, const CpuInfo& live) {
  const CpuInfo none;
  fill(&cpu->package, none.package, live.package);
  fill(&cpu->cpus, none.cpus, live.cpus);
  fill(&cpu->arch, none.arch, live.arch);
  fill(&cpu->vendor, none.vendor, live.vendor);
  fill(&cpu->family, none.family, live.family);
  fill(&cpu->model, none.model, live.model);
  fill(&cpu->memory_bytes, none.memory_bytes, live.memory_bytes);
}

void copy_ports(Graph* file, NodeId nic, const Graph& live, NodeId from) {
  for (const NodeId child : live.children(from)) {
    if (live.node(child).kind != NodeKind::Port) continue;
    Node port = live.node(child);
    port.parent = nic;
    const NodeId id = file->add_node(std::move(port));
    if (const auto link = live.link_between(LinkKind::Network, from, child)) {
      Link copy = live.link(*link);
      const bool turned = copy.a != from;
      copy.a = turned ? id : nic;
      copy.b = turned ? nic : id;
      file->add_link(copy);
    }
  }
}

bool joins_chips(LinkKind kind) { return is_fabric(kind) || kind == LinkKind::C2C; }

bool has_fabric(const Graph& graph, NodeId id) {
  return std::any_of(graph.links_of(id).begin(), graph.links_of(id).end(),
                     [&](LinkId link) { return joins_chips(graph.link(link).kind); });
}

}  // namespace

void complete(Graph& file, const Graph& live) {
  const auto hosts = file.of_kind(NodeKind::Host), live_hosts = live.of_kind(NodeKind::Host);
  if (hosts.size() != 1 || live_hosts.size() != 1) {
    file.warn(0, "not completed from the live machine: that is done for files of one host");
    return;
  }
  std::map<NodeId, NodeId> twin;  // of the live graph -> of the file
  const NodeId before = file.size();
  for (NodeId id = 0; id < before; ++id) {
    if (file.node(id).kind == NodeKind::Cpu) {
      for (const NodeId other : live.of_kind(NodeKind::Cpu))
        if (live.node(other).number == file.node(id).number) {
          fill_cpu(&file.node(id).cpu, live.node(other).cpu);
          twin[other] = id;
        }
      continue;
    }
    const std::string& bus_id = file.node(id).pci.bus_id;
    if (bus_id.empty()) continue;
    const NodeId found = live.by_bus_id(live_hosts[0], bus_id);
    const NodeKind kind = file.node(id).kind;
    if (found == kNone) {
      if (kind == NodeKind::Gpu || kind == NodeKind::Nic || kind == NodeKind::PciDevice)
        file.warn(0, fmt::format("{} at {} is not on this machine", file.node(id).name, bus_id));
      continue;
    }
    const Node& there = live.node(found);
    twin[found] = id;
    Node& node = file.node(id);
    if (kind == NodeKind::PciDevice) {
      node.kind = there.kind;
      node.name = there.name;
      node.number = there.number;
    }
    fill_pci(&node.pci, there.pci);
    if (node.kind == NodeKind::Gpu && there.kind == NodeKind::Gpu) fill_gpu(&node, there);
    const bool bare_nic = node.kind == NodeKind::Nic && file.children(id).empty();
    if (bare_nic) copy_ports(&file, id, live, found);
    const auto up = file.uplink(id), live_up = live.uplink(found);
    if (up && live_up && file.link(*up).forward.gbps.source == Source::Assumed) {
      file.link(*up).forward = live.link(*live_up).forward;
      file.link(*up).backward = live.link(*live_up).backward;
    }
  }
  // NVLinks: templates leave them out, always all of a GPU's together.
  std::vector<NodeId> silent;
  for (const auto& [there, here] : twin)
    if (live.node(there).kind == NodeKind::Gpu && !has_fabric(file, here)) silent.push_back(there);
  for (Link link : live.links()) {
    if (!joins_chips(link.kind)) continue;
    const auto is_silent = [&](NodeId id) { return std::find(silent.begin(), silent.end(), id) != silent.end(); };
    if (!is_silent(link.a) && !is_silent(link.b)) continue;
    for (NodeId* end : {&link.a, &link.b}) {
      if (!twin.contains(*end) && live.node(*end).kind == NodeKind::NvSwitch) {
        Node node = live.node(*end);
        node.parent = node.parent == kNone ? kNone : hosts[0];
        twin[*end] = file.add_node(std::move(node));
      }
      const auto place = twin.find(*end);
      *end = place == twin.end() ? kNone : place->second;
    }
    if (link.a != kNone && link.b != kNone) file.add_link(link);
  }
}

}  // namespace tutti::topology
