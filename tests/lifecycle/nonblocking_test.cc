// SPDX-License-Identifier: Apache-2.0
// Non-blocking communicators (config.blocking = 0): calls that would wait return TUTTI_IN_PROGRESS, and
// tuttiCommGetAsyncError tells when they are done or have failed.
#include <unistd.h>

#include <array>
#include <chrono>
#include <thread>

#include "lifecycle/life.h"

namespace life_test {
namespace {

class NonBlocking : public OverTransport {};

tuttiConfig_t non_blocking() {
  tuttiConfig_t config = TUTTI_CONFIG_INITIALIZER;
  config.blocking = 0;
  return config;
}

// `n` processes, each with its rank's non-blocking communicator.
void in_non_blocking_ranks(int n, const std::function<void(int rank, tuttiComm_t comm)>& body,
                           const Environment& environment) {
  in_children(
      n,
      [&](int rank, launcher::Page& page) {
        const tuttiConfig_t config = non_blocking();
        tuttiComm_t comm = nullptr;
        ASSERT_EQ(tuttiCommInitRankConfig(&comm, n, shared_id(rank, page), rank, &config), TUTTI_IN_PROGRESS);
        ASSERT_NE(comm, nullptr);
        ASSERT_EQ(await(comm), TUTTI_SUCCESS) << tuttiGetLastError(comm);
        body(rank, comm);
        EXPECT_OK(tuttiCommDestroy(comm));
      },
      environment);
}

TEST_P(NonBlocking, InitReturnsAtOnceAndIsDoneWhenAllRanksHaveCalled) {
  in_children(
      2,
      [](int rank, launcher::Page& page) {
        const tuttiConfig_t config = non_blocking();
        tuttiComm_t comm = nullptr;
        if (rank == 0) {
          tuttiUniqueId id;
          ASSERT_OK(tuttiGetUniqueId(&id));
          ASSERT_EQ(tuttiCommInitRankConfig(&comm, 2, id, rank, &config), TUTTI_IN_PROGRESS);
          EXPECT_EQ(condition_of(comm), TUTTI_IN_PROGRESS) << "the other rank has no id yet";
          float value = 1, sum = 0;
          EXPECT_FAILS(tuttiAllReduce(&value, &sum, 1, TUTTI_FLOAT32, TUTTI_SUM, comm, nullptr), TUTTI_INVALID_USAGE,
                       "still being initialised");
          page.publish(id);
        } else {
          ASSERT_EQ(tuttiCommInitRankConfig(&comm, 2, page.await(), rank, &config), TUTTI_IN_PROGRESS);
        }
        ASSERT_EQ(await(comm), TUTTI_SUCCESS);
        EXPECT_EQ(rank_in(comm), rank);
        EXPECT_EQ(size_of(comm), 2);
        EXPECT_OK(tuttiCommDestroy(comm));
      },
      over());
}

TEST_P(NonBlocking, CallsWithoutAStreamRunInIssueOrderBehindTheCaller) {
  in_non_blocking_ranks(
      3,
      [](int, tuttiComm_t comm) {
        // Each call works on the result of the one before.
        std::array<double, 6> chain{1, 0, 0, 0, 0, 0};
        for (size_t i = 0; i + 1 < chain.size(); ++i)
          ASSERT_EQ(tuttiAllReduce(&chain[i], &chain[i + 1], 1, TUTTI_FLOAT64, TUTTI_SUM, comm, nullptr),
                    TUTTI_IN_PROGRESS);
        ASSERT_EQ(await(comm), TUTTI_SUCCESS);
        EXPECT_EQ(chain.back(), 243);
        ASSERT_OK(tuttiGroupStart());
        std::array<double, 2> values{1, 2}, sums{};
        for (int i = 0; i < 2; ++i)
          ASSERT_OK(tuttiAllReduce(&values[i], &sums[i], 1, TUTTI_FLOAT64, TUTTI_SUM, comm, nullptr));
        ASSERT_EQ(tuttiGroupEnd(), TUTTI_IN_PROGRESS);
        ASSERT_EQ(await(comm), TUTTI_SUCCESS);
        EXPECT_EQ(sums[1], 6);
      },
      over());
}

TEST_P(NonBlocking, SplitShrinkAndFinalizeOfANonBlockingCommunicator) {
  in_non_blocking_ranks(
      4,
      [](int rank, tuttiComm_t comm) {
        tuttiComm_t half = nullptr, none = comm, rest = nullptr;
        ASSERT_EQ(tuttiCommSplit(comm, rank % 2, 0, &half, nullptr), TUTTI_IN_PROGRESS);
        ASSERT_EQ(tuttiCommSplit(comm, TUTTI_SPLIT_NOCOLOR, 0, &none, nullptr), TUTTI_IN_PROGRESS);
        EXPECT_EQ(none, nullptr);
        ASSERT_EQ(await(half), TUTTI_SUCCESS) << tuttiGetLastError(half);
        ASSERT_EQ(await(comm), TUTTI_SUCCESS);
        double mine = rank, sum = 0;
        ASSERT_EQ(tuttiAllReduce(&mine, &sum, 1, TUTTI_FLOAT64, TUTTI_SUM, half, nullptr), TUTTI_IN_PROGRESS)
            << "the child is non-blocking as well";
        ASSERT_EQ(tuttiCommFinalize(half), TUTTI_IN_PROGRESS);
        ASSERT_EQ(await(half), TUTTI_SUCCESS);
        EXPECT_EQ(sum, rank % 2 == 0 ? 2 : 4);
        EXPECT_OK(tuttiCommDestroy(half));
        if (rank == 3) return;
        const int excluded = 3;
        ASSERT_EQ(tuttiCommShrink(comm, &excluded, 1, &rest, nullptr, TUTTI_SHRINK_DEFAULT), TUTTI_IN_PROGRESS);
        ASSERT_EQ(await(rest), TUTTI_SUCCESS) << tuttiGetLastError(rest);
        EXPECT_EQ(size_of(rest), 3);
        EXPECT_OK(tuttiCommDestroy(rest));
      },
      over());
}

TEST_P(NonBlocking, OneThreadMakesSeveralCommunicatorsAtOnceInAGroup) {
  in_child(
      [] {
        tuttiUniqueId id;
        ASSERT_OK(tuttiGetUniqueId(&id));
        const tuttiConfig_t config = non_blocking();
        std::array<tuttiComm_t, 3> comms{};
        ASSERT_OK(tuttiGroupStart());
        for (int r = 0; r < 3; ++r) {
          const tuttiResult_t code = tuttiCommInitRankConfig(&comms[r], 3, id, r, &config);
          ASSERT_EQ(code, TUTTI_SUCCESS);
        }
        ASSERT_EQ(tuttiGroupEnd(), TUTTI_IN_PROGRESS);
        for (tuttiComm_t comm : comms) ASSERT_EQ(await(comm), TUTTI_SUCCESS);
        std::array<double, 3> values{1, 2, 4}, sums{};
        for (int r = 0; r < 3; ++r)  // no group: none of them blocks
          ASSERT_EQ(tuttiAllReduce(&values[r], &sums[r], 1, TUTTI_FLOAT64, TUTTI_SUM, comms[r], nullptr),
                    TUTTI_IN_PROGRESS);
        for (tuttiComm_t comm : comms) ASSERT_EQ(await(comm), TUTTI_SUCCESS);
        for (const double sum : sums) EXPECT_EQ(sum, 7);
        for (tuttiComm_t comm : comms) EXPECT_OK(tuttiCommDestroy(comm));
      },
      over());
}

TEST(NonBlockingFailure, IsToldByTheAsyncErrorAndItsText) {
  in_children(1,
              [](int, launcher::Page&) {
                tuttiUniqueId id;
                ASSERT_OK(tuttiGetUniqueId(&id));
                const tuttiConfig_t config = non_blocking();
                tuttiComm_t comm = nullptr;
                ASSERT_EQ(tuttiCommInitRankConfig(&comm, 2, id, 0, &config), TUTTI_IN_PROGRESS);
                ASSERT_EQ(await(comm), TUTTI_REMOTE_ERROR);
                EXPECT_NE(std::string(tuttiGetLastError(comm)).find("1 of 2 ranks is missing"), std::string::npos)
                    << tuttiGetLastError(comm);
                float value = 1, sum = 0;
                EXPECT_FAILS(tuttiAllReduce(&value, &sum, 1, TUTTI_FLOAT32, TUTTI_SUM, comm, nullptr),
                             TUTTI_REMOTE_ERROR, "missing");
                EXPECT_OK(tuttiCommDestroy(comm));
              },
              {{"TUTTI_INIT_TIMEOUT", "300ms"}});
}

TEST(NonBlockingFailure, AbortEndsAnInitThatWaitsForRanksThatNeverCome) {
  in_child([] {
    using Clock = std::chrono::steady_clock;
    tuttiUniqueId id;
    ASSERT_OK(tuttiGetUniqueId(&id));
    const tuttiConfig_t config = non_blocking();
    for (const int pause_us : {0, 20'000}) {
      tuttiComm_t comm = nullptr;
      ASSERT_EQ(tuttiCommInitRankConfig(&comm, 2, id, 0, &config), TUTTI_IN_PROGRESS);
      usleep(static_cast<unsigned>(pause_us));
      const auto start = Clock::now();
      EXPECT_OK(tuttiCommAbort(comm));
      EXPECT_LT(Clock::now() - start, std::chrono::seconds(20)) << "the init timeout is two minutes";
      tuttiResult_t code = TUTTI_SUCCESS;
      EXPECT_FAILS(tuttiCommGetAsyncError(comm, &code), TUTTI_INVALID_ARGUMENT, "destroyed");
    }
  });
}

TEST_P(NonBlocking, AbortOfAChildThatIsBeingMadeReturnsAtOnceAndTheParentGoesOn) {
  in_non_blocking_ranks(
      2,
      [](int, tuttiComm_t comm) {
        tuttiComm_t child = nullptr, next = nullptr;
        ASSERT_EQ(tuttiCommSplit(comm, 0, 0, &child, nullptr), TUTTI_IN_PROGRESS);
        EXPECT_OK(tuttiCommAbort(child));
        ASSERT_EQ(tuttiCommSplit(comm, 0, 0, &next, nullptr), TUTTI_IN_PROGRESS);
        ASSERT_EQ(await(next), TUTTI_SUCCESS) << tuttiGetLastError(next);
        EXPECT_EQ(size_of(next), 2);
        EXPECT_OK(tuttiCommDestroy(next));
      },
      over());
}

TUTTI_OVER_TRANSPORTS(NonBlocking);

}  // namespace
}  // namespace life_test
