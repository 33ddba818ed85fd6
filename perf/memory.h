// SPDX-License-Identifier: Apache-2.0
// How much memory there is, and how much this process uses.
#pragma once

#include <cstdint>

namespace tutti::perf {

uint64_t available_memory();     // bytes that this machine, or our cgroup, can still give; UINT64_MAX: unknown
uint64_t proportional_memory();  // of this process: pages shared by k processes count 1/k; 0: unknown

}  // namespace tutti::perf
