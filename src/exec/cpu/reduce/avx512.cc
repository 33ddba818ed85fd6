// SPDX-License-Identifier: Apache-2.0
// The reductions compiled for the target "avx512"; CMakeLists.txt has the flags.
#define TUTTI_REDUCE_TARGET reduce_avx512
#include "exec/cpu/reduce/kernels.h"
