// SPDX-License-Identifier: Apache-2.0
// Non-blocking communicators on GPUs, ranks of one process: what returns at once, what is on its stream when, and in
// which order. Between processes: processes_test.cc.
#include <thread>

#include "comm_cuda/ranks.h"

namespace tutti {
namespace {

using ::testing::HasSubstr;

tuttiConfig_t non_blocking(int device) {
  tuttiConfig_t config = TUTTI_CONFIG_INITIALIZER;
  config.blocking = 0;
  config.device = device;
  return config;
}
tuttiResult_t condition_of(tuttiComm_t comm) {
  tuttiResult_t result = TUTTI_NUM_RESULTS;
  EXPECT_EQ(tuttiCommGetAsyncError(comm, &result), TUTTI_SUCCESS) << last_text();
  return result;
}
void destroy(tuttiComm_t comm) { EXPECT_EQ(tuttiCommDestroy(comm), TUTTI_SUCCESS) << last_text(); }

class NonBlocking : public testing::TestWithParam<std::vector<int>> {
 protected:
  ~NonBlocking() override { EXPECT_EQ(gpu::alive(), 0); }
};

TEST_P(NonBlocking, InitReturnsAtOnceAndIsDoneWhenAllRanksHaveCalled) {
  tuttiUniqueId id;
  ASSERT_EQ(tuttiGetUniqueId(&id), TUTTI_SUCCESS);
  const int n = static_cast<int>(GetParam().size());
  std::vector<tuttiComm_t> comms(GetParam().size());
  for (int r = 0; r < n; ++r) {
    const tuttiConfig_t config = non_blocking(GetParam()[static_cast<size_t>(r)]);
    tuttiComm_t& comm = comms[static_cast<size_t>(r)];
    ASSERT_EQ(tuttiCommInitRankConfig(&comm, n, id, r, &config), TUTTI_IN_PROGRESS) << last_text();
    if (r + 1 == n) break;
    EXPECT_EQ(condition_of(comm), TUTTI_IN_PROGRESS) << "a rank is missing";
    float word = 1;
    EXPECT_EQ(tuttiAllReduce(&word, &word, 1, TUTTI_FLOAT32, TUTTI_SUM, comm, nullptr), TUTTI_INVALID_USAGE);
    EXPECT_THAT(last_text(), HasSubstr("still being initialised"));
    int device = -5;
    EXPECT_EQ(tuttiCommDevice(comm, &device), TUTTI_INVALID_USAGE);
  }
  for (int r = 0; r < n; ++r) {
    const tuttiComm_t comm = comms[static_cast<size_t>(r)];
    ASSERT_EQ(Ranks::await(comm), TUTTI_SUCCESS) << tuttiGetLastError(comm);
    int device = -5;
    EXPECT_EQ(tuttiCommDevice(comm, &device), TUTTI_SUCCESS) << last_text();
    EXPECT_EQ(device, GetParam()[static_cast<size_t>(r)]);
  }
  for (const tuttiComm_t comm : comms) destroy(comm);
}

// One thread, no group: each waits for the call of the last, behind the caller.
TEST_P(NonBlocking, CallsWaitForTheOtherRanksBehindTheCaller) {
  const Ranks ranks(GetParam(), Ranks::kNonBlocking);
  const int last = ranks.n() - 1;
  for (int round = 1; round <= 3; ++round) {
    ranks.fill(static_cast<float>(round));
    for (int r = 0; r < last; ++r) EXPECT_EQ(ranks.all_reduce(r, ranks.stream(r)), TUTTI_IN_PROGRESS) << last_text();
    EXPECT_EQ(condition_of(ranks.comm(0)), TUTTI_IN_PROGRESS);
    EXPECT_EQ(ranks.all_reduce(last, ranks.stream(last)), TUTTI_SUCCESS) << "nobody is missing";
    for (int r = 0; r <= last; ++r) ASSERT_EQ(ranks.await(r), TUTTI_SUCCESS) << tuttiGetLastError(ranks.comm(r));
    ranks.synchronize();
    ranks.expect_sums(static_cast<float>(round));
  }
}

// Calls that nobody polls in between follow each other, on a stream and across streams.
TEST_P(NonBlocking, CallsKeepTheirOrder) {
  constexpr int kCalls = 6;
  const Ranks ranks(GetParam(), Ranks::kNonBlocking);
  std::vector<gpu::DeviceMemory> chains;
  for (const gpu::CudaDevicePtr& gpu : ranks.gpus)
    chains.push_back(*gpu::allocate_device(gpu, (kCalls + 1) * sizeof(double)));
  for (int r = 0; r < ranks.n(); ++r) {
    auto* const chain = reinterpret_cast<double*>(chains[static_cast<size_t>(r)].get());
    chain[0] = 1;
    for (int i = 0; i < kCalls; ++i) {
      const tuttiStream_t stream = i % 2 == 0 ? ranks.stream(r) : nullptr;
      const tuttiResult_t code =
          tuttiAllReduce(chain + i, chain + i + 1, 1, TUTTI_FLOAT64, TUTTI_SUM, ranks.comm(r), stream);
      ASSERT_TRUE(code == TUTTI_SUCCESS || code == TUTTI_IN_PROGRESS) << last_text();
    }
  }
  double product = 1;
  for (int i = 0; i < kCalls; ++i) product *= ranks.n();
  for (int r = 0; r < ranks.n(); ++r) {
    ASSERT_EQ(ranks.await(r), TUTTI_SUCCESS) << tuttiGetLastError(ranks.comm(r));
    ASSERT_TRUE(ranks.streams[static_cast<size_t>(r)].synchronize().ok());
    ASSERT_TRUE(gpu::CudaStream(ranks.gpus[static_cast<size_t>(r)], nullptr).synchronize().ok());
    EXPECT_EQ(reinterpret_cast<double*>(chains[static_cast<size_t>(r)].get())[kCalls], product);
  }
}

TEST_P(NonBlocking, AGroupOfAllRanksIsOnItsStreamsAtOnce) {
  const Ranks ranks(GetParam(), Ranks::kNonBlocking);
  ASSERT_EQ(ranks.all_reduce_together(), TUTTI_SUCCESS) << last_text();
  ranks.synchronize();
  ranks.expect_sums(1);
}

// A split, windows and a finalize are under way; calls of all ranks in groups follow them.
TEST_P(NonBlocking, CallsBehindWhatIsUnderWayKeepTheirPlaces) {
  Ranks ranks(GetParam(), Ranks::kNonBlocking);
  const auto n = static_cast<size_t>(ranks.n());
  std::vector<tuttiComm_t> children(n);
  std::vector<tuttiWindow_t> windows(n);
  std::vector<void*> memory(n);
  ASSERT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
  for (size_t r = 0; r < n; ++r) {
    EXPECT_EQ(tuttiMemAllocDevice(&memory[r], 1 << 20, GetParam()[r]), TUTTI_SUCCESS) << last_text();
    EXPECT_EQ(tuttiCommSplit(ranks.comms[r], 0, 0, &children[r], nullptr), TUTTI_SUCCESS) << last_text();
    EXPECT_EQ(tuttiCommWindowRegister(ranks.comms[r], memory[r], 1 << 20, &windows[r], 0), TUTTI_SUCCESS);
  }
  ASSERT_EQ(tuttiGroupEnd(), TUTTI_IN_PROGRESS) << last_text();
  const tuttiResult_t called = ranks.all_reduce_together();
  ASSERT_TRUE(called == TUTTI_IN_PROGRESS || called == TUTTI_SUCCESS) << last_text();
  for (size_t r = 0; r < n; ++r) {
    ASSERT_EQ(ranks.await(static_cast<int>(r)), TUTTI_SUCCESS) << tuttiGetLastError(ranks.comms[r]);
    ASSERT_EQ(Ranks::await(children[r]), TUTTI_SUCCESS) << tuttiGetLastError(children[r]);
    EXPECT_NE(windows[r], nullptr);
  }
  ranks.synchronize();
  ranks.expect_sums(1);
  for (size_t r = 0; r < n; ++r) {
    EXPECT_EQ(tuttiCommWindowDeregister(ranks.comms[r], windows[r]), TUTTI_SUCCESS) << last_text();
    EXPECT_EQ(tuttiMemFree(memory[r]), TUTTI_SUCCESS) << last_text();
  }
  // The children are as their parents.
  ranks.fill(2);
  ranks.comms.swap(children);
  EXPECT_EQ(ranks.all_reduce(0, ranks.stream(0)), TUTTI_IN_PROGRESS);
  for (int r = 1; r < ranks.n(); ++r) (void)ranks.all_reduce(r, ranks.stream(r));
  for (const tuttiComm_t comm : ranks.comms) EXPECT_EQ(tuttiCommFinalize(comm), TUTTI_IN_PROGRESS) << last_text();
  for (int r = 0; r < ranks.n(); ++r) EXPECT_EQ(ranks.await(r), TUTTI_SUCCESS) << tuttiGetLastError(ranks.comm(r));
  ranks.synchronize();
  ranks.expect_sums(2);
  for (const tuttiComm_t parent : children) destroy(parent);
}

TEST_P(NonBlocking, AbortEndsACallThatWaitsForAnotherRank) {
  Ranks ranks(GetParam(), Ranks::kNonBlocking);
  ASSERT_EQ(ranks.all_reduce(0, ranks.stream(0)), TUTTI_IN_PROGRESS);
  EXPECT_EQ(tuttiCommAbort(std::exchange(ranks.comms[0], nullptr)), TUTTI_SUCCESS) << last_text();
  EXPECT_NE(ranks.all_reduce(1, ranks.stream(1)), TUTTI_SUCCESS);
  EXPECT_THAT(last_text(), HasSubstr("aborted"));
  ranks.synchronize();
}

TEST_P(NonBlocking, AbortEndsAnInitThatWaitsForRanksThatNeverCome) {
  tuttiUniqueId id;
  ASSERT_EQ(tuttiGetUniqueId(&id), TUTTI_SUCCESS);
  const tuttiConfig_t config = non_blocking(GetParam().back());
  tuttiComm_t comm = nullptr;
  ASSERT_EQ(tuttiCommInitRankConfig(&comm, 2, id, 0, &config), TUTTI_IN_PROGRESS);
  EXPECT_EQ(tuttiCommAbort(comm), TUTTI_SUCCESS) << last_text();
  tuttiResult_t code = TUTTI_SUCCESS;
  EXPECT_EQ(tuttiCommGetAsyncError(comm, &code), TUTTI_INVALID_ARGUMENT);
}

INSTANTIATE_TEST_SUITE_P(Devices, NonBlocking, testing::Values(std::vector<int>{0, 0, 0}, std::vector<int>{0, 1, 0}));

TEST(NonBlockingFailure, OfInitIsToldByTheAsyncError) {
  tuttiUniqueId id;
  ASSERT_EQ(tuttiGetUniqueId(&id), TUTTI_SUCCESS);
  const tuttiConfig_t config = non_blocking(99);
  tuttiComm_t comm = nullptr;
  ASSERT_EQ(tuttiCommInitRankConfig(&comm, 1, id, 0, &config), TUTTI_IN_PROGRESS);
  EXPECT_EQ(Ranks::await(comm), TUTTI_CUDA_ERROR);
  EXPECT_THAT(tuttiGetLastError(comm), HasSubstr("there is no such device"));
  destroy(comm);
  EXPECT_EQ(gpu::alive(), 0);
}

// Of a buffer: at once, and nothing is lost, where the caller brings the call; where the worker does it is the
// communicator's failure.
TEST(NonBlockingFailure, OfAnArgumentIsToldWhereItIsFound) {
  {
    Ranks ranks({0}, Ranks::kNonBlocking);
    std::vector<float> pageable(Ranks::kCount);
    const auto call = [&] {
      return tuttiAllReduce(pageable.data(), ranks.out(0), Ranks::kCount, TUTTI_FLOAT32, TUTTI_SUM, ranks.comm(0),
                            ranks.stream(0));
    };
    EXPECT_EQ(call(), TUTTI_INVALID_ARGUMENT);
    EXPECT_THAT(last_text(), HasSubstr("pageable"));
    EXPECT_EQ(ranks.all_reduce(0, ranks.stream(0)), TUTTI_SUCCESS) << last_text();
    // In progress until the other rank calls.
    Ranks two({0, 1}, Ranks::kNonBlocking);
    ASSERT_EQ(two.all_reduce(0, two.stream(0)), TUTTI_IN_PROGRESS);
    ASSERT_EQ(tuttiAllReduce(pageable.data(), two.out(0), Ranks::kCount, TUTTI_FLOAT32, TUTTI_SUM, two.comm(0),
                             two.stream(0)),
              TUTTI_IN_PROGRESS);
    ASSERT_EQ(two.all_reduce(1, two.stream(1)), TUTTI_SUCCESS) << last_text();
    EXPECT_EQ(two.await(0), TUTTI_INVALID_ARGUMENT);
    EXPECT_THAT(tuttiGetLastError(two.comm(0)), HasSubstr("pageable"));
    two.synchronize();
  }
  EXPECT_EQ(gpu::alive(), 0);
}

// A worker has another one: its own thread waits.
TEST(NonBlockingStreams, CallsOnThePerThreadDefaultStreamWait) {
  const auto per_thread = reinterpret_cast<tuttiStream_t>(gpu::kCudaPerThreadStream);
  {
    const Ranks ranks({0, 1}, Ranks::kNonBlocking);
    std::thread other([&] {
      const gpu::CudaScope scope(*ranks.gpus[1]);
      EXPECT_EQ(ranks.all_reduce(1, per_thread), TUTTI_SUCCESS) << last_text();
      EXPECT_EQ(ranks.gpus[1]->cuda().stream_synchronize(reinterpret_cast<gpu::CudaStreamHandle>(per_thread)),
                gpu::kCudaSuccess);
    });
    const gpu::CudaScope scope(*ranks.gpus[0]);
    EXPECT_EQ(ranks.all_reduce(0, per_thread), TUTTI_SUCCESS) << last_text();
    EXPECT_EQ(ranks.gpus[0]->cuda().stream_synchronize(reinterpret_cast<gpu::CudaStreamHandle>(per_thread)),
              gpu::kCudaSuccess);
    other.join();
    ranks.expect_sums(1);
  }
  EXPECT_EQ(gpu::alive(), 0);
}

}  // namespace
}  // namespace tutti
