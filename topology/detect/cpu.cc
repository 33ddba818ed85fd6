// SPDX-License-Identifier: Apache-2.0
// See cpu.h: the view from sysfs and /proc.
#include "topology/detect/cpu.h"

#include <sys/utsname.h>

#include <algorithm>
#include <map>
#include <set>

namespace tutti::topology {
namespace {

// The value of "key : value" or "key:\tvalue", first match.
std::optional<std::string> field(const std::string& text, std::string_view key) {
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line(text.data() + at, end - at);
    at = end + 1;
    if (!line.starts_with(key)) continue;
    std::string_view rest = line.substr(key.size());
    const size_t colon = rest.find_first_not_of(" \t");
    if (colon == std::string_view::npos || rest[colon] != ':') continue;
    rest.remove_prefix(colon + 1);
    const size_t first = rest.find_first_not_of(" \t");
    return first == std::string_view::npos ? std::string() : std::string(rest.substr(first));
  }
  return std::nullopt;
}

CpuSet list_of(const SystemRoot& root, const std::string& path) {
  return CpuSet::from_list(root.text(path).value_or("")).value_or(CpuSet());
}

uint64_t memory_of(const SystemRoot& root, int32_t node) {
  // "Node 0 MemTotal:  65536 kB"
  const std::string text = root.text(fmt::format("/sys/devices/system/node/node{}/meminfo", node)).value_or("");
  const auto value = field(text, fmt::format("Node {} MemTotal", node));
  if (!value) return 0;
  return static_cast<uint64_t>(std::max<int64_t>(whole_number(value->substr(0, value->find(' '))).value_or(0), 0)) *
         1024;
}

uint64_t size_of(std::string text) {
  uint64_t unit = 1;
  if (!text.empty() && (text.back() == 'K' || text.back() == 'M')) {
    unit = text.back() == 'K' ? 1 << 10 : 1 << 20;
    text.pop_back();
  }
  return static_cast<uint64_t>(std::max<int64_t>(whole_number(text).value_or(0), 0)) * unit;
}

std::vector<Cache> read_caches(const SystemRoot& root, const std::vector<std::string>& cpus) {
  std::set<std::string> seen;  // level and sharers: one cache is listed under each of its CPUs
  std::map<std::pair<int, uint64_t>, int> counts;
  for (const std::string& cpu : cpus) {
    const std::string base = "/sys/devices/system/cpu/" + cpu + "/cache";
    for (const std::string& index : root.list(base)) {
      if (!index.starts_with("index")) continue;
      const std::string at = base + "/" + index;
      if (root.text(at + "/type").value_or("") == "Instruction") continue;
      const int level = static_cast<int>(root.number(at + "/level").value_or(0));
      const std::string sharers = root.text(at + "/shared_cpu_list").value_or(cpu);
      if (level < 1 || !seen.insert(fmt::format("{}:{}", level, sharers)).second) continue;
      ++counts[{level, size_of(root.text(at + "/size").value_or(""))}];
    }
  }
  std::vector<Cache> caches;
  for (const auto& [kind, count] : counts) caches.push_back({kind.first, kind.second, count});
  return caches;
}

}  // namespace

void read_cpu_identity(const SystemRoot& root, CpuView& view) {
  const std::string text = root.text("/proc/cpuinfo").value_or("");
  const auto number = [&](std::string_view key) {
    const auto value = field(text, key);
    return value ? static_cast<int32_t>(whole_number(*value).value_or(-1)) : -1;
  };
  view.vendor = field(text, "vendor_id").value_or("");
  view.model_name = field(text, "model name").value_or("");
  view.family = number("cpu family");
  view.model = number("model");
  // A recording may come from another architecture than this program's.
  if (!view.vendor.empty()) {
    view.arch = "x86_64";
  } else if (field(text, "CPU implementer")) {
    view.arch = "arm64";
  } else if (utsname name; root.live() && ::uname(&name) == 0) {
    view.arch = std::string_view(name.machine) == "aarch64" ? "arm64" : name.machine;
  }
}

CpuSet read_allowed_cpus(const SystemRoot& root) {
  const auto list = field(root.text("/proc/self/status").value_or(""), "Cpus_allowed_list");
  return CpuSet::from_list(list.value_or("")).value_or(CpuSet());
}

CpuView read_cpus(const SystemRoot& root) {
  CpuView view;
  read_cpu_identity(root, view);
  view.allowed = read_allowed_cpus(root);

  std::vector<std::string> cpus;
  for (const std::string& name : root.list("/sys/devices/system/cpu"))
    if (name.starts_with("cpu") && whole_number(std::string_view(name).substr(3))) cpus.push_back(name);
  for (const std::string& name : root.list("/sys/devices/system/node")) {
    const auto id = name.starts_with("node") ? whole_number(std::string_view(name).substr(4)) : std::nullopt;
    if (!id) continue;
    NumaNode node;
    node.id = static_cast<int32_t>(*id);
    node.cpus = list_of(root, "/sys/devices/system/node/" + name + "/cpulist");
    node.memory_bytes = memory_of(root, node.id);
    const std::string distances = root.text("/sys/devices/system/node/" + name + "/distance").value_or("");
    for (size_t at = 0; at < distances.size();) {
      const size_t end = std::min(distances.find(' ', at), distances.size());
      if (const auto value = whole_number(std::string_view(distances).substr(at, end - at)))
        node.distances.push_back(static_cast<int32_t>(*value));
      at = end + 1;
    }
    view.nodes.push_back(std::move(node));
  }
  if (view.nodes.empty()) {  // a kernel without NUMA, or a sandbox without /sys
    NumaNode all;
    all.cpus = list_of(root, "/sys/devices/system/cpu/online");
    if (all.cpus.empty()) all.cpus = view.allowed;
    if (const auto memory = field(root.text("/proc/meminfo").value_or(""), "MemTotal"))
      all.memory_bytes =
          static_cast<uint64_t>(std::max<int64_t>(whole_number(memory->substr(0, memory->find(' '))).value_or(0), 0)) *
          1024;
    view.nodes.push_back(std::move(all));
  }
  for (const std::string& cpu : cpus) {
    const auto package = root.number("/sys/devices/system/cpu/" + cpu + "/topology/physical_package_id");
    const auto number = static_cast<uint32_t>(*whole_number(std::string_view(cpu).substr(3)));
    for (NumaNode& node : view.nodes)
      if (package && node.package < 0 && node.cpus.contains(number)) node.package = static_cast<int32_t>(*package);
  }
  view.caches = read_caches(root, cpus);
  return view;
}

}  // namespace tutti::topology
