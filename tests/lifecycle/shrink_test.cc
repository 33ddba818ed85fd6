// SPDX-License-Identifier: Apache-2.0
// tuttiCommShrink: the ranks that stay go on without the others, also after a failure and without a word from the dead.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "lifecycle/life.h"

namespace life_test {
namespace {

class Shrink : public OverTransport {};

TEST_P(Shrink, RanksThatStayKeepTheirOrder) {
  for (const int n : {2, 3, 6, 8}) {
    for (const std::vector<int>& excluded : {std::vector<int>{0}, {n - 1}, {n / 2, 0}, {}}) {
      std::vector<int> left(excluded);
      std::sort(left.begin(), left.end());
      left.erase(std::unique(left.begin(), left.end()), left.end());
      if (static_cast<int>(left.size()) == n) continue;
      in_ranks(
          n,
          [n, &excluded, &left](int rank, tuttiComm_t comm) {
            if (std::find(left.begin(), left.end(), rank) != left.end()) return;  // does not call
            tuttiComm_t rest = nullptr;
            ASSERT_OK(tuttiCommShrink(comm, excluded.data(), static_cast<int>(excluded.size()), &rest, nullptr,
                                      TUTTI_SHRINK_DEFAULT));
            EXPECT_EQ(size_of(rest), n - static_cast<int>(left.size()));
            const auto before = std::count_if(left.begin(), left.end(), [rank](int one) { return one < rank; });
            EXPECT_EQ(rank_in(rest), rank - before);
            double sum = 0;
            for (int r = 0; r < n; ++r) sum += std::find(left.begin(), left.end(), r) == left.end() ? 1 << r : 0;
            EXPECT_EQ(sum_of(rest, 1 << rank), sum);
            EXPECT_OK(tuttiCommDestroy(rest));
          },
          over());
    }
  }
}

// Ranks that die by a signal end the launcher's run, so the dead are children of a rank of their own: each rank is a
// process that the test forks, watched by one launcher process.
struct Deaths {
  int n;
  std::vector<int> victims;
  std::string transport;
};

void survive(const Deaths& deaths, const std::function<void(int rank, tuttiComm_t comm)>& before_death,
             const std::function<void(int rank, tuttiComm_t comm)>& after) {
  const launcher::SharedPage page;
  const launcher::Outcome outcome = launcher::run(1, *page, api_test::kLimitSeconds, [&](int) {
    std::vector<pid_t> ranks;
    for (int rank = 0; rank < deaths.n; ++rank) {
      const pid_t child = fork();
      if (child != 0) {
        ranks.push_back(child);
        continue;
      }
      setenv("TUTTI_TRANSPORTS", deaths.transport.c_str(), 1);
      setenv("TUTTI_TIMEOUT", "3s", 1);  // over shared memory, where nothing closes
      [&] {
        if (rank == 0) {
          tuttiUniqueId id;
          ASSERT_OK(tuttiGetUniqueId(&id));
          page->publish(id);
        }
        tuttiComm_t comm = nullptr;
        ASSERT_OK(tuttiCommInitRank(&comm, deaths.n, page->await(), rank));
        before_death(rank, comm);
        page->member[rank].entered.store(1);
        if (std::find(deaths.victims.begin(), deaths.victims.end(), rank) != deaths.victims.end()) {
          for (int other = 0; other < deaths.n; ++other) {  // nobody's last operation is cut short
            while (page->member[other].entered.load() == 0) usleep(500);
          }
          raise(SIGKILL);
        }
        after(rank, comm);
        EXPECT_OK(tuttiCommDestroy(comm));
      }();
      std::_Exit(testing::Test::HasFailure() ? 1 : 0);
    }
    int wrong = 0;
    for (int rank = 0; rank < deaths.n; ++rank) {
      int status = 0;
      waitpid(ranks[static_cast<size_t>(rank)], &status, 0);
      const bool victim = std::find(deaths.victims.begin(), deaths.victims.end(), rank) != deaths.victims.end();
      const bool as_expected = victim ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL : status == 0;
      if (as_expected) continue;
      std::fprintf(stderr, "rank %d ended with status %x\n", rank, status);
      wrong = 1;
    }
    return wrong;
  });
  EXPECT_TRUE(outcome.ok) << outcome.text;
}

TEST_P(Shrink, SurvivorsOfAKilledRankGoOnWhoeverItWas) {
  for (const int n : {2, 4, 8}) {
    // The root of the tree, an inner node, a leaf; and among 8 ranks two at once.
    std::vector<std::vector<int>> cases = {{0}};
    if (n == 4) cases = {{0}, {1}, {3}};
    if (n == 8) cases = {{1, 4}};
    for (const std::vector<int>& victims : cases) {
      survive(
          {n, victims, GetParam()}, [n](int, tuttiComm_t comm) { ASSERT_EQ(sum_of(comm, 1), n); },
          [&](int, tuttiComm_t comm) {
            double one = 1, sum = 0;
            EXPECT_NE(tuttiAllReduce(&one, &sum, 1, TUTTI_FLOAT64, TUTTI_SUM, comm, nullptr), TUTTI_SUCCESS);
            const std::string reason = tuttiGetLastError(comm);
            EXPECT_FALSE(reason.empty());
            EXPECT_FAILS(tuttiBarrier(comm, nullptr), condition_of(comm), reason);
            tuttiComm_t rest = nullptr;
            EXPECT_FAILS(tuttiCommSplit(comm, 0, 0, &rest, nullptr), condition_of(comm), reason);
            EXPECT_FAILS(tuttiCommFinalize(comm), condition_of(comm), reason);
            ASSERT_OK(tuttiCommShrink(comm, victims.data(), static_cast<int>(victims.size()), &rest, nullptr,
                                      TUTTI_SHRINK_ABORT));
            const int left = n - static_cast<int>(victims.size());
            EXPECT_EQ(size_of(rest), left);
            for (int i = 0; i < 10; ++i) EXPECT_EQ(sum_of(rest, 1), left);
            tuttiComm_t again = nullptr;
            ASSERT_OK(tuttiCommSplit(rest, 0, 0, &again, nullptr)) << "and it has a life cycle of its own";
            EXPECT_EQ(sum_of(again, 1), left);
            EXPECT_OK(tuttiCommDestroy(again));
            EXPECT_OK(tuttiCommFinalize(rest));
            EXPECT_OK(tuttiCommDestroy(rest));
          });
    }
  }
}

TEST_P(Shrink, OtherCommunicatorsWorkOnWhenOneHasFailed) {
  // Rank 3 dies; ranks 0 to 2 share another communicator, made before.
  tuttiComm_t others = nullptr;
  survive(
      {4, {3}, GetParam()},
      [&others](int rank, tuttiComm_t comm) {
        ASSERT_OK(tuttiCommSplit(comm, rank == 3 ? TUTTI_SPLIT_NOCOLOR : 0, 0, &others, nullptr));
        ASSERT_EQ(sum_of(comm, 1), 4);
      },
      [&others](int, tuttiComm_t comm) {
        double one = 1, sum = 0;
        EXPECT_NE(tuttiAllReduce(&one, &sum, 1, TUTTI_FLOAT64, TUTTI_SUM, comm, nullptr), TUTTI_SUCCESS);
        for (int i = 0; i < 10; ++i) EXPECT_EQ(sum_of(others, 1), 3);
        EXPECT_OK(tuttiCommDestroy(others));
      });
}

TEST_P(Shrink, RanksThatExcludeDifferentOnesAllGetAnErrorThatSaysSo) {
  in_ranks(
      3,
      [](int rank, tuttiComm_t comm) {
        // Rank 0 leaves out 2, rank 1 leaves out nobody.
        if (rank == 2) return;
        const int excluded = 2;
        tuttiComm_t rest = nullptr;
        EXPECT_NE(tuttiCommShrink(comm, &excluded, rank == 0 ? 1 : 0, &rest, nullptr, TUTTI_SHRINK_DEFAULT),
                  TUTTI_SUCCESS);
        EXPECT_NE(api_test::last_error().find("excludeRanks"), std::string::npos) << api_test::last_error();
        EXPECT_EQ(rest, nullptr);
        // The same list now, and it goes on.
        ASSERT_OK(tuttiCommShrink(comm, &excluded, 1, &rest, nullptr, TUTTI_SHRINK_DEFAULT));
        EXPECT_EQ(sum_of(rest, 1), 2);
        EXPECT_OK(tuttiCommDestroy(rest));
      },
      over());
}

TEST(ShrinkArguments, AreCheckedBeforeAnybodyIsWaitedFor) {
  in_ranks(2, [](int rank, tuttiComm_t comm) {
    tuttiComm_t rest = nullptr;
    const int other = 1 - rank, wrong = 2;
    EXPECT_FAILS(tuttiCommShrink(comm, &other, 1, nullptr, nullptr, 0), TUTTI_INVALID_ARGUMENT, "newcomm");
    EXPECT_FAILS(tuttiCommShrink(comm, nullptr, 1, &rest, nullptr, 0), TUTTI_INVALID_ARGUMENT, "excludeRanks");
    EXPECT_FAILS(tuttiCommShrink(comm, &other, -1, &rest, nullptr, 0), TUTTI_INVALID_ARGUMENT, "excludeCount");
    EXPECT_FAILS(tuttiCommShrink(comm, &wrong, 1, &rest, nullptr, 0), TUTTI_INVALID_ARGUMENT, "excludeRanks[0] is 2");
    EXPECT_FAILS(tuttiCommShrink(comm, &rank, 1, &rest, nullptr, 0), TUTTI_INVALID_USAGE, "the calling rank");
    EXPECT_FAILS(tuttiCommShrink(comm, &other, 1, &rest, nullptr, 2), TUTTI_INVALID_ARGUMENT, "shrinkFlags is 2");
    ASSERT_OK(tuttiCommShrink(comm, &other, 1, &rest, nullptr, 0)) << "alone";
    EXPECT_EQ(sum_of(rest, 5), 5);
    EXPECT_OK(tuttiCommDestroy(rest));
  });
}

TEST(ShrinkInOneProcess, OneThreadShrinksItsRanksInAGroup) {
  with_all(4, [](std::vector<tuttiComm_t>& comms) {
    const int excluded = 1;
    std::array<tuttiComm_t, 4> rest{};
    ASSERT_OK(tuttiGroupStart());
    for (int r = 0; r < 4; ++r) {
      if (r != excluded) {
        ASSERT_OK(tuttiCommShrink(comms[r], &excluded, 1, &rest[r], nullptr, TUTTI_SHRINK_ABORT));
      }
    }
    ASSERT_OK(tuttiGroupEnd());
    for (int r = 0; r < 4; ++r) {
      if (r == excluded) continue;
      EXPECT_EQ(size_of(rest[r]), 3);
      float value = 0;
      EXPECT_FAILS(tuttiAllReduce(&value, &value, 1, TUTTI_FLOAT32, TUTTI_SUM, comms[r], nullptr), TUTTI_INVALID_USAGE,
                   "shrunk");
      EXPECT_OK(tuttiCommDestroy(rest[r]));
    }
  });
}

TUTTI_OVER_TRANSPORTS(Shrink);

}  // namespace
}  // namespace life_test
