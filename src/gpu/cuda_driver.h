// SPDX-License-Identifier: Apache-2.0
// The CUDA driver, loaded at run time, as far as finding out about devices goes: what this process may use (after
// CUDA_VISIBLE_DEVICES), in which order, and what the devices can do with each other and with network cards.
//
// No context is made and no toolkit is needed to build. cuInit() costs tenths of a second per GPU and makes a later
// fork() unsafe for CUDA, so nothing calls this without need: NVML answers what it can first.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/pci_address.h"
#include "base/status.h"

namespace tutti::gpu {

struct CudaDeviceFacts {
  int ordinal = 0;  // as this process counts
  std::string name;
  std::optional<PciAddress> pci;
  int capability_major = 0, capability_minor = 0;
  int multiprocessors = 0;
  uint64_t memory_bytes = 0;
  bool gpu_direct_rdma = false;  // nvidia-peermem can hand this device's memory to a network card
  bool dma_buf = false;          // its memory can be exported as a dma-buf
  bool multicast = false;        // NVLink SHARP
  std::optional<int> host_numa_node;
};

struct CudaPeerFacts {
  int from = 0, to = 0;  // ordinals
  bool access = false, atomics = false;
  int performance_rank = 0;  // 0 is the best the driver knows
};

struct CudaMachine {
  int driver_version = 0;  // 12040 is 12.4
  std::vector<CudaDeviceFacts> devices;
  std::vector<CudaPeerFacts> peers;
};

// `path` (TUTTI_CUDA_LIBRARY) replaces libcuda.so.1. The error says what is missing and what to do.
Result<CudaMachine> read_cuda_machine(std::string_view path = {});

}  // namespace tutti::gpu
