// SPDX-License-Identifier: Apache-2.0
// tuttiCommSplit: who is in which child, at which place, and that parent and children live and end apart.
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <thread>

#include "lifecycle/life.h"

namespace life_test {
namespace {

class Split : public OverTransport {};

TEST_P(Split, RanksOfAColourFormACommunicatorInTheOrderOfTheirKeys) {
  for (const int n : {2, 3, 5, 8}) {
    in_ranks(
        n,
        [n](int rank, tuttiComm_t comm) {
          // Even and odd ranks apart, in reverse order.
          tuttiComm_t child = nullptr;
          ASSERT_OK(tuttiCommSplit(comm, rank % 2, -rank, &child, nullptr));
          const int members = (n + 1 - rank % 2) / 2;
          ASSERT_EQ(size_of(child), members);
          EXPECT_EQ(rank_in(child), members - 1 - rank / 2);
          double sum = 0;
          for (int r = rank % 2; r < n; r += 2) sum += 1 << r;
          EXPECT_EQ(sum_of(child, 1 << rank), sum);
          EXPECT_EQ(sum_of(comm, 1), n) << "the parent goes on";
          EXPECT_OK(tuttiCommDestroy(child));
        },
        over());
  }
}

TEST_P(Split, EqualKeysKeepTheOrderOfTheParent) {
  in_ranks(
      4,
      [](int rank, tuttiComm_t comm) {
        tuttiComm_t child = nullptr;
        ASSERT_OK(tuttiCommSplit(comm, 7, rank == 0 ? 1 : 0, &child, nullptr));
        EXPECT_EQ(rank_in(child), (rank + 3) % 4);
        EXPECT_EQ(sum_of(child, rank), 6);
        EXPECT_OK(tuttiCommDestroy(child));
      },
      over());
}

TEST_P(Split, ARankWithoutAColourTakesPartAndGetsNothing) {
  in_ranks(
      3,
      [](int rank, tuttiComm_t comm) {
        tuttiComm_t child = comm;
        ASSERT_OK(tuttiCommSplit(comm, rank == 1 ? TUTTI_SPLIT_NOCOLOR : 0, 0, &child, nullptr));
        if (rank == 1) {
          EXPECT_EQ(child, nullptr);
        } else {
          EXPECT_EQ(size_of(child), 2);
          EXPECT_EQ(sum_of(child, rank), 2);
          EXPECT_OK(tuttiCommDestroy(child));
        }
        EXPECT_EQ(sum_of(comm, 1), 3);
      },
      over());
}

TEST_P(Split, ChildrenGoOnWhenTheParentIsDestroyedFirstAndHaveChildrenOfTheirOwn) {
  in_ranks(
      4,
      [](int rank, tuttiComm_t comm) {
        tuttiComm_t pairs = nullptr, all = nullptr, again = nullptr;
        ASSERT_OK(tuttiCommSplit(comm, rank / 2, 0, &pairs, nullptr));
        ASSERT_OK(tuttiCommSplit(comm, 0, rank, &all, nullptr));
        ASSERT_OK(tuttiCommSplit(comm, 0, -rank, &again, nullptr));
        ASSERT_OK(tuttiCommDestroy(again));
        // The harness destroys `comm` when the body has ended; here the child outlives its parent.
        tuttiComm_t grandchild = nullptr;
        ASSERT_OK(tuttiCommSplit(all, rank % 2, 0, &grandchild, nullptr));
        ASSERT_OK(tuttiCommDestroy(all));
        EXPECT_EQ(sum_of(grandchild, rank), rank % 2 == 0 ? 2 : 4);
        EXPECT_EQ(sum_of(pairs, rank), rank / 2 == 0 ? 1 : 5);
        ASSERT_OK(tuttiCommDestroy(grandchild));
        ASSERT_OK(tuttiCommDestroy(pairs));
      },
      over());
}

TEST_P(Split, ManyColoursAtOnceInOneGroup) {
  in_ranks(
      4,
      [](int rank, tuttiComm_t comm) {
        tuttiComm_t row = nullptr, column = nullptr;
        ASSERT_OK(tuttiGroupStart());
        ASSERT_OK(tuttiCommSplit(comm, rank / 2, 0, &row, nullptr));
        ASSERT_OK(tuttiCommSplit(comm, rank % 2, 0, &column, nullptr));
        ASSERT_OK(tuttiGroupEnd());
        EXPECT_EQ(sum_of(row, rank), rank / 2 == 0 ? 1 : 5);
        EXPECT_EQ(sum_of(column, rank), rank % 2 == 0 ? 2 : 4);
        EXPECT_OK(tuttiCommDestroy(row));
        EXPECT_OK(tuttiCommDestroy(column));
      },
      over());
}

TEST(SplitInOneProcess, OneThreadSplitsAllItsRanksInAGroup) {
  with_all(6, [](std::vector<tuttiComm_t>& comms) {
    std::array<tuttiComm_t, 6> children{};
    ASSERT_OK(tuttiGroupStart());
    for (int r = 0; r < 6; ++r) ASSERT_OK(tuttiCommSplit(comms[r], r % 3, 0, &children[r], nullptr));
    ASSERT_OK(tuttiGroupEnd());
    std::array<double, 6> mine{1, 2, 4, 8, 16, 32}, sums{};
    ASSERT_OK(tuttiGroupStart());
    for (int r = 0; r < 6; ++r)
      ASSERT_OK(tuttiAllReduce(&mine[r], &sums[r], 1, TUTTI_FLOAT64, TUTTI_SUM, children[r], nullptr));
    ASSERT_OK(tuttiGroupEnd());
    for (int r = 0; r < 6; ++r) {
      EXPECT_EQ(size_of(children[r]), 2);
      EXPECT_EQ(sums[r], mine[r % 3] + mine[r % 3 + 3]);
      EXPECT_OK(tuttiCommDestroy(children[r]));
    }
  });
}

TEST(SplitInOneProcess, RanksInThreadsSplitAtOnce) {
  with_all(4, [](std::vector<tuttiComm_t>& comms) {
    std::vector<std::thread> threads;
    for (int r = 0; r < 4; ++r)
      threads.emplace_back([&, r] {
        for (int round = 0; round < 5; ++round) {
          tuttiComm_t child = nullptr;
          ASSERT_OK(tuttiCommSplit(comms[r], (r + round) % 2, 0, &child, nullptr));
          EXPECT_EQ(sum_of(child, r), r % 2 == 0 ? 2 : 4);
          ASSERT_OK(tuttiCommDestroy(child));
        }
      });
    for (std::thread& thread : threads) thread.join();
  });
}

TEST_P(Split, TheConfigurationIsTheParentsUnlessItSaysOtherwise) {
  in_ranks(
      2,
      [](int, tuttiComm_t comm) {
        tuttiConfig_t config = TUTTI_CONFIG_INITIALIZER;
        config.maxChannels = 1;
        config.commName = "half";
        tuttiComm_t child = nullptr, grandchild = nullptr;
        ASSERT_OK(tuttiCommSplit(comm, 0, 0, &child, &config));
        ASSERT_OK(tuttiCommSplit(child, 0, 0, &grandchild, nullptr));
        std::array<char, 4096> text{};
        for (tuttiComm_t one : {child, grandchild}) {
          ASSERT_OK(tuttiExplain(one, "all_reduce", 64 << 20, TUTTI_FLOAT32, text.data(), text.size()));
          EXPECT_EQ(std::string(text.data()).find("2 channels"), std::string::npos) << text.data();
        }
        EXPECT_EQ(sum_of(grandchild, 1), 2);
        EXPECT_OK(tuttiCommDestroy(grandchild));
        EXPECT_OK(tuttiCommDestroy(child));
      },
      over());
}

TEST_P(Split, AConfigurationThatDiffersIsNamedOnAllRanksOfTheChild) {
  in_ranks(
      3,
      [](int rank, tuttiComm_t comm) {
        tuttiConfig_t config = TUTTI_CONFIG_INITIALIZER;
        config.maxChannels = rank == 2 ? 1 : 2;
        tuttiComm_t child = comm;
        EXPECT_FAILS(tuttiCommSplit(comm, 0, 0, &child, &config), TUTTI_INVALID_USAGE, "TUTTI_MAX_CHANNELS=1");
        EXPECT_EQ(child, nullptr);
        EXPECT_EQ(sum_of(comm, 1), 3) << "the parent goes on";
        ASSERT_OK(tuttiCommSplit(comm, 0, 0, &child, nullptr));
        EXPECT_OK(tuttiCommDestroy(child));
      },
      over());
}

TEST(SplitArguments, AreCheckedBeforeAnybodyIsWaitedFor) {
  in_ranks(2, [](int, tuttiComm_t comm) {
    tuttiComm_t child = nullptr;
    EXPECT_FAILS(tuttiCommSplit(nullptr, 0, 0, &child, nullptr), TUTTI_INVALID_ARGUMENT, "comm is NULL");
    EXPECT_FAILS(tuttiCommSplit(comm, 0, 0, nullptr, nullptr), TUTTI_INVALID_ARGUMENT, "newcomm");
    EXPECT_FAILS(tuttiCommSplit(comm, -2, 0, &child, nullptr), TUTTI_INVALID_ARGUMENT, "TUTTI_SPLIT_NOCOLOR");
    tuttiConfig_t config = TUTTI_CONFIG_INITIALIZER;
    config.magic = 1;
    EXPECT_FAILS(tuttiCommSplit(comm, 0, 0, &child, &config), TUTTI_INVALID_ARGUMENT, "magic");
  });
}

// ---- what a split costs ----

TEST_P(Split, OfEightRanksCostsLessThanOneMiBOfAllRanksTogether) {
  if (kSanitized) GTEST_SKIP() << "memory figures mean nothing under a sanitizer";
  if (share_kib() < 0) GTEST_SKIP() << "/proc/self/smaps_rollup is not readable here";
  static constexpr int kRanks = 8, kSplits = 8;
  const bool tcp = GetParam() == "tcp";
  in_ranks(
      kRanks,
      [tcp](int rank, tuttiComm_t comm) {
        // The first one warms up what belongs to the process: pages of the allocator, of the library, of the stack.
        tuttiComm_t first = nullptr;
        ASSERT_OK(tuttiCommSplit(comm, 0, 0, &first, nullptr));
        if (!tcp) {
          ASSERT_EQ(sum_of(first, 1), kRanks);
        }
        ASSERT_EQ(sum_of(comm, 1), kRanks);
        const long before = share_kib();
        ASSERT_EQ(sum_of(comm, 1), kRanks);
        std::array<tuttiComm_t, kSplits> children{};
        for (tuttiComm_t& child : children) {
          ASSERT_OK(tuttiCommSplit(comm, 0, 0, &child, nullptr));
          // Over sockets the first call connects pairs of ranks: that is the call's cost, not the split's.
          if (!tcp) {
            ASSERT_EQ(sum_of(child, 1), kRanks);
          }
        }
        ASSERT_EQ(sum_of(comm, 1), kRanks);
        const double all_kib = sum_of(comm, static_cast<double>(share_kib() - before)) / kSplits;
        EXPECT_LT(all_kib, 1024);
        if (rank == 0)
          std::printf("a split of 8 ranks%s: %.0f KiB of all ranks together\n", tcp ? "" : " and a call on it",
                      all_kib);
        for (tuttiComm_t child : children) EXPECT_OK(tuttiCommDestroy(child));
        EXPECT_OK(tuttiCommDestroy(first));
      },
      over());
}

// Tells the time; asserts none, since the machine may be busy.
TEST_P(Split, OfEightRanksTellsItsTime) {
  in_ranks(
      8,
      [](int rank, tuttiComm_t comm) {
        constexpr int kSplits = 20;
        using Clock = std::chrono::steady_clock;
        double total = 0, longest = 0;
        for (int i = 0; i < kSplits; ++i) {
          ASSERT_OK(tuttiBarrier(comm, nullptr));
          const auto start = Clock::now();
          tuttiComm_t child = nullptr;
          ASSERT_OK(tuttiCommSplit(comm, 0, 0, &child, nullptr));
          const double ms = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
          total += ms;
          longest = std::max(longest, ms);
          ASSERT_OK(tuttiCommDestroy(child));
        }
        if (rank == 0)
          std::printf("a split of 8 ranks: %.2f ms on average, %.2f ms at most\n", total / kSplits, longest);
      },
      over());
}

TUTTI_OVER_TRANSPORTS(Split);

}  // namespace
}  // namespace life_test
