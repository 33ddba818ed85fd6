// SPDX-License-Identifier: Apache-2.0
// What the look-alike driver library answers: one table per machine. The library is built once per machine
// (FAKE_MACHINE), tests read the same tables to know what must come out.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tutti::fakes {

struct FakeLink {
  int end;             // NvmlLinkEnd
  const char* remote;  // PCI bus id; null: hidden
  bool active = true;
};

struct FakeGpu {
  const char* name;
  const char* uuid;
  const char* bus_id;  // as NVML writes it: eight digits of domain
  uint16_t pci_device;
  int major, minor;
  uint64_t memory_bytes;
  int pcie_generation, pcie_width, numa_node;
  int link_version;
  std::vector<FakeLink> links;
  int missing_links = 0;  // positions after the links that answer "not supported"
  std::vector<const char*> mig;
};

struct FakeDrivers {
  int init_status = 0;  // of nvmlInit
  int cuda_status = 0;  // of cuInit
  const char* driver_version = "550.54.15";
  int cuda_version = 12040;
  std::vector<FakeGpu> gpus;
  std::vector<int> cuda_order;         // NVML index of each CUDA ordinal
  std::vector<std::vector<int>> peer;  // [from][to]: NVML's P2P status; empty: all ok
  bool nvlink_peers = false;
  bool fabric = false;
  int dead_gpu = -1;  // this index answers with an error
};

// "nvswitch8", "pcie4", "mig", "mismatch", "nodriver", "deadgpu".
const FakeDrivers& fake_drivers(const std::string& machine);

}  // namespace tutti::fakes
