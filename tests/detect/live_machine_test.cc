// SPDX-License-Identifier: Apache-2.0
// Detection of one known machine, live: the virtual machine "2numa-4nic" (two NUMA nodes; on each a PCIe switch with
// two network cards, which carry software RDMA devices rxe0..rxe3, and two display adapters, which stand for GPUs). It
// runs inside that machine, by in_vm.sh; anywhere else it is skipped.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "topology/detect/detect.h"
#include "topology/paths.h"

namespace tutti::topology {
namespace {

using ::testing::SizeIs;

class LiveMachine : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* machine = std::getenv("DETECT_LIVE_MACHINE");
    if (machine == nullptr || std::string_view(machine) != "2numa-4nic")
      GTEST_SKIP() << "runs in the virtual machine 2numa-4nic; configure with -D TUTTI_VM_RUNNER=PATH";
    DetectOptions options;
    options.gpu_class = "0x0380";
    auto found = detect(options);
    ASSERT_TRUE(found.ok()) << found.status().message();
    detection = std::move(*found);
    for (const Note& note : detection.notes) printf("note: %s: %s\n", note.source.c_str(), note.text.c_str());
    for (const Timing& timing : detection.timings) printf("time: %-6s %7.2f ms\n", timing.source.c_str(), timing.ms);
  }
  Detection detection;
};

TEST_F(LiveMachine, EveryRdmaDeviceAndEveryGpuIsBelowItsSwitch) {
  const Graph& graph = detection.graph;
  EXPECT_THAT(graph.of_kind(NodeKind::Cpu), SizeIs(2));
  EXPECT_THAT(graph.of_kind(NodeKind::PciSwitch), SizeIs(2));
  ASSERT_THAT(graph.of_kind(NodeKind::Gpu), SizeIs(4));
  ASSERT_THAT(graph.of_kind(NodeKind::Port), SizeIs(4));
  for (const NodeId cpu : graph.of_kind(NodeKind::Cpu)) EXPECT_EQ(graph.node(cpu).cpu.cpus.count(), 2u);
  std::map<std::string, NodeId> switch_of;
  for (const NodeId port : graph.of_kind(NodeKind::Port)) {
    const Node& node = graph.node(port);
    EXPECT_EQ(node.attribute("transport"), "rdma") << node.name;
    EXPECT_EQ(node.attribute("link_layer"), "Ethernet");
    EXPECT_EQ(node.attribute("gid_index"), "1") << "the IPv4 GID";
    switch_of[node.name] = graph.node(node.parent).parent;
    printf("%s (%s): NIC %s, switch %s, %s\n", node.name.c_str(), std::string(node.attribute("interface")).c_str(),
           graph.node(node.parent).pci.bus_id.c_str(), graph.node(switch_of[node.name]).pci.bus_id.c_str(),
           graph.node(graph.cpu_of(port)).name.c_str());
  }
  EXPECT_EQ(switch_of.at("rxe0"), switch_of.at("rxe1"));
  EXPECT_EQ(switch_of.at("rxe2"), switch_of.at("rxe3"));
  EXPECT_NE(switch_of.at("rxe0"), switch_of.at("rxe2"));
  EXPECT_EQ(graph.node(graph.cpu_of(switch_of.at("rxe0"))).number, 0);
  EXPECT_EQ(graph.node(graph.cpu_of(switch_of.at("rxe2"))).number, 1);
  const std::map<std::string, std::string> near{
      {"0000:25:00.0", "rxe0"}, {"0000:26:00.0", "rxe0"}, {"0000:65:00.0", "rxe2"}, {"0000:66:00.0", "rxe2"}};
  const Paths paths(graph);
  for (const NodeId gpu : graph.of_kind(NodeKind::Gpu)) {
    const Node& node = graph.node(gpu);
    EXPECT_EQ(node.parent, switch_of.at(near.at(node.pci.bus_id)));
    // Both cards below its own switch are nearest, and no other.
    std::string nearest;
    for (const NodeId nic : paths.nearest_nics(gpu)) {
      EXPECT_EQ(graph.node(nic).parent, node.parent);
      EXPECT_EQ(paths.best(gpu, nic).type, PathClass::Pix);
      for (const NodeId port : graph.children(nic)) nearest += " " + graph.node(port).name;
    }
    EXPECT_EQ(nearest, near.at(node.pci.bus_id) == "rxe0" ? " rxe0 rxe1" : " rxe2 rxe3");
    printf("%s at %s: switch %s, %s, nearest NICs%s\n", node.name.c_str(), node.pci.bus_id.c_str(),
           graph.node(node.parent).pci.bus_id.c_str(), graph.node(graph.cpu_of(gpu)).name.c_str(), nearest.c_str());
  }
}

}  // namespace
}  // namespace tutti::topology
