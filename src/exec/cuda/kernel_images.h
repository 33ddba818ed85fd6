// SPDX-License-Identifier: Apache-2.0
// The kernels' code as the build made it: an image for each protocol, with code for each architecture of
// TUTTI_CUDA_ARCHITECTURES. Host only.
#pragma once

#include <span>
#include <string_view>

#include "exec/cuda/work.h"

namespace tutti::cuda {

// A fat binary as cuModuleLoadData() takes it. Built without nvcc: a text that no driver takes for one.
std::span<const unsigned char> kernel_image(KernelProto proto);

// "sm_90", or "sm_80 sm_90 sm_100 compute_100"; empty: built without nvcc.
std::string_view kernel_architectures();

}  // namespace tutti::cuda
