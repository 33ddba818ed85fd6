// SPDX-License-Identifier: Apache-2.0
// The choice of the target, once per process.
#include "exec/cpu/reduce/reduce.h"

#include <cstring>

#include "exec/cpu/reduce/targets.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace tutti {

namespace reduce_baseline {
extern const ReduceKernels kKernels;
}
#if defined(__x86_64__)
namespace reduce_avx2 {
extern const ReduceKernels kKernels;
}
namespace reduce_avx512 {
extern const ReduceKernels kKernels;
}
#endif

namespace {

#if defined(__x86_64__)
// __builtin_cpu_supports also asks whether the operating system saves the registers.
bool can_run_avx2() {
  unsigned eax, ebx, ecx = 0, edx;
  return __builtin_cpu_supports("avx2") && __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}
bool can_run_avx512() {
  return can_run_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

struct Choice {
  ReduceTarget target;
  const ReduceKernels* kernels;
};
Choice best() {
  for (int t = kReduceTargets - 1; t > 0; --t) {
    const auto target = static_cast<ReduceTarget>(t);
    if (const ReduceKernels* kernels = reduce_kernels(target)) return {target, kernels};
  }
  return {ReduceTarget::Baseline, &reduce_baseline::kKernels};
}
const Choice& choice() {
  static const Choice chosen = best();
  return chosen;
}

}  // namespace

const ReduceKernels* reduce_kernels(ReduceTarget target) {
  switch (target) {
    case ReduceTarget::Baseline:
      return &reduce_baseline::kKernels;
#if defined(__x86_64__)
    case ReduceTarget::Avx2:
      return can_run_avx2() ? &reduce_avx2::kKernels : nullptr;
    case ReduceTarget::Avx512:
      return can_run_avx512() ? &reduce_avx512::kKernels : nullptr;
#else
    case ReduceTarget::Avx2:
    case ReduceTarget::Avx512:
      return nullptr;
#endif
  }
  return nullptr;
}

ReduceTarget reduce_target() { return choice().target; }

ReduceFn reduce_function(DataType type, ReduceOp op) {
  return choice().kernels->reduce[static_cast<int>(type)][static_cast<int>(op)];
}

ReduceFn reduce_function(DataType type, ReduceOp op, ReduceTarget target) {
  const ReduceKernels* kernels = reduce_kernels(target);
  return kernels == nullptr ? nullptr : kernels->reduce[static_cast<int>(type)][static_cast<int>(op)];
}

void copy_bytes(void* const* destinations, int n, uint32_t streamed, const void* source, size_t bytes) {
  if (bytes == 0) return;
  if (n == 1 && streamed == 0) {
    // The C library knows the machine's best plain copy.
    if (destinations[0] != source) std::memcpy(destinations[0], source, bytes);
    return;
  }
  choice().kernels->copy({.sources = &source,
                          .source_count = 1,
                          .destinations = destinations,
                          .destination_count = n,
                          .streamed = streamed,
                          .count = bytes});
}

}  // namespace tutti
