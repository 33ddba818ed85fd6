// SPDX-License-Identifier: Apache-2.0
// RDMA devices: from sysfs (what they are and where they sit, also without the library), completed and checked by verbs
// (whether this process can use them).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/pci_address.h"
#include "topology/detect/system_root.h"
#include "verbs/verbs.h"

namespace tutti::topology {

struct RdmaDevice {
  verbs::Device device;
  // Of the card. A software device (rxe, siw) has none of its own: it is that of the network interface behind it.
  std::optional<PciAddress> pci;
  bool software = false;
  std::string driver;     // "mlx5_core"; of a software device that of its interface
  std::string guid_text;  // as sysfs writes it
  bool opened = false;    // verbs could open it
};

std::vector<RdmaDevice> read_rdma(const SystemRoot& root);
// Takes from verbs what sysfs lacks and marks the devices that opened; devices that only verbs knows are added.
void complete_from_verbs(std::vector<RdmaDevice>& devices, const std::vector<verbs::Device>& opened);

}  // namespace tutti::topology
