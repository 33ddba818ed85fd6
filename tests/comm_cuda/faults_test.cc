// SPDX-License-Identifier: Apache-2.0
// What goes wrong: kernels end, every rank learns why, and nothing is left behind.
#include <thread>

#include "comm_cuda/ranks.h"

namespace tutti {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

tuttiResult_t async_error(tuttiComm_t comm) {
  tuttiResult_t result = TUTTI_SUCCESS;
  EXPECT_EQ(tuttiCommGetAsyncError(comm, &result), TUTTI_SUCCESS);
  return result;
}

TEST(CudaFaults, CallsThatDoNotFitAreNamedBeforeAnythingRuns) {
  Ranks ranks({0, 0});
  ASSERT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
  EXPECT_EQ(ranks.all_reduce(0, ranks.stream(0)), TUTTI_SUCCESS);
  EXPECT_EQ(tuttiAllReduce(ranks.in(1), ranks.out(1), 7, TUTTI_FLOAT32, TUTTI_SUM, ranks.comm(1), ranks.stream(1)),
            TUTTI_SUCCESS);
  EXPECT_EQ(tuttiGroupEnd(), TUTTI_REMOTE_ERROR);
  EXPECT_THAT(last_text(),
              AllOf(HasSubstr("rank 1 calls all_reduce of 7"), HasSubstr("rank 0 calls all_reduce of 100")));
  EXPECT_EQ(async_error(ranks.comm(0)), TUTTI_REMOTE_ERROR);
  EXPECT_EQ(ranks.all_reduce_together(), TUTTI_REMOTE_ERROR);
}

// The kernels on one GPU wait for those on another, which wait for the application.
TEST(CudaFaults, AnAbortEndsKernelsThatWait) {
  {
    Ranks ranks({0, 1});
    const Hold hold(ranks.gpus[1]);
    hold.stop(ranks.streams[1]);
    ASSERT_EQ(ranks.all_reduce_together(), TUTTI_SUCCESS) << last_text();
    EXPECT_FALSE(*ranks.streams[0].idle());
    std::thread aborts([&] { EXPECT_EQ(tuttiCommAbort(ranks.comms[0]), TUTTI_SUCCESS) << last_text(); });
    EXPECT_TRUE(ranks.streams[0].synchronize().ok());  // its kernel has ended, though the other has not begun
    EXPECT_FALSE(*ranks.streams[1].idle());
    hold.go_on();
    aborts.join();
    ranks.comms[0] = nullptr;
    EXPECT_EQ(async_error(ranks.comm(1)), TUTTI_INVALID_USAGE);
    EXPECT_EQ(ranks.all_reduce(1, ranks.stream(1)), TUTTI_INVALID_USAGE);
    EXPECT_THAT(last_text(), HasSubstr("rank 0 was aborted"));
  }
  EXPECT_EQ(gpu::alive(), 0);
}

TEST(CudaFaults, ALaunchThatFailsOnOneGpuEndsThoseOnTheOthers) {
  {
    Ranks ranks({0, 1});
    gpu::fail("cuLaunchKernelEx", 2, gpu::kCudaLaunchOutOfResources);
    EXPECT_EQ(ranks.all_reduce_together(), TUTTI_CUDA_ERROR);
    EXPECT_THAT(last_text(), AllOf(HasSubstr("cuLaunchKernelEx"), HasSubstr("device 1")));
    ranks.synchronize();
    EXPECT_EQ(async_error(ranks.comm(0)), TUTTI_CUDA_ERROR);
    EXPECT_EQ(async_error(ranks.comm(1)), TUTTI_CUDA_ERROR);
  }
  EXPECT_EQ(gpu::alive(), 0);
}

TEST(CudaFaults, WhatFailsWhileItIsMadeLeavesNothing) {
  for (const char* symbol : {"cuModuleLoadData", "cuMemAlloc_v2", "cuMemHostAlloc", "cuStreamCreateWithPriority"}) {
    SCOPED_TRACE(symbol);
    gpu::fail(symbol, 1, gpu::kCudaOutOfMemory);
    tuttiComm_t comm = nullptr;
    const int device = 0;
    EXPECT_EQ(tuttiCommInitAll(&comm, 1, &device), TUTTI_CUDA_ERROR);
    EXPECT_THAT(last_text(), HasSubstr("device 0"));
    EXPECT_EQ(comm, nullptr);
    EXPECT_EQ(gpu::alive(), 0);
  }
}

TEST(CudaFaults, AStickyErrorIsTheApplicationsWhereNothingOfOursHasRun) {
  auto ranks = std::make_unique<Ranks>(std::vector<int>{0});
  gpu::break_context(gpu::kCudaIllegalAddress);
  EXPECT_EQ(ranks->all_reduce(0, ranks->stream(0)), TUTTI_CUDA_ERROR);
  EXPECT_THAT(last_text(), AllOf(HasSubstr("CUDA_ERROR_ILLEGAL_ADDRESS"), HasSubstr("work of the application")));
  EXPECT_EQ(async_error(ranks->comm(0)), TUTTI_CUDA_ERROR);
  ranks.reset();  // ends all the same
  gpu::break_context(gpu::kCudaSuccess);
}

TEST(CudaFaults, AKernelThatFailsIsSeenWithoutACall) {
  auto ranks = std::make_unique<Ranks>(std::vector<int>{0, 0});
  const Hold hold(ranks->gpus[0]);  // or the kernel may have failed before its call returns
  hold.stop(ranks->streams[0]);
  gpu::fail("kernel", 1, gpu::kCudaIllegalAddress);
  ASSERT_EQ(ranks->all_reduce_together(), TUTTI_SUCCESS) << last_text();
  hold.go_on();
  EXPECT_FALSE(ranks->streams[0].synchronize().ok());
  EXPECT_EQ(async_error(ranks->comm(0)), TUTTI_CUDA_ERROR);
  EXPECT_EQ(ranks->all_reduce_together(), TUTTI_CUDA_ERROR);
  EXPECT_THAT(last_text(), HasSubstr("of the application or of a collective call"));
  ranks.reset();
  gpu::break_context(gpu::kCudaSuccess);
}

// In a process of its own, whose environment says how long.
TEST(CudaFaultsDeathTest, ARankThatDoesNotCallIsNamed) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        setenv("TUTTI_TIMEOUT", "200ms", 1);
        Ranks ranks({0, 0, 0});
        const bool late = ranks.all_reduce(1, ranks.stream(1)) == TUTTI_REMOTE_ERROR;
        fprintf(stderr, "%s\n", last_text().c_str());
        exit(late && async_error(ranks.comm(0)) == TUTTI_REMOTE_ERROR ? 0 : 1);
      },
      testing::ExitedWithCode(0), "rank 1 waits in all_reduce.*for the call of rank.s. 0, 2.*tuttiGroupStart");
}

TEST(CudaFaults, ARankThatHasLeftIsNamed) {
  Ranks ranks({0, 0});
  EXPECT_EQ(tuttiCommDestroy(ranks.comms[1]), TUTTI_SUCCESS);
  ranks.comms[1] = nullptr;
  EXPECT_EQ(ranks.all_reduce(0, ranks.stream(0)), TUTTI_REMOTE_ERROR);
  EXPECT_THAT(last_text(), AllOf(HasSubstr("1"), HasSubstr("has left the communicator")));
}

}  // namespace
}  // namespace tutti
