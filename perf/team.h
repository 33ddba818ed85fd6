// SPDX-License-Identifier: Apache-2.0
// Team: the threads of this process together with the other processes of the job. Gives every thread the values of all
// ranks, for everything around the measurement (times, wrong values); never inside it.
#pragma once

#include <barrier>
#include <vector>

#include "perf/job.h"
#include "perf/outcome.h"

namespace tutti::perf {

class Team {
 public:
  Team(Job& job, int threads) : job_(job), deposits_(static_cast<size_t>(threads)), barrier_(threads) {}

  // Collective over all threads of all processes: each deposits as many values as the others; `all` holds them in the
  // order of the ranks.
  Outcome all_gather(int thread, const std::vector<double>& mine, std::vector<double>* all);

 private:
  Job& job_;
  std::vector<std::vector<double>> deposits_;  // [thread]
  std::vector<double> all_;
  Outcome outcome_;
  std::barrier<> barrier_;
};

}  // namespace tutti::perf
