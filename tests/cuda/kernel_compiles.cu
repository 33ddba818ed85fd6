// SPDX-License-Identifier: Apache-2.0
// A kernel of each protocol compiles for the device. What they do is tested on the CPU (tests/exec_cuda).
#include "exec/cuda/kernel.h"

using namespace tutti;        // NOLINT: nothing includes this
using namespace tutti::cuda;  // NOLINT

#define TUTTI_TEST_KERNEL(name, ...)                                                                           \
  extern "C" __global__ void __launch_bounds__(kMostThreads) name(const __grid_constant__ CudaLaunch launch) { \
    run_block<__VA_ARGS__>(launch);                                                                            \
  }
TUTTI_TEST_KERNEL(simple_float32_sum, KernelProto::Simple, float, ReduceOp::Sum)
TUTTI_TEST_KERNEL(ll_bfloat16_max, KernelProto::LL, Bfloat16, ReduceOp::Max)
TUTTI_TEST_KERNEL(ll128_float8_sum, KernelProto::LL128, Float8E4m3, ReduceOp::Sum)
TUTTI_TEST_KERNEL(remote_int64_prod, KernelProto::Remote, int64_t, ReduceOp::Prod)
