// SPDX-License-Identifier: Apache-2.0
// Windows of GPUs in one process: what is launched, and by what. Values of all collectives: conformance --windows.
#include <thread>
#include <utility>

#include "comm_cuda/ranks.h"

namespace tutti {
namespace {

using ::testing::HasSubstr;

enum class Kind { Ordinary, Mapped, Given };

// A window of two million floats on each rank.
class Windows {
 public:
  static constexpr size_t kEach = 2 << 20;

  explicit Windows(const Ranks& ranks, Kind kind = Kind::Ordinary)
      : ranks_(ranks), handles_(static_cast<size_t>(ranks.n())) {
    for (const gpu::CudaDevicePtr& gpu : ranks.gpus) at_.push_back(allocate(gpu, kind));
    EXPECT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
    for (int r = 0; r < ranks.n(); ++r)
      EXPECT_EQ(
          tuttiCommWindowRegister(ranks.comm(r), at(r), kEach * sizeof(float), &handles_[static_cast<size_t>(r)], 0),
          TUTTI_SUCCESS)
          << last_text();
    EXPECT_EQ(tuttiGroupEnd(), TUTTI_SUCCESS) << last_text();
  }
  void end() {
    for (int r = 0; r < ranks_.n(); ++r)
      EXPECT_EQ(tuttiCommWindowDeregister(ranks_.comm(r), handles_[static_cast<size_t>(r)]), TUTTI_SUCCESS)
          << last_text();
    handles_.clear();
  }
  void forget() { handles_.clear(); }  // they end with their communicator
  ~Windows() {
    if (!handles_.empty()) end();
    free_given();
  }
  void free_given() {
    for (void* const memory : std::exchange(given_, {})) EXPECT_EQ(tuttiMemFree(memory), TUTTI_SUCCESS) << last_text();
  }

  float* at(int rank, size_t offset = 0) const { return at_[static_cast<size_t>(rank)] + offset; }

 private:
  float* allocate(const gpu::CudaDevicePtr& gpu, Kind kind) {
    constexpr size_t kBytes = kEach * sizeof(float);
    switch (kind) {
      case Kind::Ordinary:
        return reinterpret_cast<float*>(memory_.emplace_back(*gpu::allocate_device(gpu, kBytes)).get());
      case Kind::Mapped:
        return reinterpret_cast<float*>(mapped_.emplace_back(*gpu::MappedMemory::create(gpu, kBytes)).address());
      case Kind::Given:
        break;
    }
    EXPECT_EQ(tuttiMemAllocDevice(&given_.emplace_back(), kBytes, gpu->ordinal()), TUTTI_SUCCESS) << last_text();
    return static_cast<float*>(given_.back());
  }

  const Ranks& ranks_;
  std::vector<float*> at_;
  std::vector<gpu::DeviceMemory> memory_;
  std::vector<gpu::MappedMemory> mapped_;
  std::vector<void*> given_;
  std::vector<tuttiWindow_t> handles_;
};

// An all-reduce of `count` floats from `in` to `out`, in each rank's window or elsewhere.
void all_reduce(const Ranks& ranks, const std::vector<float*>& in, const std::vector<float*>& out, size_t count) {
  for (int r = 0; r < ranks.n(); ++r) {
    for (size_t i = 0; i < count; ++i)
      in[static_cast<size_t>(r)][i] = static_cast<float>(r + 1) + static_cast<float>(i % 1000);
  }
  ASSERT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
  for (int r = 0; r < ranks.n(); ++r) {
    const auto at = static_cast<size_t>(r);
    ASSERT_EQ(tuttiAllReduce(in[at], out[at], count, TUTTI_FLOAT32, TUTTI_SUM, ranks.comm(r), ranks.stream(r)),
              TUTTI_SUCCESS);
  }
  ASSERT_EQ(tuttiGroupEnd(), TUTTI_SUCCESS) << last_text();
  ranks.synchronize();
  const auto n = static_cast<float>(ranks.n());
  for (const float* one : out) {
    for (size_t i = 0; i < count; ++i) ASSERT_EQ(one[i], n * (n + 1) / 2 + n * static_cast<float>(i % 1000)) << i;
  }
}

std::vector<float*> in_windows(const Windows& windows, int n, size_t offset) {
  std::vector<float*> at;
  for (int r = 0; r < n; ++r) at.push_back(windows.at(r, offset));
  return at;
}

class CudaWindows : public testing::TestWithParam<std::vector<int>> {};

TEST_P(CudaWindows, AreUsedWhereTheBuffersOfAllRanksLieInThem) {
  constexpr size_t kCount = 100000;
  {
    const Ranks ranks(GetParam());
    for (const Kind kind : {Kind::Ordinary, Kind::Mapped}) {
      Windows windows(ranks, kind);
      const auto in = in_windows(windows, ranks.n(), 0), out = in_windows(windows, ranks.n(), kCount);
      all_reduce(ranks, in, out, kCount);
      EXPECT_THAT(last_protocol(ranks.comm(0)), HasSubstr("rma"));
      all_reduce(ranks, in, in, kCount);
      EXPECT_THAT(last_protocol(ranks.comm(0)), HasSubstr("rma"));
      // Elsewhere on one rank: as without.
      std::vector<gpu::DeviceMemory> apart;
      apart.push_back(*gpu::allocate_device(ranks.gpus[1], kCount * sizeof(float)));
      std::vector<float*> odd = out;
      odd[1] = reinterpret_cast<float*>(apart[0].get());
      all_reduce(ranks, in, odd, kCount);
      EXPECT_THAT(last_protocol(ranks.comm(0)), testing::Not(HasSubstr("rma")));
      // To the very end.
      all_reduce(ranks, in, in_windows(windows, ranks.n(), Windows::kEach - kCount), kCount);
      EXPECT_THAT(last_protocol(ranks.comm(0)), HasSubstr("rma"));
      windows.end();
      all_reduce(ranks, in, out, kCount);
      EXPECT_THAT(last_protocol(ranks.comm(0)), testing::Not(HasSubstr("rma")));
    }
  }
  EXPECT_EQ(gpu::alive(), 0);
}

// What the library gave stays while peers may use it, though the program has freed it: to the end of its window, or of
// the communicator.
TEST_P(CudaWindows, KeepMemoryThatIsFreedWhileItIsRegistered) {
  constexpr size_t kCount = 20000;
  for (const bool to_the_end : {false, true}) {
    {
      const Ranks ranks(GetParam());
      const int apart = gpu::alive_now().mapped;
      Windows windows(ranks, Kind::Given);
      all_reduce(ranks, in_windows(windows, ranks.n(), 0), in_windows(windows, ranks.n(), kCount), kCount);
      EXPECT_THAT(last_protocol(ranks.comm(0)), HasSubstr("rma"));
      EXPECT_EQ(gpu::alive_now().mapped, apart + ranks.n());
      windows.free_given();
      EXPECT_EQ(gpu::alive_now().mapped, apart + ranks.n());
      if (to_the_end) {
        windows.forget();
      } else {
        windows.end();
        EXPECT_EQ(gpu::alive_now().mapped, apart);
      }
    }
    EXPECT_EQ(gpu::alive(), 0);
  }
}

// 1.2 MB from each rank: no kernel is launched, no copy waits for the host, and what comes before and after on every
// stream keeps its place.
TEST_P(CudaWindows, LongCopiesAreLeftToCopyEngines) {
  constexpr size_t kCount = 300000;
  {
    const Ranks ranks(GetParam());
    const Windows windows(ranks);
    const auto n = static_cast<size_t>(ranks.n());
    const auto gather = [&](float factor, bool in_place) {
      EXPECT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
      for (int r = 0; r < ranks.n(); ++r) {
        float* const out = windows.at(r);
        float* const in = in_place ? out + static_cast<size_t>(r) * kCount : windows.at(r, n * kCount);
        for (size_t i = 0; i < kCount; ++i) in[i] = factor * static_cast<float>(r + 1) + static_cast<float>(i);
        EXPECT_EQ(tuttiAllGather(in, out, kCount, TUTTI_FLOAT32, ranks.comm(r), ranks.stream(r)), TUTTI_SUCCESS);
      }
      return tuttiGroupEnd();
    };
    const auto expect_gathered = [&](float factor) {
      for (int r = 0; r < ranks.n(); ++r) {
        for (size_t i = 0; i < n * kCount; i += 7)
          ASSERT_EQ(windows.at(r)[i], factor * static_cast<float>(i / kCount + 1) + static_cast<float>(i % kCount));
      }
    };
    gpu::fail("cuLaunchKernelEx", 1, gpu::kCudaLaunchFailed);
    for (const bool in_place : {false, true}) {
      ASSERT_EQ(gather(in_place ? 2 : 1, in_place), TUTTI_SUCCESS) << last_text();
      ranks.synchronize();
      expect_gathered(in_place ? 2 : 1);
    }
    // Held on one stream nobody has it, and no stream is past it.
    const Hold hold(ranks.gpus[1]);
    hold.stop(ranks.streams[1]);
    ASSERT_EQ(gather(3, false), TUTTI_SUCCESS) << last_text();
    for (const gpu::CudaStream& stream : ranks.streams) EXPECT_FALSE(*stream.idle());
    EXPECT_EQ(windows.at(0)[1], 2 + 1.0F);
    hold.go_on();
    ranks.synchronize();
    expect_gathered(3);
    gpu::fail("cuLaunchKernelEx", 1, gpu::kCudaSuccess);
  }
  EXPECT_EQ(gpu::alive(), 0);
}

TEST_P(CudaWindows, ServeCapturedCalls) {
  for (const size_t count : {size_t{20000}, size_t{300000}}) {  // by kernels, by copy engines
    const Ranks ranks(GetParam());
    const Windows windows(ranks);
    const auto n = static_cast<size_t>(ranks.n());
    const gpu::CudaRun& cuda = ranks.gpus[0]->cuda();
    const gpu::CudaStream& first = ranks.streams[0];
    const gpu::CudaScope scope(*ranks.gpus[0]);
    ASSERT_EQ(cuda.capture_begin(first.handle(), gpu::kCudaCaptureGlobal), gpu::kCudaSuccess);
    const gpu::OwnedEvent fork = *gpu::make_event(ranks.gpus[0]);
    ASSERT_TRUE(first.record(fork).ok());
    for (size_t r = 1; r < n; ++r) ASSERT_TRUE(ranks.streams[r].wait(fork).ok());
    ASSERT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
    for (int r = 0; r < ranks.n(); ++r)
      ASSERT_EQ(
          tuttiAllGather(windows.at(r, n * count), windows.at(r), count, TUTTI_FLOAT32, ranks.comm(r), ranks.stream(r)),
          TUTTI_SUCCESS);
    ASSERT_EQ(tuttiGroupEnd(), TUTTI_SUCCESS) << last_text();
    std::vector<gpu::OwnedEvent> joins(n);
    for (size_t r = 1; r < n; ++r) {
      joins[r] = *gpu::make_event(ranks.gpus[r]);
      ASSERT_TRUE(ranks.streams[r].record(joins[r]).ok());
      ASSERT_TRUE(first.wait(joins[r]).ok());
    }
    gpu::CudaGraph graph = nullptr;
    ASSERT_EQ(cuda.capture_end(first.handle(), &graph), gpu::kCudaSuccess);
    gpu::CudaGraphExec exec = nullptr;
    ASSERT_EQ(cuda.graph_instantiate(&exec, graph, 0), gpu::kCudaSuccess);
    for (int replay = 1; replay <= 3; ++replay) {
      for (int r = 0; r < ranks.n(); ++r)
        std::fill_n(windows.at(r, n * count), count, static_cast<float>(replay * 10 + r));
      ASSERT_EQ(cuda.graph_launch(exec, first.handle()), gpu::kCudaSuccess);
      ASSERT_TRUE(first.synchronize().ok());
      for (int r = 0; r < ranks.n(); ++r) {
        for (size_t i = 0; i < n * count; i += 11)
          ASSERT_EQ(windows.at(r)[i], static_cast<float>(replay * 10) + static_cast<float>(i / count));
      }
    }
    EXPECT_EQ(cuda.graph_exec_destroy(exec), gpu::kCudaSuccess);
    EXPECT_EQ(cuda.graph_destroy(graph), gpu::kCudaSuccess);
  }
  EXPECT_EQ(gpu::alive(), 0);
}

// A kernel that waits for others in windows ends when the communicator is aborted.
TEST(CudaWindowsAlone, AbortEndsCallsInWindows) {
  {
    Ranks ranks({0, 1});
    const Hold hold(ranks.gpus[1]);
    Windows windows(ranks);
    hold.stop(ranks.streams[1]);
    ASSERT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
    for (int r = 0; r < 2; ++r)
      ASSERT_EQ(tuttiAllReduce(windows.at(r), windows.at(r), 500000, TUTTI_FLOAT32, TUTTI_SUM, ranks.comm(r),
                               ranks.stream(r)),
                TUTTI_SUCCESS);
    ASSERT_EQ(tuttiGroupEnd(), TUTTI_SUCCESS) << last_text();
    windows.forget();
    EXPECT_FALSE(*ranks.streams[0].idle());
    std::thread aborts([&] { EXPECT_EQ(tuttiCommAbort(ranks.comms[0]), TUTTI_SUCCESS) << last_text(); });
    EXPECT_TRUE(ranks.streams[0].synchronize().ok());  // its kernel has ended, though the other has not begun
    hold.go_on();
    aborts.join();
    ranks.comms[0] = nullptr;
    ranks.synchronize();
  }
  EXPECT_EQ(gpu::alive(), 0);
}

TEST(CudaWindowsAlone, OtherMemoryGainsNothing) {
  const Ranks ranks({0, 1});
  std::vector<tuttiWindow_t> handles(2);
  const gpu::PinnedMemory pinned = *gpu::allocate_pinned(ranks.gpus[0], 1 << 20);
  const gpu::DeviceMemory memory = *gpu::allocate_device(ranks.gpus[1], 1 << 20);
  void* const places[2] = {pinned.get(), reinterpret_cast<void*>(memory.get())};
  for (const size_t bytes : {size_t{1} << 20, size_t{1} << 21}) {  // the second: more than the memory has
    ASSERT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
    for (size_t r = 0; r < 2; ++r)
      ASSERT_EQ(tuttiCommWindowRegister(ranks.comms[r], places[r], bytes, &handles[r], 0), TUTTI_SUCCESS);
    ASSERT_EQ(tuttiGroupEnd(), TUTTI_SUCCESS) << last_text();
    ASSERT_EQ(ranks.all_reduce_together(), TUTTI_SUCCESS) << last_text();
    ranks.synchronize();
    ranks.expect_sums(1);
    for (size_t r = 0; r < 2; ++r)
      EXPECT_EQ(tuttiCommWindowDeregister(ranks.comms[r], handles[r]), TUTTI_SUCCESS) << last_text();
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, CudaWindows,
                         testing::Values(std::vector<int>{0, 0, 0}, std::vector<int>{0, 1, 0, 1}));

}  // namespace
}  // namespace tutti
