// SPDX-License-Identifier: Apache-2.0
// The planner decides from tables alone: every shape gets a plan that its row can run, choices follow the size, and
// what all ranks must agree on enters the digest.
#include <gtest/gtest.h>

#include <algorithm>

#include "algo/catalog.h"
#include "plan/plan.h"
#include "proto/slots.h"

namespace tutti {
namespace {

// A host with a core per rank, slots as large as an arena of few ranks has them.
Summary host(int n, int ranks_per_core = 1) {
  Summary summary;
  summary.n = n;
  summary.ranks_per_core = ranks_per_core;
  summary.slot_capacity = n <= 2 ? 2 << 20 : n <= 8 ? 1 << 20 : 128 << 10;
  summary.ll_slots = n <= 8 ? 64 : 16;
  summary.most_channels = 8;
  summary.cache_bytes = 2 << 20;
  return summary;
}
Summary network(int n) {
  Summary summary = host(n);
  summary.hosts = n;
  summary.mapped = false;
  summary.ll_slots = 0;
  return summary;
}
Plan plan_of(const Summary& summary, const Shape& shape) {
  const Result<Plan> plan = make_plan(summary, shape);
  EXPECT_TRUE(plan.ok()) << plan.status().message();
  return plan.ok() ? *plan : Plan{};
}

constexpr Coll kAll[] = {Coll::AllReduce, Coll::Reduce, Coll::Broadcast, Coll::AllGather, Coll::ReduceScatter,
                         Coll::AllToAll,  Coll::Gather, Coll::Scatter,   Coll::SendRecv};

// Where nothing travels the protocol decides whether the copy may go past the caches, and on a GPU how often it is cut.
TEST(Planner, OneRankCopiesBySimpleWhatIsLong) {
  for (const Coll coll : kAll) {
    if (coll == Coll::SendRecv) continue;
    EXPECT_EQ(plan_of(host(1), {coll, 1 << 20, false}).proto, Proto::Simple) << name(coll);
    EXPECT_EQ(plan_of(host(1), {coll, 8, false}).proto, Proto::LL) << name(coll);
  }
}

TEST(Planner, GivesEveryShapeAPlanThatItsRowCanRun) {
  for (const Coll coll : kAll) {
    for (const int n : {1, 2, 3, 5, 8, 17, 64, 100}) {
      for (const Summary& summary : {host(n), host(n, 4), network(n)}) {
        for (const uint64_t bytes : {0ull, 1ull, 8ull, 4095ull, 4096ull, 4097ull, 70'000ull, 1ull << 20, 5ull << 32}) {
          for (const bool ragged : {false, true}) {
            const Plan plan = plan_of(summary, {coll, bytes, ragged});
            const CatalogRow* row = find_row(coll, plan.algo);
            ASSERT_NE(row, nullptr);
            EXPECT_TRUE(row->has(plan.proto));
            EXPECT_TRUE(row->fits(n));
            EXPECT_EQ(plan.slice_bytes % kTileAlign, 0u);
            EXPECT_GE(plan.channels, 1);
            EXPECT_LE(plan.channels, summary.most_channels);
            auto fewest = static_cast<uint64_t>(row->slots(n, plan.slices));
            if (row->needs & kSingleRound)  // runs of small blocks share a slot
              fewest = std::max<uint64_t>((fewest * bytes + plan.slice_bytes - 1) / plan.slice_bytes, 1);
            if (plan.proto == Proto::LL) {
              EXPECT_TRUE(summary.mapped);
              EXPECT_LE(plan.slice_bytes, kLLPayloadBytes);
              EXPECT_LE(fewest + summary.ll_slots / 4, summary.ll_slots);  // credit comes in quarters
            } else {
              EXPECT_GE(plan.slots, fewest);
              EXPECT_LE(plan.slots, SimpleMemory::kMostInFlight);
              EXPECT_GE(plan.cycled, plan.slots);
              EXPECT_TRUE(summary.mapped || plan.cycled == plan.slots);
              EXPECT_LE(plan.cycled * plan.slice_bytes, summary.slot_capacity);
            }
            if (row->needs & kSingleRound) {
              EXPECT_LE(bytes, plan.slice_bytes);
              EXPECT_EQ(plan.channels, 1);
              EXPECT_FALSE(ragged);
            }
          }
        }
      }
    }
  }
}

TEST(Planner, TakesOneExchangeForSmallAndLeastTrafficForLarge) {
  const Plan small = plan_of(host(2), {Coll::AllReduce, 8, false});
  EXPECT_EQ(small.algo, Algo::OneShot);
  EXPECT_EQ(small.proto, Proto::LL);
  const Plan large = plan_of(host(2), {Coll::AllReduce, 64 << 20, false});
  EXPECT_EQ(large.algo, Algo::TwoShot);
  EXPECT_EQ(large.proto, Proto::Simple);
  EXPECT_TRUE(large.stream_output);
}

// What ranks of a core write together: beside slots past their L2, in windows past what the profile found.
TEST(Planner, StreamsOutputsThatExceedTheCachesTheyPassThrough) {
  const auto streams = [](const char* protocol, uint64_t block) {
    Summary summary = host(4, 2);
    summary.single_copy = summary.windows = true;
    summary.protocols = protocol;
    return plan_of(summary, {Coll::AllGather, block}).stream_output;
  };
  const uint64_t above = host(4, 2).profile->stream_above;
  ASSERT_GT(above, host(4, 2).cache_bytes);
  EXPECT_FALSE(streams("simple", host(4, 2).cache_bytes / 8)) << "four blocks for each of two ranks";
  EXPECT_TRUE(streams("simple", host(4, 2).cache_bytes / 8 + 64));
  EXPECT_FALSE(streams("rma", above / 8 - 64));
  EXPECT_TRUE(streams("rma", above / 8));
}

TEST(Planner, CountsDependentRoundsWhenRanksShareCores) {
  // Every dependent exchange is a round of context switches: never a ring.
  for (const uint64_t bytes : {8ull, 1024ull, 32768ull, 1ull << 20, 16ull << 20}) {
    const Plan plan = plan_of(host(8, 4), {Coll::AllReduce, bytes, false});
    EXPECT_TRUE(plan.algo == Algo::OneShot || plan.algo == Algo::TwoShot) << name(plan.algo) << " at " << bytes;
  }
  // All slots in flight fit the cache together.
  const Plan plan = plan_of(host(8, 4), {Coll::AllReduce, 16 << 20, false});
  EXPECT_LE(plan.slots * plan.slice_bytes * 8, uint64_t{2} << 20);
}

// The slots that a core's ranks write for others' together are as many as the profile says, over however many
// connections.
TEST(Planner, CyclesThroughSlotsUntilTheirLinesHaveLeftTheReadersCache) {
  const auto cycled = [](Summary summary, Coll coll, uint64_t bytes, std::string_view algorithm) {
    summary.algorithms = algorithm;
    summary.protocols = "simple";
    const Plan plan = plan_of(summary, {coll, bytes});
    return plan.cycled * plan.slice_bytes;
  };
  Profile profile;
  profile.slice_bytes = {64 << 10, 32 << 10, 16 << 10};
  profile.cycled_bytes = {1 << 20, 2 << 20, 3 << 20};
  const auto on = [&](int n, int ranks_per_core) {
    Summary summary = host(n, ranks_per_core);
    summary.profile = &profile;
    return summary;
  };
  constexpr uint64_t KiB = 1024;
  EXPECT_EQ(cycled(on(2, 1), Coll::ReduceScatter, 32 * KiB, "direct"), 960 * KiB) << "64 KiB are the call's own";
  EXPECT_EQ(cycled(on(2, 1), Coll::ReduceScatter, 4 * KiB, "direct"), 1016 * KiB) << "more than may be in flight";
  EXPECT_EQ(cycled(on(2, 1), Coll::ReduceScatter, 1024 * KiB, "direct"), 512 * KiB) << "a long call";
  EXPECT_EQ(cycled(on(2, 1), Coll::AllReduce, 1024 * KiB, "two_shot"), 256 * KiB) << "a pair, one for all readers";
  EXPECT_EQ(cycled(on(4, 2), Coll::AllGather, 1024 * KiB, "direct"), 512 * KiB) << "one for all readers";
  EXPECT_EQ(cycled(on(5, 2), Coll::AllToAll, 1024 * KiB, "direct"), 160 * KiB) << "three of four are elsewhere";
  EXPECT_EQ(cycled(on(4, 2), Coll::AllReduce, 1024 * KiB, "ring"), 512 * KiB) << "one neighbour";
  EXPECT_EQ(cycled(on(8, 4), Coll::AllToAll, 1024 * KiB, "direct"), 96 * KiB) << "4 ranks, 4 of 7 elsewhere";
  EXPECT_EQ(cycled(on(8, 4), Coll::SendRecv, 1024 * KiB, "direct"), 128 * KiB) << "at least what is in flight";
  EXPECT_EQ(cycled(on(64, 1), Coll::AllToAll, 1024 * KiB, "direct"), 128 * KiB) << "what the connection holds";
  Summary remote = network(2);
  remote.profile = &profile;
  EXPECT_EQ(cycled(remote, Coll::AllReduce, 1 << 20, "two_shot"), 4u * (64 << 10)) << "not over networks";
}

TEST(Planner, TakesLogarithmicallyManyHopsForSmallMessagesOverANetwork) {
  const Plan plan = plan_of(network(16), {Coll::AllReduce, 8, false});
  EXPECT_LE(find_row(Coll::AllReduce, plan.algo)->hops(16), 8) << name(plan.algo);
  EXPECT_EQ(plan.proto, Proto::Simple);
}

// Ranks on hosts of these sizes, sockets between them.
Summary hosts(const std::vector<int>& sizes) {
  std::vector<int> host_of;
  for (size_t host = 0; host < sizes.size(); ++host)
    host_of.insert(host_of.end(), static_cast<size_t>(sizes[host]), static_cast<int>(host));
  Summary summary = network(static_cast<int>(host_of.size()));
  summary.hosts = static_cast<int>(sizes.size());
  summary.places = std::make_shared<const HostTable>(host_of);
  return summary;
}

// Not on hosts of very different sizes: the few columns of the smallest would carry everything, and the explanation
// shows both predictions.
TEST(Planner, TakesTheHierarchyWhereHostsHaveSeveralRanks) {
  for (const std::vector<int>& sizes : {std::vector<int>{4, 4}, {8, 8, 8, 8}, {3, 2}, {2, 2, 2}}) {
    for (const uint64_t bytes : {1ull << 20, 4ull << 20, 256ull << 20}) {
      for (const Coll coll : {Coll::AllReduce, Coll::AllGather, Coll::ReduceScatter}) {
        const Plan plan = plan_of(hosts(sizes), {coll, bytes, false});
        EXPECT_EQ(plan.algo, Algo::Hierarchical) << name(coll) << " of " << bytes << " on " << sizes.size()
                                                 << " hosts of " << sizes[0] << ": " << name(plan.algo);
      }
    }
  }
}

TEST(Planner, SaysWhyThereIsNoHierarchy) {
  const Result<std::string> text = explain_plan(hosts({1, 1, 1}), {Coll::AllReduce, 1 << 20, false});
  ASSERT_TRUE(text.ok());
  EXPECT_NE(text->find("lost: needs several hosts, and one with several ranks"), std::string::npos) << *text;
  const Result<std::string> uneven = explain_plan(hosts({2, 1}), {Coll::AllToAll, 64, false});
  ASSERT_TRUE(uneven.ok());
  EXPECT_NE(uneven->find("lost: needs as many ranks on each host, in consecutive numbers"), std::string::npos)
      << *uneven;
}

TEST(Planner, GivesEveryShapeAPlanOnHosts) {
  for (const std::vector<int>& sizes : {std::vector<int>{2, 2}, {1, 3}, {8, 8}, {5, 1, 2}}) {
    const Summary summary = hosts(sizes);
    for (const Coll coll : kAll) {
      for (const uint64_t bytes : {0ull, 1ull, 4096ull, 70'000ull, 1ull << 20, 1ull << 30}) {
        const Plan plan = plan_of(summary, {coll, bytes, false});
        const CatalogRow* row = find_row(coll, plan.algo);
        ASSERT_NE(row, nullptr);
        EXPECT_TRUE(row->fits(summary.ranks()));
        EXPECT_GT(plan.predicted_us, 0);
      }
    }
  }
}

TEST(Planner, TakesFewMessagesForSmallBlocksOfManyRanks) {
  for (const Coll coll : {Coll::AllGather, Coll::ReduceScatter, Coll::AllToAll}) {
    const Plan plan = plan_of(network(100), {coll, 64, false});
    EXPECT_TRUE(plan.algo == Algo::Pat || plan.algo == Algo::Bruck) << name(coll) << ": " << name(plan.algo);
    EXPECT_GE(plan.slots * plan.slice_bytes, 50u * 64) << "the longest run fits what is in flight";
    const Plan large = plan_of(network(100), {coll, 1 << 20, false});
    EXPECT_FALSE(large.algo == Algo::Pat || large.algo == Algo::Bruck) << name(coll);
    EXPECT_EQ(large.scratch_bytes, 0u);
  }
}

// What hosts change in the figures of a ring: consecutive ranks cross between hosts once per host and step.
TEST(Traffic, FollowsTheHosts) {
  const HopCosts costs{0.5, 5, 0.1, 3};
  const CatalogRow& ring = *find_row(Coll::AllReduce, Algo::Ring);
  const Summary together = hosts({4, 4});
  const Traffic near = walk(ring, together.ranks(), costs);
  std::vector<int> dealt;
  for (int rank = 0; rank < 8; ++rank) dealt.push_back(rank % 2);
  const HostTable table(dealt);
  const Traffic far = walk(ring, {8, &table.map()}, costs);
  EXPECT_DOUBLE_EQ(near.host_sent, 2 * 7.0 / 8);     // one rank of each host sends across
  EXPECT_DOUBLE_EQ(far.host_sent, 4 * 2 * 7.0 / 8);  // all of them do
  EXPECT_GT(far.latency_us, near.latency_us);
  EXPECT_EQ(far.wire_hops, 14);
  const Traffic least = walk(*find_row(Coll::AllReduce, Algo::Hierarchical), together.ranks(), costs);
  EXPECT_DOUBLE_EQ(least.host_sent, 1);
  EXPECT_EQ(least.wire_hops, 2);
}

TEST(Planner, TimeGrowsWithSize) {
  for (const Coll coll : kAll) {
    double before = 0;
    for (uint64_t bytes = 8; bytes <= uint64_t{1} << 30; bytes *= 8) {
      const double now = plan_of(host(4), {coll, bytes, false}).predicted_us;
      EXPECT_GE(now, before) << name(coll) << " at " << bytes;
      before = now;
    }
  }
}

TEST(Planner, HonoursChannelLimits) {
  Summary summary = host(4);
  summary.min_channels = 3;
  EXPECT_EQ(plan_of(summary, {Coll::AllReduce, 1 << 20, false}).channels, 3);
  summary.min_channels = 100;
  EXPECT_EQ(plan_of(summary, {Coll::AllReduce, 1 << 20, false}).channels, 8);
}

TEST(Planner, ChannelLimitsExcludeWhatHasOneChannel) {
  Summary summary = network(8);
  summary.min_channels = 2;
  const Plan plan = plan_of(summary, {Coll::AllGather, 64, false});
  EXPECT_EQ(plan.channels, 2);
  summary.algorithms = "all_gather:pat,bruck,doubling";
  const Result<Plan> none = make_plan(summary, {Coll::AllGather, 64, false});
  ASSERT_FALSE(none.ok());
  for (const char* words :
       {"pat/simple: moves in one channel, and at least 2 are asked for", "ring/simple: excluded by"})
    EXPECT_NE(none.status().message().find(words), std::string::npos) << none.status().message();
  summary.max_channels = 1;
  EXPECT_FALSE(check_restrictions(summary).ok());
}

TEST(Planner, ExplainsEveryCandidateAndWhyItLost) {
  const Result<std::string> text = explain_plan(host(3), {Coll::AllReduce, 4096, false});
  ASSERT_TRUE(text.ok());
  EXPECT_NE(text->find("-> "), std::string::npos);
  for (const char* word : {"one_shot", "two_shot", "ring", "tree", "doubling", "halving_doubling", "lost:", "times"})
    EXPECT_NE(text->find(word), std::string::npos) << word << " in\n" << *text;
}

TEST(Planner, SaysWhatARestrictionExcluded) {
  Summary summary = host(4);
  summary.algorithms = "all_reduce:ring";
  EXPECT_EQ(plan_of(summary, {Coll::AllReduce, 8, false}).algo, Algo::Ring);
  summary.algorithms = "all_reduce:pairwise";
  const Result<Plan> none = make_plan(summary, {Coll::AllReduce, 8, false});
  ASSERT_FALSE(none.ok());
  EXPECT_NE(none.status().message().find("TUTTI_ALGO"), std::string::npos) << none.status().message();
  EXPECT_NE(none.status().message().find("ring"), std::string::npos);
}

// Hosts of one GPU, connected by sockets, by RDMA through memory of the hosts, and by RDMA between GPUs.
TEST(Planner, TakesWhatCarriesSlotsBetweenHostsIntoAccount) {
  const auto over = [](Wire wire) {
    Summary summary = network(8);
    summary.wire = wire;
    return summary;
  };
  // Whatever a call is, a faster wire makes it no slower, and a long one faster.
  for (const Coll coll : kAll) {
    for (const uint64_t bytes : {8ull << 10, 64ull << 10, 1ull << 20, 64ull << 20}) {
      const double sockets = plan_of(over(Wire::Sockets), {coll, bytes}).predicted_us;
      const double staged = plan_of(over(Wire::Rdma), {coll, bytes}).predicted_us;
      const double direct = plan_of(over(Wire::RdmaOfGpus), {coll, bytes}).predicted_us;
      EXPECT_LE(direct, staged) << name(coll) << " of " << bytes;
      if (bytes >= 1 << 20) EXPECT_LT(staged, sockets) << name(coll) << " of " << bytes;
    }
  }
  // Bandwidth has grown by more than latency has shrunk: few rounds pay for longer calls than over sockets.
  const auto turns = [&](Wire wire) {
    uint64_t bytes = 1 << 10;
    const Algo shortest = plan_of(over(wire), {Coll::AllReduce, bytes}).algo;
    while (bytes < 1ull << 30 && plan_of(over(wire), {Coll::AllReduce, bytes}).algo == shortest) bytes *= 2;
    return bytes;
  };
  EXPECT_GT(turns(Wire::RdmaOfGpus), turns(Wire::Sockets));
  const Result<std::string> text = explain_plan(over(Wire::RdmaOfGpus), {Coll::AllReduce, 1 << 20});
  ASSERT_TRUE(text.ok());
  EXPECT_NE(text->find("over RDMA between GPUs"), std::string::npos) << *text;
}

TEST(Planner, DigestCoversEverythingThatEntersAPlan) {
  const Summary base = host(4);
  const auto differs = [&](auto change) {
    Summary other = base;
    change(other);
    return summary_digest(other) != summary_digest(base);
  };
  EXPECT_EQ(summary_digest(base), summary_digest(host(4)));
  EXPECT_TRUE(differs([](Summary& s) { s.n = 5; }));
  EXPECT_TRUE(differs([](Summary& s) { s.hosts = 2; }));
  EXPECT_TRUE(differs([](Summary& s) { s.ranks_per_core = 2; }));
  EXPECT_TRUE(differs([](Summary& s) { s.mapped = false; }));
  EXPECT_TRUE(differs([](Summary& s) { s.places = hosts({2, 2}).places; }));
  EXPECT_TRUE(differs([](Summary& s) { s.wire = Wire::Rdma; }));
  EXPECT_TRUE(differs([](Summary& s) { s.slot_capacity /= 2; }));
  EXPECT_TRUE(differs([](Summary& s) { s.ll_slots /= 2; }));
  EXPECT_TRUE(differs([](Summary& s) { s.most_channels = 1; }));
  EXPECT_TRUE(differs([](Summary& s) { s.cache_bytes += 1; }));
  EXPECT_TRUE(differs([](Summary& s) { s.algorithms = "ring"; }));
  EXPECT_TRUE(differs([](Summary& s) { s.protocols = "ll"; }));
  EXPECT_TRUE(differs([](Summary& s) { s.min_channels = 2; }));
  EXPECT_TRUE(differs([](Summary& s) { s.max_channels = 2; }));
  EXPECT_TRUE(differs([](Summary& s) { s.slice_bytes = 4096; }));
}

}  // namespace
}  // namespace tutti
