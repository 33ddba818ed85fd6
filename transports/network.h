// SPDX-License-Identifier: Apache-2.0
// What the transports between hosts share: their options, what they offer, how two ranks get the socket of a
// connection, and how a rank says whom it has lost.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "base/handle.h"
#include "net/address.h"
#include "net/crypto.h"
#include "net/dialer.h"
#include "net/peer_listener.h"
#include "transports/transport.h"

namespace tutti {

struct NetworkPeer {
  std::vector<SocketAddress> addresses;  // its PeerListener's, best first
  std::string label;                     // for messages, e.g. "rank 3 (node7, process 4242)"
};

struct NetworkOptions {
  Secret secret;
  CommTag tag;
  int me = 0;
  PeerListener* listener = nullptr;  // mine; outlives the transport
  int channels = 0;                  // 0: by the number of ranks, as in an arena
  uint64_t buffer_bytes = 0;         // bytes of slots at each end of a connection; 0: by the number of ranks
  int64_t connect_timeout_ms = -1;   // for a peer that never comes; -1: wait for ever
};

// The same for all ranks of a communicator of that size, before any has a transport.
Result<TransportLimits> network_limits(int ranks, uint64_t buffer_bytes, int channels);

// A connection's socket in the making: the lower rank dials, the higher one waits for it to come in, so both may begin
// at the same time.
class SocketSetup {
 public:
  // `addresses` of the peer, in the order to try; `label`: it, and where, for messages.
  SocketSetup(const NetworkOptions& options, int peer, std::vector<SocketAddress> addresses, uint32_t purpose,
              const std::string& label);

  // Empty: not yet.
  Result<UniqueFd> advance(PeerListener& listener);
  // What to wait on beside the listener until advance() may do something, and for how long at most.
  void add_poll(std::vector<pollfd>& items) const;
  int poll_ms(int most) const;

 private:
  int peer_;
  uint32_t purpose_;
  std::string label_;
  Deadline deadline_;
  std::optional<Dialer> dialer_;
};
// When a peer has not come by the deadline of its connection.
Status late_error(const std::string& label);

// Sleeps until one of `items` or a connection in the making has news, or for `timeout_ms`.
template <class Connection>
void wait_for_setup(std::vector<pollfd> items, PeerListener& listener, const std::vector<Connection*>& setting_up,
                    int timeout_ms) {
  listener.add_poll(items);
  int least = listener.poll_ms(timeout_ms);
  for (const Connection* connection : setting_up) {
    connection->setup().add_poll(items);
    least = connection->setup().poll_ms(least);
  }
  (void)::poll(items.data(), items.size(), least);
}

// What rank `me` says when `peer` (`label`) has failed because of `culprit` (`culprit_label`).
Status lost_error(int me, int peer, const std::string& label, int culprit, const std::string& culprit_label);

// When the peer said goodbye and this rank has still something for it.
Status left_error(const std::string& label);

}  // namespace tutti
