// SPDX-License-Identifier: Apache-2.0
// Reads /proc and the cgroup's limit.
#include "perf/memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace tutti::perf {
namespace {

constexpr uint64_t kUnknown = std::numeric_limits<uint64_t>::max();

uint64_t kib_field(const char* path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(name)) return std::stoull(line.substr(name.size())) * 1024;
  }
  return kUnknown;
}

uint64_t number_in(const char* path) {
  uint64_t value = 0;
  std::ifstream file(path);
  return file >> value ? value : kUnknown;  // "max" is no number: no limit
}

}  // namespace

uint64_t available_memory() {
  const uint64_t machine = kib_field("/proc/meminfo", "MemAvailable:");
  const uint64_t limit = number_in("/sys/fs/cgroup/memory.max");
  const uint64_t used = number_in("/sys/fs/cgroup/memory.current");
  if (limit == kUnknown || used == kUnknown) return machine;
  return std::min(machine, limit > used ? limit - used : 0);
}

uint64_t proportional_memory() {
  const uint64_t bytes = kib_field("/proc/self/smaps_rollup", "Pss:");
  return bytes == kUnknown ? 0 : bytes;
}

}  // namespace tutti::perf
