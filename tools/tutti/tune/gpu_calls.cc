// SPDX-License-Identifier: Apache-2.0
#include "tools/tutti/tune/gpu_calls.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>

#include "base/env.h"
#include "gpu/cuda_peers.h"
#include "gpu/cuda_stream.h"
#include "tools/tutti/tune/issue.h"

namespace tutti::tool {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kFewestBatches = 3, kMostBatches = 9, kMostCalls = 1000;

double us_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

Status result_status(tuttiResult_t result, std::string_view call) {
  if (result == TUTTI_SUCCESS) return {};
  return system_error("{}: {}", call, tuttiGetLastError(nullptr));
}

// One rank's stream and buffers, as long as the largest call needs.
struct Seat {
  gpu::CudaDevicePtr device;
  gpu::OwnedStream stream;
  gpu::DeviceMemory in, out;

  static Result<Seat> make(const gpu::CudaDevicePtr& device, size_t bytes) {
    Seat seat{device, {}, {}, {}};
    TUTTI_ASSIGN_OR_RETURN(seat.stream, gpu::make_stream(device));
    TUTTI_ASSIGN_OR_RETURN(seat.in, gpu::allocate_device(device, bytes));
    TUTTI_ASSIGN_OR_RETURN(seat.out, gpu::allocate_device(device, bytes));
    const gpu::CudaStream on(device, seat.stream.get());
    TUTTI_TRY(on.fill(seat.in.get(), 0, bytes));
    TUTTI_TRY(on.fill(seat.out.get(), 0, bytes));
    TUTTI_TRY(on.synchronize());
    return seat;
  }
  Status synchronize() const { return gpu::CudaStream(device, stream.get()).synchronize(); }
};

class Ranks {
 public:
  Ranks(const Calls& calls, const Way& way, const std::vector<Seat>& seats)
      : calls_(calls), seats_(seats), comms_(seats.size(), nullptr) {
    algorithm_ = fmt::format("{}:{}", name(calls.coll), name(way.algo));
    protocol_ = name(way.proto);
  }
  ~Ranks() {
    tuttiGroupStart();
    for (const tuttiComm_t comm : comms_) {
      if (comm != nullptr) tuttiCommDestroy(comm);
    }
    tuttiGroupEnd();
  }
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  Status join() {
    tuttiUniqueId id;
    TUTTI_TRY(result_status(tuttiGetUniqueId(&id), "tuttiGetUniqueId"));
    tuttiConfig_t config = TUTTI_CONFIG_INITIALIZER;
    config.algorithms = algorithm_.c_str();
    config.protocols = protocol_.c_str();
    tuttiGroupStart();
    tuttiResult_t made = TUTTI_SUCCESS;
    for (size_t r = 0; r < seats_.size() && made == TUTTI_SUCCESS; ++r) {
      config.device = seats_[r].device->ordinal();
      made = tuttiCommInitRankConfig(&comms_[r], calls_.ranks, id, static_cast<int>(r), &config);
    }
    const tuttiResult_t ended = tuttiGroupEnd();
    return result_status(made == TUTTI_SUCCESS ? ended : made, "tuttiCommInitRankConfig");
  }

  // 0: not served.
  Result<double> time(uint64_t bytes, double budget_ms) {
    const auto n = static_cast<size_t>(calls_.ranks);
    const size_t whole = std::max<size_t>(bytes / sizeof(float) / n * n, n);
    const tuttiResult_t first = call(whole);
    if (first == TUTTI_INVALID_USAGE) return 0.0;
    TUTTI_TRY(result_status(first, "a call"));
    TUTTI_TRY(synchronize());
    TUTTI_ASSIGN_OR_RETURN(double pace_us, batch(whole, 1));
    const double batch_us = budget_ms * 1e3 / kMostBatches;
    const auto calls_in = [&] { return static_cast<int>(std::clamp(batch_us / pace_us, 1.0, double{kMostCalls})); };
    for (int look = 0; look < 3 && calls_in() > 1; ++look) {
      TUTTI_ASSIGN_OR_RETURN(const double us, batch(whole, calls_in()));
      pace_us = std::min(pace_us, us);
    }
    const int calls = calls_in();
    const auto count =
        static_cast<int>(std::clamp(budget_ms * 1e3 / (calls * pace_us), double{kFewestBatches}, double{kMostBatches}));
    std::vector<double> each;
    for (int i = 0; i < count; ++i) {
      TUTTI_ASSIGN_OR_RETURN(const double us, batch(whole, calls));
      each.push_back(us);
    }
    return lower_quartile(std::move(each));
  }

 private:
  tuttiResult_t call(size_t whole) {
    tuttiGroupStart();
    tuttiResult_t result = TUTTI_SUCCESS;
    for (size_t r = 0; r < seats_.size() && result == TUTTI_SUCCESS; ++r) {
      const Seat& seat = seats_[r];
      auto* const out = reinterpret_cast<float*>(seat.out.get());
      auto* const in = calls_.coll == Coll::Broadcast ? out : reinterpret_cast<float*>(seat.in.get());
      result = issue({calls_.coll, calls_.ranks, static_cast<int>(r), comms_[r],
                      reinterpret_cast<tuttiStream_t>(seat.stream.get())},
                     in, out, whole);
    }
    const tuttiResult_t ended = tuttiGroupEnd();
    return result == TUTTI_SUCCESS ? ended : result;
  }
  Result<double> batch(size_t whole, int calls) {
    const Clock::time_point start = Clock::now();
    for (int i = 0; i < calls; ++i) TUTTI_TRY(result_status(call(whole), "a call"));
    TUTTI_TRY(synchronize());
    return us_since(start) / calls;
  }
  Status synchronize() const {
    for (const Seat& seat : seats_) TUTTI_TRY(seat.synchronize());
    return {};
  }

  const Calls& calls_;
  const std::vector<Seat>& seats_;
  std::string algorithm_, protocol_;
  std::vector<tuttiComm_t> comms_;
};

}  // namespace

Result<std::unique_ptr<GpuBench>> GpuBench::open() {
  TUTTI_ASSIGN_OR_RETURN(const gpu::CudaRun* const cuda, gpu::load_cuda(env().cuda_library));
  int count = 0;
  TUTTI_TRY(gpu::cuda_status(*cuda, cuda->count(&count), "cuDeviceGetCount", -1));
  std::unique_ptr<GpuBench> bench(new GpuBench);
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    TUTTI_ASSIGN_OR_RETURN(const gpu::CudaIdentity identity, gpu::identify(*cuda, ordinal));
    if (ordinal == 0) bench->gpu_ = identity.name.data();
    if (identity.name.data() != bench->gpu_) continue;
    TUTTI_ASSIGN_OR_RETURN(gpu::CudaDevicePtr device, gpu::CudaContextOwner::retain(*cuda, ordinal));
    bench->devices_.push_back(std::move(device));
  }
  if (bench->devices_.empty()) return system_error("no GPU is visible");
  return bench;
}

Result<std::vector<std::vector<double>>> GpuBench::time(const Calls& calls, double budget_ms) const {
  std::vector<Seat> seats;
  const size_t bytes = std::max<size_t>(calls.sizes.back(), static_cast<size_t>(calls.ranks) * sizeof(float));
  for (int rank = 0; rank < calls.ranks; ++rank) {
    TUTTI_ASSIGN_OR_RETURN(Seat seat, Seat::make(devices_[static_cast<size_t>(rank) % devices_.size()], bytes));
    seats.push_back(std::move(seat));
  }
  std::vector<std::unique_ptr<Ranks>> ranks;
  for (const Way& way : calls.ways) {
    ranks.push_back(std::make_unique<Ranks>(calls, way, seats));
    TUTTI_TRY(ranks.back()->join());
  }
  std::vector<std::vector<double>> us(calls.ways.size(), std::vector<double>(calls.sizes.size(), 0));
  for (size_t i = 0; i < calls.sizes.size(); ++i) {
    for (size_t w = 0; w < calls.ways.size(); ++w) {
      if (!calls.ways[w].asked.empty() && !calls.ways[w].asked[i]) continue;
      TUTTI_ASSIGN_OR_RETURN(us[w][i], ranks[w]->time(calls.sizes[i], budget_ms));
    }
  }
  return us;
}

}  // namespace tutti::tool
