// SPDX-License-Identifier: Apache-2.0
// AloneRun: the call of a rank without peers. Every schedule for one rank is one local step (src/algo/schedule.h): the
// input becomes the output. Cut into slices it would only be slower, so it is carried in one piece, at once: copied,
// or nothing at all in place, or multiplied by the call's factor. It waits for no one.
//
// Not here: schedules of users, which are carried as they are written.
#pragma once

#include <cstddef>
#include <string>

#include "exec/cpu/cpu_lane.h"
#include "exec/cpu/lane_run.h"
#include "exec/cpu/slot_copy.h"

namespace tutti {

class AloneRun final : public LaneRun {
 public:
  void bind(const LaneCall& call) override { call_ = &call; }
  Advance run(int) override {
    const Piece from = call_->layout.input.whole(0);
    const std::byte* const input = call_->input + from.offset;
    std::byte* const output = call_->output + call_->layout.output.whole(0).offset;
    if (call_->has_pre) {
      scale(input, output, from.bytes);
    } else if (input != output) {
      copy(input, output, from.bytes);
    }
    return Advance::Done;
  }

  bool waits_beside(const CoreMap&) override { return false; }
  int find_mismatch() const override { return -1; }
  int waiting_peer() const override { return -1; }
  std::string waiting_for() const override { return {}; }

 private:
  void copy(const std::byte* input, std::byte* output, uint64_t bytes) const {
    if (!call_->stream_output) return copy_message(output, input, bytes);
    void* const to = output;
    copy_bytes(&to, 1, 1, input, bytes);
  }
  void scale(const std::byte* input, std::byte* output, uint64_t bytes) const {
    const void* const from = input;
    void* const to = output;
    reduce_slice(*call_, {&from, 1, &to, 1, call_->stream_output ? 1u : 0u, bytes, 0, false});
  }

  const LaneCall* call_ = nullptr;
};

}  // namespace tutti
