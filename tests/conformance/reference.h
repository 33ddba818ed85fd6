// SPDX-License-Identifier: Apache-2.0
// The independent reference: which data ranks put in, and what must come out, exactly.
//
// Reductions use tables of kPeriod columns: column k holds one input for each rank and the one right result. The data
// is chosen so that every order of combining gives the same bits: sums whose every partial sum is exact in the type
// (rounding once per hop then changes nothing), products of powers of two and one 3, averages that divide evenly (for
// integers: any, rounded toward zero). Integers wrap in sums and products. max and min also see infinities and NaNs.
// Copies use a hash of (seed, source rank, index), any bit pattern.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tutti/tutti.h"

namespace conformance {

constexpr int kTypes = TUTTI_NUM_TYPES;
constexpr int kOps = 6;
constexpr int kPreMulSum = 5;  // beside TUTTI_SUM ... TUTTI_AVG
extern const char* const kTypeNames[kTypes];
extern const char* const kOpNames[kOps];

size_t element_bytes(int type);

constexpr size_t kPeriod = 1021;  // prime, so that no power of two of misplacement goes unseen
// Columns of consecutive elements; the second period is rotated against the first, and so on.
inline size_t column(size_t index) { return (index % kPeriod + 7 * (index / kPeriod)) % kPeriod; }

struct Table {
  std::vector<std::vector<uint64_t>> in;  // [rank][column], the element's bits
  std::vector<uint64_t> out;              // [column]
  std::vector<uint64_t> scale;            // [rank], of kPreMulSum
  std::vector<bool> nan;                  // [column]: any NaN is right
};
// Made on first use, kept. Safe from several threads.
const Table& table(int type, int op, int n);

bool is_nan(uint64_t bits, int type);

// Element `index` of the data that rank `source` gives to a copy.
inline uint64_t copied(uint64_t seed, int source, uint64_t index) {
  uint64_t x = seed * 0x9E3779B97F4A7C15u + (static_cast<uint64_t>(source) << 48) + index;
  x = (x ^ (x >> 31)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

}  // namespace conformance
