// SPDX-License-Identifier: Apache-2.0
// Which steps of a schedule receive what may be written to its place early, by the device of a peer, while this rank is
// still at an earlier step (CpuLane::wish_ahead).
//
// A step's slice may lie in its place in the output before its turn when no step between touches that place. Rounds
// touch different bytes, so only steps of the same round count. What else could be there:
//
//   the output     of an earlier step that reads or writes the block: not before that is done (`after`)
//   the input      if the call works in place. An all-to-all reads a block and then replaces it: not before all earlier
//                  steps that read the input are done (`after_input`). A reduction over all ranks has this rank's input
//                  in it, so that none of it can come before that has been read: only results of which a later step
//                  makes something else have to wait (`after_in_place`)
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "algo/step.h"

namespace tutti {

struct LandingStep {
  bool lands = false;  // a slice of a peer's that is kept in the output as it is
  // The first step at which this rank may be when it is written.
  int after = 0, after_input = 0, after_in_place = 0;
};

template <class Schedule>
std::vector<LandingStep> find_landing_steps(const Schedule& schedule, int n) {
  const int steps = schedule.steps();
  std::vector<LandingStep> found(static_cast<size_t>(steps));
  std::vector<int> touched, written;  // by block of the output: one more than the last step that touches it
  const auto note = [](std::vector<int>& by_block, int block, int k) {
    if (static_cast<size_t>(block) >= by_block.size()) by_block.resize(static_cast<size_t>(block) + 1);
    by_block[static_cast<size_t>(block)] = k + 1;
  };
  const auto last = [](const std::vector<int>& by_block, int block) {
    return static_cast<size_t>(block) < by_block.size() ? by_block[static_cast<size_t>(block)] : 0;
  };
  for (int k = 0; k < steps; ++k) {
    const Step step = schedule.at(k);
    if (step.packed()) return std::vector<LandingStep>(static_cast<size_t>(steps));  // short messages
    if (step.dst != Buffer::Output || step.dst_block < 0) continue;
    for (int i = 0; i < step.blocks; ++i) note(written, step.target_at(i, n), k);
  }
  int input_read = 0;
  for (int k = 0; k < steps; ++k) {
    const Step step = schedule.at(k);
    const bool keeps = step.dst == Buffer::Output && step.dst_block >= 0;
    LandingStep& one = found[static_cast<size_t>(k)];
    if (keeps && !step.reduce && step.src == Buffer::None && !step.from.none() && step.access == Access::None) {
      one.lands = true;
      bool stays = true;
      for (int i = 0; i < step.blocks; ++i) {
        one.after = std::max(one.after, last(touched, step.target_at(i, n)));
        stays &= last(written, step.target_at(i, n)) == k + 1;
      }
      one.after_input = std::max(one.after, input_read);
      one.after_in_place = stays ? one.after : one.after_input;
    }
    if (step.src == Buffer::Input) input_read = k + 1;
    for (int i = 0; i < step.blocks; ++i) {
      if (step.src == Buffer::Output) note(touched, step.source_at(i, n), k);
      if (keeps) note(touched, step.target_at(i, n), k);
    }
  }
  return found;
}

}  // namespace tutti
