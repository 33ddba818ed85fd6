// SPDX-License-Identifier: Apache-2.0
// Classes, bottlenecks and relays of paths, on fixtures and on small graphs whose answers are plain.
#include "topology/paths.h"

#include "files.h"
#include "topology/figures.h"

namespace tutti::topology {
namespace {

struct Machine {
  explicit Machine(const std::string& name) : graph(read_ok(fixture(name))), paths(graph) {}
  NodeId at(const char* name) const { return *find_endpoint(graph, name); }
  const Path& best(const char* from, const char* to) const { return paths.best(at(from), at(to)); }
  const Path& direct(const char* from, const char* to) const { return paths.direct(at(from), at(to)); }
  Graph graph;
  Paths paths;
};

TEST(Paths, SwitchesSideBySideAddUp) {
  const Machine machine("nccl-hgx-nvswitch.xml");
  const Path& path = machine.best("GPU0", "GPU7");
  EXPECT_EQ(path.type, PathClass::Nvl);
  EXPECT_EQ(path.ways, 4);
  EXPECT_EQ(path.nvlinks, 18);
  EXPECT_DOUBLE_EQ(path.gbps, 18 * 20.6);
  EXPECT_EQ(path.hops, 2);
}

TEST(Paths, ClassesOfGpuAndNicFollowTheTree) {
  const Machine machine("nccl-hgx-nvswitch.xml");
  EXPECT_EQ(machine.direct("GPU0", "NIC0").type, PathClass::Pix);
  EXPECT_EQ(machine.direct("GPU0", "NIC1").type, PathClass::Phb);
  EXPECT_EQ(machine.direct("GPU0", "NIC5").type, PathClass::Sys);
  EXPECT_EQ(machine.direct("NIC0", "NIC3").type, PathClass::Phb);
  EXPECT_DOUBLE_EQ(machine.direct("GPU0", "NIC0").gbps, 48);
  EXPECT_DOUBLE_EQ(machine.direct("GPU0", "NIC5").gbps, 22);  // between the sockets
}

TEST(Paths, AFarNicIsReachedOverThePeerThatIsNearIt) {
  const Machine machine("nccl-hgx-nvswitch.xml");
  const Path& path = machine.best("GPU0", "NIC5");
  EXPECT_EQ(path.type, PathClass::Pxn);
  EXPECT_EQ(path.relay, machine.at("GPU5"));
  EXPECT_DOUBLE_EQ(path.gbps, 48);
  EXPECT_EQ(machine.best("NIC5", "GPU0").type, PathClass::Pxn);
  EXPECT_EQ(machine.best("GPU0", "NIC0").type, PathClass::Pix);  // needs nobody
}

TEST(Paths, NearestNicAndAffinityOfEachGpu) {
  const Machine machine("nccl-hgx-nvswitch.xml");
  for (const char* number : {"0", "3", "7"}) {
    const NodeId gpu = machine.at((std::string("GPU") + number).c_str());
    EXPECT_EQ(machine.paths.nearest_nics(gpu), std::vector<NodeId>{machine.at((std::string("NIC") + number).c_str())});
  }
  EXPECT_EQ(machine.paths.affinity(machine.at("GPU0")).list(), "0-31,64-95");
  EXPECT_EQ(machine.paths.affinity(machine.at("GPU7")).list(), "32-63,96-127");
}

TEST(Paths, CubeMeshGoesOverOneGpuWhereNoLinkIs) {
  const Machine machine("nccl-cube-mesh.xml");
  EXPECT_EQ(machine.best("GPU0", "GPU4").type, PathClass::Nvl);
  EXPECT_DOUBLE_EQ(machine.best("GPU0", "GPU4").gbps, 40);
  const Path& path = machine.best("GPU0", "GPU5");
  EXPECT_EQ(path.type, PathClass::Nvb);
  EXPECT_NE(path.relay, kNone);
  EXPECT_GE(path.gbps, 20);
  EXPECT_EQ(machine.direct("GPU0", "GPU5").type, PathClass::Sys);
  EXPECT_EQ(matrix_cell(machine.graph, machine.paths, machine.at("GPU0"), machine.at("GPU5")), "SYS");
  EXPECT_EQ(matrix_cell(machine.graph, machine.paths, machine.at("GPU0"), machine.at("GPU4")), "NV2");
}

TEST(Paths, TwoIslandsMeetOverPcieOnly) {
  const Machine machine("rccl-two-islands.xml");
  EXPECT_EQ(machine.best("GPU0", "GPU3").type, PathClass::Nvl);
  EXPECT_EQ(machine.best("GPU0", "GPU4").type, PathClass::Sys);
  EXPECT_EQ(matrix_cell(machine.graph, machine.paths, machine.at("GPU0"), machine.at("GPU3")), "XG1");
}

TEST(Paths, DeepTreesAreOneClassAndCountTheirHops) {
  const Machine machine("rccl-deep-cascade.xml");
  EXPECT_EQ(machine.direct("GPU0", "NIC0").type, PathClass::Sys);
  EXPECT_EQ(machine.direct("GPU0", "NIC0").hops, 12);  // ten up, one across, one down
  const Path& across = machine.paths.pcie(machine.at("GPU0"), machine.at("GPU12"));
  EXPECT_EQ(across.type, PathClass::Pxb);
  EXPECT_DOUBLE_EQ(across.gbps, 48);
}

TEST(Paths, HostsReachEachOtherByNvLinkDomainAndByNetwork) {
  const Machine machine("nccl-two-hosts-c2c.xml");
  EXPECT_EQ(machine.best("0:GPU0", "1:GPU3").type, PathClass::Nvl);
  EXPECT_EQ(machine.best("0:NIC0", "1:NIC0").type, PathClass::Net);
  EXPECT_DOUBLE_EQ(machine.best("0:NIC0", "1:NIC0").gbps, 12.5);
  // PCIe x1 is narrow; the link to the CPU is the way out.
  const Path& path = machine.direct("0:GPU2", "0:NIC0");
  EXPECT_EQ(path.type, PathClass::Phb);
  EXPECT_DOUBLE_EQ(path.gbps, 48);
}

TEST(Paths, DevicesOfOneHostDoNotMeetOverTheNetwork) {
  Graph graph;
  const NodeId network = graph.add_node({.kind = NodeKind::Network, .name = "Ethernet"});
  const auto join = [&](LinkKind kind, NodeId one, NodeId other, double gbps) {
    const Direction way{1, {gbps, Source::File}};
    graph.add_link({.kind = kind, .a = one, .b = other, .forward = way, .backward = way});
  };
  std::vector<NodeId> nics;
  for (int host = 0; host < 2; ++host) {
    const NodeId top = graph.add_node({.kind = NodeKind::Host, .number = host});
    std::vector<NodeId> cpus;
    for (int i = 0; i < 2; ++i) {
      cpus.push_back(graph.add_node({.kind = NodeKind::Cpu, .parent = top, .number = i}));
      nics.push_back(graph.add_node({.kind = NodeKind::Nic, .parent = cpus.back(), .number = i}));
      join(LinkKind::Pcie, cpus.back(), nics.back(), 48);
      join(LinkKind::Network, nics.back(), network, 50);
    }
    join(LinkKind::InterSocket, cpus[0], cpus[1], 10);
  }
  const Paths paths(graph);
  EXPECT_EQ(paths.best(nics[0], nics[1]).type, PathClass::Sys);
  EXPECT_DOUBLE_EQ(paths.best(nics[0], nics[1]).gbps, 10);
  EXPECT_EQ(paths.route(nics[0], nics[1]).size(), 3u);
  EXPECT_EQ(paths.best(nics[0], nics[2]).type, PathClass::Net);
  EXPECT_DOUBLE_EQ(paths.best(nics[0], nics[2]).gbps, 50);
  EXPECT_EQ(paths.route(nics[0], nics[2]).size(), 2u);
}

TEST(Paths, AOneWayLinkServesItsDirectionOnly) {
  const Machine machine("nccl-partial-nonsense.xml");
  EXPECT_DOUBLE_EQ(machine.best("GPU0", "GPU1").gbps, 48);
  EXPECT_DOUBLE_EQ(machine.best("GPU1", "GPU0").gbps, 24);
}

TEST(Paths, WidestFirstThenFewestHops) {
  // a - thin - b, and a - x - y - b over wide links.
  Graph graph;
  const NodeId host = graph.add_node({.kind = NodeKind::Host});
  const auto add = [&](NodeKind kind, const char* name) {
    return graph.add_node({.kind = kind, .parent = host, .name = name});
  };
  const NodeId a = add(NodeKind::Gpu, "GPU0"), b = add(NodeKind::Nic, "NIC0"), thin = add(NodeKind::PciSwitch, "PCI0"),
               x = add(NodeKind::PciSwitch, "PCI1"), y = add(NodeKind::PciSwitch, "PCI2");
  const auto join = [&](NodeId one, NodeId other, double gbps) {
    const Direction way{16, {gbps, Source::File}};
    graph.add_link({.kind = LinkKind::Pcie, .a = one, .b = other, .forward = way, .backward = way});
  };
  join(a, thin, 3), join(thin, b, 24), join(a, x, 24), join(x, y, 12), join(y, b, 24);
  {
    const Paths paths(graph);
    EXPECT_DOUBLE_EQ(paths.best(a, b).gbps, 12);
    EXPECT_EQ(paths.best(a, b).hops, 3);
    const auto route = paths.route(a, b);
    ASSERT_EQ(route.size(), 3u);
    EXPECT_EQ(route[paths.bottleneck(route)].from, x);
  }
  join(a, b, 12);
  const Paths paths(graph);
  EXPECT_EQ(paths.best(a, b).hops, 1);  // as wide, shorter
}

TEST(Paths, RoutesAreChainsOfTheStatedLengthAndWidth) {
  for (const Row& row : table_rows(file_text(fixture("README.md")))) {
    SCOPED_TRACE(row["file"]);
    const Graph graph = read_ok(fixture(row["file"]));
    const Paths paths(graph);
    for (const NodeId from : paths.endpoints())
      for (const NodeId to : paths.endpoints()) {
        if (from == to || paths.best(from, to).type == PathClass::Dis) continue;
        const auto route = paths.route(from, to);
        ASSERT_EQ(static_cast<int>(route.size()), paths.best(from, to).hops);
        NodeId at = from;
        double gbps = 1e30;
        for (const Hop& hop : route) {
          ASSERT_EQ(hop.from, at);
          at = hop.to;
          gbps = std::min(gbps, graph.link(hop.link).from(hop.from).gbps.value);
        }
        EXPECT_EQ(at, to);
        if (paths.best(from, to).ways == 1 && paths.best(from, to).relay == kNone) {
          EXPECT_DOUBLE_EQ(gbps, paths.best(from, to).gbps);
        }
      }
  }
}

}  // namespace
}  // namespace tutti::topology
