// SPDX-License-Identifier: Apache-2.0
// tcp: ranks that share no memory. A connection is a local FIFO of slots at each end and a socket between them.
//
//   lane                        progress()                progress()                  lane
//   SimpleSender -> FIFO -> SimpleReceiver -- socket -> SimpleSender -> FIFO -> SimpleReceiver
//
// progress() moves slots with their descriptor and cut and knows nothing of the operation. Credit is the socket's own:
// a receiver without a free slot stops reading, so the kernel's buffers fill and the sender's FIFO with them.
//
// Sockets: one per (pair of ranks, channel, use), for both directions, made when either end is first asked for. Two
// directions share it because exchanges then carry their acknowledgements for nothing, and neither can hold up the
// other; connections never share one, so none waits behind another's full FIFO. The lower rank dials, the higher one
// accepts, so both may ask at the same time.
//
// Everything happens in progress(), in the caller's thread, without blocking; see transports/README.md for the
// contract.
#pragma once

#include <poll.h>

#include <memory>
#include <vector>

#include "base/handle.h"
#include "transports/network.h"

namespace tutti {

class TcpConnection;

struct TcpOptions : NetworkOptions {
  std::vector<NetworkPeer> peers;  // by rank, all of the communicator; those not to be reached have no addresses
};

class TcpTransport final : public Transport {
 public:
  static Result<std::unique_ptr<TcpTransport>> create(TcpOptions options);
  // Says goodbye on the connections where all has been sent, so that peers tell an end from a failure.
  ~TcpTransport() override;

  std::string_view name() const override { return "tcp"; }
  bool reaches(int peer) const override;
  bool mapped() const override { return false; }
  const TransportLimits& limits() const override { return limits_; }

  Result<SendEnd*> send_end(int peer, int channel, Use use) override;
  Result<ReceiveEnd*> receive_end(int peer, int channel, Use use) override;
  Result<SendEnd*> fan_send_end(int channel) override;
  Result<ReceiveEnd*> fan_receive_end(int peer, int channel) override;

  Result<bool> progress() override;
  bool flushed() const override;
  void wait(int timeout_ms) override;

 private:
  TcpTransport(TcpOptions options, TransportLimits limits, UniqueFd events);
  Result<TcpConnection*> connection(int peer, int channel, Use use);
  Result<bool> advance_setup();
  Result<bool> carry();
  bool worth_asking();
  bool few() const;
  // Puts what is open into the event set.
  Status watch_all();
  // What to sleep on for the open connections.
  std::vector<pollfd> poll_items() const;
  // Keeps the failure for all later calls, and tells the peers whom we lost.
  Status fail(Status status, int culprit);
  // Notes which sockets have become readable or writable; waits for that up to `timeout_ms`.
  void collect_events(int timeout_ms);

  TcpOptions options_;
  TransportLimits limits_;
  UniqueFd events_;  // epoll, edge-triggered, for many connections: an idle one costs no system call
  std::vector<std::unique_ptr<TcpConnection>> connections_;  // [peer][channel, or the one for point-to-point]
  std::vector<TcpConnection*> setting_up_, open_;
  size_t watched_ = 0;  // of open_, how many are in the event set
  unsigned calls_ = 0;  // of carry(), for worth_asking()
  Status failure_;  // the first one; every later progress() returns it
};

}  // namespace tutti
