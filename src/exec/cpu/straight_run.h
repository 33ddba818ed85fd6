// SPDX-License-Identifier: Apache-2.0
// StraightRun: the lane of a short call, with everything looked up when its shape was planned.
//
// A lane that moves a few slices spends more on finding them (peers, ends, pieces) than on moving them, and most of
// that lies before the first post, where it is paid in full. So for LL plans of few slices the schedule is walked once,
// in the order of advance(), and each slice that has bytes becomes a Move (CpuLane::list_moves). A call then runs
// through the same loop, advance(), with MoveList as its schedule and MoveLane as its lane: one round, one slice a
// step, none empty. What a call brings itself is its buffers and, where there is one, its factor.
//
// Made by LaneSet::straighten() for collectives whose layout follows from the shape. Not here: longer calls and the
// Simple protocol, whose slices outweigh their look-up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "exec/cpu/lane_run.h"
#include "exec/cpu/move_list.h"
#include "exec/cpu/slot_copy.h"
#include "exec/run_schedule.h"

namespace tutti {

class MoveLane {
 public:
  explicit MoveLane(const MoveList& list);

  void bind(const LaneCall& call) {
    call_ = &call;
    received_ = sendable_ = 0;
  }

  static constexpr uint64_t rounds() { return 1; }
  static constexpr int slices(const Move&) { return 1; }
  static constexpr bool empty(const Move&, const Cursor&) { return false; }

  bool can_receive(const Move& move, const Cursor&) {
    for (; received_ < move.from_count; ++received_) {
      const MoveList::From& from = list_.from[move.from_begin + received_];
      if (from.fan && call_->cores != nullptr) from.end->take_near(call_->cores->beside_me(from.rank));
      if (!from.end->ready(call_->identity)) return false;
    }
    return true;
  }
  bool can_send(const Move& move, const Cursor&) {
    for (; sendable_ < move.to_count; ++sendable_) {
      if (!list_.to[move.to_begin + sendable_].end->has_room()) return false;
    }
    return true;
  }
  void apply(const Move& move, const Cursor&) {
    if (move.combines) return combine(move);
    const void* source =
        move.src == Buffer::None ? list_.from[move.from_begin].end->payload() : address(move.src, move.src_offset);
    if (move.to_count > 0) {
      const bool stream = call_->slot_stores->stream(move.bytes, [&] { return sends_away(move); });
      for (uint32_t i = 0; i < move.to_count; ++i) {
        const MoveList::To& to = list_.to[move.to_begin + i];
        fill_slot(to.end->payload(), source, move.bytes, stream && goes_away(to));
      }
      call_->slot_stores->settle(move.bytes);
    }
    if (move.keeps && call_->output + move.dst_offset != source)
      copy_message(call_->output + move.dst_offset, source, move.bytes);
  }
  void post(const Move& move, const Cursor&) {
    for (uint32_t i = 0; i < move.to_count; ++i) list_.to[move.to_begin + i].end->publish(call_->identity);
    for (uint32_t i = 0; i < move.from_count; ++i) list_.from[move.from_begin + i].end->release();
    received_ = sendable_ = 0;
  }

  // Makes the first `count` moves, which wait for no one, for another call than the bound one. Returns how many had
  // room.
  int post_ahead(const LaneCall& call, int count);

  // Blocked in this step, it needs a rank of this thread's core there or later (LaneRun).
  bool waits_beside(int step, const CoreMap& cores) const;
  // As CpuLane's.
  int find_mismatch(const Move& move) const;
  int waiting_peer(const Move& move) const;
  std::string waiting_for(const Move& move) const;

 private:
  const std::byte* address(Buffer buffer, uint64_t offset) const {
    return (buffer == Buffer::Input ? call_->input : call_->output) + offset;
  }
  void combine(const Move& move);
  // As CpuLane's.
  bool goes_away(const MoveList::To& to) const {
    return !to.near && (call_->cores == nullptr || to.rank < 0 || !call_->cores->beside_me(to.rank));
  }
  bool sends_away(const Move& move) const;

  const MoveList& list_;
  const LaneCall* call_ = nullptr;
  uint32_t received_ = 0, sendable_ = 0;  // peers of the current move already seen ready
  std::vector<const void*> sources_;
  std::vector<void*> destinations_;
};

class StraightRun final : public LaneRun {
 public:
  explicit StraightRun(MoveList list);

  // Calls that follow each other on these connections may have this one's first posts made early: all its posts come
  // before its first wait, so the order of slices stays the order of calls. Where `keeps` is set they also write to the
  // output.
  struct Ahead {
    bool possible = false;
    bool keeps = false;
    int posts = 0;
  };
  const Ahead& ahead() const { return ahead_; }
  // Makes such posts for another call than the bound one, as far as there is room, and returns how many.
  int post_ahead(const LaneCall& call) { return lane_.post_ahead(call, ahead_.posts); }
  // Of the bound call, just begun, so many posts have been made.
  void skip(int posted) { cursor_.step = posted; }

  void bind(const LaneCall& call) override {
    lane_.bind(call);
    cursor_ = {};
  }
  Advance run(int polls) override { return run_lane(list_, lane_, cursor_, polls); }
  bool waits_beside(const CoreMap& cores) override { return !finished() && lane_.waits_beside(cursor_.step, cores); }
  int find_mismatch() const override { return finished() ? -1 : lane_.find_mismatch(list_.at(cursor_.step)); }
  int waiting_peer() const override { return finished() ? -1 : lane_.waiting_peer(list_.at(cursor_.step)); }
  std::string waiting_for() const override;

 private:
  bool finished() const { return cursor_.round >= MoveLane::rounds() || list_.steps() == 0; }

  const MoveList list_;
  MoveLane lane_;
  Cursor cursor_;
  Ahead ahead_;
};

}  // namespace tutti
