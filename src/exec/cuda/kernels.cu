// SPDX-License-Identifier: Apache-2.0
// The kernel of one protocol, which the build names: compiled once for each of TUTTI_KERNEL_PROTO = Simple, LL, LL128,
// Remote (and its name in small letters, TUTTI_KERNEL_NAME), so that the compilations can share the cores.
#include "exec/cuda/kernel.h"

using namespace tutti;        // NOLINT: nothing includes this
using namespace tutti::cuda;  // NOLINT

extern "C" __global__ void __launch_bounds__(kMostThreads)
    TUTTI_KERNEL_NAME(const __grid_constant__ CudaLaunch launch) {
  run_block<KernelProto::TUTTI_KERNEL_PROTO>(launch);
}
