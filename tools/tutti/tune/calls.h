// SPDX-License-Identifier: Apache-2.0
// Times calls of one collective by some algorithms and protocols, between processes of this machine, through the public
// API. The processes are forked before this one uses the library, since one that has used it must not fork.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "algo/collective.h"
#include "base/status.h"

namespace tutti::tool {

struct Way {
  Algo algo = Algo::Direct;
  Proto proto = Proto::Simple;
  bool windows = false;          // buffers of the library, registered
  std::vector<bool> asked = {};  // by size; empty: all
};
struct Calls {
  Coll coll = Coll::AllGather;
  int ranks = 2;
  std::vector<Way> ways = {};  // measured at each size in this order, so what disturbs for longer disturbs all alike
  std::vector<uint64_t> sizes = {};  // bytes of the whole buffer, rising
  std::string profile = {};          // TUTTI_PROFILE; empty: built in
};

// Microseconds of a call by way and size; 0 where it was not asked, or the way does not serve the size. Each call's
// input is written and its output read, as programs do, outside the time; a batch of calls counts with its slowest
// rank, a size with the lower quartile of its batches. Rank r runs on the r-th of `cpus`, and round again.
//
// A way that takes more than three times as long as the best of its kind (of buffers) before it, at two sizes in a row,
// of 64 KiB or more, is taken to keep its rate from there on.
Result<std::vector<std::vector<double>>> time_calls(const Calls& calls, const std::vector<int>& cpus, double budget_ms);

// Others disturb by adding time, so of several measurements one near the least says most.
double lower_quartile(std::vector<double> values);

// The CPUs that this process may use.
std::vector<int> allowed_cpus();
void pin(int cpu);

}  // namespace tutti::tool
