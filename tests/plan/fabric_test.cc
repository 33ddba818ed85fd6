// SPDX-License-Identifier: Apache-2.0
// The cost model between GPUs: made-up fabrics, whose times follow from their figures.
#include "plan/fabric.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "proto/lines.h"

namespace tutti {
namespace {

Fabric one_host() {
  return {.ranks = 8,
          .domains = 1,
          .inside = LinkClass::NvLink,
          .ring_gbps = 360,
          .tree_gbps = 350,
          .star_gbps = 360,
          .rings = 18,
          .trees = 10};
}
Fabric many_hosts(int hosts) {
  Fabric fabric = one_host();
  fabric.domains = hosts;
  fabric.ranks = 8 * hosts;
  fabric.star_gbps = 45;
  return fabric;
}

Summary summary_of(const Fabric& fabric) {
  Summary summary;
  summary.n = fabric.ranks;
  summary.hosts = fabric.domains;
  summary.mapped = fabric.domains == 1;
  summary.fabric = &fabric;
  return summary;
}
Plan chosen(const Fabric& fabric, uint64_t bytes, Coll coll = Coll::AllReduce) {
  const Result<Plan> plan = make_plan(summary_of(fabric), {.coll = coll, .bytes = bytes});
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  return plan.ok() ? *plan : Plan();
}

TEST(FabricCost, OfALargeCallIsBytesByBandwidth) {
  const Fabric fabric = one_host();
  const uint64_t bytes = uint64_t{4} << 30;
  const Plan plan = chosen(fabric, bytes);
  EXPECT_EQ(plan.proto, Proto::Simple);
  const double floor_us = static_cast<double>(bytes) * 2 * 7 / 8 / 360e3;
  EXPECT_GE(plan.predicted_us, floor_us);
  EXPECT_LE(plan.predicted_us, floor_us * 1.01);
}

TEST(FabricCost, OfASmallCallIsLatencyAndGoesByLL) {
  const Fabric fabric = one_host();
  const Plan plan = chosen(fabric, 1024);
  EXPECT_EQ(plan.proto, Proto::LL);
  EXPECT_NE(plan.algo, Algo::Ring) << "14 hops in turn";
  EXPECT_LT(plan.predicted_us, 12);
}

TEST(FabricCost, RunsRingsOnTheRingsAndTreesOnTheTreesThatWereFound) {
  const Fabric fabric = one_host();
  EXPECT_EQ(fabric_channels(fabric, Algo::Ring), 18);
  EXPECT_EQ(fabric_channels(fabric, Algo::Tree), 10);
  const auto candidates = plan_candidates(summary_of(fabric), {.coll = Coll::AllReduce, .bytes = 1 << 20});
  ASSERT_TRUE(candidates.ok());
  for (const Candidate& candidate : *candidates) {
    if (candidate.plan.algo == Algo::Tree) {
      EXPECT_EQ(candidate.plan.channels, 10);
    }
  }
}

TEST(FabricCost, GrowsWithHostsForRingsAndHardlyForTrees) {
  const Shape shape{.coll = Coll::AllReduce, .bytes = 1 << 20};
  const auto time = [&](const Fabric& fabric, Algo algo) {
    Plan plan;
    plan.proto = Proto::Simple;
    return predict_fabric_us(fabric, fabric.ranks, shape, *find_row(Coll::AllReduce, algo), plan);
  };
  const Fabric few = many_hosts(4), many = many_hosts(64);
  EXPECT_GT(time(many, Algo::Ring), 10 * time(few, Algo::Ring));
  EXPECT_LT(time(many, Algo::Tree), 4 * time(few, Algo::Tree));
  EXPECT_LT(time(many, Algo::Tree), time(many, Algo::Ring));
}

TEST(FabricCost, OfRanksThatOnlyPcieJoinsIsHigher) {
  Fabric fabric = one_host();
  const double nvlink = chosen(fabric, 64).predicted_us;
  fabric.inside = LinkClass::Pcie;
  EXPECT_GT(chosen(fabric, 64).predicted_us, nvlink);
}

// Four GPUs: 0 and 1 linked, and so 2 and 3; one device of each pair to one of the other.
topology::ChannelPlan packed_trees(int forests) {
  topology::ChannelPlan plan;
  plan.ranks = plan.devices = 4;
  plan.domains = 1;
  plan.rings = {{.devices = {0, 1, 3, 2}, .passages = {}}};
  plan.ring_bus_gbps = 20;
  for (int root = 0; root < 4 * forests; ++root) {
    const int a = root % 4, b = a ^ 1, c = a ^ 2, d = a ^ 3;
    plan.trees.push_back({.devices = {a, b, c, d}, .parents = {-1, 0, 0, 2}, .passages = {}});
  }
  plan.forests = forests;
  plan.tree_bus_gbps = 40;
  plan.star_bus_gbps = 10;
  return plan;
}

TEST(FabricCost, RunsBlocksOverForestsWhereTreesWerePackedAndCarryMore) {
  const topology::ChannelPlan found = packed_trees(3);
  for (const Coll coll : {Coll::AllGather, Coll::ReduceScatter}) {
    Fabric fabric = make_fabric(topology::Graph(), found);
    Summary summary = summary_of(fabric);
    summary.channels = make_channel_table(found, {0, 1, 2, 3}, coll, 0);
    const Shape shape{.coll = coll, .bytes = 256 << 20};
    const Result<Plan> plan = make_plan(summary, shape);
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    EXPECT_EQ(plan->algo, Algo::Forest);
    EXPECT_EQ(plan->channels, 3);
    EXPECT_NEAR(plan->predicted_us, 3 * 256.0 * (1 << 20) / 40e3, 100);
    // Without them it is no candidate, and says so.
    summary.channels = nullptr;
    const auto candidates = plan_candidates(summary, shape);
    ASSERT_TRUE(candidates.ok());
    EXPECT_EQ(candidates->front().plan.algo, Algo::Ring);
    const auto forest = std::find_if(candidates->begin(), candidates->end(),
                                     [](const Candidate& one) { return one.plan.algo == Algo::Forest; });
    ASSERT_NE(forest, candidates->end());
    EXPECT_NE(forest->lost.find("no spanning trees were packed"), std::string::npos) << forest->lost;
  }
}

TEST(ChannelTables, GiveRanksOfOneDeviceNeighbouringPlaces) {
  topology::ChannelPlan found = packed_trees(0);
  found.trees = {{.devices = {7, 9}, .parents = {-1, 0}, .passages = {}}};
  found.rings = {{.devices = {9, 7}, .passages = {}}};
  // Ranks 0 and 2 on device 7, ranks 1 and 3 on device 9.
  const auto table = make_channel_table(found, {7, 9, 7, 9}, Coll::Broadcast, 3);
  const ChannelMap& map = table->map();
  EXPECT_EQ(std::vector<int>(map.order, map.order + 4), (std::vector<int>{1, 3, 0, 2}));
  EXPECT_EQ(std::vector<int>(map.place, map.place + 4), (std::vector<int>{2, 0, 3, 1}));
  // 0 - 2 below it, 1 below 0, 3 below 1; hung from 3: 3 - 1 - 0 - 2.
  EXPECT_EQ(std::vector<int>(map.trees.parents, map.trees.parents + 4), (std::vector<int>{1, 3, 0, -1}));
  EXPECT_EQ(map.trees.depth, 3);
  EXPECT_EQ(map.root, 3);
}

TEST(FabricCost, LeavesOutWhatHasNoBandwidth) {
  Fabric fabric = one_host();
  fabric.star_gbps = 0;
  for (const uint64_t bytes : {uint64_t{8}, uint64_t{1} << 30}) {
    const Plan plan = chosen(fabric, bytes);
    EXPECT_TRUE(plan.algo == Algo::Ring || plan.algo == Algo::Tree);
  }
}

// Published constants serve GPUs that nobody has measured.
TEST(FabricCost, OfGpusThatWereMeasuredIsWhatWasFound) {
  Fabric fabric = one_host();
  fabric.gpu = "a GPU";
  fabric.gpus = 8;
  Profile profile = built_in_profile({});
  Summary summary = summary_of(fabric);
  summary.profile = &profile;
  const auto predicted = [&](Algo algo, Proto proto, uint64_t bytes) {
    const auto candidates = plan_candidates(summary, {.coll = Coll::AllReduce, .bytes = bytes});
    EXPECT_TRUE(candidates.ok()) << candidates.status().message();
    for (const Candidate& one : *candidates) {
      if (one.plan.algo == algo && one.plan.proto == proto) return one.plan.predicted_us;
    }
    ADD_FAILURE() << "no such candidate";
    return 0.0;
  };
  const double published = predicted(Algo::Ring, Proto::LL, 8);
  profile.gpu = {"a GPU", 8, {2, 0.5}, {4, 1}, 0.25, {}};
  EXPECT_NEAR(predicted(Algo::Ring, Proto::LL, 8), 2 + 14 * 0.5, 0.01);
  EXPECT_NEAR(predicted(Algo::Ring, Proto::Simple, 8), 4 + 14 * 1.0, 0.01);
  const double floor_us = (uint64_t{4} << 30) * 2 * 7 / 8 / 360e3;
  EXPECT_NEAR(predicted(Algo::Ring, Proto::LL, uint64_t{4} << 30), floor_us * 4, floor_us * 0.01);

  // As they were timed, on as many of them.
  profile.gpu.timed = {{Coll::AllReduce, Algo::Ring, Proto::LL, 8, false, {8, 1024}, {3.25, 5}}};
  EXPECT_DOUBLE_EQ(predicted(Algo::Ring, Proto::LL, 8), 3.25);
  profile.gpu.gpus = 4;
  EXPECT_NEAR(predicted(Algo::Ring, Proto::LL, 8), 2 + 14 * 0.5, 0.01);
  profile.gpu.gpu = "another GPU";
  EXPECT_DOUBLE_EQ(predicted(Algo::Ring, Proto::LL, 8), published);
}

// ---- long lines ----

// Eight GPUs that see lines of 128 bytes whole.
Summary with_long_lines(const Fabric& fabric) {
  Summary summary = summary_of(fabric);
  summary.ll_slots = 16;
  summary.ll128_slots = 8;
  return summary;
}
Plan chosen(const Summary& summary, const Shape& shape);

TEST(FabricLL128, ServesWhatIsTooLongForLLAndTooShortForSimple) {
  const Fabric fabric = one_host();
  Summary summary = with_long_lines(fabric);
  summary.algorithms = "ring";
  std::vector<Proto> found;
  for (uint64_t bytes = 64; bytes <= uint64_t{1} << 30; bytes *= 2) {
    const Plan plan = chosen(summary, {.coll = Coll::AllReduce, .bytes = bytes});
    if (found.empty() || found.back() != plan.proto) found.push_back(plan.proto);
  }
  EXPECT_EQ(found, (std::vector{Proto::LL, Proto::LL128, Proto::Simple}));
  const Plan plan = chosen(with_long_lines(fabric), {.coll = Coll::AllReduce, .bytes = 4 << 20});
  EXPECT_EQ(plan.proto, Proto::LL128) << "whatever the algorithm";
  EXPECT_EQ(plan.slice_bytes, kLL128PayloadBytes);
  EXPECT_EQ(kLL128PayloadBytes % kTileAlign, 0u);
}

TEST(FabricLL128, IsNoCandidateWhereALineMayBeSeenInPieces) {
  const Fabric fabric = one_host();
  Summary summary = with_long_lines(fabric);
  summary.ll128_slots = 0;
  for (const Coll coll : {Coll::AllReduce, Coll::AllGather, Coll::AllToAll, Coll::SendRecv}) {
    for (uint64_t bytes = 64; bytes <= uint64_t{1} << 28; bytes *= 4) {
      const auto candidates = plan_candidates(summary, {.coll = coll, .bytes = bytes});
      ASSERT_TRUE(candidates.ok()) << candidates.status().message();
      bool listed = false;
      for (const Candidate& one : *candidates) {
        if (one.plan.proto != Proto::LL128) continue;
        EXPECT_FALSE(one.fits);
        listed |= one.lost.find("seen in pieces") != std::string::npos;
      }
      EXPECT_TRUE(listed) << "with the reason";
    }
  }
  // Nor on CPUs, where there is none.
  summary.fabric = nullptr;
  const auto candidates = plan_candidates(summary, {.coll = Coll::AllReduce, .bytes = 1 << 20});
  ASSERT_TRUE(candidates.ok());
  for (const Candidate& one : *candidates) EXPECT_NE(one.plan.proto, Proto::LL128);
}

TEST(FabricLL128, MayBeForcedAndExcluded) {
  const Fabric fabric = one_host();
  Summary summary = with_long_lines(fabric);
  const Shape middle{.coll = Coll::AllReduce, .bytes = 4 << 20};
  summary.protocols = "ll128";
  for (const uint64_t bytes : {uint64_t{8}, uint64_t{1} << 28})
    EXPECT_EQ(chosen(summary, {.coll = Coll::AllReduce, .bytes = bytes}).proto, Proto::LL128);
  summary.protocols = "^ll128";
  EXPECT_NE(chosen(summary, middle).proto, Proto::LL128);
  summary.protocols = "LL,LL128";
  EXPECT_EQ(chosen(summary, middle).proto, Proto::LL128);
  // Asked for where it cannot be: as if it were not asked for.
  summary.protocols = "ll128";
  summary.ll128_slots = 0;
  EXPECT_NE(chosen(summary, middle).proto, Proto::LL128);
  summary.fabric = nullptr;
  EXPECT_NE(chosen(summary, middle).proto, Proto::LL128);
}

TEST(FabricLL128, CostsHalfWayBetweenWhatWasMeasuredOfTheOthers) {
  Fabric fabric = one_host();
  fabric.gpu = "a GPU";
  fabric.gpus = 8;
  Profile profile = built_in_profile({});
  profile.gpu = {"a GPU", 8, {2, 0.5}, {4, 1}, 0.25, {}};
  Summary summary = with_long_lines(fabric);
  summary.profile = &profile;
  summary.algorithms = "ring";
  summary.protocols = "ll128";
  EXPECT_NEAR(chosen(summary, {.coll = Coll::AllReduce, .bytes = 8}).predicted_us, 3 + 14 * 0.75, 0.01);
  const uint64_t bytes = uint64_t{4} << 30;
  const double floor_us = static_cast<double>(bytes) * 2 * 7 / 8 / 360e3;
  EXPECT_NEAR(chosen(summary, {.coll = Coll::AllReduce, .bytes = bytes}).predicted_us, floor_us * 128 / 120,
              floor_us * 0.01);
}

// ---- buffers of peers ----

Summary with_windows(const Fabric& fabric) {
  Summary summary = summary_of(fabric);
  summary.windows = summary.single_copy = true;
  return summary;
}
Plan chosen(const Summary& summary, const Shape& shape) {
  const Result<Plan> plan = make_plan(summary, shape);
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  return plan.ok() ? *plan : Plan();
}

TEST(FabricWindows, ServeLargeCallsInAsManyChannelsAsSlots) {
  Fabric fabric = one_host();
  const Shape large{.coll = Coll::AllReduce, .bytes = 1 << 28};
  EXPECT_NE(chosen(with_windows(fabric), large).proto, Proto::Rma) << "no GPU reaches another's buffers";
  fabric.remote_gbps = 700;
  const Plan plan = chosen(with_windows(fabric), large);
  EXPECT_EQ(plan.proto, Proto::Rma);
  EXPECT_EQ(plan.channels, 18);
  // Buffers are opened once: all of a block in one round.
  EXPECT_GE(static_cast<uint64_t>(plan.slices) * plan.slice_bytes * static_cast<uint64_t>(plan.blocks * plan.channels),
            large.bytes);
  Summary without = with_windows(fabric);
  without.windows = without.single_copy = false;
  EXPECT_NE(chosen(without, large).proto, Proto::Rma);
  // An opening and a leaving take longer than a line with data.
  EXPECT_EQ(chosen(with_windows(fabric), {.coll = Coll::AllReduce, .bytes = 64}).proto, Proto::LL);
}

TEST(FabricWindows, InPlaceOnlyWhatReadsNoInputThatWasReplaced) {
  Fabric fabric = one_host();
  fabric.remote_gbps = 700;
  Summary summary = with_windows(fabric);
  summary.protocols = "rma";
  EXPECT_EQ(chosen(summary, {.coll = Coll::AllToAll, .bytes = 1 << 20}).proto, Proto::Rma);
  EXPECT_NE(chosen(summary, {.coll = Coll::AllToAll, .bytes = 1 << 20, .in_place = true}).proto, Proto::Rma);
  const auto candidates = plan_candidates(summary, {.coll = Coll::AllReduce, .bytes = 4096, .in_place = true});
  ASSERT_TRUE(candidates.ok());
  for (const Candidate& one : *candidates) {
    if (one.plan.algo == Algo::PullAll) {
      EXPECT_FALSE(one.fits);
    }
    if (one.plan.algo == Algo::Push) {
      EXPECT_TRUE(one.fits) << one.lost;
    }
  }
}

TEST(FabricWindows, LongCopiesGoByCopyEnginesWhereTheHostKnowsAllBuffers) {
  Fabric fabric = one_host();
  fabric.remote_gbps = 700;
  Summary summary = with_windows(fabric);
  const Shape small{.coll = Coll::AllGather, .bytes = 64 << 10}, large{.coll = Coll::AllGather, .bytes = 64 << 20};
  EXPECT_FALSE(chosen(summary, large).copies);
  summary.copies = true;
  EXPECT_TRUE(chosen(summary, large).copies);
  EXPECT_FALSE(chosen(summary, small).copies);
  EXPECT_FALSE(chosen(summary, {.coll = Coll::ReduceScatter, .bytes = 64 << 20}).copies);
  summary.protocols = "rma";
  summary.copy_from = 32 << 10;
  EXPECT_TRUE(chosen(summary, small).copies);
  summary.copy_from = uint64_t{1} << 30;
  EXPECT_FALSE(chosen(summary, large).copies);
}

}  // namespace
}  // namespace tutti
