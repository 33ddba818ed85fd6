// SPDX-License-Identifier: Apache-2.0
// Times calls of one collective by one algorithm and protocol, between processes of this machine, through the public
// API. The environment forces the way and is read once per process, so each way has processes of its own; they are
// forked before this process uses the library, since one that has used it must not fork.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "algo/collective.h"
#include "base/status.h"

namespace tutti::tool {

struct Way {
  Coll coll = Coll::AllGather;
  std::string algorithm = {}, protocol = {};  // as TUTTI_ALGO and TUTTI_PROTO spell them
  bool windows = false;                       // buffers of the library, registered
  int ranks = 2;
  std::string profile = {};  // TUTTI_PROFILE; empty: built in
  uint64_t slice_bytes = 0;  // TUTTI_SLICE_BYTES; 0: the planner's
};

// Microseconds of a call by bytes of the whole buffer; 0 where the way does not serve the size. Each call's input is
// written and its output read, as programs do, outside the time; a batch of calls counts with its slowest rank, a size
// with the lower quartile of its batches. Rank r runs on the r-th of `cpus`, and round again.
//
// `best_us` (empty, or one for each size; 0: unknown) is what others took: a way that takes more than three times as
// long at two sizes in a row, of 64 KiB or more, is taken to keep its rate from there on.
Result<std::vector<double>> time_calls(const Way& way, const std::vector<uint64_t>& sizes,
                                       const std::vector<double>& best_us, const std::vector<int>& cpus,
                                       double budget_ms);

// The CPUs that this process may use.
std::vector<int> allowed_cpus();
void pin(int cpu);

}  // namespace tutti::tool
