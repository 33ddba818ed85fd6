// SPDX-License-Identifier: Apache-2.0
// The kernels of one protocol, which the build names: compiled once for each of TUTTI_KERNEL_PROTO = Simple, LL, LL128,
// Remote (and its name in small letters, TUTTI_KERNEL_NAME), so that the compilations can share the cores.
#include "exec/cuda/kernel.h"
#include "exec/cuda/kernel_list.h"

using namespace tutti;        // NOLINT: nothing includes this
using namespace tutti::cuda;  // NOLINT

#define TUTTI_DEFINE_KERNEL(Proto, proto, type, T, op, Op)                       \
  extern "C" __global__ void __launch_bounds__(kMostThreads)                     \
      tutti_##proto##_##type##_##op(const __grid_constant__ CudaLaunch launch) { \
    run_block<KernelProto::Proto, T, ReduceOp::Op>(launch);                      \
  }
// Bytes, and an operator that is never used.
#define TUTTI_DEFINE_COPY(Proto, proto)                                 \
  extern "C" __global__ void __launch_bounds__(kMostThreads)            \
      tutti_##proto##_copy(const __grid_constant__ CudaLaunch launch) { \
    run_block<KernelProto::Proto, uint8_t, ReduceOp::Max>(launch);      \
  }

TUTTI_KERNELS(TUTTI_DEFINE_KERNEL, TUTTI_DEFINE_COPY, TUTTI_KERNEL_PROTO, TUTTI_KERNEL_NAME)
