// SPDX-License-Identifier: Apache-2.0
// Reductions of one slice on the CPU: any number of sources combined in order, written to any number of destinations.
//
// Fused: each source is read once and each destination written once. The executor takes a function once per call
// (type and operator), never per element. Vectorised for the best instruction set found at start; the result is the
// same, bit for bit, on every target and for every alignment, count and number of destinations.
//
// What the operators do:
//   integers      wrap modulo 2^bits
//   float32, 64   IEEE operations in the order of the sources, no contraction
//   float16, bfloat16, float8
//                 Sum and Prod accumulate in float32 over all sources of one call and round once, to nearest even.
//                 float16 and bfloat16 overflow to infinity. float8 saturates to the largest finite value of its sign,
//                 infinities (inputs of e5m2, or overflow of float32) included; NaN stays NaN.
//   Max, Min      select: NaN if any source is NaN; +0 is above -0, so the order of the sources does not matter;
//                 nothing is rounded or saturated
// Sign and payload of a NaN result are unspecified. The caller's rounding mode must be nearest even and denormals must
// not be flushed, as is the default of every thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "algo/element.h"

namespace tutti {

// One slice. Pointers need the alignment of an element. A destination may be a source (in place); otherwise nothing
// overlaps. `count` may be 0.
struct Reduction {
  const void* const* sources;  // combined in this order
  int source_count;            // >= 1
  int scaled_source = -1;      // the source that `pre` applies to (my own input); -1: none
  void* const* destinations;   // each receives the result
  int destination_count;       // >= 1, <= 32
  uint32_t streamed = 0;       // bit i: write destination i past the caches (non-temporal stores, fenced before return)
  size_t count;                // elements
  Scale pre = {};              // None or Multiply
  Scale post = {};             // None or Divide
};

using ReduceFn = void (*)(const Reduction&);

// Never null for valid enums.
ReduceFn reduce_function(DataType type, ReduceOp op);

// Copies `bytes` from `source` to n destinations: one read, n writes. A destination may be the source itself.
// Streamed as above.
void copy_bytes(void* const* destinations, int n, uint32_t streamed, const void* source, size_t bytes);

}  // namespace tutti
