// SPDX-License-Identifier: Apache-2.0
// The body of every kernel: finds what this block has to do and carries it through advance().
#pragma once

#include "exec/cuda/cuda_lane.h"
#include "exec/cuda/line_lanes.h"
#include "exec/cuda/remote_lane.h"
#include "exec/run_schedule.h"

namespace tutti::cuda {

template <KernelProto proto>
struct LaneOf;
template <>
struct LaneOf<KernelProto::Simple> {
  using Lane = SimpleLane;
};
template <>
struct LaneOf<KernelProto::LL> {
  using Lane = LLLane;
};
template <>
struct LaneOf<KernelProto::LL128> {
  using Lane = LL128Lane;
};
template <>
struct LaneOf<KernelProto::Remote> {
  using Lane = RemoteLane;
};

// A schedule as data.
struct StepView {
  const Step* table;
  int count;
  TUTTI_DEVICE int steps() const { return count; }
  TUTTI_DEVICE const Step& at(int k) const { return table[k]; }
};

TUTTI_DEVICE const CudaWork& my_work(const CudaLaunch& launch) {
  const CudaWork* work = launch.works != nullptr ? launch.works : launch.few;
  while (block_index() >= work->first_block + work->block_count) ++work;
  return *work;
}

template <KernelProto proto>
TUTTI_DEVICE void run_block(const CudaLaunch& launch) {
  const CudaWork& work = my_work(launch);
  const CudaBlock& block = work.blocks[block_index() - work.first_block];
  if (block.step_count == 0) return;
  // The launch before has done it.
  if (work.after_refusal != nullptr && Report::of(load_relaxed(*work.after_refusal)).ended != Ended::Refused) return;
  const bool stepped = launch.moves > 0;
  // Ended: the streams no longer wait for what the steps need. The host may say so while threads look: all or none go
  // on, as those who did would wait at a barrier for the others.
  if (stepped && !block_all(load_relaxed(work.control->end) == 0)) return;
  typename LaneOf<proto>::Lane lane(work, block, !stepped);
  const StepView schedule{block.steps, block.step_count};
  Cursor cursor = stepped && launch.begins == 0 ? *block.cursor : Cursor{};
  // Blocked: in a stepped launch nothing more can be done now; otherwise the lane has ended, and reported why.
  Advance result = Advance::Progressed;
  for (uint32_t moves = 0; result == Advance::Progressed && (!stepped || moves < launch.moves); ++moves)
    result = advance(schedule, lane, cursor);
  if constexpr (proto == KernelProto::Remote) {
    if (result == Advance::Done) lane.conclude();
  }
  if (!stepped) return;
  block_barrier();  // every thread has read the cursor
  if (thread_index() == 0) *block.cursor = cursor;
}

}  // namespace tutti::cuda
