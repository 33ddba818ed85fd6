// SPDX-License-Identifier: Apache-2.0
// Random operations on four communicators at once, which share GPUs: each has a thread that brings the calls of all its
// ranks, several at a time on several streams, in windows and elsewhere. Every value is checked.
//
// TUTTI_CUDA_OPERATIONS: how many, of all communicators together, instead of the numbers below.
#include <cstdlib>
#include <random>
#include <thread>

#include "comm_cuda/ranks.h"

namespace tutti {
namespace {

constexpr size_t kMost = 4096;     // elements of a block
constexpr size_t kInFlight = 3;    // operations between two looks
constexpr uint64_t kChange = 100;  // operations between two changes of the windows

int32_t value(int rank, uint64_t number, size_t i) {
  return static_cast<int32_t>(static_cast<uint64_t>(rank) + number * 31 % 1000 + i % 500);
}

class Worker {
 public:
  Worker(std::vector<int> devices, uint64_t seed) : devices_(std::move(devices)), random_(seed) {
    const auto n = devices_.size();
    comms_.resize(n);
    windows_.resize(n);
    EXPECT_EQ(tuttiCommInitAll(comms_.data(), static_cast<int>(n), devices_.data()), TUTTI_SUCCESS) << last_text();
    for (const int device : devices_) {
      gpus_.push_back(gpu::device(device));
      for (int i = 0; i < 2; ++i) {
        owned_.push_back(*gpu::make_stream(gpus_.back()));
        streams_.emplace_back(gpus_.back(), owned_.back().get());
      }
      memory_.push_back(*gpu::allocate_device(gpus_.back(), 2 * kInFlight * region() * sizeof(int32_t)));
    }
  }
  ~Worker() {
    end_windows();
    for (const tuttiComm_t comm : comms_) EXPECT_EQ(tuttiCommDestroy(comm), TUTTI_SUCCESS) << last_text();
  }

  void run(uint64_t operations) {
    for (uint64_t number = 0; number < operations && !testing::Test::HasFailure(); ++number) {
      if (number % kChange == kChange / 2) change_windows();
      operation(number);
      if (number % kInFlight == kInFlight - 1) look();
    }
    look();
  }

 private:
  int n() const { return static_cast<int>(devices_.size()); }
  size_t region() const { return devices_.size() * kMost; }  // of one buffer
  int32_t* in(int rank) const { return base(rank) + 2 * slot_ * region(); }
  int32_t* out(int rank) const { return in(rank) + region(); }
  int32_t* base(int rank) const { return reinterpret_cast<int32_t*>(memory_[static_cast<size_t>(rank)].get()); }
  tuttiComm_t comm(int rank) const { return comms_[static_cast<size_t>(rank)]; }
  tuttiStream_t stream(int rank) {
    return reinterpret_cast<tuttiStream_t>(streams_[static_cast<size_t>(rank) * 2 + random_() % 2].handle());
  }

  // All of the buffers, a part, or nothing is a window.
  void change_windows() {
    look();
    end_windows();
    const size_t bytes = random_() % 3 * kInFlight * region() * sizeof(int32_t);
    if (bytes == 0) return;
    together(
        [&](int r) { return tuttiCommWindowRegister(comm(r), base(r), bytes, &windows_[static_cast<size_t>(r)], 0); });
  }
  void end_windows() {
    for (int r = 0; r < n(); ++r) {
      tuttiWindow_t& window = windows_[static_cast<size_t>(r)];
      if (window != nullptr) EXPECT_EQ(tuttiCommWindowDeregister(comm(r), window), TUTTI_SUCCESS) << last_text();
      window = nullptr;
    }
  }

  template <class Call>
  void together(Call call) {
    EXPECT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
    for (int r = 0; r < n(); ++r) EXPECT_EQ(call(r), TUTTI_SUCCESS) << last_text();
    EXPECT_EQ(tuttiGroupEnd(), TUTTI_SUCCESS) << last_text();
  }
  void fill(uint64_t number, size_t count) {
    for (int r = 0; r < n(); ++r) {
      for (size_t i = 0; i < count; ++i) in(r)[i] = value(r, number, i);
    }
  }
  // Later, `count` elements of each rank's output (the root's alone, if there is one that matters).
  template <class Want>
  void expect(size_t count, Want want, int only = -1) {
    for (int r = 0; r < n(); ++r) {
      if (only >= 0 && r != only) continue;
      checks_.push_back([this, at = out(r), count, want, r] {
        for (size_t i = 0; i < count; ++i) ASSERT_EQ(at[i], want(r, i)) << "rank " << r << " at " << i;
      });
    }
  }
  void look() {
    for (const gpu::CudaStream& one : streams_) ASSERT_TRUE(one.synchronize().ok());
    for (const auto& check : checks_) check();
    checks_.clear();
  }

  void operation(uint64_t number) {
    SCOPED_TRACE(number);
    slot_ = number % kInFlight;
    const uint64_t dice = random_();
    const size_t count = dice % 8 < 5 ? 1 + dice / 8 % 64 : 1 + dice / 8 % kMost;
    const int root = static_cast<int>((dice >> 32) % static_cast<uint64_t>(n()));
    const auto ranks = static_cast<size_t>(n());
    const auto all = static_cast<int32_t>(ranks * (ranks - 1) / 2);
    const auto sum = [=](size_t i) { return static_cast<int32_t>(ranks) * value(0, number, i) + all; };
    switch ((dice >> 48) % 9) {
      case 0:
        fill(number, count);
        together(
            [&](int r) { return tuttiAllReduce(in(r), out(r), count, TUTTI_INT32, TUTTI_SUM, comm(r), stream(r)); });
        return expect(count, [=](int, size_t i) { return sum(i); });
      case 1:
        fill(number, count);
        together(
            [&](int r) { return tuttiReduce(in(r), out(r), count, TUTTI_INT32, TUTTI_MAX, root, comm(r), stream(r)); });
        return expect(
            count, [=](int, size_t i) { return value(static_cast<int>(ranks) - 1, number, i); }, root);
      case 2:
        fill(number, count);
        together([&](int r) { return tuttiBroadcast(in(r), out(r), count, TUTTI_INT32, root, comm(r), stream(r)); });
        return expect(count, [=](int, size_t i) { return value(root, number, i); });
      case 3:
        fill(number, count);
        together([&](int r) { return tuttiAllGather(in(r), out(r), count, TUTTI_INT32, comm(r), stream(r)); });
        return expect(count * ranks,
                      [=](int, size_t i) { return value(static_cast<int>(i / count), number, i % count); });
      case 4:
        fill(number, count * ranks);
        together([&](int r) {
          return tuttiReduceScatter(in(r), out(r), count, TUTTI_INT32, TUTTI_SUM, comm(r), stream(r));
        });
        return expect(count, [=](int r, size_t i) { return sum(static_cast<size_t>(r) * count + i); });
      case 5:
        fill(number, count * ranks);
        together([&](int r) { return tuttiAllToAll(in(r), out(r), count, TUTTI_INT32, comm(r), stream(r)); });
        return expect(count * ranks, [=](int r, size_t i) {
          return value(static_cast<int>(i / count), number, static_cast<size_t>(r) * count + i % count);
        });
      case 6:
        fill(number, count);
        together([&](int r) { return tuttiGather(in(r), out(r), count, TUTTI_INT32, root, comm(r), stream(r)); });
        return expect(
            count * ranks, [=](int, size_t i) { return value(static_cast<int>(i / count), number, i % count); }, root);
      case 7:
        fill(number, count * ranks);
        together([&](int r) { return tuttiScatter(in(r), out(r), count, TUTTI_INT32, root, comm(r), stream(r)); });
        return expect(count, [=](int r, size_t i) { return value(root, number, static_cast<size_t>(r) * count + i); });
      default:
        return round(number, count);
    }
  }

  // Each rank sends to the next, on one stream each, as the messages of a rank have no order on two.
  void round(uint64_t number, size_t count) {
    fill(number, count);
    const int all = n();
    together([&](int r) {
      const tuttiStream_t on = stream(r);
      const tuttiResult_t sent = tuttiSend(in(r), count, TUTTI_INT32, (r + 1) % all, comm(r), on);
      return sent != TUTTI_SUCCESS ? sent : tuttiRecv(out(r), count, TUTTI_INT32, (r + all - 1) % all, comm(r), on);
    });
    expect(count, [=](int r, size_t i) { return value((r + all - 1) % all, number, i); });
  }

  const std::vector<int> devices_;
  std::mt19937_64 random_;
  std::vector<tuttiComm_t> comms_;
  std::vector<tuttiWindow_t> windows_;
  std::vector<gpu::CudaDevicePtr> gpus_;
  std::vector<gpu::OwnedStream> owned_;
  std::vector<gpu::CudaStream> streams_;  // two of each rank
  std::vector<gpu::DeviceMemory> memory_;
  std::vector<std::function<void()>> checks_;
  size_t slot_ = 0;
};

void run_all(uint64_t operations) {
  if (const char* const text = std::getenv("TUTTI_CUDA_OPERATIONS")) operations = std::strtoull(text, nullptr, 10);
  const std::vector<int> layouts[] = {{0, 1}, {1, 0, 1}, {0, 0, 0, 0}, {1, 1, 0, 0}};
  {
    std::vector<std::unique_ptr<Worker>> workers;
    for (const auto& devices : layouts) workers.push_back(std::make_unique<Worker>(devices, workers.size() + 1));
    std::vector<std::thread> threads;
    for (const auto& worker : workers) threads.emplace_back([&, w = worker.get()] { w->run(operations / 4); });
    for (std::thread& thread : threads) thread.join();
  }
  EXPECT_EQ(gpu::alive(), 0);
}

TEST(CudaRandom, OperationsOnFourCommunicatorsAtOnce) { run_all(400); }
TEST(FullCudaRandom, OperationsOnFourCommunicatorsAtOnce) { run_all(10'000); }

}  // namespace
}  // namespace tutti
