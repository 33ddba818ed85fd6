// SPDX-License-Identifier: Apache-2.0
// LaneSet: all lanes of one plan on one rank, carried by one thread.
//
// Made once per shape of call and kept; call() and start() begin a call on it. advance() carries every lane as far as it goes and
// stays on a lane while it moves: leaving it would only cool its cache lines.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "exec/cpu/cpu_lane.h"
#include "plan/plan.h"

namespace tutti {

// One schedule, one lane, one cursor, behind one indirect call per burst.
class LaneRun {
 public:
  virtual ~LaneRun() = default;
  virtual void bind(const LaneCall& call) = 0;
  // Carries the schedule forward until it is done, or was found blocked `polls` times in a row.
  virtual Advance run(int polls) = 0;
  virtual int find_mismatch() const = 0;
  virtual int waiting_peer() const = 0;
  virtual std::string waiting_for() const = 0;
};

class LaneSet {
 public:
  // `ports` has one entry per channel and must outlive the set.
  LaneSet(const Plan& plan, const ScheduleArgs& args, const std::vector<std::unique_ptr<Ports>>& ports);

  // The call to fill in before start().
  LaneCall& call() { return call_; }
  void start() {
    unfinished_ = lanes_.size();
    for (size_t i = 0; i < lanes_.size(); ++i) {
      lanes_[i]->bind(call_);
      done_[i] = false;
    }
  }

  // Progressed: some lane moved; Blocked: none did; Done: all have ended.
  Advance advance(int polls) {
    if (lanes_.size() == 1) return unfinished_ == 0 ? Advance::Done : only(polls);
    return all();
  }

  const Plan& plan() const { return plan_; }
  // A peer whose slot belongs to another call, or -1. Not for the fast path.
  int find_mismatch() const;
  // Whom the first lane that stands still waits for, or -1.
  int waiting_peer() const;
  std::string waiting_for() const;

 private:
  Advance only(int polls) {
    const Advance result = lanes_[0]->run(polls);
    if (result == Advance::Done) unfinished_ = 0;
    return result;
  }
  Advance all();

  Plan plan_;
  LaneCall call_;
  std::vector<std::unique_ptr<LaneRun>> lanes_;
  std::vector<bool> done_;
  size_t unfinished_ = 0;
};

}  // namespace tutti
