// SPDX-License-Identifier: Apache-2.0
// CudaSeats: which rank of a communicator is in which process and on which GPU, as all ranks know it alike, and what
// follows from that for how their calls are launched.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "bootstrap/bootstrap.h"
#include "gpu/cuda_peers.h"

namespace tutti {

using CudaUuidBytes = std::array<unsigned char, 16>;

struct CudaSeat {
  int ordinal = 0;  // as its own process counts
  int process = 0;  // the lowest rank in it
  gpu::CudaIdentity gpu;
  std::vector<CudaUuidBytes> unreachable;  // GPUs that this one cannot reach
};

class CudaSeats {
 public:
  CudaSeats() = default;
  // `seats` by rank, without their processes.
  CudaSeats(std::vector<CudaSeat> seats, const std::vector<Member>& members);

  bool empty() const { return seats_.empty(); }  // all ranks are on the CPU
  int n() const { return static_cast<int>(seats_.size()); }
  const CudaSeat& of(int rank) const { return seats_[static_cast<size_t>(rank)]; }
  std::vector<int> ranks_of(int process) const;
  const std::vector<int>& processes() const { return processes_; }  // by their lowest ranks
  bool several_processes() const { return processes_.size() > 1; }

  // Some GPU has ranks of several processes: no kernel may wait for another.
  bool stepped() const { return stepped_; }
  // Some GPU cannot reach another's memory: slots are in the host's.
  bool through_host() const { return through_host_; }
  int gpus() const { return gpus_; }
  // The GPUs' name; empty: they have several.
  const std::string& kind() const { return kind_; }
  int most_ranks_on_a_gpu() const { return most_ranks_; }
  int fewest_multiprocessors() const { return fewest_multiprocessors_; }
  double least_memory_gbps() const { return least_gbps_; }

 private:
  std::vector<CudaSeat> seats_;
  std::vector<int> processes_;
  bool stepped_ = false, through_host_ = false;
  std::string kind_;
  int gpus_ = 0, most_ranks_ = 1, fewest_multiprocessors_ = 1;
  double least_gbps_ = 0;
};

// What this rank says of its seat; an error is found again, and told, when the device is used.
CudaSeat find_seat(int ordinal);

}  // namespace tutti
