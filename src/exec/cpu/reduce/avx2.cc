// SPDX-License-Identifier: Apache-2.0
// The reductions compiled for the target "avx2"; CMakeLists.txt has the flags.
#define TUTTI_REDUCE_TARGET reduce_avx2
#include "exec/cpu/reduce/kernels.h"
