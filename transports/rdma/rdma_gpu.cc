// SPDX-License-Identifier: Apache-2.0
// See rdma_gpu.h.
#include "transports/rdma/rdma_gpu.h"

#include <algorithm>

#include "base/log.h"

namespace tutti {

RdmaGpu::Known& RdmaGpu::known(const RdmaNic& nic) {
  const auto found = std::find_if(known_.begin(), known_.end(), [&](const Known& one) { return one.nic == &nic; });
  if (found != known_.end()) return *found;
  return known_.emplace_back(Known{&nic, options_.no_dma_buf, options_.no_peer_memory});
}

Result<RdmaGpu::Attached> RdmaGpu::attach(const RdmaNic& nic, const GpuSlots& slots, RdmaNic::Access access) {
  Known& device = known(nic);
  if (device.no_dma_buf.empty() && !slots.dma_buf().ok()) device.no_dma_buf = slots.dma_buf().status().message();
  if (device.no_dma_buf.empty()) {
    Result<verbs::MemoryRegion> made =
        nic.register_dma_buf(slots.dma_buf()->get(), slots.base(), slots.bytes(), access);
    if (made.ok()) return Attached{std::move(*made), fmt::format("{} by DMA-buf", nic.name())};
    device.no_dma_buf = made.status().message();
  }
  if (device.no_peer_memory.empty()) {
    Result<verbs::MemoryRegion> made = nic.register_gpu_address(slots.base(), slots.bytes(), access);
    if (made.ok())
      return Attached{std::move(*made),
                      fmt::format("{} by nvidia-peermem (no DMA-buf: {})", nic.name(), device.no_dma_buf)};
    device.no_peer_memory = made.status().message();
  }
  off_ = fmt::format("{} does not reach the GPU's memory; no DMA-buf: {}; no nvidia-peermem: {}", nic.name(),
                     device.no_dma_buf, device.no_peer_memory);
  return system_error("{}", off_);
}

}  // namespace tutti
