// SPDX-License-Identifier: Apache-2.0
// Whether a schedule that a user wrote is right, and how many slots it needs. Called before one may run (src/comm) and
// by `tutti plan verify`.
#pragma once

#include <string_view>
#include <vector>

#include "algo/user_schedule.h"
#include "exec/sim/prove.h"

namespace tutti {

struct Verified {
  int slots = 0;     // fewest per connection with which no rank waits for itself
  ProofStats stats;  // of one slice per block
  double whole = 0;  // bytes of the whole buffer in `stats`
  int proofs = 0;    // how many were done
};

// Proves it in place and not, for none, some and many bytes, for lengths that do not divide, in several orders; an
// error is the counterexample.
Result<Verified> verify(const UserSchedule& schedule);

// The schedules of a comma list of files, proven, with their slots; they live as long as the process. One that cannot
// be read or is wrong is an error.
Result<std::vector<const UserSchedule*>> read_proven_schedules(std::string_view files);

}  // namespace tutti
