// SPDX-License-Identifier: Apache-2.0
// Watches a process while it is armed: allocations and mutexes are counted (their functions are replaced in this
// program, and so for the library), system calls are trapped by a seccomp filter.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace tutti::hot_path {

// Seen while armed, by this process.
struct Seen {
  long allocations = 0, frees = 0, locks = 0;
};

// Counting begins or ends for all threads of this process.
void arm();
Seen disarm();

// From now on the calling thread may only make `allowed` system calls, and those that end the process or report. Any
// other one ends the process with kTrapped, and its name is written to standard error. There is no way back. An error
// text if the kernel does not offer filters.
inline constexpr int kTrapped = 77;
std::string forbid_system_calls(std::span<const int> allowed);

}  // namespace tutti::hot_path
