// SPDX-License-Identifier: Apache-2.0
// The reductions compiled for the target "baseline"; CMakeLists.txt has the flags.
#define TUTTI_REDUCE_TARGET reduce_baseline
#include "exec/cpu/reduce/kernels.h"
