// SPDX-License-Identifier: Apache-2.0
// StepTable: the steps of one schedule on one rank as data for a kernel, made once per plan. Host
// only.
#pragma once

#include <vector>

#include "algo/catalog.h"
#include "exec/cuda/work.h"

namespace tutti::cuda {

struct StepTable {
  std::vector<Step> steps;  // lists of peers are places in `peers`, not addresses yet
  std::vector<int> peers;
  int most_from = 0, most_to = 0;

  StepTable() = default;
  StepTable(const AnySchedule& schedule, int n);
  // The steps for a GPU that has `peers` at this address.
  std::vector<Step> steps_with_peers_at(const int* device_peers) const;
};

}  // namespace tutti::cuda
