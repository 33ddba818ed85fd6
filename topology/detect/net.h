// SPDX-License-Identifier: Apache-2.0
// Source sysfs: ordinary network interfaces, the fall-back where there is no RDMA device.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/pci_address.h"
#include "topology/detect/system_root.h"

namespace tutti::topology {

struct Interface {
  std::string name;
  std::optional<PciAddress> pci;  // of the card, also through virtio; none for virtual and paravirtual ones
  bool hardware = false;          // a device is behind it, on PCI or on a hypervisor's own bus
  int32_t numa_node = -1;         // of a device that is not on PCI
  bool up = false;                // usable for traffic: operstate, or a carrier where that is unknown
  double speed_mbps = -1;         // -1: the driver does not say (virtio, links that are down)
  int32_t type = -1;              // ARPHRD: 1 Ethernet, 32 InfiniBand
  std::string driver;
  std::vector<std::string> parts;  // of a bond
};

// Loopback is left out; bridges, veth and other virtual interfaces are listed with hardware == false.
std::vector<Interface> read_interfaces(const SystemRoot& root);

}  // namespace tutti::topology
