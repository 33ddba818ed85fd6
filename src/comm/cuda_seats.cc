// SPDX-License-Identifier: Apache-2.0
#include "comm/cuda_seats.h"

#include <algorithm>
#include <set>

#include "base/env.h"

namespace tutti {
namespace {

// GB/s where nothing better is known: the slowest memory of a GPU that CUDA 12 runs on moves more.
constexpr double kUnknownMemory = 300;

}  // namespace

CudaSeat find_seat(int ordinal) {
  CudaSeat seat;
  seat.ordinal = ordinal;
  const Result<const gpu::CudaRun*> cuda = gpu::load_cuda(env().cuda_library);
  if (!cuda.ok()) return seat;
  const Result<gpu::CudaIdentity> mine = gpu::identify(**cuda, ordinal);
  if (!mine.ok()) return seat;
  seat.gpu = *mine;
  int count = 0;
  if ((*cuda)->count(&count) != gpu::kCudaSuccess) return seat;
  gpu::CudaDevice here = 0, there = 0;
  for (int other = 0; other < count; ++other) {
    int can = 1;
    if (other == ordinal || (*cuda)->by_ordinal(&here, ordinal) != gpu::kCudaSuccess ||
        (*cuda)->by_ordinal(&there, other) != gpu::kCudaSuccess ||
        (*cuda)->can_access_peer(&can, here, there) != gpu::kCudaSuccess || can != 0)
      continue;
    const Result<gpu::CudaIdentity> its = gpu::identify(**cuda, other);
    if (its.ok()) seat.unreachable.push_back(its->uuid);
  }
  return seat;
}

CudaSeats::CudaSeats(std::vector<CudaSeat> seats, const std::vector<Member>& members) : seats_(std::move(seats)) {
  std::map<CudaUuidBytes, std::vector<int>> by_gpu;
  for (int rank = 0; rank < n(); ++rank) {
    const auto first = std::find_if(members.begin(), members.end(), [&](const Member& one) {
      return one.same_process(members[static_cast<size_t>(rank)]);
    });
    CudaSeat& seat = seats_[static_cast<size_t>(rank)];
    seat.process = static_cast<int>(first - members.begin());
    if (seat.process == rank) processes_.push_back(rank);
    by_gpu[seat.gpu.uuid].push_back(rank);
  }
  gpus_ = static_cast<int>(by_gpu.size());
  fewest_multiprocessors_ = std::max(seats_.front().gpu.multiprocessors, 1);
  kind_ = seats_.front().gpu.name.data();
  least_gbps_ = kUnknownMemory;
  bool known = false;
  for (const auto& [uuid, ranks] : by_gpu) {
    most_ranks_ = std::max(most_ranks_, static_cast<int>(ranks.size()));
    const CudaSeat& seat = of(ranks.front());
    if (kind_ != seat.gpu.name.data()) kind_.clear();
    fewest_multiprocessors_ = std::min(fewest_multiprocessors_, std::max(seat.gpu.multiprocessors, 1));
    const double gbps = seat.gpu.memory_gbps > 0 ? seat.gpu.memory_gbps : kUnknownMemory;
    least_gbps_ = known ? std::min(least_gbps_, gbps) : gbps;
    known = true;
    for (const int rank : ranks) {
      stepped_ |= of(rank).process != of(ranks.front()).process;
      for (const CudaUuidBytes& other : of(rank).unreachable) through_host_ |= by_gpu.count(other) != 0;
    }
  }
}

std::vector<int> CudaSeats::ranks_of(int process) const {
  std::vector<int> ranks;
  for (int rank = 0; rank < n(); ++rank) {
    if (of(rank).process == process) ranks.push_back(rank);
  }
  return ranks;
}

}  // namespace tutti
