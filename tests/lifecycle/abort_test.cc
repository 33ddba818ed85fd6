// SPDX-License-Identifier: Apache-2.0
// tuttiCommAbort: frees who waits inside, drops what is queued, waits for no rank; the rest of the process goes on.
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "lifecycle/life.h"

namespace life_test {
namespace {

class Abort : public OverTransport {};

// In these tests one rank calls what the other never calls, so that only the abort can end it.

TEST_P(Abort, FreesAThreadThatIsBlockedInACall) {
  in_children(
      2,
      [](int rank, launcher::Page& page) {
        tuttiComm_t comm = nullptr;
        ASSERT_OK(tuttiCommInitRank(&comm, 2, shared_id(rank, page), rank));
        ASSERT_EQ(sum_of(comm, 1), 2);
        if (rank == 1) {
          while (page.member[0].entered.load() == 0) usleep(1000);
          EXPECT_OK(tuttiCommAbort(comm));
          return;
        }
        std::atomic<bool> calling{false};
        std::thread aborter([&] {
          while (!calling.load()) usleep(100);
          usleep(50'000);  // into the wait; an abort that comes before it has to do as well
          EXPECT_OK(tuttiCommAbort(comm));
        });
        float value = 1, sum = 0;
        calling.store(true);
        EXPECT_FAILS(tuttiAllReduce(&value, &sum, 1, TUTTI_FLOAT32, TUTTI_SUM, comm, nullptr), TUTTI_INVALID_USAGE,
                     "abort");
        aborter.join();
        EXPECT_FAILS(tuttiAllReduce(&value, &sum, 1, TUTTI_FLOAT32, TUTTI_SUM, comm, nullptr), TUTTI_INVALID_ARGUMENT,
                     "destroyed");
        EXPECT_FAILS(tuttiCommDestroy(comm), TUTTI_INVALID_ARGUMENT, "destroyed");
        page.member[0].entered.store(1);
      },
      over());
}

TEST_P(Abort, OfManyCallsInAFlowEndsThemAtAnyMoment) {
  in_children(
      2,
      [](int rank, launcher::Page& page) {
        tuttiComm_t comm = nullptr;
        ASSERT_OK(tuttiCommInitRank(&comm, 2, shared_id(rank, page), rank));
        for (int round = 0; round < 20; ++round) {
          tuttiComm_t child = nullptr;
          ASSERT_OK(tuttiCommSplit(comm, 0, 0, &child, nullptr));
          std::thread aborter([&] {
            usleep(static_cast<unsigned>(100 * round + 37 * rank));
            EXPECT_OK(tuttiCommAbort(child));
          });
          tuttiResult_t code = TUTTI_SUCCESS;
          float value = 1, sum = 0;
          while (code == TUTTI_SUCCESS)
            code = tuttiAllReduce(&value, &sum, 1, TUTTI_FLOAT32, TUTTI_SUM, child, nullptr);
          aborter.join();
        }
        EXPECT_EQ(sum_of(comm, 1), 2) << "the parent goes on";
        EXPECT_OK(tuttiCommDestroy(comm));
      },
      over());
}

TEST_P(Abort, DropsWhatIsQueuedOnStreams) {
  in_children(
      2,
      [](int rank, launcher::Page& page) {
        tuttiComm_t comm = nullptr, other = nullptr;
        ASSERT_OK(tuttiCommInitRank(&comm, 2, shared_id(rank, page), rank));
        ASSERT_OK(tuttiCommSplit(comm, 0, 0, &other, nullptr));
        tuttiStream_t stream = nullptr;
        ASSERT_OK(tuttiStreamCreate(&stream));
        float value = 1, sums[3] = {0, 0, 0};
        double kept = 1, total = 0;
        if (rank == 0) {
          for (float& sum : sums) ASSERT_OK(tuttiAllReduce(&value, &sum, 1, TUTTI_FLOAT32, TUTTI_SUM, comm, stream));
        }
        ASSERT_OK(tuttiAllReduce(&kept, &total, 1, TUTTI_FLOAT64, TUTTI_SUM, other, stream));
        ASSERT_OK(tuttiCommAbort(comm));
        if (rank == 0) {
          EXPECT_FAILS(tuttiStreamSynchronize(stream), TUTTI_INVALID_USAGE, "abort");
        } else {
          EXPECT_OK(tuttiStreamSynchronize(stream));
        }
        for (const float sum : sums) EXPECT_EQ(sum, 0);
        EXPECT_EQ(total, 2) << "another communicator on the same stream goes on";
        EXPECT_OK(tuttiStreamDestroy(stream));
        EXPECT_OK(tuttiCommDestroy(other));
      },
      over());
}

TEST_P(Abort, FreesAThreadThatWaitsForTheOthersToSplitOrToFinalize) {
  in_children(
      3,
      [](int rank, launcher::Page& page) {
        tuttiComm_t comm = nullptr, second = nullptr;
        ASSERT_OK(tuttiCommInitRank(&comm, 3, shared_id(rank, page), rank));
        ASSERT_OK(tuttiCommSplit(comm, 0, 0, &second, nullptr));
        if (rank != 0) {  // stays away
          while (page.member[0].entered.load() == 0) usleep(1000);
          EXPECT_OK(tuttiCommAbort(comm));
          EXPECT_OK(tuttiCommAbort(second));
          return;
        }
        std::thread aborter([&] {
          usleep(50'000);
          EXPECT_OK(tuttiCommAbort(comm));
          usleep(50'000);
          EXPECT_OK(tuttiCommAbort(second));
        });
        tuttiComm_t child = nullptr;
        EXPECT_FAILS(tuttiCommSplit(comm, 0, 0, &child, nullptr), TUTTI_INVALID_USAGE, "abort");
        EXPECT_EQ(child, nullptr);
        EXPECT_FAILS(tuttiCommFinalize(second), TUTTI_INVALID_USAGE, "abort");
        aborter.join();
        page.member[0].entered.store(1);
      },
      over());
}

TEST(AbortInOneProcess, EndsAGroupThatWaitsInSeveralCommunicators) {
  with_all(3, [](std::vector<tuttiComm_t>& comms) {
    // Ranks 0 and 1 call, rank 2 does not.
    std::thread aborter([&] {
      usleep(30'000);
      EXPECT_OK(tuttiCommAbort(comms[0]));
      EXPECT_OK(tuttiCommAbort(comms[1]));
    });
    float values[2] = {1, 2}, sums[2] = {0, 0};
    ASSERT_OK(tuttiGroupStart());
    for (int r = 0; r < 2; ++r)
      ASSERT_OK(tuttiAllReduce(&values[r], &sums[r], 1, TUTTI_FLOAT32, TUTTI_SUM, comms[r], nullptr));
    EXPECT_FAILS(tuttiGroupEnd(), TUTTI_INVALID_USAGE, "abort");
    aborter.join();
    EXPECT_OK(tuttiCommAbort(comms[2]));
    for (tuttiComm_t& comm : comms) comm = nullptr;  // ended
  });
}

TEST(AbortOfNothing, IsLegalAndASecondOneIsAnError) {
  with_all(1, [](std::vector<tuttiComm_t>& comms) {
    EXPECT_OK(tuttiCommAbort(nullptr));
    EXPECT_OK(tuttiCommAbort(comms[0]));
    EXPECT_FAILS(tuttiCommAbort(comms[0]), TUTTI_INVALID_ARGUMENT, "destroyed");
    comms[0] = nullptr;
  });
}

TUTTI_OVER_TRANSPORTS(Abort);

}  // namespace
}  // namespace life_test
