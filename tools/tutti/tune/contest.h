// SPDX-License-Identifier: Apache-2.0
// Contest: several ways to do the same, each timed in some rounds. What a round finds of two ways can be compared; what
// two rounds find cannot, since a machine is twice as fast at one time as at another. So a way's time is the median,
// over its rounds, of its ratio to the best of the round, times the median of these bests.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace tutti::tool {

class Contest {
 public:
  explicit Contest(size_t ways) : ratios_(ways) {}

  // Microseconds of each way; 0: not timed.
  void add(const std::vector<double>& round) {
    double best = 0;
    for (const double us : round) {
      if (us > 0 && (best == 0 || us < best)) best = us;
    }
    if (best == 0) return;
    bests_.push_back(best);
    for (size_t w = 0; w < round.size(); ++w) {
      if (round[w] > 0) ratios_[w].push_back(round[w] / best);
    }
  }

  // Not after a round without it, nor once it has taken more than 1 + 1/r times the best in each of r rounds.
  bool hopeful(size_t way) const {
    const std::vector<double>& ratios = ratios_[way];
    if (ratios.size() < bests_.size()) return false;
    const double least = ratios.empty() ? 1 : *std::min_element(ratios.begin(), ratios.end());
    return ratios.empty() || least <= 1 + 1 / static_cast<double>(ratios.size());
  }

  // 0: never timed.
  double us(size_t way) const { return ratios_[way].empty() ? 0 : median(ratios_[way]) * median(bests_); }

 private:
  static double median(std::vector<double> values) {
    const auto half = static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), values.begin() + half, values.end());
    const double upper = values[static_cast<size_t>(half)];
    if (values.size() % 2 == 1) return upper;
    return (upper + *std::max_element(values.begin(), values.begin() + half)) / 2;
  }

  std::vector<std::vector<double>> ratios_;  // by way
  std::vector<double> bests_;                // by round
};

}  // namespace tutti::tool
