// SPDX-License-Identifier: Apache-2.0
// The kernels of src/exec/cuda, compiled for the CPU: the very templates that nvcc compiles, to be called in each
// thread of run_grid(). Compiled once, for the tests that call them and for the fake CUDA driver, which finds them by
// name.
#pragma once

#include "exec/cuda/work.h"

namespace tutti::cuda {

using CpuKernel = void (*)(const CudaLaunch&);
CpuKernel cpu_kernel(KernelProto proto);

}  // namespace tutti::cuda
