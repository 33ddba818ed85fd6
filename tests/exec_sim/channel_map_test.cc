// SPDX-License-Identifier: Apache-2.0
// Rings, trees and forests of a topology instead of the circle of rank numbers and binary trees: the rows that run on
// them are proven on any, and cost what the catalog says.
#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "exec/sim/prove.h"

namespace tutti {
namespace {

constexpr uint64_t kCell = 32;

// Any circle, any spanning tree (chains and stars among them), from a seed.
class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  int below(int n) { return static_cast<int>(engine_() % static_cast<uint32_t>(n)); }
  std::vector<int> order(int n) {
    std::vector<int> order(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    for (int i = n; i > 1; --i) std::swap(order[static_cast<size_t>(i - 1)], order[static_cast<size_t>(below(i))]);
    return order;
  }
  ChannelTable::Parents tree(int n, int root) {
    const int shape = below(4);
    const std::vector<int> order = this->order(n);
    ChannelTable::Parents parents(static_cast<size_t>(n), -1);
    for (int i = 1; i < n; ++i) {
      const int above = shape == 0 ? i - 1 : shape == 1 ? 0 : below(i);
      parents[static_cast<size_t>(order[static_cast<size_t>(i)])] = order[static_cast<size_t>(above)];
    }
    hang_from(root, parents);
    return parents;
  }

 private:
  std::mt19937 engine_;
};

struct Case {
  Coll coll;
  Algo algo;
};
constexpr Case kRows[] = {
    {Coll::AllReduce, Algo::Ring},       {Coll::Reduce, Algo::Ring},        {Coll::Broadcast, Algo::Ring},
    {Coll::AllGather, Algo::Ring},       {Coll::ReduceScatter, Algo::Ring}, {Coll::AllReduce, Algo::Tree},
    {Coll::Reduce, Algo::Tree},          {Coll::Broadcast, Algo::Tree},     {Coll::AllGather, Algo::Forest},
    {Coll::ReduceScatter, Algo::Forest},
};

ChannelTable random_table(const CatalogRow& row, int n, int root, int channels, uint32_t seed) {
  Random random(seed);
  ChannelTable::Shapes shapes;
  for (int c = 0; c < channels; ++c) {
    if (row.algo == Algo::Ring) shapes.rings.push_back(random.order(n));
    if (row.algo == Algo::Tree) shapes.trees.push_back(random.tree(n, rooted(row.coll) ? root : random.below(n)));
    for (int r = 0; r < n && row.algo == Algo::Forest; ++r) shapes.forests.push_back(random.tree(n, r));
  }
  shapes.towards_roots = row.coll == Coll::ReduceScatter;
  shapes.root = rooted(row.coll) ? root : -1;
  return ChannelTable(n, shapes);
}

class OnChannels : public testing::TestWithParam<Case> {
 protected:
  const CatalogRow& row() const { return *find_row(GetParam().coll, GetParam().algo); }
};

TEST_P(OnChannels, AreProvenInAllShapes) {
  for (int n = 1; n <= 24; n += n < 9 ? 1 : 5) {
    for (const int slices : {1, 2, 3}) {
      for (const int channels : {1, 2, 3}) {
        const int root = (slices + channels) % n;
        const auto seed = static_cast<uint32_t>(n * 100 + slices * 10 + channels);
        const ChannelTable table = random_table(row(), n, root, channels, seed);
        for (const int runs : {0, 1, 3, 10}) {
          Proof proof = proof_of(row(), {n, nullptr, nullptr, &table.map()}, root, slices);
          proof.channels = channels + runs % 2;  // one more than there are: the first serves twice
          proof.bytes = static_cast<uint64_t>(runs) * kCell * proof.channels * proof.blocks;
          proof.seed = seed;
          for (const bool in_place : {false, true}) {
            proof.in_place = in_place;
            const Result<ProofStats> result = prove(proof);
            ASSERT_TRUE(result.ok()) << result.status().message() << "\n  root " << root << ", " << proof.channels
                                     << " channels, " << slices << " slices, " << proof.slots << " slots, seed "
                                     << seed;
          }
        }
      }
    }
  }
}

TEST_P(OnChannels, CostWhatTheCatalogSays) {
  for (int n = 2; n <= 17; ++n) {
    const ChannelTable table = random_table(row(), n, 0, 2, static_cast<uint32_t>(n));
    const Ranks ranks(n, nullptr, nullptr, &table.map());
    Proof proof = proof_of(row(), ranks);
    proof.channels = 2;
    proof.bytes = 64 * proof.channels * proof.blocks;
    proof.cell_bytes = 64;
    proof.fixed_orders = false;
    const bool in_blocks = coll_layout(row().coll, n, 0, 0, 1).input.kind != Layout::Kind::Region;
    const double buffer = static_cast<double>(proof.bytes) * (in_blocks ? n : 1);
    const Result<ProofStats> stats = prove(proof);
    ASSERT_TRUE(stats.ok()) << stats.status().message();
    EXPECT_NEAR(static_cast<double>(stats->sent_bytes) / buffer, row().sent(ranks), 1e-9) << n;
    EXPECT_NEAR(static_cast<double>(stats->received_bytes) / buffer, row().received(ranks), 1e-9) << n;
    // Up the deepest branch and down the deepest, which may be one of another tree.
    EXPECT_LE(stats->hops, row().hops(ranks)) << n;
    EXPECT_GE(stats->hops * (row().algo == Algo::Tree && row().coll == Coll::AllReduce ? 2 : 1), row().hops(ranks))
        << n;
  }
}

std::string title(const testing::TestParamInfo<Case>& info) {
  return std::string(name(info.param.coll)) + "_" + std::string(name(info.param.algo));
}
INSTANTIATE_TEST_SUITE_P(Catalog, OnChannels, testing::ValuesIn(kRows), title);

TEST(ChannelTable, TreesThatHangFromAnotherRootDoNotServeARootedCollective) {
  const ChannelTable table(3, {.rings = {}, .trees = {{-1, 0, 1}}, .forests = {}, .root = 0});
  const TreeBroadcast wanted{{{.me = 0, .n = 3, .root = 0, .channel_map = &table.map()}}};
  EXPECT_EQ(wanted.at(0).to.at(0, 0), 1);
  EXPECT_EQ(wanted.at(0).to.count, 1);
  // Root 2: a binary tree, as without a topology.
  const TreeBroadcast other{{{.me = 2, .n = 3, .root = 2, .channel_map = &table.map()}}};
  const TreeBroadcast plain{{{.me = 2, .n = 3, .root = 2}}};
  EXPECT_EQ(other.at(0).to.at(0, 2), plain.at(0).to.at(0, 2));
}

TEST(ChannelTable, HangsATreeFromAnyRank) {
  ChannelTable::Parents chain{-1, 0, 1, 2};
  hang_from(2, chain);
  EXPECT_EQ(chain, (ChannelTable::Parents{1, 2, -1, 2}));
  hang_from(2, chain);
  EXPECT_EQ(chain, (ChannelTable::Parents{1, 2, -1, 2}));
}

}  // namespace
}  // namespace tutti
