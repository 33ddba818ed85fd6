// SPDX-License-Identifier: Apache-2.0
// LaneRun: one schedule, one lane, one cursor, behind one indirect call per burst. What a call brings to its lanes is
// LaneCall. Kinds: TypedLaneRun (lane_set.cc), StraightRun (straight_run.h), AloneRun (alone_run.h);
// LaneSet holds them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "algo/catalog.h"
#include "base/status.h"
#include "exec/cpu/core_map.h"
#include "exec/cpu/reduce/reduce.h"
#include "exec/cpu/slot_stores.h"
#include "exec/run_schedule.h"
#include "proto/slots.h"

namespace tutti {

// What one call brings; shared by the lanes of the call.
struct LaneCall {
  const std::byte* input = nullptr;
  std::byte* output = nullptr;
  std::byte* scratch = nullptr;  // of the lanes' own
  CollLayout layout;
  int me = 0, n = 1;
  uint32_t element_bytes = 1;
  uint32_t identity = 0;      // hash of what was called, carried by every slot
  ReduceFn reduce = nullptr;  // null: the collective only copies
  Scale pre, post;            // pre-multiplied sum, avg
  bool has_pre = false, has_post = false;
  bool stream_output = false;         // non-temporal stores to the user's output
  bool input_stays = false;           // the call does not overwrite its input
  bool lends = false;                 // nothing else overwrites its buffers before everything has left this rank
  bool lands = false;                 // its output may be written by the peers' devices as soon as they have it
  SlotStores* slot_stores = nullptr;  // the communicator's
  SlotStores* push_stores = nullptr;  // the same for what is written to outputs of peers
  const CoreMap* cores = nullptr;     // null: each rank has a core of its own
  Opening opening;                    // Rma: what the peers are told of my buffers
  bool single_copy = false;           // Rma: every rank can read every other's memory
};

class StraightRun;

class LaneRun {
 public:
  virtual ~LaneRun() = default;
  // `call` outlives the run.
  virtual void bind(const LaneCall& call) = 0;
  // Carries the schedule forward until it is done, or was found blocked `polls` times in a row.
  virtual Advance run(int polls) = 0;
  // What it is blocked on, or a later step, needs a rank of this thread's core: giving the core away serves it in any
  // case, even if the blocked slice comes from another core.
  virtual bool waits_beside(const CoreMap& cores) = 0;
  virtual int find_mismatch() const = 0;
  // Whom it waits for: a rank, or -1; and in words.
  virtual int waiting_peer() const = 0;
  virtual std::string waiting_for() const = 0;
  // Rma: what went wrong with a peer's memory; and whether, at the end, the call has to run otherwise.
  virtual Status failure() const { return {}; }
  virtual bool refused() const { return false; }
  // The same lane with everything looked up, for calls of this shape; null: it would not pay.
  virtual std::unique_ptr<StraightRun> straightened() const;
};

// LaneRun::run for a schedule and lane of known types.
template <class Schedule, class Lane>
Advance run_lane(const Schedule& schedule, Lane& lane, Cursor& cursor, int polls) {
  bool moved = false;
  for (int poll = 0; poll < polls;) {
    const Advance result = advance(schedule, lane, cursor);
    if (result == Advance::Done) return Advance::Done;
    if (result == Advance::Progressed) {
      moved = true;
      poll = 0;
    } else {
      ++poll;
    }
  }
  return moved ? Advance::Progressed : Advance::Blocked;
}

}  // namespace tutti
