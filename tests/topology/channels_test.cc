// SPDX-License-Identifier: Apache-2.0
// The channel search and the bound: on machines made up for the tests, and on random ones.
#include "topology/channels/channels.h"

#include <algorithm>
#include <bit>
#include <map>
#include <random>
#include <set>

#include "exec/sim/prove.h"
#include "files.h"
#include "plan/fabric.h"
#include "topology/channels/network.h"
#include "topology/channels/packing.h"
#include "topology/channels/routes.h"

namespace tutti::topology {
namespace {

ChannelPlan plan_ok(const Graph& graph, const std::vector<NodeId>& ranks, Pattern pattern = Pattern::AllReduce) {
  Result<ChannelPlan> plan = plan_channels(graph, {.ranks = ranks, .pattern = pattern});
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  return plan.ok() ? *plan : ChannelPlan();
}
ChannelPlan plan_ok(const Graph& graph, int32_t ranks = 0, Pattern pattern = Pattern::AllReduce) {
  const Result<std::vector<NodeId>> placed = place_ranks(graph, ranks);
  EXPECT_TRUE(placed.ok()) << placed.status().message();
  return plan_ok(graph, *placed, pattern);
}

// What each arc of a lone domain carries when the channels run at the stated speeds; fails when one is overloaded.
void expect_fits(const Graph& graph, const std::vector<NodeId>& ranks, const ChannelPlan& plan, bool all_reduce) {
  if (plan.devices < 2) return;
  const auto networks = make_networks(graph, ranks, "");
  ASSERT_TRUE(networks.ok() && networks->size() == 1);
  const Network& network = (*networks)[0];
  const Routes routes(network);
  std::map<NodeId, int32_t> vertex;
  for (int32_t v = 0; v < network.devices; ++v) vertex[network.vertices[static_cast<size_t>(v)].node] = v;
  const auto check = [&](const std::vector<double>& load, const char* what) {
    for (size_t i = 0; i < load.size(); ++i)
      EXPECT_LE(load[i], network.arcs[i].gbps * (1 + 1e-6)) << what << " arc " << i;
  };
  const auto add = [&](std::vector<double>& load, NodeId from, NodeId to, double gbps) {
    const Route& route = routes.between(vertex.at(from), vertex.at(to));
    ASSERT_TRUE(route.exists());
    for (const int32_t id : route.arcs) load[static_cast<size_t>(id)] += gbps;
  };
  std::vector<double> load(network.arcs.size(), 0);
  for (const RingChannel& ring : plan.rings)
    for (size_t i = 0; i < ring.devices.size(); ++i)
      add(load, ring.devices[i], ring.devices[(i + 1) % ring.devices.size()], plan.ring_gbps);
  check(load, "rings");
  std::fill(load.begin(), load.end(), 0);
  for (const TreeChannel& tree : plan.trees)
    for (size_t i = 1; i < tree.devices.size(); ++i) {
      const NodeId parent = tree.devices[static_cast<size_t>(tree.parents[i])];
      const double gbps = all_reduce ? plan.tree_gbps / 2 : plan.tree_gbps;
      add(load, parent, tree.devices[i], gbps);
      if (all_reduce) add(load, tree.devices[i], parent, gbps);
    }
  if (all_reduce || plan.packed) check(load, "trees");
}

// Rings and trees pass every device once, and parents come before children.
void expect_spanning(const std::vector<NodeId>& ranks, const ChannelPlan& plan) {
  const std::set<NodeId> devices(ranks.begin(), ranks.end());
  for (const RingChannel& ring : plan.rings) {
    EXPECT_EQ(ring.devices.size(), devices.size());
    EXPECT_EQ(std::set<NodeId>(ring.devices.begin(), ring.devices.end()), devices);
  }
  for (const TreeChannel& tree : plan.trees) {
    ASSERT_EQ(tree.devices.size(), devices.size());
    ASSERT_EQ(tree.parents.size(), devices.size());
    EXPECT_EQ(std::set<NodeId>(tree.devices.begin(), tree.devices.end()), devices);
    EXPECT_EQ(tree.parents[0], -1);
    for (size_t i = 1; i < tree.parents.size(); ++i) {
      EXPECT_GE(tree.parents[i], 0);
      EXPECT_LT(tree.parents[i], static_cast<int32_t>(i));
    }
  }
}

// What runs over these channels: every algorithm that uses rings and trees, with the channels as it gets them.
void expect_schedules_proven(const std::vector<NodeId>& ranks, const ChannelPlan& plan, Pattern pattern) {
  const auto coll = static_cast<Coll>(pattern);
  const auto table = make_channel_table(plan, ranks, coll, 0);
  const ChannelMap& map = table->map();
  const auto expect = [&](Algo algo, int channels) {
    const CatalogRow* row = find_row(coll, algo);
    if (row == nullptr || channels == 0) return;
    Proof proof = proof_of(*row, {map.n, nullptr, nullptr, &map});
    proof.channels = channels;
    proof.bytes = kTileAlign * static_cast<uint64_t>(proof.blocks * channels);
    proof.cell_bytes = kTileAlign;
    proof.fixed_orders = false;
    const auto proven = prove(proof);
    ASSERT_TRUE(proven.ok()) << name(coll) << " " << name(algo) << ": " << proven.status().message();
    EXPECT_EQ(proven->steps_without_data, 0u);
  };
  expect(Algo::Ring, map.rings);
  expect(Algo::Tree, map.trees.count);
  if (map.forests.count > 0) expect(Algo::Forest, map.forest_count());
  EXPECT_EQ(plan.forests > 0, map.forests.count > 0);
}

void expect_proven(const Graph& graph, const std::vector<NodeId>& ranks, const ChannelPlan& plan,
                   Pattern pattern = Pattern::AllReduce) {
  expect_spanning(ranks, plan);
  expect_schedules_proven(ranks, plan, pattern);
  expect_fits(graph, ranks, plan, pattern == Pattern::AllReduce);
  EXPECT_LE(plan.best_bus_gbps(), plan.bound.bus_gbps * (1 + 1e-5)) << "faster than the bound: " << plan.limit;
}

// --- machines of the fixtures ---

TEST(Channels, UseEveryNvlinkOfACubeMesh) {
  const Graph graph = read_ok(fixture("nccl-cube-mesh.xml"));
  const auto ranks = *place_ranks(graph, 0);
  const ChannelPlan plan = plan_ok(graph, ranks);
  expect_proven(graph, ranks, plan);
  // Six links of 20 GB/s leave each GPU, and a ring leaves each GPU once.
  EXPECT_NEAR(plan.rings_total(), 120, 1e-6);
  EXPECT_GE(plan.trees_total(), 120 - 1e-6);
  EXPECT_GE(plan.optimality(), 0.9);
}

TEST(Channels, FillAnNvswitchByRingsAndByTheStar) {
  const Graph graph = read_ok(fixture("nccl-hgx-nvswitch.xml"));
  const auto ranks = *place_ranks(graph, 0);
  const ChannelPlan plan = plan_ok(graph, ranks);
  expect_proven(graph, ranks, plan);
  EXPECT_NEAR(plan.rings_total(), 18 * 20.6, 1e-3);
  EXPECT_NEAR(plan.star_bus_gbps, 18 * 20.6, 1e-3);
  EXPECT_EQ(graph.node(plan.star.hub).kind, NodeKind::NvSwitch);
  EXPECT_NEAR(plan.optimality(), 1, 1e-6);
}

TEST(Channels, JoinIslandsOverPcieByTreesWhereRingsWasteTheLinkBetween) {
  const Graph graph = read_ok(fixture("rccl-two-islands.xml"));
  const auto ranks = *place_ranks(graph, 0);
  for (const Pattern pattern : {Pattern::AllReduce, Pattern::AllGather, Pattern::ReduceScatter}) {
    const ChannelPlan plan = plan_ok(graph, ranks, pattern);
    expect_proven(graph, ranks, plan, pattern);
    EXPECT_EQ(plan.best(), ChannelKind::Trees);
    EXPECT_LT(plan.ring_bus_gbps, 0.9 * plan.bound.bus_gbps);
    EXPECT_GE(plan.optimality(), 0.9);
  }
}

TEST(Channels, ServeOddNumbersAndSeveralRanksPerGpu) {
  const Graph graph = read_ok(fixture("nccl-cube-mesh.xml"));
  for (const int32_t n : {1, 2, 3, 5, 7, 11, 16, 24}) {
    SCOPED_TRACE(n);
    const auto ranks = *place_ranks(graph, n);
    ASSERT_EQ(static_cast<int32_t>(ranks.size()), n);
    const ChannelPlan plan = plan_ok(graph, ranks);
    EXPECT_EQ(plan.devices, std::min(n, 8));
    expect_proven(graph, ranks, plan);
    EXPECT_GT(plan.optimality(), 0.7);
  }
}

TEST(Channels, ServeRanksOnCpus) {
  const Graph graph = read_ok(fixture("nccl-template-bare.xml"));  // NUMA nodes only
  const ChannelPlan plan = plan_ok(graph, 6);
  EXPECT_EQ(plan.devices, 2);
  EXPECT_GT(plan.rings_total(), 0);
  EXPECT_GT(plan.optimality(), 0);
}

// What a send crosses follows from where the two ranks are: on one GPU, on two, on two hosts.
TEST(Channels, OfASendAreThoseBetweenItsTwoRanks) {
  const Graph graph = read_ok(fixture("nccl-hgx-nvswitch.xml")), two = repeat_hosts(graph, 2);
  const auto bus = [](const Graph& on, int32_t ranks, int32_t root) {
    const auto placed = place_ranks(on, ranks);
    EXPECT_TRUE(placed.ok());
    const auto plan = plan_channels(on, {.ranks = *placed, .pattern = Pattern::SendRecv, .root = root});
    EXPECT_TRUE(plan.ok()) << plan.status().message();
    EXPECT_LE(plan->star_bus_gbps, plan->bound.bus_gbps * 1.001);
    return plan->bound.bus_gbps;
  };
  const double between = bus(graph, 8, 0);
  EXPECT_GT(bus(graph, 16, 0), between) << "ranks 0 and 1 share a GPU";
  EXPECT_DOUBLE_EQ(bus(graph, 16, 1), between);
  constexpr double kAllNics = 8 * 48;
  EXPECT_DOUBLE_EQ(bus(two, 16, 7), kAllNics) << "rank 8 is on the other host";
}

TEST(Channels, AreTheSameEachTime) {
  const Graph graph = read_ok(fixture("rccl-deep-cascade.xml"));
  const ChannelPlan one = plan_ok(graph), other = plan_ok(graph);
  ASSERT_EQ(one.rings.size(), other.rings.size());
  for (size_t i = 0; i < one.rings.size(); ++i) EXPECT_EQ(one.rings[i].devices, other.rings[i].devices);
  ASSERT_EQ(one.trees.size(), other.trees.size());
  for (size_t i = 0; i < one.trees.size(); ++i) EXPECT_EQ(one.trees[i].parents, other.trees[i].parents);
}

// --- across hosts ---

TEST(Channels, LeaveByTheNicNearTheGpuKeepRailsAndShareNics) {
  const Graph host = read_ok(fixture("nccl-hgx-nvswitch.xml"));
  for (const int32_t hosts : {2, 3, 4, 7}) {
    SCOPED_TRACE(hosts);
    const Graph graph = repeat_hosts(host, hosts);
    const ChannelPlan plan = plan_ok(graph);
    expect_spanning(*place_ranks(graph, 0), plan);
    EXPECT_EQ(plan.domains, hosts);
    std::map<std::string, int> uses;
    for (const RingChannel& ring : plan.rings) {
      ASSERT_EQ(static_cast<int32_t>(ring.passages.size()), hosts);
      for (size_t d = 0; d < ring.passages.size(); ++d) {
        const Passage &here = ring.passages[d], &next = ring.passages[(d + 1) % ring.passages.size()];
        EXPECT_EQ(graph.node(here.out).name, graph.node(next.in).name) << "a rail is left between two hosts";
        // GPU k and NIC k sit below one switch.
        const std::string first = graph.node(ring.devices[d * 8]).name;
        EXPECT_EQ(graph.node(here.in).name.substr(3), first.substr(3));
        if (d == 0) ++uses[graph.node(here.in).name];
      }
    }
    ASSERT_EQ(uses.size(), 8u);
    const auto [least, most] =
        std::minmax_element(uses.begin(), uses.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    EXPECT_LE(most->second - least->second, 1);
    EXPECT_GE(plan.rings_total(), 8 * 45.0);  // of 8 x 48 GB/s
    EXPECT_LE(plan.best_bus_gbps(), plan.bound.bus_gbps * (1 + 1e-5));
    EXPECT_GT(plan.optimality(), 0.85);
  }
}

TEST(Channels, DoubleTreesAcrossHostsHaveNoInnerHostTwice) {
  const Graph graph = repeat_hosts(read_ok(fixture("nccl-hgx-nvswitch.xml")), 8);
  const ChannelPlan plan = plan_ok(graph);
  ASSERT_GE(plan.trees.size(), 2u);
  std::map<NodeId, int> inner;  // hosts with children elsewhere, over the two trees of a channel
  for (size_t t = 0; t < 2; ++t) {
    std::set<NodeId> with_children;
    for (size_t i = 1; i < plan.trees[t].devices.size(); ++i) {
      const NodeId parent = plan.trees[t].devices[static_cast<size_t>(plan.trees[t].parents[i])];
      if (graph.host_of(parent) != graph.host_of(plan.trees[t].devices[i])) with_children.insert(graph.host_of(parent));
    }
    for (const NodeId host : with_children) ++inner[host];
  }
  for (const auto& [host, times] : inner) EXPECT_EQ(times, 1) << graph.node(host).name;
}

TEST(Channels, JoinHostsOfDifferentKinds) {
  Graph graph = read_ok(fixture("nccl-hgx-nvswitch.xml"));
  merge(graph, read_ok(fixture("rccl-two-islands.xml")));
  const auto ranks = *place_ranks(graph, 0);
  const ChannelPlan plan = plan_ok(graph, ranks);
  EXPECT_EQ(plan.domains, 2);
  expect_spanning(ranks, plan);
  EXPECT_GT(plan.rings_total(), 0);
  EXPECT_LE(plan.best_bus_gbps(), plan.bound.bus_gbps * (1 + 1e-5));
}

TEST(Channels, OneNvlinkDomainOverTwoHostsNeedsNoNic) {
  const Graph graph = read_ok(fixture("nccl-two-hosts-c2c.xml"));
  const ChannelPlan plan = plan_ok(graph);
  EXPECT_EQ(plan.domains, 1);
  EXPECT_NEAR(plan.optimality(), 1, 1e-6);
  for (const RingChannel& ring : plan.rings) EXPECT_TRUE(ring.passages.empty());
}

// --- restrictions ---

TEST(ChannelRestrictions, OfNicsAreKeptOrNameWhatTheyExclude) {
  const Graph graph = repeat_hosts(read_ok(fixture("nccl-hgx-nvswitch.xml")), 2);
  const auto ranks = *place_ranks(graph, 0);
  const auto some = plan_channels(graph, {.ranks = ranks, .nics = "=mlx5_0,mlx5_3"});
  ASSERT_TRUE(some.ok()) << some.status().message();
  for (const RingChannel& ring : some->rings)
    for (const Passage& passage : ring.passages)
      EXPECT_TRUE(graph.node(passage.in).name == "NIC0" || graph.node(passage.in).name == "NIC3");
  EXPECT_LE(some->rings_total(), 2 * 50.0);
  const auto none = plan_channels(graph, {.ranks = ranks, .nics = "^mlx5"});
  ASSERT_FALSE(none.ok());
  for (int nic = 0; nic < 8; ++nic)
    EXPECT_NE(none.status().message().find("mlx5_" + std::to_string(nic)), std::string::npos)
        << none.status().message();
}

TEST(ChannelRestrictions, OfNumbersAreKeptOrSaidToContradict) {
  const Graph graph = read_ok(fixture("nccl-hgx-nvswitch.xml"));
  const auto ranks = *place_ranks(graph, 0);
  const auto few = plan_channels(graph, {.ranks = ranks, .max_channels = 2});
  ASSERT_TRUE(few.ok());
  EXPECT_LE(few->rings.size(), 2u);
  const auto many = plan_channels(graph, {.ranks = ranks, .min_channels = 24});
  ASSERT_TRUE(many.ok());
  EXPECT_GE(many->rings.size(), 24u);
  EXPECT_NEAR(many->rings_total(), 18 * 20.6, 1e-3);
  const auto none = plan_channels(graph, {.ranks = ranks, .min_channels = 5, .max_channels = 4});
  ASSERT_FALSE(none.ok());
  EXPECT_NE(none.status().message().find("TUTTI_MIN_CHANNELS"), std::string::npos);
}

TEST(ChannelRestrictions, AListOfNicsThatDoesNotParseIsNamed) {
  const Graph graph = repeat_hosts(read_ok(fixture("nccl-hgx-nvswitch.xml")), 2);
  const auto wrong = plan_channels(graph, {.ranks = *place_ranks(graph, 0), .nics = "mlx5_0,,mlx5_1"});
  ASSERT_FALSE(wrong.ok());
  EXPECT_EQ(wrong.status().code(), Code::InvalidArgument);
  EXPECT_NE(wrong.status().message().find("nics of the configuration='mlx5_0,,mlx5_1' does not parse"),
            std::string::npos)
      << wrong.status().message();
}

// --- the bound, by hand ---

GpuInfo present() {
  GpuInfo gpu;
  gpu.present = true;
  return gpu;
}

Graph mesh(int gpus, const std::vector<std::tuple<int, int, double, double>>& links) {
  Graph graph;
  const NodeId host = graph.add_node({.kind = NodeKind::Host, .name = "host"});
  std::vector<NodeId> ids;
  for (int i = 0; i < gpus; ++i)
    ids.push_back(graph.add_node(
        {.kind = NodeKind::Gpu, .parent = host, .number = i, .name = "GPU" + std::to_string(i), .gpu = present()}));
  for (const auto& [a, b, forward, backward] : links)
    graph.add_link({.kind = LinkKind::NvLink,
                    .a = ids[static_cast<size_t>(a)],
                    .b = ids[static_cast<size_t>(b)],
                    .forward = {1, {forward, Source::File}},
                    .backward = {1, {backward, Source::File}}});
  return graph;
}

TEST(Bounds, AreWhatOneComputesByHand) {
  // A line of three: the middle GPU has both links. All-reduce: up and down one tree at 10: 10 * 2 * 2 / 3.
  const Graph line = mesh(3, {{0, 1, 10, 10}, {1, 2, 10, 10}});
  EXPECT_NEAR(plan_ok(line).bound.bus_gbps, 10 * 4.0 / 3, 1e-4);
  EXPECT_NEAR(plan_ok(line).optimality(), 1, 1e-4);
  // All-gather: an end receives two blocks over one link: x = 5, bus bandwidth 2 x.
  EXPECT_NEAR(plan_ok(line, 0, Pattern::AllGather).bound.bus_gbps, 10, 1e-4);
  EXPECT_NEAR(plan_ok(line, 0, Pattern::AllGather).optimality(), 1, 1e-4);
  EXPECT_NEAR(plan_ok(line, 0, Pattern::Broadcast).bound.bus_gbps, 10, 1e-4);
  // All-to-all: between the end and the rest 2 pairs each way over 10: x = 5.
  EXPECT_NEAR(plan_ok(line, 0, Pattern::AllToAll).bound.bus_gbps, 10, 1e-4);
  EXPECT_NEAR(plan_ok(line, 0, Pattern::Gather).bound.bus_gbps, 10, 1e-4);
  // A circle of four, 10 per link and way: each rank sends and receives 20.
  const Graph circle = mesh(4, {{0, 1, 10, 10}, {1, 2, 10, 10}, {2, 3, 10, 10}, {3, 0, 10, 10}});
  EXPECT_NEAR(plan_ok(circle).bound.bus_gbps, 20, 1e-4);
  EXPECT_NEAR(plan_ok(circle).rings_total(), 20, 1e-4);
}

TEST(Bounds, FollowTheNarrowDirectionOfAsymmetricLinks) {
  // One circle is fast one way only: one ring of 30, one of 5.
  const Graph graph = mesh(3, {{0, 1, 30, 5}, {1, 2, 30, 5}, {2, 0, 30, 5}});
  const ChannelPlan plan = plan_ok(graph);
  EXPECT_NEAR(plan.bound.bus_gbps, 35, 1e-4);
  EXPECT_GE(plan.rings_total(), 30 - 1e-4);
  expect_proven(graph, *place_ranks(graph, 0), plan);
  // Nothing comes back: no all-reduce.
  const Graph one_way = mesh(2, {{0, 1, 10, 0}});
  EXPECT_FALSE(plan_channels(one_way, {.ranks = *place_ranks(one_way, 0)}).ok());
}

// --- random machines ---

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  int below(int n) { return static_cast<int>(engine_() % static_cast<uint32_t>(n)); }
  bool chance(int percent) { return below(100) < percent; }

 private:
  std::mt19937 engine_;
};

// Two to 32 GPUs below switches of one to four NUMA nodes, in islands of NVLink: a switch, a full mesh, a circle with
// chords, or nothing.
Graph random_machine(uint32_t seed) {
  Random random(seed);
  Graph graph;
  const NodeId host = graph.add_node({.kind = NodeKind::Host, .name = "host"});
  const int numa = 1 + random.below(4), gpus = 2 + random.below(31);
  const double pcie = 12 << random.below(3), socket = random.chance(50) ? pcie : pcie / 2;
  const double lane = random.chance(50) ? 20 : 25;
  const auto way = [](double gbps, int lanes = 0) { return Direction{lanes, {gbps, Source::File}}; };
  std::vector<NodeId> cpus, switches, devices;
  for (int c = 0; c < numa; ++c) {
    cpus.push_back(
        graph.add_node({.kind = NodeKind::Cpu, .parent = host, .number = c, .name = "NUMA" + std::to_string(c)}));
    for (int before = 0; before < c; ++before)
      graph.add_link({.kind = LinkKind::InterSocket,
                      .a = cpus[static_cast<size_t>(before)],
                      .b = cpus.back(),
                      .forward = way(socket),
                      .backward = way(socket)});
  }
  const int below_switch = 1 + random.below(4);
  for (int g = 0; g < gpus; ++g) {
    if (g % below_switch == 0) {
      const NodeId cpu = cpus[static_cast<size_t>(g * numa / gpus)];
      switches.push_back(
          graph.add_node({.kind = NodeKind::PciSwitch, .parent = cpu, .name = "PCI" + std::to_string(g)}));
      graph.add_link(
          {.kind = LinkKind::Pcie, .a = cpu, .b = switches.back(), .forward = way(pcie), .backward = way(pcie)});
    }
    devices.push_back(graph.add_node({.kind = NodeKind::Gpu,
                                      .parent = switches.back(),
                                      .number = g,
                                      .name = "GPU" + std::to_string(g),
                                      .gpu = present()}));
    graph.add_link({.kind = LinkKind::Pcie,
                    .a = switches.back(),
                    .b = devices.back(),
                    .forward = way(pcie),
                    .backward = way(pcie)});
  }
  const int islands = 1 + random.below(3), shape = random.below(4);
  const auto nvlink = [&](NodeId a, NodeId b, int lanes) {
    graph.add_link({.kind = LinkKind::NvLink,
                    .a = a,
                    .b = b,
                    .forward = way(lane * lanes, lanes),
                    .backward = way(lane * lanes, lanes)});
  };
  for (int island = 0; island < islands; ++island) {
    const int from = gpus * island / islands, to = gpus * (island + 1) / islands;
    if (to - from < 2 || shape == 3) continue;
    if (shape == 0) {
      const NodeId hub = graph.add_node({.kind = NodeKind::NvSwitch,
                                         .name = "NVSwitch" + std::to_string(island),
                                         .nvswitch = {.hidden = true, .domain = ""}});
      const int lanes = 4 + random.below(9);
      for (int g = from; g < to; ++g) nvlink(devices[static_cast<size_t>(g)], hub, lanes);
      continue;
    }
    for (int a = from; a < to; ++a)
      for (int b = a + 1; b < to; ++b) {
        const bool neighbours = b == a + 1 || (a == from && b == to - 1);
        if (shape == 1 || neighbours || random.chance(20))
          nvlink(devices[static_cast<size_t>(a)], devices[static_cast<size_t>(b)], 1 + random.below(3));
      }
  }
  return graph;
}

// Of these so many may have a plan below 0.9 of the bound; they are printed. (Seen: 3, 2 and 2 of 60.)
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint32_t kMachines = 16;  // sanitizers take twenty times as long
#else
constexpr uint32_t kMachines = 60;
#endif
constexpr int kMostExceptions = 5;

class RandomMachines : public ::testing::TestWithParam<Pattern> {};

TEST_P(RandomMachines, HaveProvenPlansNearTheBound) {
  std::vector<std::string> exceptions;
  for (uint32_t seed = 1; seed <= kMachines; ++seed) {
    SCOPED_TRACE(seed);
    const Graph graph = random_machine(seed);
    const auto ranks = *place_ranks(graph, 0);
    const ChannelPlan plan = plan_ok(graph, ranks, GetParam());
    expect_proven(graph, ranks, plan, GetParam());
    if (plan.optimality() < 0.9)
      exceptions.push_back(fmt::format("seed {} ({} GPUs): {:.3f}{}", seed, plan.ranks, plan.optimality(),
                                       plan.trees_limit_gbps > 0
                                           ? fmt::format(", any trees: {:.3f}", plan.trees_limit_gbps / plan.bound.bus_gbps)
                                           : ""));
  }
  std::string list;
  for (const std::string& one : exceptions) list += one + "\n";
  RecordProperty("below_0.9_of_the_bound", static_cast<int>(exceptions.size()));
  fmt::print("{} of {} machines below 0.9 of the bound\n{}", exceptions.size(), kMachines, list);
  EXPECT_LE(static_cast<int>(exceptions.size()), kMostExceptions) << list;
}
INSTANTIATE_TEST_SUITE_P(Patterns, RandomMachines,
                         ::testing::Values(Pattern::AllReduce, Pattern::AllGather, Pattern::Broadcast));

double bound_of(const Graph& graph, const std::vector<NodeId>& ranks, Pattern pattern) {
  const auto networks = make_networks(graph, ranks, "");
  EXPECT_TRUE(networks.ok());
  return bandwidth_bound({{&(*networks)[0], 1}}, pattern, 0, 1, 100).bus_gbps;
}

// All cuts and all partitions of up to six GPUs that are linked directly, one by one.
struct EveryCut {
  int n;
  std::vector<std::vector<double>> gbps;

  double leaving(unsigned set) const {
    double sum = 0;
    for (int a = 0; a < n; ++a)
      for (int b = 0; b < n; ++b)
        if ((set >> a & 1) && !(set >> b & 1)) sum += gbps[static_cast<size_t>(a)][static_cast<size_t>(b)];
    return sum;
  }
  unsigned all() const { return (1u << n) - 1; }
  double all_gather() const {
    double least = 1e30;
    for (unsigned set = 1; set < all(); ++set) least = std::min(least, leaving(set) / std::popcount(set));
    return least * (n - 1);
  }
  double broadcast() const {
    double least = 1e30;
    for (unsigned set = 1; set < all(); set += 2) least = std::min(least, leaving(set));  // with rank 0
    return least;
  }
  double all_reduce() const {
    double least = 1e30;
    for (unsigned set = 1; set < all(); ++set) least = std::min(least, leaving(set));
    std::vector<unsigned> groups;
    partitions(0, &groups, &least);
    return least * 2 * (n - 1) / n;
  }
  void partitions(int next, std::vector<unsigned>* groups, double* least) const {
    if (next == n) {
      if (groups->size() < 2) return;
      double sum = 0;
      for (const unsigned group : *groups) sum += leaving(group);
      *least = std::min(*least, sum / (2.0 * static_cast<double>(groups->size() - 1)));
      return;
    }
    for (size_t i = 0; i < groups->size(); ++i) {  // into a group that is there, or into one of its own
      (*groups)[i] |= 1u << next;
      partitions(next + 1, groups, least);
      (*groups)[i] &= ~(1u << next);
    }
    groups->push_back(1u << next);
    partitions(next + 1, groups, least);
    groups->pop_back();
  }
};

TEST(RandomBounds, AreTheWorstOfAllCutsAndPartitions) {
  for (uint32_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const int n = 3 + random.below(4);
    EveryCut every{
        n, std::vector<std::vector<double>>(static_cast<size_t>(n), std::vector<double>(static_cast<size_t>(n)))};
    std::vector<std::tuple<int, int, double, double>> links;
    for (int a = 0; a < n; ++a)
      for (int b = a + 1; b < n; ++b) {
        if (b != a + 1 && !random.chance(50)) continue;
        const double there = 5 * (1 + random.below(6)), back = random.chance(50) ? there : 5 * (1 + random.below(6));
        links.emplace_back(a, b, there, back);
        every.gbps[static_cast<size_t>(a)][static_cast<size_t>(b)] = there;
        every.gbps[static_cast<size_t>(b)][static_cast<size_t>(a)] = back;
      }
    const Graph graph = mesh(n, links);
    const auto ranks = *place_ranks(graph, 0);
    EXPECT_NEAR(bound_of(graph, ranks, Pattern::AllGather), every.all_gather(), 1e-3);
    EXPECT_NEAR(bound_of(graph, ranks, Pattern::Broadcast), every.broadcast(), 1e-3);
    EXPECT_NEAR(bound_of(graph, ranks, Pattern::AllReduce), every.all_reduce(), 1e-3);
  }
}

TEST(RandomBounds, NeverFallWhenALinkIsAdded) {
  for (uint32_t seed = 1; seed <= kMachines; ++seed) {
    SCOPED_TRACE(seed);
    Graph graph = random_machine(seed);
    const auto ranks = *place_ranks(graph, 0);
    Random random(seed);
    for (int added = 0; added < 3; ++added) {
      std::map<Pattern, double> before;
      for (const Pattern pattern : {Pattern::AllReduce, Pattern::AllGather, Pattern::Broadcast, Pattern::Gather})
        before[pattern] = bound_of(graph, ranks, pattern);
      const int n = static_cast<int>(ranks.size()), a = random.below(n), b = (a + 1 + random.below(n - 1)) % n;
      const double gbps = 5 + 15 * random.below(4);  // slower than PCIe, too
      graph.add_link({.kind = LinkKind::NvLink,
                      .a = ranks[static_cast<size_t>(a)],
                      .b = ranks[static_cast<size_t>(b)],
                      .forward = {2, {gbps, Source::File}},
                      .backward = {2, {gbps, Source::File}}});
      for (const auto& [pattern, value] : before)
        EXPECT_GE(bound_of(graph, ranks, pattern), value * (1 - 1e-5)) << "pattern " << static_cast<int>(pattern);
    }
  }
}

TEST(RandomBounds, DoNotDependOnTheNumbersOfRanks) {
  for (uint32_t seed = 1; seed <= kMachines; ++seed) {
    SCOPED_TRACE(seed);
    const Graph graph = random_machine(seed);
    auto ranks = *place_ranks(graph, 0);
    std::map<Pattern, double> before;
    for (const Pattern pattern : {Pattern::AllReduce, Pattern::AllGather, Pattern::ReduceScatter, Pattern::AllToAll})
      before[pattern] = bound_of(graph, ranks, pattern);
    Random random(seed + 1000);
    for (size_t i = ranks.size(); i > 1; --i)
      std::swap(ranks[i - 1], ranks[static_cast<size_t>(random.below(static_cast<int>(i)))]);
    for (const auto& [pattern, value] : before) EXPECT_NEAR(bound_of(graph, ranks, pattern), value, value * 1e-5);
  }
}

}  // namespace
}  // namespace tutti::topology
