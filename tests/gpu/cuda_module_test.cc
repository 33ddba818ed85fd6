// SPDX-License-Identifier: Apache-2.0
// Modules, kernels and launches, on the fake driver, which runs kernels on the CPU.
#include "gpu/cuda_module.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "tests/gpu/fake_control.h"

namespace tutti::gpu {
namespace {

using fakes::FakeKernelWords;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr unsigned char kImage[] = "any";
constexpr unsigned kRoom = 16 * 2048;  // threads that the fake device holds at once

class CudaKernels : public testing::Test {
 protected:
  const CudaDevicePtr gpu = device();
  PinnedMemory words = *allocate_pinned(gpu, 64);
  OwnedStream first = *make_stream(gpu), second = *make_stream(gpu);
  CudaStream a{gpu, first.get()}, b{gpu, second.get()};
  Result<CudaModuleOwner> module = CudaModuleOwner::load(gpu, kImage, "sm_90");

  uint64_t& word(int i) const { return static_cast<uint64_t*>(words.get())[i]; }
  uint64_t value(int i) const { return std::atomic_ref<uint64_t>(word(i)).load(std::memory_order_acquire); }
  Status run(const CudaStream& stream, const char* kernel, const GridShape& shape, FakeKernelWords parameter) const {
    return launch(stream, *module->kernel(kernel), shape, &parameter);
  }
  void TearDown() override { break_context(kCudaSuccess); }
};

TEST_F(CudaKernels, EveryThreadRunsWithTheParameterOfItsLaunch) {
  ASSERT_TRUE(run(a, "fake_add", {.blocks = 3, .threads = 64}, {&word(0), 2}).ok());
  ASSERT_TRUE(run(a, "fake_add", {.blocks = 1, .threads = 32}, {&word(0), 1000}).ok());
  ASSERT_TRUE(a.synchronize().ok());
  EXPECT_EQ(value(0), 3 * 64 * 2 + 32 * 1000u);
}

TEST_F(CudaKernels, KernelsOfDifferentStreamsRunTogether) {
  ASSERT_TRUE(run(a, "fake_meet", {.blocks = 2}, {&word(0), 4}).ok());
  ASSERT_TRUE(run(b, "fake_meet", {.blocks = 2}, {&word(0), 4}).ok());
  ASSERT_TRUE(a.synchronize().ok());
  ASSERT_TRUE(b.synchronize().ok());
  EXPECT_EQ(value(0), 4u);
}

TEST_F(CudaKernels, ALaunchOfBlocksThatWaitForEachOtherBeginsWhenAllHaveRoom) {
  const CudaKernel kernel = *module->kernel("fake_meet");
  EXPECT_EQ(*most_blocks_at_once(gpu, kernel, 512, 0), static_cast<int>(kRoom / 512));
  EXPECT_EQ(*most_blocks_at_once(gpu, kernel, 512, 48 << 10), 64) << "shared memory counts";
  const Status status =
      run(a, "fake_meet", {.blocks = kRoom / 512 + 1, .threads = 512, .all_at_once = true}, {&word(0), 1});
  EXPECT_THAT(status.message(),
              AllOf(HasSubstr("COOPERATIVE_LAUNCH_TOO_LARGE"), HasSubstr("all blocks of the launch at once")));
  // The device has room for one of these at a time, which would deadlock if each had a part of it.
  const GridShape shape{.blocks = kRoom / 512 * 3 / 4, .threads = 512, .all_at_once = true};
  ASSERT_TRUE(run(a, "fake_meet", shape, {&word(0), shape.blocks}).ok());
  ASSERT_TRUE(run(b, "fake_meet", shape, {&word(1), shape.blocks}).ok());
  ASSERT_TRUE(a.synchronize().ok());
  ASSERT_TRUE(b.synchronize().ok());
}

TEST_F(CudaKernels, AFaultOfAKernelIsSeenByTheNextCallAndMayBeOurs) {
  fail("kernel", 2, kCudaIllegalAddress);
  ASSERT_TRUE(run(a, "fake_add", {}, {&word(0), 1}).ok());
  ASSERT_TRUE(run(a, "fake_add", {}, {&word(1), 1}).ok());
  const Status status = a.synchronize();
  EXPECT_THAT(status.message(), AllOf(HasSubstr("ILLEGAL_ADDRESS"), HasSubstr("or of a collective call")));
  EXPECT_THAT(allocate_device(gpu, 8).status().message(), HasSubstr("cuMemAlloc on CUDA device 0 saw"));
  EXPECT_EQ(value(0), 32u);
  EXPECT_EQ(value(1), 0u);
}

TEST_F(CudaKernels, ABrokenContextStopsAKernelThatWaits) {
  ASSERT_TRUE(run(a, "fake_wait", {}, {&word(0), 1}).ok());
  break_context(kCudaLaunchFailed);
  EXPECT_FALSE(a.synchronize().ok());
  break_context(kCudaSuccess);
  EXPECT_TRUE(a.synchronize().ok());
  EXPECT_EQ(value(0), 0u);
}

TEST_F(CudaKernels, WhatDoesNotFitTheDeviceIsToldWithWhatWasBuilt) {
  fail("cuModuleLoadData", 1, kCudaNoImageForGpu);
  const auto old = CudaModuleOwner::load(gpu, kImage, "sm_80 sm_100");
  EXPECT_THAT(old.status().message(), AllOf(HasSubstr("CUDA device 0 (sm_90)"), HasSubstr("built for sm_80 sm_100"),
                                            HasSubstr("TUTTI_CUDA_ARCHITECTURES=90")));
  fail("cuModuleLoadData", 1, kCudaInvalidImage);
  const auto none = CudaModuleOwner::load(gpu, kImage, "");
  EXPECT_THAT(none.status().message(), AllOf(HasSubstr("no CUDA kernels"), HasSubstr("nvcc")));
  EXPECT_THAT(module->kernel("nothing").status().message(), HasSubstr("no CUDA kernel nothing"));
}

// A launch that has to make room for its stack waits for the device, and so for whoever waits for it.
TEST_F(CudaKernels, LocalMemoryIsReservedBeforehand) {
  const CudaKernel kernel = *module->kernel("tutti_simple");
  ASSERT_GT(kernel.local_bytes, 0);
  const CudaScope scope(*gpu);
  ASSERT_TRUE(reserve_local_memory(gpu, kernel.local_bytes).ok());
  size_t reserved = 0;
  ASSERT_EQ(gpu->cuda().limit(&reserved, kCudaLimitStack), kCudaSuccess);
  EXPECT_GE(reserved, static_cast<size_t>(kernel.local_bytes));
  ASSERT_TRUE(reserve_local_memory(gpu, 1).ok());
  ASSERT_EQ(gpu->cuda().limit(&reserved, kCudaLimitStack), kCudaSuccess);
  EXPECT_GE(reserved, static_cast<size_t>(kernel.local_bytes)) << "never less";
}

}  // namespace
}  // namespace tutti::gpu
