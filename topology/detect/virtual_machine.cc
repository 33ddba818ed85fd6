// SPDX-License-Identifier: Apache-2.0
// See virtual_machine.h.
#include "topology/detect/virtual_machine.h"

#include <algorithm>

#include "base/status.h"

namespace tutti::topology {

VirtualMachine read_virtual_machine(const SystemRoot& root) {
  VirtualMachine found;
  const std::string cpus = root.text("/proc/cpuinfo").value_or("");
  const size_t flags = cpus.find("\nflags");
  if (flags != std::string::npos) {
    const std::string line = cpus.substr(flags + 1, cpus.find('\n', flags + 1) - flags - 1) + " ";
    found.virtual_machine = line.find(" hypervisor ") != std::string::npos;
  }
  const std::string vendor = root.text("/sys/class/dmi/id/sys_vendor").value_or("");
  const std::string product = root.text("/sys/class/dmi/id/product_name").value_or("");
  const std::string type = root.text("/sys/hypervisor/type").value_or("");
  // Where the processor has no such flag (Arm), the firmware's words have to do.
  constexpr std::string_view kMakers[] = {
      "QEMU",    "Amazon EC2",    "Google",  "Microsoft Corporation", "VMware", "Xen", "OpenStack", "KVM", "Red Hat",
      "innotek", "Alibaba Cloud", "Tencent", "cloud-hypervisor"};
  const bool arm = cpus.find("CPU implementer") != std::string::npos;
  if (!type.empty() || (arm && std::ranges::any_of(kMakers, [&](std::string_view maker) {
                          return vendor.find(maker) != std::string::npos || product.find(maker) != std::string::npos;
                        })))
    found.virtual_machine = true;
  if (found.virtual_machine) {
    found.product = vendor;
    if (!product.empty()) found.product += fmt::format("{}{}", found.product.empty() ? "" : " ", product);
    if (found.product.empty()) found.product = type;
  }
  return found;
}

std::string hidden_pci_note(const VirtualMachine& machine, const std::vector<const PciEntry*>& devices) {
  if (!machine.virtual_machine || devices.empty()) return {};
  const auto flat = std::ranges::count_if(devices, [](const PciEntry* entry) { return entry->bridges.empty(); });
  if (flat == 0) return {};
  return fmt::format(
      "this virtual machine{} hides the PCI tree: {} of {} GPUs and network cards hang directly below the host bridge, "
      "so "
      "distances between them are unknown; give the provider's topology file (tutti topo --from FILE)",
      machine.product.empty() ? "" : fmt::format(" ({})", machine.product), flat, devices.size());
}

}  // namespace tutti::topology
