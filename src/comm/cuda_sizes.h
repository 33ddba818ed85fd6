// SPDX-License-Identifier: Apache-2.0
// CudaSizes: how many channels a communicator with ranks on GPUs has, and how much memory its connections. Computed
// from what all ranks know alike, also by those on the CPU.
#pragma once

#include <cstdint>

#include "comm/cuda_seats.h"
#include "exec/cuda/peer_arena.h"
#include "plan/plan.h"

namespace tutti {

struct CudaSizes {
  static CudaSizes of(const CudaSeats& seats);

  int most_channels = 1;
  uint32_t most_message_blocks = 2;  // of one launch on one device
  uint64_t simple_bytes = 0;         // slots of a Simple connection between GPUs, together
  uint64_t line_slots = 0;           // of an LL connection
  uint64_t line128_slots = 0;        // of an LL128 connection; 0: its lines may be seen in pieces

  cuda::PeerArena arena(int ends, int channels) const;
};

// Of a communicator that is bridged (CudaSeats): what the planner has to know beside what it knows of hosts and
// networks. Its ranks plan as ranks on the CPU do over a network, whatever each of them is on.
void bound_by_gpus(const CudaSeats& seats, Wire wire, Summary& summary);

}  // namespace tutti
