// SPDX-License-Identifier: Apache-2.0
#include "exec/cuda/step_table.h"

#include <algorithm>

namespace tutti::cuda {

StepTable::StepTable(const AnySchedule& schedule, int n) {
  const auto keep_list = [this](Peers& side) {
    if (side.list == nullptr || side.others()) return;
    const uintptr_t offset = peers.size() * sizeof(int);
    peers.insert(peers.end(), side.list, side.list + side.count);
    side.list = reinterpret_cast<const int*>(offset + 1);  // never null: that would be `rank`
  };
  for (int k = 0; k < schedule.steps(); ++k) {
    Step step = schedule.at(k);
    most_from = std::max(most_from, step.from.size(n));
    most_to = std::max(most_to, step.to.size(n));
    keep_list(step.from);
    keep_list(step.to);
    steps.push_back(step);
  }
}

std::vector<Step> StepTable::steps_with_peers_at(const int* device_peers) const {
  std::vector<Step> placed = steps;
  const auto place = [device_peers](Peers& side) {
    if (side.list == nullptr || side.others()) return;
    side.list = device_peers + (reinterpret_cast<uintptr_t>(side.list) - 1) / sizeof(int);
  };
  for (Step& step : placed) {
    place(step.from);
    place(step.to);
  }
  return placed;
}

}  // namespace tutti::cuda
