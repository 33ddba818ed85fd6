// SPDX-License-Identifier: Apache-2.0
// UserSchedule: a schedule that a user wrote down, read from a JSON table of steps (docs/user-schedules.md). It is one
// more row of the catalog (Algo::User); that it is right is for the prover to say (exec/sim/verify.h) before it may
// run.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "algo/collective.h"
#include "algo/step.h"
#include "base/status.h"

namespace tutti {

struct UserSchedule {
  std::string file;  // for messages
  std::string name;
  Coll coll = Coll::AllReduce;
  int n = 1;
  int root = 0;                                    // of a rooted collective: it serves calls with this one
  uint64_t min_bytes = 0, max_bytes = UINT64_MAX;  // of the region, or of one block
  int channels = 1;
  int blocks = 1;  // what a region is cut into; 1 for block collectives
  int slots = 0;   // fewest per connection, found by the proof; 0: not proven
  uint64_t digest = 0;
  std::vector<std::vector<Step>> steps;  // by rank
  std::deque<std::vector<int>> peers;    // lists that steps refer to

  bool serves(Coll what, int ranks, int with_root, uint64_t bytes) const {
    return slots > 0 && what == coll && ranks == n && with_root == root && min_bytes <= bytes && bytes <= max_bytes;
  }
};

// An error says where in the table something is wrong. `file` is for messages.
Result<std::unique_ptr<UserSchedule>> parse_user_schedule(const std::string& json, const std::string& file);
Result<std::unique_ptr<UserSchedule>> read_user_schedule(const std::string& file);

}  // namespace tutti
