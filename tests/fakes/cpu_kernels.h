// SPDX-License-Identifier: Apache-2.0
// The kernels of src/exec/cuda, compiled for the CPU: the very templates that nvcc compiles, to be called in each
// thread of run_grid(). Compiled once, for the tests that call them and for the fake CUDA driver, which finds them by
// name.
#pragma once

#include <vector>

#include "exec/cuda/work.h"

namespace tutti::cuda {

using CpuKernel = void (*)(const CudaLaunch&);
CpuKernel cpu_kernel(KernelProto proto);

// What is inside them, alone: a span of bytes that is combined (exec/cuda/span.h).
struct CpuSpan {
  DataType type;
  ReduceOp op;
  std::vector<std::byte*> from, to;
  std::byte *local = nullptr, *kept = nullptr;
  int local_index = 0;
  uint64_t bytes = 0;
  Scale pre, post;
};
void combine_on_cpu(const CpuSpan& span);

}  // namespace tutti::cuda
