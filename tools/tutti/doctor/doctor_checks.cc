// SPDX-License-Identifier: Apache-2.0
// The table of checks. What they look at is in memory.cc, process.cc, pci.cc, gpu.cc and network.cc.
#include "tools/tutti/doctor/doctor_checks.h"

#include <algorithm>

namespace tutti::doctor {

const char* name(Severity severity) {
  switch (severity) {
    case Severity::Good:
      return "good";
    case Severity::Note:
      return "note";
    case Severity::Slow:
      return "slow";
    case Severity::Broken:
      return "broken";
  }
  return "broken";
}

const std::vector<CheckRow>& checks() {
  static const std::vector<CheckRow>& rows = *new std::vector<CheckRow>{
      {"memory object", "can processes share memory through memfd, or is seccomp in the way?", look_at_memory_object},
      {"shared memory", "size of /dev/shm, the fall-back for memfd", look_at_shared_memory},
      {"locked memory", "the limit on pinned memory, which RDMA and GPUs need", look_at_locked_memory},
      {"huge pages", "transparent huge pages for buffers and for shared memory", look_at_huge_pages},
      {"single copy", "may a process read another one's memory (process_vm_readv)?", look_at_single_copy},
      {"cpuset", "which CPUs this process may use", look_at_cpuset},
      {"cpu limit", "a quota of CPU time by cgroup, and how often it throttled", look_at_cpu_limit},
      {"open files", "the limit on descriptors: sockets of peers, memory objects", look_at_open_files},
      {"clock", "is reading the clock a system call?", look_at_clock},
      {"NUMA balancing", "does the kernel move pages behind our back?", look_at_numa_balancing},
      {"virtual machine", "does a hypervisor hide where devices sit?", look_at_virtual_machine},
      {"PCIe links", "links narrower than slot and card allow", look_at_pcie_links},
      {"IOMMU", "is DMA between devices translated?", look_at_iommu},
      {"ACS", "do PCIe switches send traffic between devices up to the root?", look_at_acs},
      {"NVIDIA driver", "kernel module and libraries: there, and of one version?", look_at_nvidia_driver},
      {"GPU peers", "can the GPUs read each other's memory?", look_at_gpu_peers},
      {"GPUDirect RDMA", "can network cards read GPU memory: dma-buf or nvidia-peermem?", look_at_gpu_direct},
      {"RDMA access", "libibverbs and /dev/infiniband", look_at_rdma_access},
      {"RDMA ports", "ports that are down; RoCE without a usable version 2 GID", look_at_rdma_ports},
      {"interfaces", "network interfaces that are up, and their speed", look_at_interfaces},
  };
  return rows;
}

std::vector<Finding> examine(const Probes& probes) {
  std::vector<Finding> all;
  for (const CheckRow& row : checks()) {
    for (Finding& finding : row.look(probes)) {
      finding.check = row.name;
      all.push_back(std::move(finding));
    }
  }
  return all;
}

Severity worst(const std::vector<Finding>& findings) {
  Severity severity = Severity::Good;
  for (const Finding& finding : findings) severity = std::max(severity, finding.severity);
  return severity;
}

}  // namespace tutti::doctor
