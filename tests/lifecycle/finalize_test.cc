// SPDX-License-Identifier: Apache-2.0
// tuttiCommFinalize: ends what is queued on all ranks; after it only destroy may follow.
#include <unistd.h>

#include <thread>

#include "lifecycle/life.h"

namespace life_test {
namespace {

class Finalize : public OverTransport {};

TEST_P(Finalize, WaitsForWhatIsQueuedAndForAllRanks) {
  for (const int n : {2, 5}) {
    in_children(
        n,
        [n](int rank, launcher::Page& page) {
          tuttiComm_t comm = nullptr;
          ASSERT_OK(tuttiCommInitRank(&comm, n, shared_id(rank, page), rank));
          tuttiStream_t stream = nullptr;
          ASSERT_OK(tuttiStreamCreate(&stream));
          std::vector<float> value(100'000, 1), sum(100'000);
          for (int i = 0; i < 5; ++i)
            ASSERT_OK(tuttiAllReduce(value.data(), sum.data(), sum.size(), TUTTI_FLOAT32, TUTTI_SUM, comm, stream));
          page.member[rank].entered.store(1);
          ASSERT_OK(tuttiCommFinalize(comm));
          for (int other = 0; other < n; ++other) EXPECT_EQ(page.member[other].entered.load(), 1u);
          EXPECT_EQ(sum.back(), static_cast<float>(n)) << "queued operations have ended";
          EXPECT_EQ(condition_of(comm), TUTTI_SUCCESS);
          EXPECT_EQ(size_of(comm), n);
          tuttiComm_t child = nullptr;
          EXPECT_FAILS(tuttiBarrier(comm, nullptr), TUTTI_INVALID_USAGE, "finalized");
          EXPECT_FAILS(tuttiCommSplit(comm, 0, 0, &child, nullptr), TUTTI_INVALID_USAGE, "finalized");
          EXPECT_FAILS(tuttiCommFinalize(comm), TUTTI_INVALID_USAGE, "finalized");
          EXPECT_OK(tuttiStreamDestroy(stream));
          EXPECT_OK(tuttiCommDestroy(comm));
        },
        over());
  }
}

TEST(FinalizeInOneProcess, OneThreadFinalizesAllItsRanksInAGroupAfterTheirCalls) {
  with_all(3, [](std::vector<tuttiComm_t>& comms) {
    float values[3] = {1, 2, 4}, sums[3] = {0, 0, 0};
    ASSERT_OK(tuttiGroupStart());
    for (int r = 0; r < 3; ++r) {
      ASSERT_OK(tuttiAllReduce(&values[r], &sums[r], 1, TUTTI_FLOAT32, TUTTI_SUM, comms[r], nullptr));
      ASSERT_OK(tuttiCommFinalize(comms[r]));
    }
    ASSERT_OK(tuttiGroupEnd());
    for (const float sum : sums) EXPECT_EQ(sum, 7);
  });
}

TEST(FinalizeInOneProcess, OfAGroupThatFailedHasNotHappened) {
  with_all(2, [](std::vector<tuttiComm_t>& comms) {
    float value = 1, sum = 0;
    ASSERT_OK(tuttiGroupStart());
    ASSERT_OK(tuttiCommFinalize(comms[0]));
    EXPECT_EQ(tuttiAllReduce(&value, nullptr, 1, TUTTI_FLOAT32, TUTTI_SUM, comms[1], nullptr), TUTTI_INVALID_ARGUMENT);
    EXPECT_EQ(tuttiGroupEnd(), TUTTI_INVALID_ARGUMENT);
    std::thread second(
        [&] { EXPECT_OK(tuttiAllReduce(&value, &sum, 1, TUTTI_FLOAT32, TUTTI_SUM, comms[1], nullptr)); });
    float again = 0;
    EXPECT_OK(tuttiAllReduce(&value, &again, 1, TUTTI_FLOAT32, TUTTI_SUM, comms[0], nullptr));
    second.join();
    EXPECT_EQ(again, 2);
  });
}

TUTTI_OVER_TRANSPORTS(Finalize);

}  // namespace
}  // namespace life_test
