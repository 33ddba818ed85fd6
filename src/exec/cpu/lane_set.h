// SPDX-License-Identifier: Apache-2.0
// LaneSet: all lanes of one plan on one rank, carried by one thread.
//
// Made once per shape of call and kept; call() and start() begin a call on it. advance() carries every lane as far as
// it goes and stays on a lane while it moves: leaving it would only cool its cache lines.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "exec/cpu/cpu_lane.h"
#include "exec/cpu/lane_run.h"
#include "exec/cpu/straight_run.h"
#include "plan/plan.h"
#include "transports/remote/remote_memory.h"

namespace tutti {

class LaneSet {
 public:
  // `ports` has one entry per channel and must outlive the set, as must `memory`.
  LaneSet(const Plan& plan, const ScheduleArgs& args, const std::vector<std::unique_ptr<Ports>>& ports,
          const RemoteMemory& memory);
  // What runs instead when all ranks know that the buffers of a call do not allow this plan (Rma).
  void set_otherwise(std::unique_ptr<LaneSet> lanes) { otherwise_ = std::move(lanes); }

  uint32_t identity() const { return call_.identity; }
  // The call to fill in before start().
  LaneCall& call() { return call_; }
  void start() {
    unfinished_ = lanes_.size();
    elsewhere_ = false;
    call_.scratch = scratch_.get();
    for (size_t i = 0; i < lanes_.size(); ++i) {
      lanes_[i]->bind(call_);
      done_[i] = false;
    }
  }

  // For a set that will carry calls of one shape only, after its first start(): looks up now what each of them would
  // look up again. From then on restart() suffices for a call that differs only in its buffers and factor.
  void straighten();
  bool straight() const { return straight_ != nullptr || straight_alone_; }
  void restart(const void* input, void* output) {
    call_.input = static_cast<const std::byte*>(input);
    call_.output = static_cast<std::byte*>(output);
    unfinished_ = 1;
    if (straight_ != nullptr) straight_->bind(call_);
  }
  // A restart and the first burst, for a straight set of a rank with peers.
  Advance begin_straight(const void* input, void* output) {
    restart(input, output);
    const Advance first = straight_->run(1);
    if (first == Advance::Done) unfinished_ = 0;
    return first;
  }

  // StraightRun's, for straight sets.
  StraightRun::Ahead ahead() const { return straight_ != nullptr ? straight_->ahead() : StraightRun::Ahead{}; }
  int post_ahead(const void* input, void* output, const Scale& pre) {
    LaneCall other = call_;
    other.input = static_cast<const std::byte*>(input);
    other.output = static_cast<std::byte*>(output);
    if (other.has_pre) other.pre = pre;
    return straight_->post_ahead(other);
  }
  void skip(int posted) { straight_->skip(posted); }

  // Progressed: some lane moved; Blocked: none did; Done: all have ended.
  Advance advance(int polls) {
    if (elsewhere_) [[unlikely]]
      return otherwise_->advance(polls);
    if (lanes_.size() == 1) return unfinished_ == 0 ? Advance::Done : only(polls);
    return all();
  }

  const Plan& plan() const { return plan_; }
  // A lane needs a rank of this thread's core (LaneRun::waits_beside).
  bool waits_beside(const CoreMap& cores);
  // A peer whose slot belongs to another call, or -1. Not for the fast path.
  int find_mismatch() const;
  // Whom the first lane that stands still waits for, or -1.
  int waiting_peer() const;
  std::string waiting_for() const;
  // A failure that no waiting will heal. Not for the fast path.
  Status failure() const;

 private:
  Advance only(int polls) {
    const Advance result = lanes_[0]->run(polls);
    if (result != Advance::Done) return result;
    if (otherwise_ != nullptr && lanes_[0]->refused()) [[unlikely]]
      return run_otherwise();
    unfinished_ = 0;
    return result;
  }
  Advance all();
  Advance run_otherwise();

  Plan plan_;
  LaneCall call_;
  std::unique_ptr<std::byte[]> scratch_;
  std::vector<std::unique_ptr<LaneRun>> lanes_;
  std::vector<bool> done_;
  size_t unfinished_ = 0;
  StraightRun* straight_ = nullptr;  // lanes_[0], where it is one
  const bool alone_;                 // lanes_[0] is an AloneRun,
  bool straight_alone_ = false;      // and straightened
  std::unique_ptr<LaneSet> otherwise_;
  bool elsewhere_ = false;  // this call runs there
};

}  // namespace tutti
