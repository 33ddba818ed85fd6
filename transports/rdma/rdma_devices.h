// SPDX-License-Identifier: Apache-2.0
// The RDMA devices that one transport has opened: their ports, and what its queue pairs and registered memory hang on.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "transports/rdma/rdma_ports.h"
#include "verbs/objects.h"

namespace tutti {

// One device. Members are in the order of their creation.
class RdmaNic {
 public:
  static Result<std::unique_ptr<RdmaNic>> create(const verbs::VerbsApi& api, verbs::OpenDevice open);
  RdmaNic(const RdmaNic&) = delete;
  ~RdmaNic();

  const verbs::VerbsApi& api() const { return api_; }
  ibv_context* context() const { return open_.context.get(); }
  ibv_pd* domain() const { return domain_.get(); }
  const std::string& name() const { return open_.device.name; }

  // Memory that this device may read, or that peers may write as well. The region ends before the memory does.
  enum class Access : uint8_t { Read, PeersWrite };
  Result<verbs::MemoryRegion> register_memory(void* base, uint64_t bytes, Access access) const;
  // Memory of a GPU, whose address its kernels use is `base`: by a DMA-buf of exactly these bytes, or by the address
  // itself, which nvidia-peermem makes something of. An error says why this device cannot.
  Result<verbs::MemoryRegion> register_dma_buf(int fd, void* base, uint64_t bytes, Access access) const;
  Result<verbs::MemoryRegion> register_gpu_address(void* base, uint64_t bytes, Access access) const;
  // A completion queue with room for so many more entries.
  Result<ibv_cq*> reserve_completions(int entries);
  void give_back_completions(ibv_cq* queue, int entries);

  // Up to entries.size() completions.
  size_t poll(std::span<ibv_wc> entries) const;
  // From now on a completion makes completion_fd() readable.
  void arm() const;
  int completion_fd() const { return channel_->fd; }
  // Forgets what made completion_fd() readable.
  void take_completion_events() const;
  int event_fd() const { return open_.context->async_fd; }
  // The next thing that the driver reports. False: nothing.
  bool take_event(ibv_async_event& event) const;

 private:
  struct Queue {
    verbs::CompletionQueue queue;
    int capacity = 0, used = 0;
  };
  RdmaNic(const verbs::VerbsApi& api, verbs::OpenDevice open) : api_(api), open_(std::move(open)) {}
  Status prepare();
  ibv_mr* try_register(void* base, uint64_t bytes, Access access) const;

  const verbs::VerbsApi& api_;
  verbs::OpenDevice open_;
  verbs::ProtectionDomain domain_;
  verbs::CompletionChannel channel_;
  std::vector<Queue> queues_;
};

class RdmaDevices {
 public:
  // An error says why this process has no usable port.
  static Result<std::shared_ptr<RdmaDevices>> open(const RdmaSettings& settings);

  // The same order as rdma_ports(): what is offered to peers.
  const std::vector<RdmaPort>& ports() const { return ports_; }
  RdmaNic& nic_of(int port) const { return *nics_[static_cast<size_t>(nic_of_port_[static_cast<size_t>(port)])]; }
  const std::vector<std::unique_ptr<RdmaNic>>& nics() const { return nics_; }
  // Closes all devices but these. Before anything is made of them.
  void keep(const std::vector<std::string>& names);
  // A port as it is now. Its address may be at another index than before, or be gone (`gid_index`: -1).
  struct Now {
    bool active = false;
    int mtu = 0;  // bytes
    uint32_t lid = 0;
    int gid_index = -1;  // -1: the address is gone
  };
  Now look(int port) const;

 private:
  std::vector<std::unique_ptr<RdmaNic>> nics_;
  std::vector<RdmaPort> ports_;
  std::vector<int> nic_of_port_;
};

}  // namespace tutti
