// SPDX-License-Identifier: Apache-2.0
// What the GPUs of a job can do with each other: which is which, and access to another's memory.
#pragma once

#include <array>
#include <cstdint>

#include "gpu/cuda.h"

namespace tutti::gpu {

// A GPU as all processes see it: ordinals differ between processes (CUDA_VISIBLE_DEVICES). Trivially copyable.
struct CudaIdentity {
  std::array<unsigned char, 16> uuid{};  // of the instance, where a GPU is cut into some
  int multiprocessors = 0;
  int capability_major = 0;
  double memory_gbps = 0;       // 0: not known
  std::array<char, 64> name{};  // as the driver says it, "NVIDIA H200"; ends with a zero
};
// Makes no context.
Result<CudaIdentity> identify(const CudaRun& cuda, int ordinal);

// Nothing but NVLink is between the two, as the driver says: native atomics, which PCIe does not carry, cross it.
bool joined_by_nvlink(const CudaRun& cuda, int ordinal, int other);

// Kernels on `from` may use all memory of `to` from now on. An error where the two cannot reach each other.
Status open_peer(const CudaDevicePtr& from, const CudaDevicePtr& to);

namespace end {
inline int registered(const CudaRun& cuda, void* at) { return cuda.unregister_host(at); }
}  // namespace end
// Memory of the host that GPUs use where it is, until this ends.
using RegisteredMemory = CudaOwned<void*, &end::registered>;
Result<RegisteredMemory> register_host(const CudaDevicePtr& device, void* at, size_t bytes);
// Where kernels on `device` find registered or pinned memory.
Result<std::byte*> host_address(const CudaDevicePtr& device, void* at);

}  // namespace tutti::gpu
