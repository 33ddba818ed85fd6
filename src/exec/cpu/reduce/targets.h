// SPDX-License-Identifier: Apache-2.0
// The compilations of the reductions, one per instruction set, and the choice between them.
//
// kernels.h is compiled once per target (baseline.cc, avx2.cc, avx512.cc), each with its own compiler flags and in its
// own namespace; reduce.cc picks one table when the process first reduces. Tests name a target to compare them.
#pragma once

#include "exec/cpu/reduce/reduce.h"

namespace tutti {

enum class ReduceTarget : uint8_t {
  Baseline = 0,  // what every machine of the architecture has: SSE2, NEON
  Avx2 = 1,      // with F16C
  Avx512 = 2,    // F, BW, CD, DQ, VL
};
inline constexpr int kReduceTargets = 3;
inline constexpr const char* kReduceTargetNames[kReduceTargets] = {"baseline", "avx2", "avx512"};

struct ReduceKernels {
  ReduceFn reduce[kDataTypes][kReduceOps];
  void (*copy)(const Reduction&);  // one source, `count` bytes
};

// Null where it was not compiled or the machine cannot run it.
const ReduceKernels* reduce_kernels(ReduceTarget target);
// The one in use.
ReduceTarget reduce_target();
// Null where `target` is not available.
ReduceFn reduce_function(DataType type, ReduceOp op, ReduceTarget target);

}  // namespace tutti
