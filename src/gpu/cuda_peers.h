// SPDX-License-Identifier: Apache-2.0
// Access of one GPU to the memory of another.
#pragma once

#include "gpu/cuda.h"

namespace tutti::gpu {

// Kernels on `from` may use all memory of `to` from now on. An error where the two cannot reach each other.
Status open_peer(const CudaDevicePtr& from, const CudaDevicePtr& to);

}  // namespace tutti::gpu
