// SPDX-License-Identifier: Apache-2.0
// Statistics over ranks (-a) and over iterations (-I).
#pragma once

#include <span>
#include <vector>

#include "perf/options.h"

namespace tutti::perf {

double over_ranks(Average average, std::span<const double> per_rank);

struct IterationStats {
  double min = 0, max = 0, mean = 0, p50 = 0, p95 = 0, p99 = 0, deviation = 0;  // the unit of the samples
  double variation_percent() const { return mean > 0 ? 100 * deviation / mean : 0; }
};
IterationStats statistics(std::vector<double> samples);  // percentiles by nearest rank; samples must not be empty

}  // namespace tutti::perf
