// SPDX-License-Identifier: Apache-2.0
// Which CPUs each local rank gets. Within the CPUs this process may use; never more, never others.
#pragma once

#include <string>
#include <vector>

namespace tutti::perf {

std::vector<int> allowed_cpus();                      // of this process, ascending
std::vector<int> cores_first(std::vector<int> cpus);  // one thread of each core before the second threads

// CPUs of `process` of `processes` with `threads` threads each. Enough CPUs: an own, contiguous share (one CPU when
// there is one thread). Too few: the processes are dealt out in turn, so that no CPU has two more than another.
std::vector<int> share(const std::vector<int>& cpus, int process, int processes, int threads);

void pin_to(const std::vector<int>& cpus);           // the calling process; async-signal-safe up to 1024 CPUs
std::string cpu_list(const std::vector<int>& cpus);  // "0-3,8"

}  // namespace tutti::perf
