// SPDX-License-Identifier: Apache-2.0
// PlacedPlan: a plan as kernels take it: the blocks of each rank with their steps, in the memory of the rank's GPU,
// over connections that exist. Made once per shape of call and kept until the communicator ends.
#pragma once

#include <cstdint>
#include <vector>

#include "exec/cuda/cuda_ends.h"
#include "exec/cuda/device_store.h"
#include "exec/cuda/stepped.h"
#include "exec/cuda/work.h"
#include "plan/plan.h"

namespace tutti::cuda {

struct PlacedPlan {
  struct OfRank {
    const CudaBlock* blocks = nullptr;  // device memory
    std::byte* scratch = nullptr;       // device memory
  };
  Plan plan;
  KernelProto proto = KernelProto::Simple;
  uint32_t block_count = 0;  // of each rank
  uint32_t shared_bytes = 0;
  std::vector<OfRank> ranks;  // by rank; of a send or receive only the caller's is there
  bool stepped = false;
  std::vector<WalkedBlock> walked;  // stepped: the blocks of the only rank of this process
};

// The kernels' protocol for a plan.
inline KernelProto kernel_proto(Proto proto) {
  switch (proto) {
    case Proto::LL:
      return KernelProto::LL;
    case Proto::LL128:
      return KernelProto::LL128;
    case Proto::Rma:
      return KernelProto::Remote;
    case Proto::Simple:
      break;
  }
  return KernelProto::Simple;
}

// Memory for what ranks keep during a call; a communicator's calls follow each other, so that they share it.
class ScratchMemory {
 public:
  explicit ScratchMemory(std::vector<DeviceStore*> stores) : stores_(std::move(stores)), held_(stores_.size()) {}
  Result<std::byte*> of(int rank, uint64_t bytes);

 private:
  struct Held {
    std::byte* at = nullptr;
    uint64_t bytes = 0;
  };
  std::vector<DeviceStore*> stores_;
  std::vector<Held> held_;
};

// For all ranks of this process, which have stores. `args`: what is alike on them. The stores have not finished yet.
Result<PlacedPlan> place_collective(const Plan& plan, ScheduleArgs args, const std::vector<DeviceStore*>& stores,
                                    CudaEnds& ends, ScratchMemory& scratch, bool stepped);
// A send to, or a receive from `args.root`, for rank args.me alone; args.part: 0 sends, 1 receives.
Result<PlacedPlan> place_message(const Plan& plan, ScheduleArgs args, const std::vector<DeviceStore*>& stores,
                                 CudaEnds& ends, bool stepped);

}  // namespace tutti::cuda
