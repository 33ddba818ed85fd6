// SPDX-License-Identifier: Apache-2.0
// Checks of PCI: what a hypervisor hides, narrow links, traffic between devices that takes the long way.
#include "topology/detect/pci.h"

#include <algorithm>
#include <set>

#include "tools/tutti/doctor/doctor_checks.h"

namespace tutti::doctor {
namespace {

bool is_gpu(const topology::PciEntry& entry) {
  const int32_t kind = entry.class_code >> 8;
  return (entry.vendor == 0x10de && (kind == 0x0300 || kind == 0x0302)) ||
         (entry.vendor == 0x1002 && (kind == 0x0380 || kind == 0x1200));
}

// The control word of a function's Access Control Services capability; nothing: it has none. `readable` becomes false
// when the kernel shows only the first part of the configuration space.
std::optional<uint16_t> acs_control(const std::string& config, bool& readable) {
  constexpr size_t kExtended = 0x100;
  constexpr uint16_t kAcs = 0x000d;
  if (config.size() <= kExtended) {
    readable = false;
    return std::nullopt;
  }
  const auto word = [&](size_t at) {
    return at + 2 <= config.size()
               ? static_cast<uint16_t>(static_cast<uint8_t>(config[at]) | static_cast<uint8_t>(config[at + 1]) << 8)
               : uint16_t{0};
  };
  std::set<size_t> seen;  // a damaged list may go round
  for (size_t at = kExtended; at >= kExtended && seen.insert(at).second; at = word(at + 2) >> 4) {
    if (word(at) == kAcs) return word(at + 6);
    if (word(at) == 0) break;
  }
  return std::nullopt;
}

}  // namespace

std::vector<const topology::PciEntry*> job_devices(const Probes& probes) {
  std::set<PciAddress> wanted;
  for (const topology::RdmaDevice& device : probes.sources.rdma)
    if (device.pci) wanted.insert(*device.pci);
  if (probes.sources.gpus)
    for (const gpu::GpuDevice& device : *probes.sources.gpus) wanted.insert(device.pci);
  std::vector<const topology::PciEntry*> devices;
  for (const topology::PciEntry& entry : probes.sources.pci)
    if (is_gpu(entry) || wanted.contains(entry.address)) devices.push_back(&entry);
  return devices;
}

std::vector<Finding> look_at_virtual_machine(const Probes& probes) {
  const topology::VirtualMachine& machine = probes.sources.machine;
  if (!machine.virtual_machine)
    return {good("this is no virtual machine", "no hypervisor flag in /proc/cpuinfo, no /sys/hypervisor")};
  const std::string product = machine.product.empty() ? "its maker is not told" : machine.product;
  const std::string hidden = topology::hidden_pci_note(machine, job_devices(probes));
  if (hidden.empty())
    return {good("a virtual machine that shows where its devices sit, or has none",
                 "/proc/cpuinfo: hypervisor; " + product)};
  return {found(Severity::Slow, hidden, "/sys/bus/pci/devices: no bridge above them; " + product,
                "set the topology file that the provider publishes for this machine type")};
}

std::vector<Finding> look_at_pcie_links(const Probes& probes) {
  std::vector<Finding> findings;
  size_t looked_at = 0;
  for (const topology::PciEntry* entry : job_devices(probes)) {
    if (entry->link_width == 0 || entry->current_width == 0 || entry->path.empty()) continue;
    ++looked_at;
    if (entry->current_width >= entry->link_width) continue;
    findings.push_back(
        found(Severity::Slow,
              fmt::format("{} runs on {} lanes of {}", entry->address.text(), entry->current_width, entry->link_width),
              fmt::format("{}/current_link_width: {}; slot and card have {}", entry->path, entry->current_width,
                          entry->link_width),
              "reseat the card or its riser, clean the contacts, look at the slot's settings in the firmware"));
  }
  if (findings.empty())
    findings.push_back(good(looked_at == 0 ? "no GPU or RDMA card with a PCIe link"
                                           : fmt::format("{} GPUs and RDMA cards have all their lanes", looked_at),
                            "current_link_width and max_link_width in /sys/bus/pci/devices"));
  return findings;
}

std::vector<Finding> look_at_iommu(const Probes& probes) {
  const std::vector<std::string> groups = probes.root.list("/sys/kernel/iommu_groups");
  if (groups.empty()) return {good("no IOMMU is in the way", "/sys/kernel/iommu_groups is empty")};
  std::vector<std::string> translated;
  for (const topology::PciEntry* entry : job_devices(probes)) {
    const auto group = probes.root.resolve(entry->path + "/iommu_group");
    if (!group) continue;
    const std::string type = probes.root.text(*group + "/type").value_or("");
    if (!type.empty() && type != "identity") translated.push_back(fmt::format("{} ({})", entry->address.text(), type));
  }
  if (translated.empty())
    return {good("the IOMMU does not translate for GPUs and RDMA cards, or there are none",
                 fmt::format("{} groups in /sys/kernel/iommu_groups; types of the devices' groups", groups.size()))};
  if (probes.sources.machine.virtual_machine)
    return {found(Severity::Note, "the virtual machine's IOMMU translates DMA of GPUs and RDMA cards",
                  "iommu_group/type: " + list_text(translated),
                  "iommu=pt in the guest, unless devices are passed on to nested machines")};
  return {found(
      Severity::Slow,
      "the IOMMU translates DMA of GPUs and RDMA cards: traffic between them goes through the root complex, or fails",
      "iommu_group/type: " + list_text(translated),
      "iommu=pt on the kernel's command line (or IOMMU off in the firmware)")};
}

std::vector<Finding> look_at_acs(const Probes& probes) {
  constexpr uint16_t kRequestRedirect = 1 << 2, kCompletionRedirect = 1 << 3;
  std::set<PciAddress> bridges;
  for (const topology::PciEntry* entry : job_devices(probes))
    bridges.insert(entry->bridges.begin(), entry->bridges.end());
  std::vector<std::string> redirecting;
  bool readable = true;
  for (const PciAddress& address : bridges) {
    const topology::PciEntry* bridge = topology::find(probes.sources.pci, address);
    if (bridge == nullptr || bridge->path.empty()) continue;
    const auto control = acs_control(probes.root.bytes(bridge->path + "/config").value_or(""), readable);
    if (control && (*control & (kRequestRedirect | kCompletionRedirect)) != 0)
      redirecting.push_back(fmt::format("{} (0x{:04x})", address.text(), *control));
  }
  if (!redirecting.empty())
    return {found(
        Severity::Slow, "PCIe bridges above GPUs and RDMA cards send their traffic up to the root complex",
        "ACS control in the configuration space: " + list_text(redirecting),
        "turn ACS off in the firmware, or at every start: setpci -s ADDRESS ECAP_ACS+0x6.w=0000 for each of them")};
  if (bridges.empty()) return {good("no bridge is above a GPU or RDMA card", "/sys/bus/pci/devices")};
  if (!readable)
    return {found(Severity::Note, "it is not known whether PCIe bridges redirect traffic between devices",
                  "the configuration space beyond 64 bytes is for root only", "run tutti doctor as root")};
  return {good("PCIe bridges do not redirect traffic between devices",
               fmt::format("ACS control of {} bridges", bridges.size()))};
}

}  // namespace tutti::doctor
