// SPDX-License-Identifier: Apache-2.0
// The cost model between GPUs: made-up fabrics, whose times follow from their figures.
#include "plan/fabric.h"

#include <gtest/gtest.h>

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

TEST(FabricCost, LeavesOutWhatHasNoBandwidth) {
  Fabric fabric = one_host();
  fabric.star_gbps = 0;
  for (const uint64_t bytes : {uint64_t{8}, uint64_t{1} << 30}) {
    const Plan plan = chosen(fabric, bytes);
    EXPECT_TRUE(plan.algo == Algo::Ring || plan.algo == Algo::Tree);
  }
}

}  // namespace
}  // namespace tutti
