// SPDX-License-Identifier: Apache-2.0
// See pinning.h.
#include "perf/pinning.h"

#include <sched.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <utility>

namespace tutti::perf {

std::vector<int> allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return {0};
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

std::vector<int> cores_first(std::vector<int> cpus) {
  std::vector<std::pair<int, int>> order;  // position among the allowed threads of its core, CPU
  std::vector<int> first_of_core;
  for (const int cpu : cpus) {
    int first = cpu;
    std::ifstream("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list") >> first;
    const auto position = static_cast<int>(std::count(first_of_core.begin(), first_of_core.end(), first));
    first_of_core.push_back(first);
    order.emplace_back(position, cpu);
  }
  std::sort(order.begin(), order.end());
  std::transform(order.begin(), order.end(), cpus.begin(), [](const auto& entry) { return entry.second; });
  return cpus;
}

std::vector<int> share(const std::vector<int>& cpus, int process, int processes, int threads) {
  const auto total = static_cast<int>(cpus.size());
  if (processes >= total) return {cpus[static_cast<size_t>(process % total)]};
  const auto begin = static_cast<int>(static_cast<int64_t>(process) * total / processes);
  const auto end = static_cast<int>(static_cast<int64_t>(process + 1) * total / processes);
  const int wanted = threads == 1 ? 1 : end - begin;
  return {cpus.begin() + begin, cpus.begin() + begin + wanted};
}

void pin_to(const std::vector<int>& cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus) CPU_SET(cpu, &set);
  [[maybe_unused]] const int failed = ::sched_setaffinity(0, sizeof set, &set);  // unpinned is slower, not wrong
}

std::string cpu_list(const std::vector<int>& cpus) {
  std::string text;
  for (size_t begin = 0; begin < cpus.size();) {
    size_t end = begin;
    while (end + 1 < cpus.size() && cpus[end + 1] == cpus[end] + 1) ++end;
    if (!text.empty()) text.push_back(',');
    text += std::to_string(cpus[begin]);
    if (end > begin) text.append("-").append(std::to_string(cpus[end]));
    begin = end + 1;
  }
  return text;
}

}  // namespace tutti::perf
