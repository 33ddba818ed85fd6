// SPDX-License-Identifier: Apache-2.0
// One graph out of what the sources say. Pure: tests hand it any machine.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "gpu/cuda_driver.h"
#include "gpu/nvml.h"
#include "topology/detect/cpu.h"
#include "topology/detect/detect.h"
#include "topology/detect/net.h"
#include "topology/detect/pci.h"
#include "topology/detect/rdma.h"
#include "topology/detect/virtual_machine.h"
#include "topology/graph.h"

namespace tutti::topology {

struct Sources {
  std::string host;
  VirtualMachine machine;
  CpuView cpus;
  std::vector<PciEntry> pci;
  std::optional<std::vector<gpu::GpuDevice>> gpus;  // nothing: NVML did not answer
  std::vector<gpu::PeerAttributes> peers;
  std::optional<gpu::CudaMachine> cuda;
  std::vector<RdmaDevice> rdma;
  std::vector<Interface> interfaces;
  std::string gpu_class;  // lower case digits without 0x; "": known GPUs
};

Graph assemble(const Sources& sources, std::vector<Note>& notes);

// Joins the hosts of a job: ports of one network (their attribute "network") meet in a node of its name. A host alone
// has no such node, or two of its cards would seem to be nearest to each other over the wire.
void connect_networks(Graph& graph);

}  // namespace tutti::topology
