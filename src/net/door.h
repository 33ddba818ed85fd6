// SPDX-License-Identifier: Apache-2.0
// Door: a listening socket that lets in only who knows the secret.
//
// Carries many handshakes at once and never blocks. Strangers (wrong secret, other protocols, half-open, slow) are
// dropped and logged; they cost a descriptor for at most `handshake_ms` and never an error. The rendezvous uses a Door
// as it is; ranks use it through PeerListener.
#pragma once

#include <poll.h>

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "base/handle.h"
#include "base/status.h"
#include "net/address.h"
#include "net/handshake.h"

namespace tutti {

struct Guest {
  Claim claim;  // proven
  SocketAddress caller;
  UniqueFd fd;
};

class Door {
 public:
  struct Options {
    Secret secret;
    CommTag tag;
    std::string owner;  // for messages: "rank 3", "the rendezvous"
    int64_t handshake_ms = 10'000;
    size_t most_strangers = 512;  // unproven connections at a time; more wait in the kernel's queue
    int64_t stay_ms = 1000;       // when there are so many, the oldest goes after this long
  };

  // Listens where ranks that have these addresses are reached: on the one address if there is only one, else on all
  // of the host (addresses come and go, the port must be one). Port 0: the kernel chooses.
  static Result<Door> open(Options options, const std::vector<SocketAddress>& addresses, uint16_t port);

  uint16_t port() const { return port_; }

  // Accepts and carries handshakes forward. An error is about this process (e.g. out of descriptors), never about a
  // caller.
  Status poll();
  std::optional<Guest> next();

  // What to wait on until poll() may do something, and for how long at most.
  void add_poll(std::vector<pollfd>& items) const;
  int poll_ms(int most) const;

 private:
  struct Stranger {
    UniqueFd fd;
    SocketAddress caller;
    Handshake handshake;
    Deadline deadline;
    Deadline stay;
  };

  Door(Options options, UniqueFd listener, uint16_t port)
      : options_(std::move(options)), listener_(std::move(listener)), port_(port) {}
  Status accept_some();
  bool full() const;
  void note_stranger(const Stranger& stranger, const std::string& reason);

  Options options_;
  UniqueFd listener_;
  uint16_t port_;
  std::deque<Stranger> strangers_;  // oldest first
  std::deque<Guest> guests_;
  uint64_t dropped_ = 0;
};

}  // namespace tutti
