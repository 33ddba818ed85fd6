// SPDX-License-Identifier: Apache-2.0
// The catalog as a table, and the shapes that schedules promise in their comments. What schedules compute is proven in
// tests/exec_sim.
#include "algo/catalog.h"

#include <gtest/gtest.h>

#include <set>

namespace tutti {
namespace {

TEST(Catalog, EachRowOnce) {
  std::set<std::pair<Coll, Algo>> seen;
  for (const CatalogRow& row : catalog()) {
    EXPECT_TRUE(seen.emplace(row.coll, row.algo).second) << name(row.coll) << " " << name(row.algo);
    EXPECT_EQ(find_row(row.coll, row.algo), &row);
    EXPECT_NE(row.protocols, 0u);
  }
  EXPECT_EQ(find_row(Coll::AllToAll, Algo::Tree), nullptr);
}

TEST(Catalog, EachCollectiveWorksForAnyNumberOfRanks) {
  for (int c = 0; c < kCollCount; ++c) {
    for (int n = 1; n <= 9; ++n) {
      int rows = 0;
      for (const CatalogRow& row : catalog()) rows += row.coll == static_cast<Coll>(c) && row.fits(n);
      EXPECT_GE(rows, 1) << kCollNames[c] << " " << n;
    }
  }
}

TEST(Catalog, NamesAreFoundAgain) {
  for (int c = 0; c < kCollCount; ++c) EXPECT_EQ(*find_coll(kCollNames[c]), static_cast<Coll>(c));
  for (int a = 0; a < kAlgoCount; ++a) EXPECT_EQ(*find_algo(kAlgoNames[a]), static_cast<Algo>(a));
  for (int p = 0; p < kProtoCount; ++p) EXPECT_EQ(*find_proto(kProtoNames[p]), static_cast<Proto>(p));
  EXPECT_EQ(find_coll("all_reduced"), nullptr);
  ASSERT_NE(find_coll("AllReduce"), nullptr);  // users spell names in many ways
  EXPECT_EQ(*find_coll("AllReduce"), Coll::AllReduce);
  EXPECT_EQ(find_algo(""), nullptr);
  EXPECT_EQ(find_proto("LL127"), nullptr);
}

TEST(Catalog, OneRankIsOneLocalStep) {
  for (const CatalogRow& row : catalog()) {
    if (!row.fits(1)) continue;  // user schedules
    int steps = 0;
    for (int part = 0; part < row.parts(1); ++part) {
      const AnySchedule schedule = row.make({.me = 0, .n = 1, .part = part});
      for (int k = 0; k < schedule.steps(); ++k) {
        const Step step = schedule.at(k);
        ++steps;
        EXPECT_EQ(step.src, Buffer::Input);
        EXPECT_EQ(step.dst_block, 0);
        EXPECT_TRUE(step.from.none() && step.to.size(1) == 0);
        EXPECT_EQ(step.reduce, reduces(row.coll));
        EXPECT_EQ(step.last, reduces(row.coll));
      }
    }
    EXPECT_EQ(steps, 1) << name(row.coll) << " " << name(row.algo);
  }
}

// The schedules are usable at compile time, so nothing hides in them.
static_assert(RingAllReduce{{{.me = 0, .n = 4}}}.at(3).last);
static_assert(TreeAllReduce{{{.me = 3, .n = 4}}}.at(0).to.rank[0] == 2);
static_assert(HalvingDoublingAllReduce{{{.me = 0, .n = 8}}}.at(0).blocks == 4);

// What a lane lends to a network (CpuLane::on_loan) is read after the step: nothing may write it again.
void expect_loans_stay(const CatalogRow& row, Ranks ranks, int me) {
  struct Loan {
    int part, step, block;
  };
  std::vector<Loan> loans, writes;
  for (int part = 0; part < row.parts(ranks); ++part) {
    const AnySchedule schedule =
        row.make({.me = me, .n = ranks.n, .root = ranks.n / 2, .part = part, .hosts = ranks.hosts});
    for (int k = 0; k < schedule.steps(); ++k) {
      const Step step = schedule.at(k);
      const bool keeps = step.dst_block >= 0 && step.dst == Buffer::Output;
      for (int i = 0; i < step.blocks; ++i) {
        if (keeps) writes.push_back({part, k, step.target_at(i, ranks.n)});
        if (step.packed() || step.to.none()) continue;
        if (step.src == Buffer::Output && !step.passing) loans.push_back({part, k, step.source_at(i, ranks.n)});
        if (step.src == Buffer::None && keeps) loans.push_back({part, k, step.target_at(i, ranks.n)});
      }
    }
  }
  for (const Loan& loan : loans) {
    for (const Loan& write : writes) {
      const bool later = write.part != loan.part || write.step > loan.step;
      EXPECT_FALSE(later && write.block == loan.block)
          << name(row.coll) << " " << name(row.algo) << " n=" << ranks.n << " rank " << me << " block " << loan.block
          << ": lent in step " << loan.step << ", written in step " << write.step;
    }
  }
}

TEST(Schedules, WhatIsLentIsNotWrittenAgain) {
  const std::vector<std::vector<int>> layouts = {
      {0, 0, 1, 1}, {0, 0, 0, 1, 1, 1}, {0, 0, 1, 1, 2, 2}, {0, 0, 0, 1, 2, 2}};
  for (const CatalogRow& row : catalog()) {
    if (reduces(row.coll) || row.coll == Coll::SendRecv) continue;
    for (int n = 1; n <= 17; ++n) {
      for (int me = 0; me < n && row.fits(n); ++me) expect_loans_stay(row, n, me);
    }
    for (const std::vector<int>& host_of : layouts) {
      const HostTable hosts(host_of);
      const Ranks ranks(static_cast<int>(host_of.size()), &hosts.map());
      for (int me = 0; me < ranks.n && row.fits(ranks); ++me) expect_loans_stay(row, ranks, me);
    }
  }
}

TEST(Schedules, EverySendIsReceivedInTheSameNumber) {
  for (const CatalogRow& row : catalog()) {
    for (int n = 2; n <= 33; ++n) {
      if (!row.fits(n) || row.coll == Coll::SendRecv) continue;
      std::vector<int> balance(n * n);  // by sender and receiver
      for (int me = 0; me < n; ++me) {
        for (int part = 0; part < row.parts(n); ++part) {
          const AnySchedule schedule = row.make({.me = me, .n = n, .root = n / 2, .channel = 1, .part = part});
          for (int k = 0; k < schedule.steps(); ++k) {
            const Step step = schedule.at(k);
            if (step.access == Access::Remote || step.access == Access::Leave || step.access == Access::Close) continue;
            for (int i = 0; i < step.to.size(n); ++i) balance[me * n + step.to.at(i, me)] += step.blocks;
            for (int i = 0; i < step.from.size(n); ++i) balance[step.from.at(i, me) * n + me] -= step.blocks;
          }
        }
      }
      for (const int difference : balance) ASSERT_EQ(difference, 0) << name(row.coll) << " " << name(row.algo) << n;
    }
  }
}

TEST(Trees, AreTreesOfLogarithmicHeight) {
  for (int n = 1; n <= 200; ++n) {
    for (const int root : {0, n / 3, n - 1}) {
      for (const int channel : {0, 1}) {
        int edges = 0;
        for (int me = 0; me < n; ++me) {
          const auto tree = [&](int rank) { return TreeArgs{{.me = rank, .n = n, .root = root, .channel = channel}}; };
          const Peers below = tree(me).children();
          edges += below.count;
          for (int i = 0; i < below.count; ++i) ASSERT_EQ(tree(below.rank[i]).parent().rank[0], me) << n;
          int height = 0;
          for (int at = me; at != root; at = tree(at).parent().rank[0]) ASSERT_LE(++height, ceil_log2(n)) << n;
        }
        ASSERT_EQ(edges, n - 1);
      }
    }
  }
}

// Who is inside one tree is a leaf of the other.
TEST(Trees, TheTwoShareTheWork) {
  for (int n = 2; n <= 200; ++n) {
    for (int me = 1; me < n; ++me) {
      const auto inside = [&](int channel) {
        return !TreeArgs{{.me = me, .n = n, .channel = channel}}.children().none();
      };
      ASSERT_FALSE(inside(0) && inside(1)) << n << " " << me;
    }
  }
}

TEST(Schedules, TableSchedule) {
  const Step table[] = {{.src = Buffer::Input, .to = Peers::one(1)}, {.dst_block = 0, .from = Peers::one(1)}};
  const AnySchedule schedule{TableSchedule{table}};
  EXPECT_EQ(schedule.steps(), 2);
  EXPECT_EQ(schedule.at(1).from.rank[0], 1);
}

TEST(Peers, StayInOrder) {
  Peers peers;
  for (const int rank : {5, 2, 9}) peers.add(rank);
  EXPECT_EQ(peers.count, 3);
  EXPECT_EQ(peers.rank[0], 2);
  EXPECT_EQ(peers.rank[1], 5);
  EXPECT_EQ(peers.rank[2], 9);
  EXPECT_EQ(Peers::all_pairs().size(4), 3);
  EXPECT_EQ(Peers::all_pairs().at(1, 1), 2);
}

}  // namespace
}  // namespace tutti
