// SPDX-License-Identifier: Apache-2.0
// Ranks on GPUs, as programs of NCCL have them: on the device that is current when a communicator is made. Whether
// there are GPUs is one answer for the whole process, found without the driver: asking it would make a later fork()
// unsafe.
#pragma once

#include <cstddef>

#include "base/status.h"

namespace tutti::nccl {

// The machine has NVIDIA GPUs (or TUTTI_CUDA_LIBRARY names a driver), and TUTTI_NCCL_CPU does not say otherwise.
bool on_gpus();

// The ordinal of the device whose context is current in this thread, as cudaSetDevice() leaves it; 0 where none is.
Result<int> current_device(const char* function);

// Memory of the current device; tuttiMemFree() frees it. Where the device cannot map memory for other processes it is
// ordinary memory, as NCCL's.
Result<void*> allocate_on_gpu(const char* function, size_t bytes);

}  // namespace tutti::nccl
