// SPDX-License-Identifier: Apache-2.0
// Test data with an exact answer. Every element is a pure function of (seed, rank, index), repeated with a prime period
// of kPeriod elements: filling and checking run at memory speed because only one period is ever computed, and blocks
// that changed places are still seen, because no power of two and no block boundary is a multiple of the period.
//
//   copied data    random bits, NaN patterns included: whatever is moved must arrive bit by bit
//   sum, mulsum    small integers; any partial sum, in any order, is held exactly by the type
//   prod           plus or minus a power of two, partial products in range
//   max, min       random integers; in every second element one rank alone decides
//   avg            integer types: sums at the edges of the quotient, which rounds toward zero; floating types: the sum
//   is
//                  a multiple of the odd part of n, so that the quotient is exact as well
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "perf/collectives.h"
#include "perf/types.h"

namespace tutti::perf {

constexpr size_t kPeriod = 8191;  // elements; prime

struct DataSpec {
  const TypeInfo* type;
  const OpInfo* op;  // null: the data is copied, not reduced
  int n;
  uint64_t seed;  // another value for each test, so that left-overs of the last one are wrong
};

// The scalar that `rank` multiplies with in mulsum: exact, positive and not the same on all ranks.
double mulsum_scalar(int rank);

// One rank's contribution to element `index`, as a number (reductions only).
double contribution(const DataSpec& spec, int rank, uint64_t index);
// The reduction over all ranks, as a number.
double reduced(const DataSpec& spec, uint64_t index);

// Writes elements [first, first + count) of rank `source` (or of the reduction, kReduction) to `out`.
void fill(const DataSpec& spec, int source, size_t first, size_t count, std::byte* out);
// How many of these elements differ from what fill() would write.
uint64_t count_wrong(const DataSpec& spec, int source, size_t first, size_t count, const std::byte* data);

}  // namespace tutti::perf
