// SPDX-License-Identifier: Apache-2.0
// Source sysfs: the PCI functions of this machine, which bridges are above them, and the speed and width of their
// links.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/pci_address.h"
#include "topology/detect/system_root.h"

namespace tutti::topology {

struct PciEntry {
  PciAddress address;
  std::string path;                 // in /sys/devices; "" when the entry is not from sysfs
  std::string root;                 // host bridge: "pci0000:3a"
  std::vector<PciAddress> bridges;  // above it, from the root port down
  int32_t class_code = -1, vendor = -1, device = -1, subsystem_vendor = -1, subsystem_device = -1;
  int32_t numa_node = -1;
  // What slot and card can do together, as the kernel writes it ("16.0 GT/s PCIe"); "" and 0: it does not say. A GPU at
  // rest lowers its link's speed, so the current one would tell little.
  std::string link_speed;
  int32_t link_width = 0;
  std::string current_speed;
  int32_t current_width = 0;
  std::string driver;  // "" : none is bound

  bool bridge() const { return class_code >> 8 == 0x0604; }
};

// Sorted by address. Empty where the kernel shows no PCI.
std::vector<PciEntry> read_pci(const SystemRoot& root);
const PciEntry* find(const std::vector<PciEntry>& entries, const PciAddress& address);
// The PCI function that a path in /sys/devices lies below, if any: ".../0000:23:00.0/virtio5/net/eth0".
std::optional<PciAddress> pci_above(std::string_view path);
// "16.0 GT/s PCIe" -> 16; 0 when there is no figure.
double giga_transfers(std::string_view link_speed);

}  // namespace tutti::topology
