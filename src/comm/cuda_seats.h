// SPDX-License-Identifier: Apache-2.0
// CudaSeats: which rank of a communicator is in which process and on which GPU, as all ranks know it alike, and what
// follows from that for how their calls are launched.
//
// Ranks on GPUs whose kernels reach each other's slots form an island: those of one host that share memory, or those of
// one process. Between islands, and to ranks on the CPU, slots are carried by transports (cuda_bridge.h).
#pragma once

#include <map>
#include <string>
#include <vector>

#include "bootstrap/bootstrap.h"
#include "comm/cuda_routes.h"
#include "exec/cuda/peer_arena.h"
#include "gpu/cuda_peers.h"

namespace tutti {

using CudaUuidBytes = std::array<unsigned char, 16>;

struct CudaSeat {
  int ordinal = -1;  // as its own process counts; -1: on the CPU
  int process = -1;  // the lowest rank on a GPU in it
  int island = -1;   // of islands()
  gpu::CudaIdentity gpu;
  std::vector<CudaUuidBytes> unreachable;  // GPUs whose memory this one cannot map; of those that it can see
  std::vector<CudaUuidBytes> by_nvlink;    // GPUs that this one reaches by NVLink alone; of those that it can see
};

class CudaSeats {
 public:
  struct Island {
    std::vector<int> ranks;      // ascending
    std::vector<int> processes;  // by their lowest ranks, ascending
    std::vector<int> gpus;       // by the lowest of their ranks, ascending
    CudaRoutes routes;           // between these
    // Places in these; the rank, or the process, is there.
    int number_of(int rank) const;
    int number_of_process(int process) const;
    int gpu_number_of(int rank) const;  // the lowest on it
  };

  CudaSeats() = default;
  // `seats` by rank, without their processes and islands. `together` by rank: equal for those who share memory.
  // `relays`: whether third GPUs may lend their memory.
  CudaSeats(std::vector<CudaSeat> seats, const std::vector<Member>& members, const std::vector<int>& together,
            bool relays);

  bool empty() const { return seats_.empty(); }  // all ranks are on the CPU
  int n() const { return static_cast<int>(seats_.size()); }
  const CudaSeat& of(int rank) const { return seats_[static_cast<size_t>(rank)]; }
  bool on_gpu(int rank) const { return !empty() && of(rank).ordinal >= 0; }
  std::vector<int> ranks_of(int process) const;
  const std::vector<int>& processes() const { return processes_; }  // with ranks on GPUs, by the lowest of these
  const std::vector<Island>& islands() const { return islands_; }
  const Island& island_of(int rank) const { return islands_[static_cast<size_t>(of(rank).island)]; }
  // Kernels of the one reach the other's slots.
  bool linked(int a, int b) const { return on_gpu(a) && of(a).island == of(b).island; }
  // Not all pairs of ranks are linked.
  bool bridged() const { return bridged_; }
  bool some_on_cpu() const;
  // What a launch of one process waits for may be the calls of others.
  bool waits_for_others() const { return processes_.size() > 1 || bridged_; }
  bool several_processes() const { return processes_.size() > 1; }
  bool several_in_an_island() const;
  int largest_island() const;

  // Some GPU has ranks of several processes: no kernel may wait for another.
  bool stepped() const { return stepped_; }
  // Where slots of two linked ranks are; of a relay the rank whose arena has them.
  CudaRoute route(int a, int b) const;
  // All linked ranks map each other's memory.
  bool all_direct() const;
  // Which ends lie in whose arena.
  cuda::PeerMap peer_map(const Island& island) const;
  // A line of LL128 is seen whole, by whichever rank it is for.
  bool whole_lines() const { return whole_lines_; }
  int gpus() const { return gpus_; }
  // The GPUs' name; empty: they have several.
  const std::string& kind() const { return kind_; }
  int most_ranks_on_a_gpu() const { return most_ranks_; }
  int fewest_multiprocessors() const { return fewest_multiprocessors_; }
  double least_memory_gbps() const { return least_gbps_; }

 private:
  void place(const std::vector<Member>& members, const std::vector<int>& together);

  std::vector<CudaSeat> seats_;
  std::vector<int> processes_;
  std::vector<Island> islands_;
  void find_routes(Island& island, bool relays);
  bool joined_by_nvlink(const CudaSeat& a, const CudaSeat& b) const;
  void find_whole_lines();
  bool sees_whole_lines(int reader, int writer) const;

  std::vector<int> gpu_;  // by rank: the lowest rank on the same GPU
  bool bridged_ = false, stepped_ = false, whole_lines_ = false;
  std::string kind_;
  int gpus_ = 0, most_ranks_ = 1, fewest_multiprocessors_ = 1;
  double least_gbps_ = 0;
};

// What this rank says of its seat; an error is found again, and told, when the device is used.
CudaSeat find_seat(int ordinal);

}  // namespace tutti
