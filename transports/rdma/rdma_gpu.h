// SPDX-License-Identifier: Apache-2.0
// RdmaGpu: by which way the RDMA devices of a rank reach the memory of its GPU, as far as they do.
//
//   DMA-buf          the GPU's driver makes a descriptor of the memory, and the kernel maps it for the device
//   nvidia-peermem   the device is given the GPU's address, and that module tells the kernel what it means
//   staged           slots lie in memory of the host
//
// What is known before a device is asked comes with the transport's options. A device that has refused a way is not
// asked for it again: the log says why, once, and later connections take the next way at once.
// Threads: as the transport's.
#pragma once

#include <deque>
#include <string>

#include "transports/gpu_slots.h"
#include "transports/rdma/rdma_ports.h"

#if TUTTI_HAVE_VERBS
#include "transports/rdma/rdma_devices.h"
#endif

namespace tutti {

// Of a rank on a GPU. A reason that is empty: nothing speaks against it.
struct RdmaGpuOptions {
  std::string name;             // of the GPU, for the log; empty: the rank is on none
  std::string not_out, not_in;  // why slots of what is sent, or received, are staged
  std::string no_dma_buf, no_peer_memory;
  bool flush = false;  // its kernels see what devices have written only after GpuSlots::flush()

  const std::string& staged(Flow flow) const { return flow == Flow::Out ? not_out : not_in; }
};

#if TUTTI_HAVE_VERBS
class RdmaGpu {
 public:
  explicit RdmaGpu(RdmaGpuOptions options) : options_(std::move(options)) {}
  const std::string& name() const { return options_.name; }
  bool flushes() const { return options_.flush; }

  // Slots in memory of the GPU are worth an attempt.
  bool wanted(Flow flow) const { return !options_.name.empty() && options_.staged(flow).empty() && off_.empty(); }
  // Why not.
  const std::string& why_staged(Flow flow) const { return off_.empty() ? options_.staged(flow) : off_; }

  struct Attached {
    verbs::MemoryRegion region;
    std::string how;  // for the log: "mlx5_0 by DMA-buf"
  };
  // The best way that the device has. An error, of which no device is asked again: it has none.
  Result<Attached> attach(const RdmaNic& nic, const GpuSlots& slots, RdmaNic::Access access);

 private:
  struct Known {  // of a device: why it is not asked
    const RdmaNic* nic;
    std::string no_dma_buf, no_peer_memory;
  };
  Known& known(const RdmaNic& nic);

  RdmaGpuOptions options_;
  std::deque<Known> known_;
  std::string off_;
};
#endif

}  // namespace tutti
