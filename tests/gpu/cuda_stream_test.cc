// SPDX-License-Identifier: Apache-2.0
// Work on streams, on the fake driver: what is ordered, what runs at the same time, and how errors are told.
#include "gpu/cuda_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "tests/gpu/fake_control.h"

namespace tutti::gpu {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// A device with streams of its own and words that streams can wait for.
class CudaStreams : public testing::Test {
 protected:
  const CudaDevicePtr gpu = device();
  PinnedMemory words = *allocate_pinned(gpu, 64);
  OwnedStream first = *make_stream(gpu, StreamPriority::First), second = *make_stream(gpu);
  CudaStream a{gpu, first.get()}, b{gpu, second.get()};

  CudaAddress word(int i) const { return reinterpret_cast<uintptr_t>(words.get()) + 8 * static_cast<uintptr_t>(i); }
  uint64_t value(int i) const {
    return std::atomic_ref<uint64_t>(*reinterpret_cast<uint64_t*>(word(i))).load(std::memory_order_acquire);
  }
  void set(int i, uint64_t to) const {
    std::atomic_ref<uint64_t>(*reinterpret_cast<uint64_t*>(word(i))).store(to, std::memory_order_release);
  }
  void TearDown() override { break_context(kCudaSuccess); }
};

TEST_F(CudaStreams, AStreamKeepsItsOrderAndAWaitHoldsOnlyItsStream) {
  const auto memory = allocate_device(gpu, 16);
  ASSERT_TRUE(a.wait_value(word(0), 1).ok());
  ASSERT_TRUE(a.copy(memory->get(), word(1), 8).ok());  // reads what b writes before it lets a go on
  ASSERT_TRUE(a.copy(word(2), memory->get(), 8).ok());
  EXPECT_FALSE(*a.idle());
  ASSERT_TRUE(b.write_value(word(1), 7).ok());
  ASSERT_TRUE(b.synchronize().ok());
  EXPECT_TRUE(*b.idle());
  EXPECT_FALSE(*a.idle());
  EXPECT_EQ(value(2), 0u);
  ASSERT_TRUE(b.write_value(word(0), 1).ok());
  ASSERT_TRUE(a.synchronize().ok());
  EXPECT_EQ(value(2), 7u);
  ASSERT_TRUE(a.fill(word(2), 0xff, 4).ok());
  ASSERT_TRUE(a.synchronize().ok());
  EXPECT_EQ(value(2), 0xffffffffu);
}

TEST_F(CudaStreams, EventsOrderStreamsAndTellHowFarTheyAre) {
  const auto event = make_event(gpu);
  EXPECT_TRUE(*reached(gpu, *event)) << "never recorded";
  ASSERT_TRUE(a.wait_value(word(0), 1).ok());
  ASSERT_TRUE(a.record(*event).ok());
  ASSERT_TRUE(b.wait(*event).ok());
  ASSERT_TRUE(b.write_value(word(1), 1).ok());
  EXPECT_FALSE(*reached(gpu, *event));
  EXPECT_FALSE(*b.idle());
  set(0, 1);
  ASSERT_TRUE(synchronize(gpu, *event).ok());
  EXPECT_TRUE(*reached(gpu, *event));
  ASSERT_TRUE(b.synchronize().ok());
  EXPECT_EQ(value(1), 1u);
}

TEST_F(CudaStreams, HostFunctionsRunInTurnAndMayNotCallCuda) {
  struct Seen {
    CudaStream stream;
    std::atomic<int> calls = 0, code_refused = 0;
  } seen{b};
  const auto function = [](void* at) {
    auto& mine = *static_cast<Seen*>(at);
    ++mine.calls;
    if (!mine.stream.write_value(0, 0).ok()) ++mine.code_refused;
  };
  ASSERT_TRUE(a.wait_value(word(0), 1).ok());
  ASSERT_TRUE(a.call_host(function, &seen).ok());
  ASSERT_TRUE(b.synchronize().ok());
  EXPECT_EQ(seen.calls, 0);
  set(0, 1);
  ASSERT_TRUE(a.synchronize().ok());
  EXPECT_EQ(seen.calls, 1);
  EXPECT_EQ(seen.code_refused, 1);
}

// Streams that were not made as ours are wait for the legacy stream and it for them.
TEST_F(CudaStreams, TheLegacyStreamIsOrderedWithTheUsersStreamsButNotWithOurs) {
  CudaStreamHandle users = nullptr;
  const CudaScope scope(*gpu);
  ASSERT_EQ(gpu->cuda().stream_create(&users, 0, 0), kCudaSuccess);
  const CudaStream user(gpu, users), legacy(gpu, nullptr);
  ASSERT_TRUE(user.wait_value(word(0), 1).ok());
  ASSERT_TRUE(legacy.write_value(word(1), 1).ok());
  ASSERT_TRUE(user.write_value(word(2), 1).ok());
  ASSERT_TRUE(a.write_value(word(3), 1).ok());
  ASSERT_TRUE(a.synchronize().ok());
  EXPECT_EQ(value(1), 0u);
  EXPECT_FALSE(*legacy.idle());
  set(0, 1);
  ASSERT_TRUE(user.synchronize().ok());
  EXPECT_EQ(value(1), 1u) << "before what the user's stream did next";
  EXPECT_EQ(gpu->cuda().stream_destroy(users), kCudaSuccess);
}

TEST_F(CudaStreams, AStreamOfAnotherDeviceIsNamed) {
  const CudaDevicePtr other = device(1);
  const auto stream = make_stream(other);
  EXPECT_TRUE(CudaStream(other, stream->get()).check_device().ok());
  EXPECT_TRUE(CudaStream(gpu, nullptr).check_device().ok());
  const Status status = CudaStream(gpu, stream->get()).check_device();
  EXPECT_EQ(status.code(), Code::InvalidArgument);
  EXPECT_THAT(status.message(), AllOf(HasSubstr("belongs to CUDA device 1"), HasSubstr("to device 0")));
}

TEST_F(CudaStreams, ALostContextEndsWhatWaitsAndEveryLaterCallSaysSo) {
  ASSERT_TRUE(a.wait_value(word(0), 1).ok());
  ASSERT_TRUE(a.write_value(word(1), 1).ok());
  break_context(kCudaIllegalAddress);
  const Status status = a.synchronize();
  EXPECT_THAT(status.message(), HasSubstr("cuStreamSynchronize on CUDA device 0 saw CUDA_ERROR_ILLEGAL_ADDRESS"));
  EXPECT_FALSE(a.idle().ok());
  EXPECT_FALSE(b.write_value(word(2), 1).ok());
  break_context(kCudaSuccess);
  ASSERT_TRUE(a.synchronize().ok());
  EXPECT_EQ(value(1), 0u) << "what was queued is dropped";
}

TEST(Cuda, StreamsAndEventsAreGivenBack) {
  {
    const CudaDevicePtr gpu = device();
    const auto stream = make_stream(gpu);
    const auto event = make_event(gpu);
    const auto words = allocate_pinned(gpu, 8);
    const CudaStream on(gpu, stream->get());
    ASSERT_TRUE(on.write_value(reinterpret_cast<uintptr_t>(words->get()), 1).ok());
    ASSERT_TRUE(on.record(*event).ok());
    ASSERT_TRUE(synchronize(gpu, *event).ok());
    EXPECT_EQ(alive_now().streams, 1);
    EXPECT_EQ(alive_now().events, 1);
  }
  EXPECT_EQ(alive(), 0);
}

}  // namespace
}  // namespace tutti::gpu
