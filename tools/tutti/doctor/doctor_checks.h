// SPDX-License-Identifier: Apache-2.0
// The checks by name, for their table; and how they word what they found.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tools/tutti/doctor/doctor.h"

namespace tutti::doctor {

std::vector<Finding> look_at_memory_object(const Probes& probes);
std::vector<Finding> look_at_shared_memory(const Probes& probes);
std::vector<Finding> look_at_locked_memory(const Probes& probes);
std::vector<Finding> look_at_huge_pages(const Probes& probes);
std::vector<Finding> look_at_single_copy(const Probes& probes);
std::vector<Finding> look_at_cpuset(const Probes& probes);
std::vector<Finding> look_at_cpu_limit(const Probes& probes);
std::vector<Finding> look_at_open_files(const Probes& probes);
std::vector<Finding> look_at_clock(const Probes& probes);
std::vector<Finding> look_at_numa_balancing(const Probes& probes);
std::vector<Finding> look_at_virtual_machine(const Probes& probes);
std::vector<Finding> look_at_pcie_links(const Probes& probes);
std::vector<Finding> look_at_iommu(const Probes& probes);
std::vector<Finding> look_at_acs(const Probes& probes);
std::vector<Finding> look_at_nvidia_driver(const Probes& probes);
std::vector<Finding> look_at_gpu_peers(const Probes& probes);
std::vector<Finding> look_at_gpu_direct(const Probes& probes);
std::vector<Finding> look_at_rdma_access(const Probes& probes);
std::vector<Finding> look_at_rdma_ports(const Probes& probes);
std::vector<Finding> look_at_interfaces(const Probes& probes);

inline Finding good(std::string what, std::string seen) {
  return {"", Severity::Good, std::move(what), std::move(seen), ""};
}
inline Finding found(Severity severity, std::string what, std::string seen, std::string remedy) {
  return {"", severity, std::move(what), std::move(seen), std::move(remedy)};
}
// "64 MiB", "1.5 GiB", "unlimited".
std::string size_text(uint64_t bytes);
// GPUs and network cards on PCI that a job would use.
std::vector<const topology::PciEntry*> job_devices(const Probes& probes);
// Is a capability (its number in linux/capability.h) effective for this process?
bool has_capability(const Probes& probes, int capability);
// "GPU0", "0000:3b:00.0" joined by commas; more than eight end in "and 5 more".
std::string list_text(const std::vector<std::string>& names);

}  // namespace tutti::doctor
