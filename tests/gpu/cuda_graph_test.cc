// SPDX-License-Identifier: Apache-2.0
// Capture of streams and replay of graphs, on the fake driver.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "gpu/cuda_module.h"
#include "tests/gpu/fake_control.h"

namespace tutti::gpu {
namespace {

using fakes::FakeKernelWords;
using ::testing::HasSubstr;

constexpr unsigned char kImage[] = "any";

class CudaGraphs : public testing::Test {
 protected:
  const CudaDevicePtr gpu = device();
  const CudaScope scope{*gpu};
  const CudaRun& cuda = gpu->cuda();
  PinnedMemory words = *allocate_pinned(gpu, 64);
  OwnedStream first = *make_stream(gpu), second = *make_stream(gpu);
  OwnedEvent fork = *make_event(gpu), join = *make_event(gpu);
  CudaStream a{gpu, first.get()}, b{gpu, second.get()};
  CudaModuleOwner module = *CudaModuleOwner::load(gpu, kImage, "sm_90");
  CudaKernel add = *module.kernel("fake_add"), meet = *module.kernel("fake_meet");
  CudaGraph graph = nullptr;
  CudaGraphExec exec = nullptr;

  uint64_t* word(int i) const { return static_cast<uint64_t*>(words.get()) + i; }
  uint64_t value(int i) const { return std::atomic_ref<uint64_t>(*word(i)).load(std::memory_order_acquire); }
  void begin(int mode = kCudaCaptureGlobal) { ASSERT_EQ(cuda.capture_begin(a.handle(), mode), kCudaSuccess); }
  int end() { return cuda.capture_end(a.handle(), &graph); }
  void instantiate() { ASSERT_EQ(cuda.graph_instantiate(&exec, graph, 0), kCudaSuccess); }
  Status launch_words(const CudaStream& stream, const CudaKernel& kernel, FakeKernelWords parameter) const {
    return launch(stream, kernel, {}, &parameter);
  }
  void TearDown() override {
    if (exec != nullptr) {
      EXPECT_EQ(cuda.graph_exec_destroy(exec), kCudaSuccess);
    }
    if (graph != nullptr) {
      EXPECT_EQ(cuda.graph_destroy(graph), kCudaSuccess);
    }
    EXPECT_EQ(alive_now().graphs + alive_now().execs + alive_now().kept, 0);
  }
};

TEST_F(CudaGraphs, WhatIsCapturedRunsAtEachReplayAndNotBefore) {
  begin();
  EXPECT_TRUE(a.capture()->has_value());
  EXPECT_FALSE(b.capture()->has_value());
  ASSERT_TRUE(launch_words(a, add, {word(0), 1}).ok());
  ASSERT_TRUE(a.write_value(reinterpret_cast<uintptr_t>(word(1)), 5).ok());
  ASSERT_EQ(end(), kCudaSuccess);
  EXPECT_FALSE(a.capture()->has_value());
  ASSERT_TRUE(a.synchronize().ok());
  EXPECT_EQ(value(0), 0u);
  instantiate();
  for (int replay = 0; replay < 3; ++replay) ASSERT_EQ(cuda.graph_launch(exec, b.handle()), kCudaSuccess);
  ASSERT_EQ(cuda.graph_launch(exec, a.handle()), kCudaSuccess);  // one graph does not overlap itself
  ASSERT_TRUE(a.synchronize().ok());
  EXPECT_EQ(value(0), 4 * 32u);
  EXPECT_EQ(value(1), 5u);
}

TEST_F(CudaGraphs, StreamsThatEventsJoinBelongToTheCaptureAndTheirKernelsRunTogether) {
  begin();
  ASSERT_TRUE(launch_words(a, add, {word(0), 1}).ok());
  ASSERT_TRUE(a.record(fork).ok());
  ASSERT_TRUE(b.wait(fork).ok());
  ASSERT_TRUE(b.capture()->has_value());
  EXPECT_EQ((*b.capture())->id, (*a.capture())->id);
  EXPECT_EQ((*b.capture())->graph, (*a.capture())->graph);
  ASSERT_TRUE(launch_words(a, meet, {word(1), 2}).ok());
  ASSERT_TRUE(launch_words(b, meet, {word(1), 2}).ok());
  ASSERT_TRUE(b.record(join).ok());
  ASSERT_TRUE(a.wait(join).ok());
  ASSERT_TRUE(launch_words(a, add, {word(2), 1}).ok());
  ASSERT_EQ(end(), kCudaSuccess);
  EXPECT_FALSE(b.capture()->has_value());
  instantiate();
  for (uint64_t replay = 1; replay <= 2; ++replay) {
    *word(1) = 0;
    ASSERT_EQ(cuda.graph_launch(exec, a.handle()), kCudaSuccess);
    ASSERT_TRUE(a.synchronize().ok());
    EXPECT_EQ(value(0), replay * 32);
    EXPECT_EQ(value(1), 2u);
    EXPECT_EQ(value(2), replay * 32);
  }
}

TEST_F(CudaGraphs, AStreamThatDoesNotComeBackMakesTheCaptureFail) {
  begin();
  ASSERT_TRUE(a.record(fork).ok());
  ASSERT_TRUE(b.wait(fork).ok());
  ASSERT_TRUE(launch_words(b, add, {word(0), 1}).ok());
  EXPECT_EQ(end(), kCudaCaptureUnjoined);
  EXPECT_EQ(graph, nullptr);
  EXPECT_FALSE(b.capture()->has_value()) << "the capture is over all the same";
}

TEST_F(CudaGraphs, WhatWaitsForTheDeviceIsRefusedAndInvalidatesTheCapture) {
  begin();
  EXPECT_THAT(allocate_device(gpu, 8).status().message(), HasSubstr("before the capture begins"));
  EXPECT_THAT(a.capture().status().message(), HasSubstr("was invalidated"));
  EXPECT_FALSE(launch_words(a, add, {word(0), 1}).ok());
  EXPECT_EQ(end(), kCudaCaptureInvalidated);
  begin();
  EXPECT_FALSE(a.synchronize().ok());
  EXPECT_EQ(end(), kCudaCaptureInvalidated);
  begin();
  {
    const AllowedWhileCapturing allowed(cuda);
    EXPECT_TRUE(allocate_device(gpu, 8).ok());
    EXPECT_TRUE(CudaModuleOwner::load(gpu, kImage, "sm_90").ok());
  }
  ASSERT_TRUE(a.capture()->has_value());
  EXPECT_EQ(end(), kCudaSuccess);
}

TEST_F(CudaGraphs, TheLegacyStreamCannotWaitForAUsersStreamThatIsCaptured) {
  CudaStreamHandle users = nullptr;
  ASSERT_EQ(cuda.stream_create(&users, 0, 0), kCudaSuccess);
  ASSERT_EQ(cuda.capture_begin(users, kCudaCaptureRelaxed), kCudaSuccess);
  const Status status = CudaStream(gpu, nullptr).write_value(reinterpret_cast<uintptr_t>(word(0)), 1);
  EXPECT_THAT(status.message(), HasSubstr("CUDA_ERROR_STREAM_CAPTURE_IMPLICIT"));
  EXPECT_EQ(cuda.capture_end(users, &graph), kCudaCaptureInvalidated);
  EXPECT_EQ(cuda.stream_destroy(users), kCudaSuccess);
}

TEST_F(CudaGraphs, WhatAGraphKeepsEndsWithTheLastThatWasMadeFromIt) {
  static std::atomic<int> released;
  released = 0;
  int object = 0;
  begin();
  ASSERT_TRUE(launch_words(a, add, {word(0), 1}).ok());
  ASSERT_TRUE(keep_with_graph(gpu, (*a.capture())->graph, &object, [](void*) { ++released; }).ok());
  fail("cuGraphRetainUserObject", 1, kCudaOutOfMemory);
  EXPECT_FALSE(keep_with_graph(gpu, (*a.capture())->graph, &object, [](void*) { released += 100; }).ok());
  ASSERT_EQ(end(), kCudaSuccess);
  instantiate();
  ASSERT_EQ(cuda.graph_destroy(std::exchange(graph, nullptr)), kCudaSuccess);
  EXPECT_EQ(released, 0);
  ASSERT_EQ(cuda.graph_launch(exec, a.handle()), kCudaSuccess);
  ASSERT_EQ(cuda.graph_exec_destroy(std::exchange(exec, nullptr)), kCudaSuccess);
  EXPECT_EQ(released, 1);
  EXPECT_EQ(value(0), 32u) << "after the replay";
}

}  // namespace
}  // namespace tutti::gpu
