// SPDX-License-Identifier: Apache-2.0
// The graph and what it is made of: CPU sets in both of their texts, bus ids, figures, merging hosts.
#include "topology/graph.h"

#include <gtest/gtest.h>

#include "topology/figures.h"

namespace tutti::topology {
namespace {

TEST(CpuSet, ReadsMasksWithHolesPrefixesAndShortFirstWords) {
  EXPECT_EQ(CpuSet::from_mask("ffff0000,00000000,ffff0000,00000000")->list(), "48-63,112-127");
  EXPECT_EQ(CpuSet::from_mask("0000,00000000,000000ff")->list(), "0-7");
  EXPECT_EQ(CpuSet::from_mask("0x0000ffff,,0x0000ffff")->list(), "0-15,64-79");
  EXPECT_EQ(CpuSet::from_mask("55555555")->count(), 16u);
  EXPECT_TRUE(CpuSet::from_mask("")->empty());
  EXPECT_EQ(CpuSet::from_mask("0,0"), CpuSet());
}

TEST(CpuSet, RefusesWhatIsNoMaskOrList) {
  EXPECT_FALSE(CpuSet::from_mask("fffffffff"));
  EXPECT_FALSE(CpuSet::from_mask("12g4"));
  EXPECT_FALSE(CpuSet::from_mask("-1"));
  EXPECT_FALSE(CpuSet::from_list("4-2"));
  EXPECT_FALSE(CpuSet::from_list("0-4000000000"));
  EXPECT_FALSE(CpuSet::from_list("1,,2"));
  EXPECT_FALSE(CpuSet().add(CpuSet::kMost));
}

TEST(CpuSet, MaskAndListAreTwoTextsOfOneSet) {
  for (const char* list : {"0", "0-47,96-143", "31,32,63-64", "1000"}) {
    const CpuSet set = *CpuSet::from_list(list);
    EXPECT_EQ(CpuSet::from_mask(set.mask()), set) << list;
    EXPECT_EQ(CpuSet::from_list(set.list()), set) << list;
  }
  EXPECT_EQ(CpuSet::from_list("0-31")->mask(), "ffffffff");
  EXPECT_EQ(CpuSet::from_list("32")->mask(), "00000001,00000000");
}

TEST(BusId, IsOneTextForAllWritings) {
  EXPECT_EQ(canonical_bus_id("0000:3B:00.0"), "0000:3b:00.0");
  EXPECT_EQ(canonical_bus_id("00000000:3B:00.0"), "0000:3b:00.0");
  EXPECT_EQ(canonical_bus_id("3b:00.0"), "0000:3b:00.0");
  EXPECT_EQ(canonical_bus_id("0019:06:00"), "0019:06:00.0");
  EXPECT_EQ(canonical_bus_id("fffffff:ff:ff.0"), "fffffff:ff:ff.0");
  EXPECT_EQ(canonical_bus_id("nonsense"), "nonsense");
  EXPECT_EQ(canonical_bus_id(""), "");
}

TEST(Figures, PcieSpeedIsWidthTimesLaneInEveryWritingOfTheSpeed) {
  for (const char* speed : {"16 GT/s", "16.0 GT/s", "16.0 GT/s PCIe", "16 GT/s PCIe/s"})
    EXPECT_EQ(pcie_gbps(speed, 16, Source::File), (Figure{24, Source::File})) << speed;
  EXPECT_EQ(pcie_gbps("64.0 GT/s PCIe", 8, Source::Sysfs), (Figure{48, Source::Sysfs}));
  EXPECT_EQ(pcie_gbps("", 0, Source::File), (Figure{12, Source::Assumed}));
  EXPECT_EQ(pcie_gbps("Unknown", 4, Source::File), (Figure{3, Source::Assumed}));
}

TEST(Figures, AmdFamiliesAreOneInBothWaysOfCounting) {
  CpuInfo cpu;
  cpu.vendor = "AuthenticAMD";
  for (const auto& [plain, shifted, gbps] : {std::tuple{23, 143, 16.0}, {25, 175, 24.0}, {26, 191, 32.0}})
    for (const int family : {plain, shifted}) {
      cpu.family = family;
      EXPECT_EQ(inter_socket_gbps(cpu), (Figure{gbps, Source::Table})) << family;
    }
}

Graph host_with_port(const std::string& name) {
  Graph graph;
  const NodeId host = graph.add_node({.kind = NodeKind::Host, .name = name});
  const NodeId cpu = graph.add_node({.kind = NodeKind::Cpu, .parent = host, .number = 0, .name = "NUMA0"});
  const NodeId nic = graph.add_node({.kind = NodeKind::Nic, .parent = cpu, .name = "NIC0"});
  const NodeId port = graph.add_node({.kind = NodeKind::Port, .parent = nic, .name = "mlx5_0"});
  const NodeId network = graph.add_node({.kind = NodeKind::Network, .name = "network"});
  graph.add_link({.kind = LinkKind::Pcie, .a = cpu, .b = nic});
  graph.add_link({.kind = LinkKind::Network, .a = port, .b = network});
  return graph;
}

TEST(Graph, MergedHostsMeetAtTheNetworkOfOneName) {
  Graph job = host_with_port("a");
  merge(job, host_with_port("b"));
  EXPECT_EQ(job.of_kind(NodeKind::Host).size(), 2u);
  ASSERT_EQ(job.of_kind(NodeKind::Network).size(), 1u);
  EXPECT_EQ(job.links_of(job.of_kind(NodeKind::Network)[0]).size(), 2u);
  for (const NodeId port : job.of_kind(NodeKind::Port)) EXPECT_NE(job.host_of(port), kNone);
  EXPECT_NE(job.host_of(job.of_kind(NodeKind::Port)[0]), job.host_of(job.of_kind(NodeKind::Port)[1]));
}

TEST(Graph, AMovedDeviceTakesItsUplinkAlong) {
  Graph graph = host_with_port("a");
  const NodeId other = graph.add_node({.kind = NodeKind::Cpu, .parent = 0, .number = 1, .name = "NUMA1"});
  const NodeId nic = graph.of_kind(NodeKind::Nic)[0];
  graph.move(nic, other);
  EXPECT_EQ(graph.cpu_of(graph.of_kind(NodeKind::Port)[0]), other);
  EXPECT_EQ(graph.link(*graph.uplink(nic)).a, other);
  EXPECT_TRUE(graph.link_between(LinkKind::Pcie, other, nic));
  EXPECT_TRUE(graph.children(graph.of_kind(NodeKind::Cpu)[0]).empty());
}

}  // namespace
}  // namespace tutti::topology
