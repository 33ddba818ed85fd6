// SPDX-License-Identifier: Apache-2.0
// detect() as a whole: recorded machines, look-alike drivers, this machine.
#include "topology/detect/detect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <cstdlib>
#include <map>

#include "tests/fakes/fake_machine.h"
#include "tests/fakes/tree.h"
#include "topology/detect/assemble.h"

namespace tutti::topology {
namespace {

using fakes::Tree;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

Detection detect_in(const Tree& tree, DetectOptions options = {}) {
  options.root = tree.root();
  auto found = detect(options);
  EXPECT_TRUE(found.ok()) << found.status().message();
  return std::move(*found);
}

NodeId named(const Graph& graph, NodeKind kind, std::string_view name) {
  for (const NodeId id : graph.of_kind(kind))
    if (graph.node(id).name == name) return id;
  ADD_FAILURE() << "no " << name;
  return kNone;
}
// Names of the nodes above one, nearest first, up to the host.
std::string above(const Graph& graph, NodeId id) {
  std::string text;
  for (NodeId at = graph.node(id).parent; at != kNone && graph.node(at).kind != NodeKind::Host;
       at = graph.node(at).parent)
    text += (text.empty() ? "" : " ") +
            (graph.node(at).kind == NodeKind::PciSwitch ? graph.node(at).pci.bus_id : graph.node(at).name);
  return text;
}

// ---- the recorded virtual machine of two NUMA nodes, each with a switch of two cards and two display adapters ----

class RecordedMachine : public ::testing::Test {
 protected:
  RecordedMachine() { EXPECT_TRUE(tree.unpack(FAKE_TREES "/qemu-2numa-4nic.tree")); }
  Tree tree;
};

TEST_F(RecordedMachine, TwoNumaNodesAndFourRdmaDevicesBelowTheirSwitches) {
  const Detection found = detect_in(tree);
  const Graph& graph = found.graph;
  EXPECT_THAT(graph.of_kind(NodeKind::Cpu), SizeIs(2));
  EXPECT_THAT(graph.of_kind(NodeKind::PciSwitch), SizeIs(2));
  EXPECT_THAT(graph.of_kind(NodeKind::Gpu), SizeIs(0)) << "display adapters of no known maker compute nothing";
  EXPECT_THAT(graph.of_kind(NodeKind::Port), SizeIs(4));
  const std::map<std::string, std::string> places{{"rxe0", "0000:21:00.0 NUMA0"},
                                                  {"rxe1", "0000:21:00.0 NUMA0"},
                                                  {"rxe2", "0000:61:00.0 NUMA1"},
                                                  {"rxe3", "0000:61:00.0 NUMA1"}};
  const std::map<std::string, std::string> cards{
      {"rxe0", "0000:23:00.0"}, {"rxe1", "0000:24:00.0"}, {"rxe2", "0000:63:00.0"}, {"rxe3", "0000:64:00.0"}};
  for (const auto& [name, place] : places) {
    const NodeId port = named(graph, NodeKind::Port, name), nic = graph.node(port).parent;
    EXPECT_EQ(graph.node(nic).kind, NodeKind::Nic);
    EXPECT_EQ(above(graph, nic), place);
    EXPECT_EQ(graph.node(nic).pci.bus_id, cards.at(name));
    EXPECT_EQ(graph.node(port).attribute("transport"), "rdma");
    EXPECT_EQ(graph.node(port).attribute("software"), "1");
    EXPECT_EQ(graph.node(port).attribute("gid_index"), "1") << "the IPv4 one";
  }
  EXPECT_EQ(graph.node(named(graph, NodeKind::Port, "rxe2")).attribute("interface"), "roce2");
  EXPECT_THAT(found.notes, Contains(Field(&Note::text, HasSubstr("virtual machine (QEMU Standard PC"))));
  EXPECT_EQ(graph.node(named(graph, NodeKind::Port, "rxe2")).attribute("network"), "Ethernet");
  EXPECT_THAT(graph.of_kind(NodeKind::Network), SizeIs(0)) << "a host alone has no network";
  EXPECT_THAT(found.notes, Not(Contains(Field(&Note::text, HasSubstr("NUMA"))))) << "every device is near its node";
}

TEST_F(RecordedMachine, DisplayAdaptersStandForGpusWhenTheirClassIsNamed) {
  const Detection found = detect_in(tree, {.gpu_class = "0x0380"});
  const Graph& graph = found.graph;
  const std::map<std::string, std::string> places{{"0000:25:00.0", "0000:21:00.0 NUMA0"},
                                                  {"0000:26:00.0", "0000:21:00.0 NUMA0"},
                                                  {"0000:65:00.0", "0000:61:00.0 NUMA1"},
                                                  {"0000:66:00.0", "0000:61:00.0 NUMA1"}};
  ASSERT_THAT(graph.of_kind(NodeKind::Gpu), SizeIs(4));
  for (const NodeId gpu : graph.of_kind(NodeKind::Gpu))
    EXPECT_EQ(above(graph, gpu), places.at(graph.node(gpu).pci.bus_id));
  EXPECT_EQ(graph.node(graph.of_kind(NodeKind::Gpu)[3]).name, "GPU3");
  EXPECT_THAT(detect_in(tree, {.gpu_class = "03"}).graph.of_kind(NodeKind::Gpu), SizeIs(4));
  EXPECT_THAT(detect_in(tree, {.gpu_class = "0x0302"}).graph.of_kind(NodeKind::Gpu), SizeIs(0));
}

TEST_F(RecordedMachine, ItsLinksSaySpeedWidthAndWhereThatIsFrom) {
  const Graph graph = detect_in(tree).graph;
  const NodeId nic = graph.node(named(graph, NodeKind::Port, "rxe0")).parent;
  const auto uplink = graph.uplink(nic);
  ASSERT_TRUE(uplink.has_value());
  EXPECT_EQ(graph.link(*uplink).forward.lanes, 1);
  EXPECT_EQ(graph.link(*uplink).forward.gbps.source, Source::Sysfs);
  EXPECT_EQ(graph.node(nic).pci.link_speed, "2.5 GT/s PCIe");
  EXPECT_EQ(graph.node(nic).pci.root, "pci0000:20");
  EXPECT_EQ(graph.node(nic).pci.class_code, 0x020000);
}

TEST(Detect, AClassThatDoesNotParseIsRefused) {
  for (const char* text : {"gpu", "0x3", "0x0302000", "03-", "0x03zz"}) {
    EXPECT_EQ(detect({.root = "/nonexistent", .gpu_class = text}).status().code(), Code::InvalidArgument) << text;
  }
}

// ---- look-alike drivers on written trees ----

// The tree of the machine "nvswitch8": GPU and NIC pairs below switches, four pairs per socket, four NVSwitches.
void write_nvswitch8(Tree& tree) {
  tree.file("/proc/sys/kernel/hostname", "node7\n");
  for (int socket = 0; socket < 2; ++socket)
    tree.file("/sys/devices/system/node/node" + std::to_string(socket) + "/cpulist", socket == 0 ? "0-1\n" : "2-3\n");
  constexpr const char* kGpu[] = {"1a", "3b", "4c", "5d", "9a", "bb", "cc", "dd"};
  constexpr const char* kNic[] = {"18", "38", "48", "58", "98", "b8", "c8", "d8"};
  for (int i = 0; i < 8; ++i) {
    // pci0000:15 / root port 0000:15:01.0 / upstream 0000:16:00.0 / downstream 0000:17:0x.0 / device
    const std::string bus = std::string(1, kGpu[i][0]), host = "pci0000:" + bus + "5";
    const std::string root_port = host + "/0000:" + bus + "5:01.0", upstream = root_port + "/0000:" + bus + "6:00.0";
    const int node = i / 4;
    tree.pci(root_port, "0x060400", "0x8086", "0x352a", node, "32.0 GT/s PCIe", "16");
    tree.pci(upstream, "0x060400", "0x1000", "0xc030", node, "32.0 GT/s PCIe", "16");
    const std::string down0 = upstream + "/0000:" + bus + "7:00.0", down1 = upstream + "/0000:" + bus + "7:01.0";
    tree.pci(down0, "0x060400", "0x1000", "0xc030", node, "32.0 GT/s PCIe", "16");
    tree.pci(down1, "0x060400", "0x1000", "0xc030", node, "32.0 GT/s PCIe", "16");
    tree.pci(down0 + "/0000:" + kGpu[i] + ":00.0", "0x030200", "0x10de", "0x2330", node, "32.0 GT/s PCIe", "16");
    const std::string card =
        tree.pci(down1 + "/0000:" + kNic[i] + ":00.0", "0x020700", "0x15b3", "0x1021", node, "32.0 GT/s PCIe", "16");
    const std::string name = "mlx5_" + std::to_string(i), at = card + "/infiniband/" + name;
    tree.file(at + "/node_guid", "0c42:a103:00ab:cd0" + std::to_string(i) + "\n")
        .link(at + "/device", card)
        .link("/sys/class/infiniband/" + name, at);
    tree.file(at + "/ports/1/state", "4: ACTIVE\n")
        .file(at + "/ports/1/rate", "400 Gb/sec (4X NDR)\n")
        .file(at + "/ports/1/link_layer", "InfiniBand\n");
    tree.file(at + "/ports/1/gids/0", "fe80:0000:0000:0000:0c42:a103:00ab:cd0" + std::to_string(i) + "\n");
  }
  for (const char* bus : {"07", "08", "09", "0a"})
    tree.pci("pci0000:00/0000:00:0" + std::string(1, bus[1]) + ".0/0000:" + bus + ":00.0", "0x068000", "0x10de",
             "0x22a3", 0, "5.0 GT/s PCIe", "2");
}

TEST(Detect, EightGpusWithTheirNicsSwitchesAndNvswitches) {
  Tree tree;
  write_nvswitch8(tree);
  const Detection found =
      detect_in(tree, {.nvml_library = FAKE_DRIVER_nvswitch8, .cuda_library = FAKE_DRIVER_nvswitch8});
  const Graph& graph = found.graph;
  EXPECT_EQ(graph.node(graph.of_kind(NodeKind::Host)[0]).name, "node7");
  const auto gpus = graph.of_kind(NodeKind::Gpu), nvswitches = graph.of_kind(NodeKind::NvSwitch);
  ASSERT_THAT(gpus, SizeIs(8));
  ASSERT_THAT(nvswitches, SizeIs(4));
  EXPECT_THAT(graph.of_kind(NodeKind::Nic), SizeIs(8));
  EXPECT_THAT(graph.of_kind(NodeKind::PciSwitch), SizeIs(8));
  EXPECT_EQ(graph.warnings().size(), 0u);
  for (const NodeId gpu : gpus) {
    const Node& node = graph.node(gpu);
    EXPECT_EQ(node.gpu.model, "NVIDIA H100 80GB HBM3");
    EXPECT_EQ(node.gpu.sm, 90);
    EXPECT_EQ(graph.node(graph.cpu_of(gpu)).number, node.number / 4);
    int lanes = 0;
    for (const NodeId nvswitch : nvswitches) {
      const auto link = graph.link_between(LinkKind::NvLink, gpu, nvswitch);
      ASSERT_TRUE(link.has_value());
      lanes += graph.link(*link).from(gpu).lanes;
      EXPECT_EQ(graph.link(*link).from(nvswitch).lanes, graph.link(*link).from(gpu).lanes);
    }
    EXPECT_EQ(lanes, 18);
    // Its own card is the one below the same switch.
    const NodeId port = named(graph, NodeKind::Port, "mlx5_" + std::to_string(node.number));
    EXPECT_EQ(graph.node(graph.node(port).parent).parent, node.parent);
    EXPECT_EQ(graph.node(port).port.speed_mbps, 400000);
    EXPECT_EQ(node.attribute("no_peer_access"), "");
  }
  EXPECT_EQ(above(graph, nvswitches[0]), "NUMA0");
  EXPECT_EQ(graph.node(named(graph, NodeKind::Port, "mlx5_0")).attribute("network"), "InfiniBand fe80000000000000");
  const auto pcie = graph.uplink(gpus[0]);
  ASSERT_TRUE(pcie.has_value());
  EXPECT_EQ(graph.link(*pcie).forward.gbps.value, 48);
}

TEST(Detect, HostsOfAJobMeetInTheNetworksOfTheirPorts) {
  Tree tree;
  write_nvswitch8(tree);
  const Graph one = detect_in(tree).graph;
  tree.file("/proc/sys/kernel/hostname", "node8\n");
  const Graph other = detect_in(tree).graph;
  Graph job;
  merge(job, one);
  merge(job, other);
  connect_networks(job);
  ASSERT_THAT(job.of_kind(NodeKind::Network), SizeIs(1));
  EXPECT_THAT(job.links_of(job.of_kind(NodeKind::Network)[0]), SizeIs(16));
  EXPECT_THAT(job.of_kind(NodeKind::Host), SizeIs(2));
}

TEST(Detect, NvswitchesThatSysfsDoesNotShowAreKnownByTheirLinks) {
  Tree tree;  // a container: the driver answers, /sys does not
  const Graph graph = detect_in(tree, {.cuda = AskCuda::Never, .nvml_library = FAKE_DRIVER_nvswitch8}).graph;
  EXPECT_THAT(graph.of_kind(NodeKind::Gpu), SizeIs(8));
  EXPECT_THAT(graph.of_kind(NodeKind::NvSwitch), SizeIs(4));
  for (const NodeId id : graph.of_kind(NodeKind::NvSwitch)) EXPECT_NE(graph.host_of(id), kNone);
}

TEST(Detect, CardsWithoutNvlinkAndPeersThatAreDenied) {
  Tree tree;
  EXPECT_TRUE(tree.unpack(FAKE_TREES "/qemu-2numa-4nic.tree"));
  for (const char* chain : {"pci0000:20/0000:20:00.0/0000:21:00.0/0000:22:02.0/0000:25:00.0",
                            "pci0000:20/0000:20:00.0/0000:21:00.0/0000:22:03.0/0000:26:00.0",
                            "pci0000:60/0000:60:00.0/0000:61:00.0/0000:62:02.0/0000:65:00.0",
                            "pci0000:60/0000:60:00.0/0000:61:00.0/0000:62:03.0/0000:66:00.0"})
    tree.pci(chain, "0x030200", "0x10de", "0x2236", chain[8] == '2' ? 0 : 1, "16.0 GT/s PCIe", "16");
  tree.file("/sys/devices/pci0000:20/0000:20:00.0/0000:21:00.0/0000:22:02.0/max_link_width", "8\n");
  const Graph graph =
      detect_in(tree, {.cuda = AskCuda::Always, .nvml_library = FAKE_DRIVER_pcie4, .cuda_library = FAKE_DRIVER_pcie4})
          .graph;
  ASSERT_THAT(graph.of_kind(NodeKind::Gpu), SizeIs(4));
  const Node& first = graph.node(named(graph, NodeKind::Gpu, "GPU0"));
  EXPECT_EQ(first.pci.bus_id, "0000:25:00.0");
  EXPECT_EQ(first.attribute("no_peer_access"), "GPU2,GPU3: not supported across these PCIe roots");
  EXPECT_EQ(first.attribute("cuda_ordinal"), "2") << "CUDA_VISIBLE_DEVICES turned them round";
  EXPECT_EQ(first.gpu.gdr, 0);
  for (const Link& link : graph.links()) EXPECT_NE(link.kind, LinkKind::NvLink);
  const auto uplink = graph.uplink(named(graph, NodeKind::Gpu, "GPU0"));
  ASSERT_TRUE(uplink.has_value());
  EXPECT_EQ(graph.link(*uplink).forward.lanes, 8) << "the port above it has eight lanes";
}

TEST(Detect, CudaStandsInForNvml) {
  Tree tree;
  const Detection found =
      detect_in(tree, {.nvml_library = "/nonexistent/libnvidia-ml.so.1", .cuda_library = FAKE_DRIVER_pcie4});
  EXPECT_THAT(found.graph.of_kind(NodeKind::Gpu), SizeIs(4));
  EXPECT_EQ(found.graph.node(named(found.graph, NodeKind::Gpu, "GPU0")).gpu.model, "NVIDIA A10");
  EXPECT_THAT(found.notes, Contains(Field(&Note::source, "nvml")));
}

TEST(Detect, AHiddenFabricIsOneSwitchAndLinksThatAreDownAreFlagged) {
  Tree tree;
  const Detection found = detect_in(tree, {.cuda = AskCuda::Never, .nvml_library = FAKE_DRIVER_mig});
  const auto switches = found.graph.of_kind(NodeKind::NvSwitch);
  ASSERT_THAT(switches, SizeIs(1));
  EXPECT_TRUE(found.graph.node(switches[0]).nvswitch.hidden);
  const NodeId gpu = named(found.graph, NodeKind::Gpu, "GPU0");
  EXPECT_EQ(found.graph.link(*found.graph.link_between(LinkKind::NvLink, gpu, switches[0])).forward.lanes, 10);
  EXPECT_THAT(found.graph.node(gpu).attribute("mig"), HasSubstr("MIG-c0000000-0000-5000-8000-000000000001,MIG-"));
  ASSERT_EQ(found.graph.warnings().size(), 1u);
  EXPECT_EQ(found.graph.warnings()[0].text, "GPU0: 2 of 12 NVLinks are down");
}

TEST(Detect, GpusThatTheDriverKeepsForOthersAreNotOurs) {
  Tree tree;
  tree.pci("pci0000:20/0000:20:00.0/0000:25:00.0", "0x030200", "0x10de", "0x2236", 0);
  tree.pci("pci0000:20/0000:20:01.0/0000:27:00.0", "0x030200", "0x10de", "0x2236", 0);
  const Detection found = detect_in(tree, {.cuda = AskCuda::Never, .nvml_library = FAKE_DRIVER_pcie4});
  EXPECT_THAT(found.graph.of_kind(NodeKind::Gpu), SizeIs(4));
  EXPECT_THAT(found.notes, Contains(Field(&Note::text, HasSubstr("1 more NVIDIA GPUs are on PCI"))));
  EXPECT_THAT(detect_in(tree).graph.of_kind(NodeKind::Gpu), SizeIs(2)) << "without the driver PCI is all there is";
}

#ifdef FAKE_VERBS
TEST(Detect, VerbsCompletesWhatSysfsDoesNotShow) {
  Tree tree;
  const Detection found = detect_in(tree, {.verbs_library = FAKE_VERBS});
  const Graph& graph = found.graph;
  EXPECT_EQ(graph.node(named(graph, NodeKind::Port, "mlx5_0")).port.speed_mbps, 400000);
  const Node& down = graph.node(named(graph, NodeKind::Port, "mlx5_1:2"));
  EXPECT_EQ(down.port.port, 2);
  EXPECT_EQ(down.attribute("state"), "PORT_DOWN");
  EXPECT_THAT(graph.links_of(named(graph, NodeKind::Port, "mlx5_1:2")), SizeIs(1));
  EXPECT_EQ(down.attribute("network"), "") << "a dead port leads nowhere";
  EXPECT_THAT(found.notes, Contains(Field(&Note::text, HasSubstr("mlx5_2"))));
  EXPECT_THAT(found.notes, Contains(Field(&Note::text, HasSubstr("mlx5_1: 1 of 2 ports are not active"))));
}
#endif

TEST(Detect, MissingSourcesAreNotes) {
  Tree tree;
  const Detection found = detect_in(tree, {.nvml_library = "/nonexistent/nvml.so",
                                           .cuda_library = FAKE_DRIVER_mismatch,
                                           .verbs_library = "/nonexistent/verbs.so"});
  EXPECT_THAT(found.graph.of_kind(NodeKind::Host), SizeIs(1));
  EXPECT_THAT(found.graph.of_kind(NodeKind::Cpu), SizeIs(1));
  for (const char* source : {"hwloc", "sysfs", "nvml", "cuda", "verbs"})
    EXPECT_THAT(found.notes, Contains(Field(&Note::source, source)));
}

TEST(Detect, AFlatVirtualMachineIsSaidToHideItsTree) {
  Tree tree;
  tree.file("/proc/cpuinfo", "vendor_id\t: GenuineIntel\nflags\t\t: fpu hypervisor\n");
  tree.file("/sys/class/dmi/id/sys_vendor", "Amazon EC2\n").file("/sys/class/dmi/id/product_name", "p4d.24xlarge\n");
  tree.pci("pci0000:00/0000:00:1e.0", "0x030200", "0x10de", "0x20b0", -1);
  const Detection found = detect_in(tree);
  EXPECT_THAT(found.notes, Contains(Field(&Note::text, HasSubstr("(Amazon EC2 p4d.24xlarge) hides the PCI tree"))));
  EXPECT_EQ(found.graph.warnings().size(), 1u);
}

TEST(Detect, ARecordingOfThisMachineGivesTheSameGraph) {
  Tree tree;
  const std::string file = tree.root() + "/recording";
  ASSERT_EQ(std::system((std::string(RECORD_MACHINE) + " > " + file).c_str()), 0);
  ASSERT_TRUE(tree.unpack(file));
  const auto live = detect({.hwloc = false, .nvml = false, .verbs = false, .cuda = AskCuda::Never});
  ASSERT_TRUE(live.ok());
  const Graph recorded = detect_in(tree).graph;
  ASSERT_EQ(recorded.nodes().size(), live->graph.nodes().size());
  for (NodeId id = 0; id < recorded.size(); ++id)
    EXPECT_EQ(recorded.node(id), live->graph.node(id)) << recorded.node(id).name;
  EXPECT_EQ(recorded.links(), live->graph.links());
}

TEST(Detect, CpusThatThisProcessMayNotUseAreTold) {
  cpu_set_t before, one;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  if (CPU_COUNT(&before) < 2) GTEST_SKIP() << "one CPU only";
  uint32_t first = 0;
  while (!CPU_ISSET(first, &before)) ++first;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  for (const bool hwloc : {true, false}) {
    const auto found = detect({.hwloc = hwloc, .nvml = false, .verbs = false, .cuda = AskCuda::Never});
    ASSERT_TRUE(found.ok());
    size_t cpus = 0;
    std::string allowed;
    for (const NodeId id : found->graph.of_kind(NodeKind::Cpu)) {
      cpus += found->graph.node(id).cpu.cpus.count();
      allowed += found->graph.node(id).attribute("allowed_cpus");
    }
    EXPECT_EQ(allowed, std::to_string(first));
    EXPECT_GE(cpus, 2u) << "the node keeps its CPUs";
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
}

TEST(Detect, ThisMachineHasProcessorsWhateverElseItLacks) {
  const auto found = detect({});
  ASSERT_TRUE(found.ok()) << found.status().message();
  EXPECT_FALSE(found->graph.of_kind(NodeKind::Cpu).empty());
  size_t cpus = 0;
  for (const NodeId id : found->graph.of_kind(NodeKind::Cpu)) cpus += found->graph.node(id).cpu.cpus.count();
  EXPECT_GT(cpus, 0u);
  double total = 0;
  for (const Timing& timing : found->timings) {
    printf("%s %.1f ms, ", timing.source.c_str(), timing.ms);
    total += timing.ms;
  }
  printf("together %.1f ms\n", total);
}

}  // namespace
}  // namespace tutti::topology
