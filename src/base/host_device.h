// SPDX-License-Identifier: Apache-2.0
// One name for "compiles for the host and for CUDA devices".
#pragma once

#if defined(__CUDACC__)
#define TUTTI_HD __host__ __device__
#else
#define TUTTI_HD
#endif
