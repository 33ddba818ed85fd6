// SPDX-License-Identifier: Apache-2.0
// Is this a virtual machine, whose, and does it show the PCI tree of the machine it runs on?
#pragma once

#include <string>
#include <vector>

#include "topology/detect/pci.h"
#include "topology/detect/system_root.h"

namespace tutti::topology {

struct VirtualMachine {
  bool virtual_machine = false;
  std::string product;  // "QEMU Standard PC (Q35 + ICH9, 2009)", "Amazon EC2 p5.48xlarge"; "": not told
};

VirtualMachine read_virtual_machine(const SystemRoot& root);
// Says so when devices that a job would use (GPUs, network cards) hang directly below the host bridge: on real machines
// each is below a root port, so the tree is the hypervisor's invention. "" when the tree can be believed.
std::string hidden_pci_note(const VirtualMachine& machine, const std::vector<const PciEntry*>& devices);

}  // namespace tutti::topology
