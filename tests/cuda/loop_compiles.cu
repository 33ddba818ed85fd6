// SPDX-License-Identifier: Apache-2.0
// The loop, a schedule and a layout in a kernel: what src/algo and src/exec/run_schedule.h promise to a thread block.
//
// The lane is the least one that has every member the loop calls; it moves bytes between two buffers of one device.
#include "algo/layout.h"
#include "algo/step.h"
#include "exec/run_schedule.h"

namespace tutti {
namespace {

struct TwoSteps {
  int me, n;
  TUTTI_HD constexpr int steps() const { return 2; }
  TUTTI_HD constexpr Step at(int k) const {
    Step step;
    step.src_block = me;
    if (k == 0) {
      step.src = Buffer::Input;
      step.to = Peers::one((me + 1) % n);
    } else {
      step.from = Peers::all_pairs();
      step.dst_block = step.from.at(0, me);
    }
    return step;
  }
};
static_assert(TwoSteps{0, 2}.at(1).dst_block == 1);

struct DeviceLane {
  Layout layout;
  Tiling tiling;
  const char* input;
  char* output;

  __device__ uint64_t rounds() const { return layout.rounds(tiling, tiling.blocks); }
  __device__ int slices(const Step&) const { return tiling.slices; }
  __device__ Piece piece(const Step& step, const Cursor& cursor) const {
    return layout.piece(tiling, step.src_block, step.blocks, cursor.round, cursor.slice);
  }
  __device__ bool empty(const Step& step, const Cursor& cursor) const { return piece(step, cursor).bytes == 0; }
  __device__ bool can_receive(const Step&, const Cursor&) const { return true; }
  __device__ bool can_send(const Step&, const Cursor&) const { return true; }
  __device__ void apply(const Step& step, const Cursor& cursor) {
    const Piece part = piece(step, cursor);
    for (uint64_t i = threadIdx.x; i < part.bytes; i += blockDim.x) output[part.offset + i] = input[part.offset + i];
  }
  __device__ void post(const Step&, const Cursor&) { __syncthreads(); }
};

}  // namespace

__global__ void run(TwoSteps schedule, DeviceLane lane) {
  Cursor cursor;
  while (advance(schedule, lane, cursor) != Advance::Done) {
  }
}

}  // namespace tutti
