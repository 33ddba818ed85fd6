// SPDX-License-Identifier: Apache-2.0
// rdma: ranks on hosts with InfiniBand or RoCE. A connection is a FIFO of slots at each end, in registered memory, and
// queue pairs between them: the sender's device writes a slot of the sender's FIFO into the same slot of the
// receiver's.
//
//   lane                          progress()                 progress()                           lane
//   SimpleSender -> FIFO -> SimpleReceiver -- RDMA write --> (slot in place) SimpleSender -> FIFO -> SimpleReceiver
//                                          -- letter, immediate -->
//
// What is written where, why it is safe, and the settings: docs/rdma.md. As tcp (tcp_transport.h): one connection per
// (pair of ranks, channel, use), for both directions, made when either end is first asked for; the lower rank dials;
// all happens in progress(), in the caller's thread, without blocking. See transports/README.md for the contract.
//
// A connection keeps a socket beside its queue pairs: through it the queue pairs are introduced to each other, by ranks
// that have proven the secret, and a peer's end or failure is known at once.
#pragma once

#include <memory>
#include <vector>

#include "base/handle.h"
#include "transports/network.h"
#include "transports/rdma/rdma_gpu.h"
#include "transports/rdma/rdma_ports.h"

struct ibv_wc;

namespace tutti {

class RdmaConnection;
class RdmaDevices;
class RdmaGpu;
class RdmaNic;
class UserMemory;

// Opens the devices that the settings admit. An error says why none is usable.
Result<std::shared_ptr<RdmaDevices>> open_rdma_devices(const RdmaSettings& settings);
// Closes all devices but these.
void keep_rdma_devices(RdmaDevices& devices, const std::vector<std::string>& names);
// What to offer to the others (encode_ports).
const std::vector<RdmaPort>& rdma_ports(const RdmaDevices& devices);

// Those that this transport shall not reach have no ports.
struct RdmaPeer : NetworkPeer {
  std::vector<RdmaPort> ports;  // what it has offered
};

struct RdmaOptions : NetworkOptions {
  std::vector<RdmaPeer> peers;  // by rank, all ranks of the communicator
  RdmaSettings settings;
  std::shared_ptr<RdmaDevices> devices;  // opened for this transport alone
  RdmaGpuOptions gpu;                    // of a rank on one
};

class RdmaTransport final : public Transport {
 public:
  static Result<std::unique_ptr<Transport>> create(RdmaOptions options);
  // The same for all ranks of a communicator of that size, before any has a transport.
  static Result<TransportLimits> limits_for(int ranks, uint64_t buffer_bytes, int channels = 0);
  // Says goodbye on the connections where all has been sent, so that peers tell an end from a failure.
  ~RdmaTransport() override;

  std::string_view name() const override { return "rdma"; }
  bool reaches(int peer) const override;
  bool mapped() const override { return false; }
  const TransportLimits& limits() const override { return limits_; }

  Result<SendEnd*> send_end(int peer, int channel, Use use) override;
  Result<ReceiveEnd*> receive_end(int peer, int channel, Use use) override;
  uint64_t wants_gpu_slots(int peer, Flow flow) const override;
  Result<SendEnd*> send_end_on_gpu(int peer, int channel, Use use, std::shared_ptr<GpuSlots> slots) override;
  Result<ReceiveEnd*> receive_end_on_gpu(int peer, int channel, Use use, std::shared_ptr<GpuSlots> slots) override;
  Result<SendEnd*> fan_send_end(int channel) override;
  Result<ReceiveEnd*> fan_receive_end(int peer, int channel) override;

  Result<bool> progress() override;
  bool flushed() const override;
  void wait(int timeout_ms) override;

 private:
  RdmaTransport(RdmaOptions options, TransportLimits limits, UniqueFd events);
  Status watch_devices();
  Result<RdmaConnection*> connection(int peer, int channel, Use use);
  Result<bool> advance_setup();
  Result<bool> take_completions();
  Status take_device_events();
  Result<bool> carry();
  // Keeps the failure for all later calls, and tells the peers whom we lost.
  Status fail(Status status, int culprit);
  // Notes which sockets and devices have news; waits for that up to `timeout_ms`.
  void collect_events(int timeout_ms);

  RdmaOptions options_;
  TransportLimits limits_;
  UniqueFd events_;  // epoll: the connections' sockets, and the devices' events
  std::unique_ptr<UserMemory> user_memory_;
  std::unique_ptr<RdmaGpu> gpu_;
  std::vector<std::unique_ptr<RdmaConnection>> connections_;  // [peer][channel, or the one for point-to-point]
  std::vector<RdmaConnection*> setting_up_, open_;
  std::vector<ibv_wc> taken_early_;  // completions that wait() met
  int idle_polls_ = 0;
  bool word_expected_ = false;  // a connection cannot go on without its peer's next word
  bool device_news_ = false;
  Status failure_;  // the first one; every later progress() returns it
};

}  // namespace tutti
