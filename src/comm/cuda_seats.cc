// SPDX-License-Identifier: Apache-2.0
#include "comm/cuda_seats.h"

#include <algorithm>

#include "base/env.h"
#include "proto/lines.h"

namespace tutti {
namespace {

// GB/s where nothing better is known: the slowest memory of a GPU that CUDA 12 runs on moves more.
constexpr double kUnknownMemory = 300;

bool names(const std::vector<CudaUuidBytes>& gpus, const CudaUuidBytes& one) {
  return std::find(gpus.begin(), gpus.end(), one) != gpus.end();
}

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
  for (int other = 0; other < count; ++other) {
    if (other == ordinal || !gpu::joined_by_nvlink(**cuda, ordinal, other)) continue;
    const Result<gpu::CudaIdentity> its = gpu::identify(**cuda, other);
    if (its.ok()) seat.by_nvlink.push_back(its->uuid);
  }
  return seat;
}

int CudaSeats::Island::number_of(int rank) const {
  return static_cast<int>(std::lower_bound(ranks.begin(), ranks.end(), rank) - ranks.begin());
}
int CudaSeats::Island::number_of_process(int process) const {
  return static_cast<int>(std::lower_bound(processes.begin(), processes.end(), process) - processes.begin());
}

int CudaSeats::Island::gpu_number_of(int rank) const {
  return static_cast<int>(std::lower_bound(gpus.begin(), gpus.end(), rank) - gpus.begin());
}

// Processes and islands. Ranks of a process are of one island, whoever may share memory with others.
void CudaSeats::place(const std::vector<Member>& members, const std::vector<int>& together) {
  for (int rank = 0; rank < n(); ++rank) {
    if (!on_gpu(rank)) continue;
    CudaSeat& seat = seats_[static_cast<size_t>(rank)];
    const auto here = [&](int other) {
      return on_gpu(other) && members[static_cast<size_t>(other)].same_process(members[static_cast<size_t>(rank)]);
    };
    for (seat.process = 0; !here(seat.process);) ++seat.process;
    const auto joins = [&](const Island& one) {
      return together[static_cast<size_t>(one.ranks.front())] == together[static_cast<size_t>(rank)];
    };
    const auto found = std::find_if(islands_.begin(), islands_.end(), joins);
    seat.island = seat.process < rank ? of(seat.process).island : static_cast<int>(found - islands_.begin());
    islands_.resize(std::max(islands_.size(), static_cast<size_t>(seat.island) + 1));
    Island& island = islands_[static_cast<size_t>(seat.island)];
    island.ranks.push_back(rank);
    if (seat.process != rank) continue;
    island.processes.push_back(rank);
    processes_.push_back(rank);
  }
  bridged_ = static_cast<int>(islands_.front().ranks.size()) < n();
}

CudaSeats::CudaSeats(std::vector<CudaSeat> seats, const std::vector<Member>& members, const std::vector<int>& together,
                     bool relays)
    : seats_(std::move(seats)), gpu_(seats_.size(), -1) {
  place(members, together);
  std::map<CudaUuidBytes, std::vector<int>> by_gpu;
  for (int rank = 0; rank < n(); ++rank) {
    if (on_gpu(rank)) by_gpu[of(rank).gpu.uuid].push_back(rank);
  }
  gpus_ = static_cast<int>(by_gpu.size());
  const gpu::CudaIdentity& some = of(processes_.front()).gpu;
  fewest_multiprocessors_ = std::max(some.multiprocessors, 1);
  kind_ = some.name.data();
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
      const auto here = [&](int other) { return of(other).island == of(rank).island; };
      gpu_[static_cast<size_t>(rank)] = *std::find_if(ranks.begin(), ranks.end(), here);
    }
  }
  for (Island& island : islands_) find_routes(island, relays);
  find_whole_lines();
}

// Each GPU says it of those that it sees. Of the others nothing is known: their memory is taken to be within reach,
// and the opening will tell; they are not taken to be joined by NVLink.
bool CudaSeats::joined_by_nvlink(const CudaSeat& a, const CudaSeat& b) const {
  return a.gpu.uuid == b.gpu.uuid || (names(a.by_nvlink, b.gpu.uuid) && names(b.by_nvlink, a.gpu.uuid));
}

void CudaSeats::find_routes(Island& island, bool relays) {
  std::vector<int> counts;
  for (const int rank : island.ranks) {
    const int gpu = gpu_[static_cast<size_t>(rank)];
    if (gpu == rank) {
      island.gpus.push_back(rank);
      counts.push_back(0);
    }
    ++counts[static_cast<size_t>(island.gpu_number_of(gpu))];
  }
  CudaReach reach(std::move(counts));
  // Ranks of a GPU may see different ones.
  const auto cannot = [&](int gpu, const CudaUuidBytes& other) {
    return std::any_of(island.ranks.begin(), island.ranks.end(), [&](int rank) {
      return gpu_[static_cast<size_t>(rank)] == gpu && names(of(rank).unreachable, other);
    });
  };
  for (int a = 0; a < reach.gpus(); ++a) {
    for (int b = a + 1; b < reach.gpus(); ++b) {
      const int first = island.gpus[static_cast<size_t>(a)], second = island.gpus[static_cast<size_t>(b)];
      const CudaSeat &one = of(first), &other = of(second);
      reach.set(a, b, !cannot(first, other.gpu.uuid) && !cannot(second, one.gpu.uuid), joined_by_nvlink(one, other));
    }
  }
  island.routes = CudaRoutes(reach, relays);
}

CudaRoute CudaSeats::route(int a, int b) const {
  const Island& island = island_of(a);
  const auto gpu = [&](int rank) { return island.gpu_number_of(gpu_[static_cast<size_t>(rank)]); };
  CudaRoute route = island.routes.between(gpu(a), gpu(b));
  if (route.way == CudaRoute::Way::Relay) route.relay = island.gpus[static_cast<size_t>(route.relay)];
  return route;
}

bool CudaSeats::all_direct() const {
  return std::all_of(islands_.begin(), islands_.end(), [](const Island& one) { return one.routes.all_direct(); });
}

cuda::PeerMap CudaSeats::peer_map(const Island& island) const {
  const auto members = static_cast<int>(island.ranks.size());
  return cuda::PeerMap(members, [&](int me, int peer) {
    const CudaRoute route = this->route(island.ranks[static_cast<size_t>(me)], island.ranks[static_cast<size_t>(peer)]);
    switch (route.way) {
      case CudaRoute::Way::Direct:
        return me;
      case CudaRoute::Way::Relay:
        return island.number_of(route.relay);
      case CudaRoute::Way::Host:
        break;
    }
    return members;
  });
}

// Over a relay the reader loads lines across a link; that the parts of such an access stay together is said of stores.
bool CudaSeats::sees_whole_lines(int reader, int writer) const {
  return ll128_holds({.in_gpu_memory = route(reader, writer).way == CudaRoute::Way::Direct,
                      .nvlink_or_same = joined_by_nvlink(of(reader), of(writer)),
                      .writer_capability_major = of(writer).gpu.capability_major,
                      .reader_capability_major = of(reader).gpu.capability_major});
}

// Stepped calls wait for lines one by one, and transports carry none.
void CudaSeats::find_whole_lines() {
  whole_lines_ = !stepped_ && !bridged_;
  for (int reader = 0; whole_lines_ && reader < n(); ++reader) {
    for (int writer = 0; whole_lines_ && writer < n(); ++writer) whole_lines_ = sees_whole_lines(reader, writer);
  }
}

std::vector<int> CudaSeats::ranks_of(int process) const {
  std::vector<int> ranks;
  for (int rank = 0; rank < n(); ++rank) {
    if (on_gpu(rank) && of(rank).process == process) ranks.push_back(rank);
  }
  return ranks;
}

bool CudaSeats::several_in_an_island() const {
  return std::any_of(islands_.begin(), islands_.end(), [](const Island& one) { return one.processes.size() > 1; });
}

bool CudaSeats::some_on_cpu() const {
  return std::any_of(seats_.begin(), seats_.end(), [](const CudaSeat& one) { return one.ordinal < 0; });
}

int CudaSeats::largest_island() const {
  size_t most = 0;
  for (const Island& one : islands_) most = std::max(most, one.ranks.size());
  return static_cast<int>(most);
}

}  // namespace tutti
