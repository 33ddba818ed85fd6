// SPDX-License-Identifier: Apache-2.0
// Memory of a GPU that network cards read and write by themselves (GPUDirect RDMA): what a device says of it, memory
// that can be handed to a card, and when kernels see what cards have written. Who hands it over is elsewhere
// (transports/rdma), and so is the choice between the ways (src/comm/cuda_direct.h).
#pragma once

#include <string>

#include "gpu/cuda.h"

namespace tutti::gpu {

struct NicFacts {
  bool dma_buf = false;      // the driver makes DMA-bufs of its memory
  bool peer_memory = false;  // nvidia-peermem can hand it over
  bool ordered = false;      // its kernels see a card's writes without a flush, once they are told of them
  bool flushes = false;      // flush_card_writes() works
  int capability_major = 0;
};
NicFacts nic_facts(const CudaContextOwner& device);
// "0000:65:00.0"; empty: the driver does not say.
std::string bus_id(const CudaContextOwner& device);

// Whole pages of the host's size, as cards map them.
class NicMemory {
 public:
  static Result<NicMemory> create(const CudaDevicePtr& device, size_t bytes);
  CudaAddress address() const { return address_; }
  size_t size() const { return size_; }
  // A descriptor of exactly this memory. What has been made of it may outlive the descriptor, not the memory.
  Result<UniqueFd> dma_buf() const;

 private:
  CudaDevicePtr device_;
  DeviceMemory memory_;
  CudaAddress address_ = 0;
  size_t size_ = 0;
};

// What cards have written to memory of the device so far is visible to its kernels when this has returned.
Status flush_card_writes(const CudaDevicePtr& device);

}  // namespace tutti::gpu
