// SPDX-License-Identifier: Apache-2.0
// Scalars of the C API: a user's factor of some element type as a Scale.
#pragma once

#include "algo/element.h"
#include "exec/cpu/reduce/reduce.h"

namespace tutti {

// `scalar` points to one element of `type`, of any alignment. Exact for every type.
Scale read_scale(DataType type, const void* scalar);

}  // namespace tutti
