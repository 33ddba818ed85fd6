// SPDX-License-Identifier: Apache-2.0
// Checks of what this process may use: CPUs, CPU time, descriptors; and of the kernel's clock and page moving.
#include <algorithm>

#include "tools/tutti/doctor/doctor_checks.h"

namespace tutti::doctor {
namespace {

size_t all_cpus(const Probes& probes) {
  size_t count = 0;
  for (const topology::NumaNode& node : probes.sources.cpus.nodes) count += node.cpus.count();
  return count;
}

// The cgroup folders this process is in, innermost first, for one controller; version 2 where `controller` is "".
std::vector<std::string> cgroup_folders(const Probes& probes, std::string_view controller) {
  const std::string text = probes.root.text("/proc/self/cgroup").value_or("");
  std::string folder;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line(text.data() + at, end - at);
    at = end + 1;
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string names = "," + std::string(line.substr(first + 1, second - first - 1)) + ",";
    const bool match =
        controller.empty() ? names == ",," : names.find("," + std::string(controller) + ",") != std::string::npos;
    if (match) folder = line.substr(second + 1);
  }
  std::string top = "/sys/fs/cgroup";
  if (!controller.empty())  // a controller has a folder of its own, or shares it with cpuacct
    top += probes.root.exists("/sys/fs/cgroup/cpu,cpuacct") ? "/cpu,cpuacct" : "/" + std::string(controller);
  std::vector<std::string> folders;
  while (folder.size() > 1) {
    folders.push_back(top + folder);
    folder.erase(folder.rfind('/'));
  }
  folders.push_back(top);
  return folders;
}

struct Quota {
  double cpus = 0;  // 0: none
  std::string seen;
  std::string folder;
};

// The tightest of the limits that apply.
Quota read_quota(const Probes& probes) {
  Quota tightest;
  const auto consider = [&](double quota, double period, const std::string& folder, std::string seen) {
    if (quota <= 0 || period <= 0 || (tightest.cpus > 0 && quota / period >= tightest.cpus)) return;
    tightest = {quota / period, std::move(seen), folder};
  };
  for (const std::string& folder : cgroup_folders(probes, "")) {
    const std::string text = probes.root.text(folder + "/cpu.max").value_or("");  // "200000 100000", "max 100000"
    const size_t space = text.find(' ');
    if (space == std::string::npos) continue;
    const auto quota = topology::whole_number(text.substr(0, space)),
               period = topology::whole_number(text.substr(space + 1));
    if (quota && period)
      consider(static_cast<double>(*quota), static_cast<double>(*period), folder,
               fmt::format("{}/cpu.max: {}", folder, text));
  }
  for (const std::string& folder : cgroup_folders(probes, "cpu")) {
    const auto quota = probes.root.number(folder + "/cpu.cfs_quota_us"),
               period = probes.root.number(folder + "/cpu.cfs_period_us");
    if (quota && period)
      consider(static_cast<double>(*quota), static_cast<double>(*period), folder,
               fmt::format("{}/cpu.cfs_quota_us: {} of {}", folder, *quota, *period));
  }
  return tightest;
}

int64_t throttled_periods(const Probes& probes, const std::string& folder) {
  const std::string text = probes.root.text(folder + "/cpu.stat").value_or("");
  const size_t at = text.find("nr_throttled ");
  if (at == std::string::npos) return 0;
  return topology::whole_number(text.substr(at + 13, text.find('\n', at) - at - 13)).value_or(0);
}

}  // namespace

std::vector<Finding> look_at_cpuset(const Probes& probes) {
  const topology::CpuSet& allowed = probes.sources.cpus.allowed;
  const size_t all = all_cpus(probes), mine = allowed.count();
  const std::string seen =
      fmt::format("/proc/self/status, Cpus_allowed_list: {}; the machine has {}", allowed.list(), all);
  if (mine == 0) return {found(Severity::Note, "it is not known which CPUs this process may use", seen, "mount /proc")};
  if (mine >= all) return {good(fmt::format("all {} CPUs may be used", all), seen)};
  if (mine == 1)
    return {found(
        Severity::Slow, "this process is bound to one CPU: ranks started from here share it", seen,
        "start ranks with a core each (srun --cpus-per-task, mpirun --bind-to core), or unbind this shell (taskset)")};
  return {found(Severity::Note, fmt::format("{} of {} CPUs may be used", mine, all), seen,
                "fine when a batch system gave you a share; else look at the cpuset of the container")};
}

std::vector<Finding> look_at_cpu_limit(const Probes& probes) {
  const Quota quota = read_quota(probes);
  if (quota.cpus == 0) return {good("CPU time is not limited", "no quota in the cgroups of /proc/self/cgroup")};
  const auto usable = static_cast<double>(std::max<size_t>(probes.sources.cpus.allowed.count(), 1));
  if (quota.cpus >= usable)
    return {good(fmt::format("CPU time is limited to {:g} CPUs, no less than may be used", quota.cpus), quota.seen)};
  const int64_t throttled = throttled_periods(probes, quota.folder);
  const std::string seen =
      throttled > 0 ? fmt::format("{}; cpu.stat: throttled in {} periods", quota.seen, throttled) : quota.seen;
  return {found(
      Severity::Slow,
      fmt::format(
          "CPU time is limited to {:g} of {:g} CPUs: waiting ranks use it up, then all stop until the next period",
          quota.cpus, usable),
      seen,
      "bind to whole CPUs instead of a quota (Kubernetes: integer CPU requests with the static CPU manager; docker "
      "--cpuset-cpus)")};
}

std::vector<Finding> look_at_open_files(const Probes& probes) {
  const Limit& limit = probes.open_files;
  const std::string seen = fmt::format("RLIMIT_NOFILE: {} (hard {})", limit.soft,
                                       limit.hard == UINT64_MAX ? "unlimited" : std::to_string(limit.hard));
  const std::string remedy =
      "ulimit -n 65536, or nofile in /etc/security/limits.conf; docker run --ulimit nofile=65536";
  if (limit.soft < 256) return {found(Severity::Broken, "hardly any descriptors are left for sockets", seen, remedy)};
  if (limit.soft < 4096)
    return {found(Severity::Note,
                  "enough descriptors for some hundred ranks over TCP; rank 0 of a large job needs more", seen,
                  remedy)};
  return {good("enough descriptors", seen)};
}

std::vector<Finding> look_at_clock(const Probes& probes) {
  constexpr const char* kPath = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
  const auto clock = probes.root.text(kPath);
  if (!clock)
    return {
        found(Severity::Note, "the clock source is not known", fmt::format("{} is not there", kPath), "mount /sys")};
  const std::string seen = fmt::format("{}: {}", kPath, *clock);
  // These are read without entering the kernel.
  for (const char* fast : {"tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "timebase"})
    if (*clock == fast) return {good("reading the clock costs nanoseconds", seen)};
  return {found(Severity::Slow, "reading the clock is a system call: deadlines and time stamps cost microseconds", seen,
                "find out why the kernel gave up on the TSC (dmesg | grep -i tsc); clocksource=tsc on the kernel's "
                "command line")};
}

std::vector<Finding> look_at_numa_balancing(const Probes& probes) {
  constexpr const char* kPath = "/proc/sys/kernel/numa_balancing";
  const int64_t on = probes.root.number(kPath).value_or(0);
  const std::string seen = fmt::format("{}: {}; {} NUMA nodes", kPath, on, probes.sources.cpus.nodes.size());
  if (on == 0 || probes.sources.cpus.nodes.size() < 2)
    return {good("the kernel does not move pages between NUMA nodes", seen)};
  return {found(Severity::Note,
                "the kernel moves pages between NUMA nodes: it unmaps buffers in use to see who reads them", seen,
                "bind ranks to cores and set sysctl kernel.numa_balancing=0")};
}

}  // namespace tutti::doctor
