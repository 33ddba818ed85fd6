// SPDX-License-Identifier: Apache-2.0
// PeerListener: the one listening port of a rank of a communicator. Peers come in by a Dialer (dialer.h).
//
// Never blocks. Threads: those of the communicator, each for other purposes. A connection is known by who made it
// and what for; the users of a rank's port agree on purposes:
//   1 .. 15              src/bootstrap (kPurpose* in bootstrap/purposes.h)
//   kFirstFreePurpose .. transports; the meaning of the bits is theirs
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "base/handle.h"
#include "base/status.h"
#include "net/address.h"
#include "net/door.h"

namespace tutti {

inline constexpr uint32_t kFirstFreePurpose = 16;

class PeerListener {
 public:
  struct Options {
    Secret secret;
    CommTag tag;
    int rank = 0;
    int size = 0;  // number of ranks
    int64_t handshake_ms = 10'000;
  };

  // `local`: this host's addresses (interfaces.h), best first; the listener gives them its port.
  static Result<std::unique_ptr<PeerListener>> open(const Options& options, std::vector<SocketAddress> local);

  // For a listener that had to listen before its owner's rank was known. Before the first poll().
  void set_place(int rank, int size) {
    options_.rank = rank;
    options_.size = size;
  }
  const std::vector<SocketAddress>& addresses() const { return addresses_; }

  // Accepts peers and carries their handshakes forward.
  Status poll();
  // The connection that `from` made for this purpose, if it is there. If it came twice before it was taken, the later
  // one counts: a peer dials again only when its first try had failed.
  std::optional<UniqueFd> take(int from, uint32_t purpose);

  // What to wait on until poll() may do something, and for how long at most.
  void add_poll(std::vector<pollfd>& items) const {
    const std::lock_guard lock(mutex_);
    door_.add_poll(items);
  }
  int poll_ms(int most) const {
    const std::lock_guard lock(mutex_);
    return door_.poll_ms(most);
  }

 private:
  PeerListener(const Options& options, Door door, std::vector<SocketAddress> addresses)
      : options_(options), door_(std::move(door)), addresses_(std::move(addresses)) {}

  Options options_;
  mutable std::mutex mutex_;  // of what follows but the addresses
  Door door_;
  std::vector<SocketAddress> addresses_;
  std::map<std::pair<int, uint32_t>, UniqueFd> arrived_;
};

}  // namespace tutti
