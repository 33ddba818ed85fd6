// SPDX-License-Identifier: Apache-2.0
// See hwloc_source.h.
#include "topology/detect/hwloc_source.h"

#include <algorithm>
#include <map>
#include <memory>

#include "topology/hwloc_library.h"

namespace tutti::topology {

#if TUTTI_HAVE_HWLOC
namespace {

CpuSet set_of(const HwlocApi& api, hwloc_const_bitmap_t bitmap) {
  CpuSet set;
  if (bitmap == nullptr) return set;
  for (int cpu = api.bitmap_next(bitmap, -1); cpu >= 0; cpu = api.bitmap_next(bitmap, cpu))
    if (!set.add(static_cast<uint32_t>(cpu))) break;  // also ends a bitmap that goes on for ever
  return set;
}

template <class Visit>
void each(const HwlocApi& api, hwloc_topology_t topology, int depth, const Visit& visit) {
  for (unsigned i = 0; i < api.get_nbobjs_by_depth(topology, depth); ++i)
    if (hwloc_obj_t object = api.get_obj_by_depth(topology, depth, i); object != nullptr) visit(object);
}

PciAddress address_of(const hwloc_obj_attr_u::hwloc_pcidev_attr_s& pci) {
  return {pci.domain, pci.bus, pci.dev, static_cast<uint8_t>(pci.func)};
}

bool is_pci_bridge(hwloc_obj_t object) {
  return object->type == HWLOC_OBJ_BRIDGE && object->attr->bridge.upstream_type == HWLOC_OBJ_BRIDGE_PCI;
}

PciEntry entry_of(hwloc_obj_t object) {
  const hwloc_obj_attr_u::hwloc_pcidev_attr_s& pci =
      is_pci_bridge(object) ? object->attr->bridge.upstream.pci : object->attr->pcidev;
  PciEntry entry;
  entry.address = address_of(pci);
  entry.class_code = pci.class_id << 8;  // hwloc keeps no programming interface
  entry.vendor = pci.vendor_id;
  entry.device = pci.device_id;
  entry.subsystem_vendor = pci.subvendor_id;
  entry.subsystem_device = pci.subdevice_id;
  for (hwloc_obj_t above = object->parent; above != nullptr; above = above->parent) {
    if (is_pci_bridge(above)) entry.bridges.insert(entry.bridges.begin(), address_of(above->attr->bridge.upstream.pci));
    // The first object that is not I/O says which cores are near.
    if (above->nodeset != nullptr && entry.numa_node < 0 && above->memory_arity == 1)
      entry.numa_node = static_cast<int32_t>(above->memory_first_child->os_index);
  }
  return entry;
}

HwlocView read(const HwlocApi& api, hwloc_topology_t topology) {
  HwlocView view;
  view.allowed = set_of(api, api.get_allowed_cpuset(topology));
  each(api, topology, HWLOC_TYPE_DEPTH_NUMANODE, [&](hwloc_obj_t object) {
    NumaNode node;
    node.id = static_cast<int32_t>(object->os_index);
    node.cpus = set_of(api, object->complete_cpuset);
    node.memory_bytes = object->attr->numanode.local_memory;
    for (hwloc_obj_t above = object->parent; above != nullptr; above = above->parent)
      if (above->type == HWLOC_OBJ_PACKAGE) node.package = static_cast<int32_t>(above->os_index);
    view.nodes.push_back(std::move(node));
  });
  std::map<std::pair<int, uint64_t>, int> caches;
  for (const hwloc_obj_type_t type :
       {HWLOC_OBJ_L1CACHE, HWLOC_OBJ_L2CACHE, HWLOC_OBJ_L3CACHE, HWLOC_OBJ_L4CACHE, HWLOC_OBJ_L5CACHE}) {
    if (const int depth = api.get_type_depth(topology, type); depth >= 0)
      each(api, topology, depth, [&](hwloc_obj_t object) {
        ++caches[{static_cast<int>(object->attr->cache.depth), object->attr->cache.size}];
      });
  }
  for (const auto& [kind, count] : caches) view.caches.push_back({kind.first, kind.second, count});
  each(api, topology, HWLOC_TYPE_DEPTH_BRIDGE, [&](hwloc_obj_t object) {
    if (is_pci_bridge(object)) view.pci.push_back(entry_of(object));
  });
  each(api, topology, HWLOC_TYPE_DEPTH_PCI_DEVICE, [&](hwloc_obj_t object) { view.pci.push_back(entry_of(object)); });
  std::ranges::sort(view.pci, {}, &PciEntry::address);
  each(api, topology, HWLOC_TYPE_DEPTH_OS_DEVICE, [&](hwloc_obj_t object) {
    OsDevice device{object->name != nullptr ? object->name : "", std::nullopt};
    if (object->parent != nullptr && object->parent->type == HWLOC_OBJ_PCI_DEVICE)
      device.pci = address_of(object->parent->attr->pcidev);
    view.os_devices.push_back(std::move(device));
  });
  return view;
}

}  // namespace

Result<HwlocView> read_hwloc(std::string_view library) {
  TUTTI_ASSIGN_OR_RETURN(const HwlocApi* api, hwloc_library(library));
  hwloc_topology_t raw = nullptr;
  if (api->topology_init(&raw) != 0) return system_error("hwloc_topology_init failed");
  const std::unique_ptr<hwloc_topology, decltype(api->topology_destroy)> topology(raw, api->topology_destroy);
  // These ask GPU drivers and X servers, which takes seconds; NVML answers here what they would.
  for (const char* slow : {"cuda", "nvml", "opencl", "rsmi", "levelzero", "gl"})
    (void)api->topology_set_components(raw, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, slow);
  // Disallowed parts are kept, or devices near cores of another cpuset would lose their NUMA node.
  (void)api->topology_set_flags(raw, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
  (void)api->set_io_types_filter(raw, HWLOC_TYPE_FILTER_KEEP_ALL);
  if (api->topology_load(raw) != 0) return errno_status("hwloc_topology_load", "this machine");
  return read(*api, raw);
}

#else
Result<HwlocView> read_hwloc(std::string_view library) { return hwloc_library(library).status(); }
#endif

void complete_from_hwloc(CpuView& cpus, const HwlocView& view) {
  if (view.nodes.empty()) return;
  cpus.source = Source::Hwloc;
  if (!view.caches.empty()) cpus.caches = view.caches;
  // hwloc's allowed set is the cpuset's; the affinity mask of this process may be narrower, so sysfs' stays if known.
  if (cpus.allowed.empty()) cpus.allowed = view.allowed;
  std::vector<NumaNode> nodes = view.nodes;
  for (NumaNode& node : nodes) {
    const auto same = std::ranges::find(cpus.nodes, node.id, &NumaNode::id);
    if (same == cpus.nodes.end()) continue;
    node.distances = same->distances;
    if (node.cpus.empty()) node.cpus = same->cpus;
    if (node.memory_bytes == 0) node.memory_bytes = same->memory_bytes;
    if (node.package < 0) node.package = same->package;
  }
  std::ranges::sort(nodes, {}, &NumaNode::id);
  cpus.nodes = std::move(nodes);
}

}  // namespace tutti::topology
