// SPDX-License-Identifier: Apache-2.0
// THE loop: carries one schedule forward. CUDA calls it until Done; the CPU scheduler revisits Blocked lanes; the
// prover (exec/sim) drives it with symbolic data. A cursor is {round, step, slice}; nothing else is remembered.
#pragma once

#include <cstdint>

#include "algo/step.h"
#include "base/host_device.h"

namespace tutti {

enum class Advance : uint8_t { Blocked, Progressed, Done };

struct Cursor {
  uint64_t round = 0;
  int step = 0;
  int slice = 0;

  TUTTI_HD constexpr bool operator==(const Cursor& other) const {
    return round == other.round && step == other.step && slice == other.slice;
  }
};

// Lane is the whole list of differences between a thread block, a CPU thread and the prover:
//   uint64_t rounds()                    rounds of this call (0: nothing to do)
//   int slices(step)                     slices of one round of this step: Tiling::slices for each of its blocks
//   bool empty(step, cursor)             the slice has no bytes, on every rank alike: skip it
//   bool can_receive(step, cursor)       every peer in step.from has delivered the slice
//   bool can_send(step, cursor)          every peer in step.to has a free slot
//   void apply(step, cursor)             reduce and/or copy the slice
//   void post(step, cursor)              publish to step.to, return credit to step.from
template <class Schedule, class Lane>
TUTTI_HD inline Advance advance(const Schedule& schedule, Lane& lane, Cursor& cursor) {
  if (cursor.round >= lane.rounds() || schedule.steps() == 0) return Advance::Done;
  const auto& step = schedule.at(cursor.step);  // a Step, or what a lane has made of it
  if (!lane.empty(step, cursor)) {
    if (!lane.can_receive(step, cursor) || !lane.can_send(step, cursor)) return Advance::Blocked;
    lane.apply(step, cursor);
    lane.post(step, cursor);
  }
  if (++cursor.slice < lane.slices(step)) return Advance::Progressed;
  cursor.slice = 0;
  if (++cursor.step < schedule.steps()) return Advance::Progressed;
  cursor.step = 0;
  return ++cursor.round < lane.rounds() ? Advance::Progressed : Advance::Done;
}

}  // namespace tutti
