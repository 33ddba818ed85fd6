// SPDX-License-Identifier: Apache-2.0
// The reader of hwloc's XML against hwloc itself: for files of versions 1 and 2 the library is asked what they say, and
// every NUMA node, PCI function and network device must be the same, at the same place.
#include <fmt/format.h>

#include <memory>
#include <set>

#include "files.h"
#include "topology/hwloc_library.h"

namespace tutti::topology {
namespace {

#if TUTTI_HAVE_HWLOC

struct Function {
  int32_t class_code = 0, vendor = 0, device = 0;  // the class without its last byte
  int64_t numa = -1;                               // the first near one; -1: none has a number
  std::set<std::string> ports;                     // RDMA devices; without any, interfaces
  bool operator==(const Function&) const = default;
};
void PrintTo(const Function& one, std::ostream* out) {
  *out << fmt::format("class {:04x}, {:04x}:{:04x}, NUMA {}", one.class_code, one.vendor, one.device, one.numa);
  for (const std::string& port : one.ports) *out << " " << port;
}
struct NumaFacts {
  std::string cpus;
  uint64_t memory = 0;
  int package = -1;
  bool operator==(const NumaFacts&) const = default;
};
void PrintTo(const NumaFacts& one, std::ostream* out) {
  *out << fmt::format("CPUs {}, {} bytes, package {}", one.cpus, one.memory, one.package);
}
struct Machine {
  std::map<int64_t, NumaFacts> numa;
  std::map<std::string, Function> functions;  // GPUs, NICs and switches of PCIe, by bus id
};

Machine from_graph(const Graph& graph) {
  Machine machine;
  for (NodeId id = 0; id < graph.size(); ++id) {
    const Node& node = graph.node(id);
    if (node.kind == NodeKind::Cpu)
      machine.numa[node.number] = {node.cpu.cpus.list(), node.cpu.memory_bytes, node.cpu.package};
    if (node.pci.bus_id.empty()) continue;
    Function& one = machine.functions[node.pci.bus_id];
    one.class_code = node.pci.class_code >> 8;
    one.vendor = node.pci.vendor;
    one.device = node.pci.device;
    NodeId above = id;
    while (graph.node(above).kind != NodeKind::Cpu) above = graph.node(above).parent;
    one.numa = graph.node(above).number;
    for (const NodeId child : graph.children(id))
      if (graph.node(child).kind == NodeKind::Port) one.ports.insert(graph.node(child).name);
  }
  return machine;
}

// What the library says of the file.
class Library {
 public:
  Library(const HwlocApi& api, const std::string& xml) : api_(api) {
    EXPECT_EQ(api.topology_init(&topology_), 0);
    EXPECT_EQ(api.topology_set_flags(topology_, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED), 0);
    EXPECT_EQ(api.set_io_types_filter(topology_, HWLOC_TYPE_FILTER_KEEP_ALL), 0);
    loaded_ = api.topology_set_xmlbuffer(topology_, xml.c_str(), static_cast<int>(xml.size() + 1)) == 0 &&
              api.topology_load(topology_) == 0;
  }
  ~Library() { api_.topology_destroy(topology_); }
  Library(const Library&) = delete;
  bool loaded() const { return loaded_; }

  Machine read() const {
    Machine machine;
    each(HWLOC_TYPE_DEPTH_NUMANODE, [&](hwloc_obj_t object) {
      NumaFacts& one = machine.numa[object->os_index];
      one.cpus = list(object->cpuset);
      one.memory = object->attr->numanode.local_memory;
      for (hwloc_obj_t above = object->parent; above != nullptr; above = above->parent)
        if (above->type == HWLOC_OBJ_PACKAGE) one.package = static_cast<int>(above->os_index);
      // A node that holds its package, rather than the other way round.
      if (one.package < 0 && object->parent->arity > 0 && object->parent->first_child->type == HWLOC_OBJ_PACKAGE)
        one.package = static_cast<int>(object->parent->first_child->os_index);
    });
    each(HWLOC_TYPE_DEPTH_BRIDGE, [&](hwloc_obj_t object) {
      if (object->attr->bridge.upstream_type == HWLOC_OBJ_BRIDGE_PCI)
        add(machine, object, object->attr->bridge.upstream.pci);
    });
    each(HWLOC_TYPE_DEPTH_PCI_DEVICE, [&](hwloc_obj_t object) { add(machine, object, object->attr->pcidev); });
    return machine;
  }

 private:
  template <class Visit>
  void each(int depth, const Visit& visit) const {
    for (unsigned i = 0; i < api_.get_nbobjs_by_depth(topology_, depth); ++i)
      visit(api_.get_obj_by_depth(topology_, depth, i));
  }
  std::string list(hwloc_const_bitmap_t bitmap) const {
    CpuSet set;
    for (int cpu = api_.bitmap_next(bitmap, -1); cpu >= 0 && set.add(static_cast<uint32_t>(cpu));)
      cpu = api_.bitmap_next(bitmap, cpu);
    return set.list();
  }
  void add(Machine& machine, hwloc_obj_t object, const hwloc_obj_attr_u::hwloc_pcidev_attr_s& pci) const {
    Function& one =
        machine.functions[fmt::format("{:04x}:{:02x}:{:02x}.{:x}", pci.domain, pci.bus, pci.dev, pci.func)];
    one.class_code = pci.class_id;
    one.vendor = pci.vendor_id;
    one.device = pci.device_id;
    hwloc_obj_t above = object->parent;
    while (above->nodeset == nullptr) above = above->parent;
    one.numa = api_.bitmap_next(above->nodeset, -1);
    const auto ports = [&](hwloc_obj_osdev_type_t type) {
      for (hwloc_obj_t child = object->io_first_child; child != nullptr; child = child->next_sibling)
        if (child->type == HWLOC_OBJ_OS_DEVICE && child->attr->osdev.type == type) one.ports.insert(child->name);
    };
    ports(HWLOC_OBJ_OSDEV_OPENFABRICS);
    if (one.ports.empty()) ports(HWLOC_OBJ_OSDEV_NETWORK);
  }

  const HwlocApi& api_;
  hwloc_topology_t topology_ = nullptr;
  bool loaded_ = false;
};

// 03 and 12: accelerators, but for the adapter of a management controller; 02: networks.
bool must_be_there(const Function& one) {
  const int32_t top = one.class_code >> 8;
  return top == 0x02 || ((top == 0x03 || top == 0x12) && one.class_code != 0x0300);
}

void expect_agreement(const std::filesystem::path& path) {
  SCOPED_TRACE(path.filename());
  const auto api = hwloc_library();
  ASSERT_TRUE(api.ok()) << api.status().message();
  const std::string xml = file_text(path);
  const Library library(**api, xml);
  ASSERT_TRUE(library.loaded());
  const Machine theirs = library.read(), ours = from_graph(read_ok(path));
  EXPECT_EQ(ours.numa, theirs.numa);
  for (const auto& [bus_id, function] : ours.functions) {
    const auto found = theirs.functions.find(bus_id);
    ASSERT_NE(found, theirs.functions.end()) << bus_id;
    EXPECT_EQ(function, found->second) << bus_id;
  }
  for (const auto& [bus_id, function] : theirs.functions) {
    EXPECT_TRUE(!must_be_there(function) || ours.functions.contains(bus_id)) << bus_id;
  }
}

class HwlocAgreement : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto api = hwloc_library(); !api.ok()) GTEST_SKIP() << api.status().message();
  }
};

TEST_F(HwlocAgreement, OnFixtures) {
  for (const char* name : {"hwloc-1.xml", "hwloc-2.xml"}) expect_agreement(fixture(name));
}

TEST_F(HwlocAgreement, OnRealMachines) {
  if (real_machines().empty()) GTEST_SKIP() << "no ../shared/topologies beside this checkout";
  int compared = 0;
  for (const auto& entry : std::filesystem::directory_iterator(real_machines() / "hwloc-xml")) {
    const Graph graph = read_ok(entry.path());
    if (graph.origin == "hwloc XML 3.x") continue;  // Debian's library does not read it
    expect_agreement(entry.path());
    ++compared;
  }
  EXPECT_GT(compared, 0);
}

#else
TEST(HwlocAgreement, NeedsTheLibrary) { GTEST_SKIP() << "built without hwloc"; }
#endif

}  // namespace
}  // namespace tutti::topology
