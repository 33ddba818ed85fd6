// SPDX-License-Identifier: Apache-2.0
// Memory of a GPU that the program allocated, as peers can use it: what kind it is decides how.
//
//   cuMemAlloc (cudaMalloc)     peers of this process by peer access, other processes by an IPC handle of the
//   allocation cuMemCreate and cuMemMap    peers of this process when access is given, other processes by a descriptor
//   managed                     peers of this process
//   a pool's (cudaMallocAsync)  nobody but its GPU, unless the pool's owner says otherwise, which we cannot see
#pragma once

#include <vector>

#include "gpu/cuda.h"

namespace tutti::gpu {

enum class Sharing : uint8_t { None, Ipc, Mapped, Managed, Alone };
// `kind` is what pointer_kind() says of `at`. None: no memory of this device.
Result<Sharing> sharing_of(const CudaDevicePtr& device, const void* at, const PointerKind& kind);

// Mapped memory: a descriptor of the allocation that `at` lies in. An error where it was not created to be exported.
Result<UniqueFd> export_mapped(const CudaDevicePtr& device, const void* at);
// Mapped memory: the devices `to` (ordinals) may read and write the allocation [start, start + bytes) from now on.
Status give_access(const CudaDevicePtr& owner, CudaAddress start, size_t bytes, const std::vector<int>& to);

}  // namespace tutti::gpu
