// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/cpu_kernels.h"

#include "exec/cuda/kernel.h"

namespace tutti::cuda {

CpuKernel cpu_kernel(KernelProto proto) {
  switch (proto) {
    case KernelProto::Simple:
      return run_block<KernelProto::Simple>;
    case KernelProto::LL:
      return run_block<KernelProto::LL>;
    case KernelProto::LL128:
      return run_block<KernelProto::LL128>;
    case KernelProto::Remote:
      return run_block<KernelProto::Remote>;
  }
  return nullptr;
}

}  // namespace tutti::cuda
