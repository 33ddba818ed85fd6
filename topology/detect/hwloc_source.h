// SPDX-License-Identifier: Apache-2.0
// Source hwloc: packages, NUMA nodes, caches, the cpuset this process is confined to, and the PCI functions where sysfs
// shows none. Reads the live machine only.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "topology/detect/cpu.h"
#include "topology/detect/pci.h"

namespace tutti::topology {

// What the operating system calls a PCI function: "mlx5_0", "eth0", "nvme0n1".
struct OsDevice {
  std::string name;
  std::optional<PciAddress> pci;
};

struct HwlocView {
  std::vector<NumaNode> nodes;
  std::vector<Cache> caches;
  CpuSet allowed;
  std::vector<PciEntry> pci;  // with bridges, class, ids; no link figures but the current speed
  std::vector<OsDevice> os_devices;
};

// `library` replaces libhwloc. The error says why there is no view.
Result<HwlocView> read_hwloc(std::string_view library);
// Takes hwloc's view of processors where it has one; distances stay those of sysfs.
void complete_from_hwloc(CpuView& cpus, const HwlocView& view);

}  // namespace tutti::topology
