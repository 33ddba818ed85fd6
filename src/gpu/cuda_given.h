// SPDX-License-Identifier: Apache-2.0
// Memory of GPUs that the program asks us for (tuttiMemAllocDevice, ncclMemAlloc), as windows want it: mapped memory of
// cuMemCreate, whose descriptor other processes can be given, readable and writable by all GPUs that reach its own.
//
// Who holds it: the program, until it frees it, and each window it is registered as, until that ends. So memory that is
// freed while peers may use it goes when they no longer do. Other processes hold what they have mapped by themselves.
//
// Threads: any. The list of what the program holds is locked.
#pragma once

#include <cstddef>
#include <memory>

#include "gpu/cuda.h"

namespace tutti::gpu {

class GivenMemory;

// What to do on a device that cannot map memory for other processes.
enum class Unmappable : bool {
  Refuse,
  Ordinary,  // memory of cuMemAlloc: other processes get it by an IPC handle
};

// `bytes` > 0, rounded up to the device's granularity, which is the alignment of what is given too. Not zeroed. The
// program holds it from now on.
Result<void*> give_memory(const CudaDevicePtr& device, size_t bytes, Unmappable otherwise);

// Ends the program's hold on what starts at `at`. False: it holds nothing there. Memory of a parent process is refused.
Result<bool> take_back_memory(const void* at);

// What the program holds around `at`; null if that is none of ours.
std::shared_ptr<const GivenMemory> find_given_memory(const void* at);

}  // namespace tutti::gpu
