// SPDX-License-Identifier: Apache-2.0
// Processors and memory of this machine: NUMA nodes with their cores, packages, caches, and what of it this process may
// use. Filled by hwloc where it loads (hwloc_source.h), else from sysfs alone; both fill the same struct.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/pci_address.h"
#include "topology/cpu_set.h"
#include "topology/detect/system_root.h"
#include "topology/graph.h"

namespace tutti::topology {

struct NumaNode {
  int32_t id = 0;
  int32_t package = -1;
  CpuSet cpus;  // all of its cores, allowed or not
  uint64_t memory_bytes = 0;
  std::vector<int32_t> distances;  // to the nodes in order of `CpuView::nodes`, as the firmware states; may be empty
};

struct Cache {
  int level = 0;
  uint64_t bytes = 0;
  int count = 0;  // caches of this level and size in the machine
};

struct CpuView {
  std::vector<NumaNode> nodes;  // at least one
  std::vector<Cache> caches;    // data and unified ones, nearest first
  CpuSet allowed;               // by cpuset and affinity; empty: not known
  std::string arch, vendor;     // x86_64, AuthenticAMD
  int32_t family = -1, model = -1;
  std::string model_name;
  Source source = Source::Sysfs;
};

// Never fails: a machine that shows nothing has one node with the CPUs of /proc/cpuinfo.
CpuView read_cpus(const SystemRoot& root);
// What only /proc/cpuinfo tells: vendor, family, model, name.
void read_cpu_identity(const SystemRoot& root, CpuView& view);
// The CPUs this process may run on, from /proc/self/status.
CpuSet read_allowed_cpus(const SystemRoot& root);

}  // namespace tutti::topology
