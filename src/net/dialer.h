// SPDX-License-Identifier: Apache-2.0
// Dialer: makes one authenticated connection to a peer that has several addresses. Never blocks.
//
// Addresses are tried in turn, but a silent one (a bridge that exists on each host, a firewall that swallows packets, a
// peer that is busy) does not hold up the next: after stagger_ms the next is tried beside it. The first that greets
// gets the proof, and only one at a time gets it, so that both ends agree on the connection.
#pragma once

#include <poll.h>

#include <optional>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "base/handle.h"
#include "base/poll.h"
#include "base/status.h"
#include "net/address.h"
#include "net/handshake.h"

namespace tutti {

class Dialer {
 public:
  struct Options {
    std::vector<SocketAddress> addresses;  // best first
    Secret secret;
    CommTag tag;
    Claim claim;
    std::string peer;  // for messages, e.g. "rank 3 (node7, process 4242)"
    Deadline deadline = Deadline::never();
    std::string remedy;  // ends the message of a failure, e.g. "is MASTER_ADDR right?"; may be empty
    // The peer may not listen yet: try until the deadline. Otherwise each address gets kTries.
    bool keep_trying = false;
    int stagger_ms = 250;
  };
  static constexpr int kTries = 3;

  explicit Dialer(Options options);

  // An error is final: it says what happened at each address.
  Result<Poll> advance();
  // The connection, once advance() said Done.
  UniqueFd take() { return std::move(connection_); }

  // What to wait on until advance() may do something, and for how long at most.
  void add_poll(std::vector<pollfd>& items) const;
  int poll_ms(int most) const;

 private:
  enum class Phase : uint8_t { Waiting, Connecting, Silent, Proving, GivenUp };
  struct Attempt {
    SocketAddress to;
    Phase phase = Phase::Waiting;
    Deadline start = Deadline::never();  // Waiting: when to begin
    int failures = 0;
    std::string last_failure;
    UniqueFd fd;
    std::optional<Handshake> handshake;
  };

  const Attempt* proving() const;
  void step(Attempt& attempt);
  Result<Poll> prove(Attempt& attempt);
  void fail(Attempt& attempt, const Status& status);
  Status summary(const char* what) const;

  Options options_;
  std::vector<Attempt> attempts_;
  UniqueFd connection_;
};

}  // namespace tutti
