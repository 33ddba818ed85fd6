// SPDX-License-Identifier: Apache-2.0
// See statistics.h.
#include "perf/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tutti::perf {

double over_ranks(Average average, std::span<const double> per_rank) {
  switch (average) {
    case Average::Rank0:
      return per_rank[0];
    case Average::Mean:
      return std::accumulate(per_rank.begin(), per_rank.end(), 0.0) / static_cast<double>(per_rank.size());
    case Average::Min:
      return *std::min_element(per_rank.begin(), per_rank.end());
    case Average::Max:
      return *std::max_element(per_rank.begin(), per_rank.end());
  }
  return 0;
}

IterationStats statistics(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  const auto n = static_cast<double>(samples.size());
  const auto nearest_rank = [&](double percent) {
    const auto rank = static_cast<size_t>(std::ceil(n * percent / 100));
    return samples[std::max<size_t>(rank, 1) - 1];
  };
  IterationStats stats{.min = samples.front(),
                       .max = samples.back(),
                       .p50 = nearest_rank(50),
                       .p95 = nearest_rank(95),
                       .p99 = nearest_rank(99)};
  stats.mean = std::accumulate(samples.begin(), samples.end(), 0.0) / n;
  double squares = 0;
  for (const double sample : samples) squares += (sample - stats.mean) * (sample - stats.mean);
  stats.deviation = std::sqrt(squares / n);
  return stats;
}

}  // namespace tutti::perf
