// SPDX-License-Identifier: Apache-2.0
// Whether the RDMA devices of a rank may use the memory of its GPU (GPUDirect RDMA), as far as can be told before a
// device is asked (transports/rdma/rdma_gpu.h does that): the settings, what the GPU says of itself, the module
// nvidia-peermem, and how far the two are apart. And the memory itself. docs/rdma.md has the rules and why they hold.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/env.h"
#include "gpu/cuda_nic.h"
#include "topology/detect/system_root.h"
#include "topology/paths.h"
#include "transports/gpu_slots.h"
#include "transports/rdma/rdma_gpu.h"

namespace tutti {

struct DirectFacts {
  struct Card {
    std::string name;
    std::optional<topology::PathClass> distance = {};  // over PCIe; nothing: the topology does not tell
    std::set<std::string> networks = {};               // of its ports (network_of)
  };
  std::string gpu;  // "CUDA device 0"
  gpu::NicFacts device;
  bool peermem_loaded = false;
  std::vector<Card> cards;
};

// nvidia-peermem, or its predecessor.
bool peermem_loaded(const topology::SystemRoot& root);
// How far these devices are from the GPU at that bus id.
void find_distances(const topology::Graph& host, const std::string& bus_id, std::vector<DirectFacts::Card>& cards);

struct Direct {
  RdmaGpuOptions gpu;
  // To be used: those that are near enough, if there are some and no network is lost with the others; else all.
  std::vector<std::string> cards;
};
Direct choose_direct(const DirectFacts& facts, const Env& settings);

// The same of a GPU of this process. The log says what is chosen, for the rank with this label.
Direct find_direct(const gpu::CudaDevicePtr& device, std::span<const RdmaPort> ports, std::string_view label);

// Memory of the device for the slots of an end.
Result<std::shared_ptr<GpuSlots>> make_gpu_slots(const gpu::CudaDevicePtr& device, uint64_t bytes);

}  // namespace tutti
