// SPDX-License-Identifier: Apache-2.0
// See team.h.
#include "perf/team.h"

namespace tutti::perf {

// Two barriers are enough: all_ is written again only after everybody has arrived at the first barrier of the next
// round, and by then everybody has copied it.
Outcome Team::all_gather(int thread, const std::vector<double>& mine, std::vector<double>* all) {
  deposits_[static_cast<size_t>(thread)] = mine;
  barrier_.arrive_and_wait();
  if (thread == 0) {
    std::vector<double> process;
    for (const auto& deposit : deposits_) process.insert(process.end(), deposit.begin(), deposit.end());
    outcome_ = job_.all_gather(process, &all_);
  }
  barrier_.arrive_and_wait();
  *all = all_;
  return outcome_;
}

}  // namespace tutti::perf
