// SPDX-License-Identifier: Apache-2.0
// Gpus: what worlds on CUDA devices need of the driver, which is loaded by its path: memory that the host sees too
// (managed), and streams. The ranks of a world take the devices in turn.
#pragma once

#include <cstddef>
#include <string>

#include "tutti/tutti.h"

namespace conformance::gpus {

// From now on worlds are on GPUs: ranks in `devices` of them, the driver is `library`. Before any world. `mixed`: every
// third rank, from the second on, stays on the CPU.
void use(const std::string& library, int devices, bool mixed);
bool used();
bool fake();  // by the driver of tests/fakes
bool used_by(int rank);
int device_of(int rank);
// Null, or a failed result, where the driver fails.
void* allocate(int rank, size_t bytes);
void release(int rank, void* memory);
// Memory of the GPU alone: of every second rank as tuttiMemAllocDevice gives it (where it does), else as cudaMalloc.
// Copies between it and the host; is freed as the other.
void* allocate_on_gpu(int rank, size_t bytes);
std::string copy(int rank, void* to, const void* from, size_t bytes);
tuttiStream_t make_stream(int rank);
void destroy_stream(int rank, tuttiStream_t stream);
// "" or what is wrong. Null: the device's default stream.
std::string synchronize(int rank, tuttiStream_t stream);

}  // namespace conformance::gpus
