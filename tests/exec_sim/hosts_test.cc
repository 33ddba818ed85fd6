// SPDX-License-Identifier: Apache-2.0
// Rows that ask which ranks share a host are proven over layouts of hosts: even and uneven ones, consecutive ranks and
// dealt out ones, random ones. And what they send between hosts is what the theory says.
#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <ostream>
#include <random>

#include "exec/sim/prove.h"

namespace tutti {

inline void PrintTo(const CatalogRow& row, std::ostream* out) { *out << name(row.coll) << " " << name(row.algo); }

namespace {

constexpr uint64_t kCell = 32;

// Ranks by host: consecutive ones by size, or any.
std::vector<int> in_order(const std::vector<int>& sizes) {
  std::vector<int> host_of;
  for (size_t host = 0; host < sizes.size(); ++host)
    host_of.insert(host_of.end(), static_cast<size_t>(sizes[host]), static_cast<int>(host));
  return host_of;
}
std::vector<int> dealt(int n, int hosts) {
  std::vector<int> host_of;
  for (int rank = 0; rank < n; ++rank) host_of.push_back(rank % hosts);
  return host_of;
}
std::string text(const HostMap& map) {
  std::string all;
  for (int rank = 0; rank < map.n; ++rank) all += std::to_string(map.host_of[rank]) + " ";
  return all;
}

const std::vector<std::vector<int>>& small_layouts() {
  static const auto& layouts = *new std::vector<std::vector<int>>{
      in_order({2, 2}),    in_order({3, 3}),    in_order({2, 2, 2}), in_order({4, 4}), in_order({1, 2}),
      in_order({3, 1}),    in_order({3, 2, 1}), in_order({1, 1, 2}), in_order({5, 2}), in_order({2, 5, 3}),
      in_order({1, 4, 1}), dealt(4, 2),         dealt(5, 2),         dealt(6, 3),      dealt(7, 3),
      {1, 0, 0, 1, 0},     {0, 1, 2, 2, 1, 2},  {2, 2, 0, 1, 0, 2},
  };
  return layouts;
}

std::vector<CatalogRow> rows_of_hosts() {
  std::vector<CatalogRow> rows;
  for (const CatalogRow& row : catalog()) {
    if (row.needs & kHosts) rows.push_back(row);
  }
  return rows;
}

class HostRows : public testing::TestWithParam<CatalogRow> {
 protected:
  const CatalogRow& row() const { return GetParam(); }
  bool single_round() const { return row().needs & kSingleRound; }

  Proof proof(const HostMap& map, int root, int slices, int channels, int runs) const {
    Proof proof = proof_of(row(), {map.n, &map}, root, slices);
    proof.channels = single_round() ? 1 : channels;
    proof.bytes = single_round() ? std::min(runs, 2 * slices) * kCell : runs * kCell * proof.channels * proof.blocks;
    return proof;
  }
  void expect_proven(const Proof& proof) {
    const Result<ProofStats> result = prove(proof);
    ASSERT_TRUE(result.ok()) << result.status().message() << "\n  hosts " << text(*proof.hosts) << ", root "
                             << proof.root << ", " << proof.bytes << " bytes, " << proof.channels << " channels, "
                             << proof.slices << " slices, " << proof.slots << " slots, in place " << proof.in_place;
  }
  void expect_proven_in_both_modes(Proof proof) {
    for (const bool in_place : {false, true}) {
      proof.in_place = in_place;
      ASSERT_NO_FATAL_FAILURE(expect_proven(proof));
    }
  }
  std::vector<int> roots(int n) const {
    std::vector<int> all(rooted(row().coll) ? static_cast<size_t>(n) : 1);
    std::iota(all.begin(), all.end(), 0);
    return all;
  }
};

TEST_P(HostRows, SmallLayoutsInAllShapes) {
  for (const std::vector<int>& host_of : small_layouts()) {
    const HostTable table(host_of);
    const HostMap& map = table.map();
    if (!row().fits({map.n, &map})) continue;
    for (const int root : roots(map.n)) {
      for (const int slices : {1, 2, 3}) {
        for (const int channels : {1, 2, 3}) {
          if (single_round() && channels > 1) continue;
          for (const int runs : {0, 1, 3, 10, 15}) {
            Proof shape = proof(map, root, slices, channels, runs);
            const int fewest = shape.slots;
            for (const int slots : {fewest, fewest + 3}) {
              shape.slots = slots;
              ASSERT_NO_FATAL_FAILURE(expect_proven_in_both_modes(shape));
            }
          }
        }
      }
    }
  }
}

TEST_P(HostRows, BytesThatDoNotDivide) {
  for (const std::vector<int>& host_of : {in_order({2, 2}), in_order({3, 1}), dealt(5, 3)}) {
    const HostTable table(host_of);
    const HostMap& map = table.map();
    if (!row().fits({map.n, &map})) continue;
    for (const uint64_t bytes : {1, 7, 63, 65, 127, 321, 1001}) {
      if (single_round() && bytes > 2 * 64) continue;
      Proof shape = proof(map, map.n - 1, 2, 1, 1);
      if (!rooted(row().coll)) shape.root = 0;
      shape.bytes = bytes;
      shape.cell_bytes = 1;
      ASSERT_NO_FATAL_FAILURE(expect_proven_in_both_modes(shape));
    }
  }
}

TEST_P(HostRows, ManyLayouts) {
  std::mt19937 random(5);
  for (int sample = 0; sample < 60; ++sample) {
    const int hosts = 2 + static_cast<int>(random() % 6), per_host = 1 + static_cast<int>(random() % 9);
    std::vector<int> host_of = in_order(std::vector<int>(static_cast<size_t>(hosts), per_host));
    if (sample % 3 != 0) {  // any ranks, any numbers of them
      for (int& host : host_of) host = static_cast<int>(random() % static_cast<unsigned>(hosts));
    }
    const HostTable table(host_of);
    const HostMap& map = table.map();
    if (!row().fits({map.n, &map})) continue;
    Proof shape = proof(map, 0, 1 + sample % 2, 1 + sample % 2, 5);
    if (rooted(row().coll)) shape.root = static_cast<int>(random() % static_cast<unsigned>(map.n));
    shape.fixed_orders = sample % 8 == 0;
    shape.seed = static_cast<uint64_t>(sample);
    ASSERT_NO_FATAL_FAILURE(expect_proven_in_both_modes(shape));
  }
}

TEST_P(HostRows, SixteenHostsOfEight) {
  const HostTable table(in_order(std::vector<int>(16, 8)));
  Proof shape = proof(table.map(), 0, 1, 1, 1);
  shape.fixed_orders = false;
  expect_proven(shape);
}

// The slots that the row asks for are needed on some layout, and are enough on all (above).
TEST_P(HostRows, SlotsAreTheFewest) {
  for (const int slices : {1, 2, 3}) {
    int deadlocks = 0, tried = 0;
    for (const std::vector<int>& host_of : small_layouts()) {
      const HostTable table(host_of);
      const HostMap& map = table.map();
      if (!row().fits({map.n, &map})) continue;
      Proof shape = proof(map, 0, slices, 1, 12);
      if (--shape.slots == 0) continue;
      ++tried;
      const Result<ProofStats> result = prove(shape);
      if (result.ok()) continue;
      ++deadlocks;
      EXPECT_NE(result.status().message().find("deadlock"), std::string::npos) << result.status().message();
    }
    EXPECT_TRUE(deadlocks > 0 || tried == 0) << slices << " slices, " << tried << " layouts";
    RecordProperty("layouts_" + std::to_string(slices), std::to_string(deadlocks) + " of " + std::to_string(tried));
  }
}

TEST_P(HostRows, CostsAreWhatTheStepsDo) {
  for (const std::vector<int>& host_of : small_layouts()) {
    const HostTable table(host_of);
    const HostMap& map = table.map();
    const Ranks ranks{map.n, &map};
    if (!row().fits(ranks)) continue;
    Proof shape = proof_of(row(), ranks);
    shape.slice_bytes = 1 << 20;
    const bool in_blocks = coll_layout(row().coll, map.n, 0, 0, 1).input.kind != Layout::Kind::Region;
    const double buffer = static_cast<double>(shape.bytes) * (in_blocks ? map.n : 1);
    const Result<ProofStats> stats = prove(shape);
    ASSERT_TRUE(stats.ok()) << stats.status().message();
    EXPECT_EQ(stats->steps_without_data, 0u);
    EXPECT_LE(stats->hops, row().hops(ranks)) << text(map);
    if (!in_blocks) {
      EXPECT_GE(stats->hops, row().hops(ranks) - 2) << text(map);
    }
    if (!map.even()) continue;  // which rank is the busiest then depends on all of them
    EXPECT_DOUBLE_EQ(stats->sent_bytes / buffer, row().sent(ranks)) << text(map);
    EXPECT_DOUBLE_EQ(stats->received_bytes / buffer, row().received(ranks)) << text(map);
  }
}

INSTANTIATE_TEST_SUITE_P(Catalog, HostRows, testing::ValuesIn(rows_of_hosts()), [](const auto& info) {
  return std::string(name(info.param.coll)) + "_" + std::string(name(info.param.algo));
});

// Bytes that leave the busiest host, of a buffer of S bytes in all on H hosts.
uint64_t leaving(Coll coll, const HostMap& map, uint64_t bytes) {
  Proof proof = proof_of(*find_row(coll, Algo::Hierarchical), {map.n, &map});
  proof.bytes = bytes;
  proof.slice_bytes = 1 << 20;
  const Result<ProofStats> stats = prove(proof);
  EXPECT_TRUE(stats.ok()) << stats.status().message();
  return stats.ok() ? stats->host_sent_bytes : 0;
}

TEST(BetweenHosts, AnAllReduceSendsWhatTheTheorySays) {
  for (const std::vector<int>& host_of : small_layouts()) {
    const HostTable table(host_of);
    const HostMap& map = table.map();
    const auto hosts = static_cast<uint64_t>(map.hosts);
    const uint64_t bytes = 64 * hosts * static_cast<uint64_t>(map.columns) * 3;
    EXPECT_EQ(leaving(Coll::AllReduce, map, bytes), 2 * (hosts - 1) * bytes / hosts) << text(map);
  }
}

TEST(BetweenHosts, AReduceScatterSendsEachSumOnce) {
  // Of each other host's blocks the sum so far leaves once, but for the host's own.
  for (const std::vector<int>& host_of : small_layouts()) {
    const HostTable table(host_of);
    const HostMap& map = table.map();
    uint64_t most = 0;
    for (int host = 0; host < map.hosts; ++host)
      most = std::max<uint64_t>(most, static_cast<uint64_t>(map.n - map.size(host)) * 64);
    EXPECT_EQ(leaving(Coll::ReduceScatter, map, 64), most) << text(map);
  }
}

TEST(BetweenHosts, AnAllGatherBringsEachBlockToEachHostOnce) {
  for (const std::vector<int>& host_of : small_layouts()) {
    const HostTable table(host_of);
    const HostMap& map = table.map();
    uint64_t most = 0;  // in a ring a host passes on all blocks but those of the next
    for (int host = 0; host < map.hosts; ++host)
      most = std::max<uint64_t>(most, static_cast<uint64_t>(map.n - map.size(map.next(host))) * 64);
    EXPECT_EQ(leaving(Coll::AllGather, map, 64), most) << text(map);
  }
}

TEST(BetweenHosts, ABroadcastAndAReduceSendTheBufferOnce) {
  for (const std::vector<int>& host_of : small_layouts()) {
    const HostTable table(host_of);
    EXPECT_EQ(leaving(Coll::Broadcast, table.map(), 640), 640u);
    EXPECT_EQ(leaving(Coll::Reduce, table.map(), 640), 640u);
  }
}

TEST(BetweenHosts, AnAllToAllSendsEachBlockOnceAlongItsRail) {
  const HostTable table(in_order({4, 4, 4}));
  EXPECT_EQ(leaving(Coll::AllToAll, table.map(), 64), 4u * 8 * 64);
  for (int me = 0; me < 12; ++me) {
    const AnySchedule schedule =
        make_schedule(Coll::AllToAll, Algo::Hierarchical, {.me = me, .n = 12, .hosts = &table.map()});
    for (int k = 0; k < schedule.steps(); ++k) {
      const Peers to = schedule.at(k).to;
      if (to.none() || to.rank[0] / 4 == me / 4) continue;
      EXPECT_EQ(to.rank[0] % 4, me % 4);
      EXPECT_EQ(schedule.at(k).blocks, 4);
    }
  }
}

TEST(HostTable, NumbersHostsByTheirFirstRank) {
  const int host_of[] = {7, 3, 7, 9, 3, 7};
  const HostTable table(host_of);
  const HostMap& map = table.map();
  EXPECT_EQ(text(map), "0 1 0 2 1 0 ");
  EXPECT_EQ(map.hosts, 3);
  EXPECT_EQ(map.columns, 1);
  EXPECT_EQ(map.largest, 3);
  EXPECT_EQ(map.rank(0, 1), 2);
  EXPECT_EQ(map.place_of[5], 2);
  const Peers team = map.team(2), onward = map.team_and_next(0);
  ASSERT_EQ(team.count, 2);
  EXPECT_EQ(team.at(0, 2), 0);
  EXPECT_EQ(team.at(1, 2), 5);
  ASSERT_EQ(onward.count, 3);  // 1 owns the column on the next host, between 2 and 5
  EXPECT_EQ(onward.at(0, 0), 1);
  EXPECT_FALSE(map.even());
}

TEST(HostTable, WhoLacksWhat) {
  const CatalogRow& tree = *find_row(Coll::Broadcast, Algo::Hierarchical);
  const CatalogRow& rail = *find_row(Coll::AllToAll, Algo::Hierarchical);
  const HostTable one(in_order({4})), apart(in_order({1, 1, 1})), uneven(in_order({2, 1})), dealt_out(dealt(4, 2)),
      even(in_order({2, 2}));
  EXPECT_FALSE(tree.fits(4));
  EXPECT_FALSE(tree.fits({4, &one.map()}));
  EXPECT_FALSE(tree.fits({3, &apart.map()}));
  EXPECT_TRUE(tree.fits({3, &uneven.map()}));
  EXPECT_FALSE(rail.fits({3, &uneven.map()}));
  EXPECT_FALSE(rail.fits({4, &dealt_out.map()}));
  EXPECT_TRUE(rail.fits({4, &even.map()}));
  EXPECT_NE(rail.lacks({4, &dealt_out.map()}).find("consecutive"), std::string_view::npos);
}

}  // namespace
}  // namespace tutti
