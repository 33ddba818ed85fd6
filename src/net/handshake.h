// SPDX-License-Identifier: Apache-2.0
// Handshake: each end of a fresh connection proves that it knows the secret before the other interprets a byte of it.
//
//   listener                                                          dialer
//      | ------ greeting {magic, version, nonce L} ---------------------> |   as soon as the connection is there
//      | <----- hello {magic, version, tag, from, to, purpose, nonce D,   |
//      |               MAC("dialer", greeting, hello)} ------------------ |
//      | ------ proof {MAC("listener", greeting, hello)} ---------------> |
//
// Why it is safe: a MAC is worth something only together with the other side's nonce, which is fresh, so a recorded
// hello fails against a new greeting and a recorded proof against a new hello. The roles are part of the MACs, so an
// end's own words cannot be sent back to it. The dialer proves first: a stranger gets nothing out of a listener but a
// nonce, so a guessable TUTTI_JOB_SECRET cannot be tried out offline. All sizes are fixed; a listener looks at the
// claim only after the MAC was found right. Threat model: strangers, not on-path attackers; data is not encrypted.
//
// A visible state machine, driven by whoever polls the socket; the driver owns the deadline (door.h, dialer.h).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "base/poll.h"
#include "base/status.h"
#include "net/crypto.h"

namespace tutti {

// What a dialer says it is and wants. `from` and `to` are ranks of the communicator that `tag` names.
struct Claim {
  int32_t from = -1;
  int32_t to = -1;
  uint32_t purpose = 0;
};

class Handshake {
 public:
  enum class Phase : uint8_t { SendGreeting, AwaitHello, SendProof, AwaitGreeting, SendHello, AwaitProof, Done };

  static constexpr uint32_t kMagic = 0x49545554;  // "TUTI"
  static constexpr uint32_t kVersion = 1;
  static constexpr size_t kNonceBytes = 32;
  static constexpr size_t kGreetingBytes = 4 + 4 + kNonceBytes;
  static constexpr size_t kClaimBytes = 4 + 4 + sizeof(CommTag) + 3 * 4 + kNonceBytes;  // hello without its MAC
  static constexpr size_t kHelloBytes = kClaimBytes + sizeof(Mac);

  static Handshake as_listener(const Secret& secret, const CommTag& tag);
  static Handshake as_dialer(const Secret& secret, const CommTag& tag, const Claim& claim);

  // Moves what can be moved now. An error is final.
  Result<Poll> advance(int fd, std::string_view peer);

  Phase phase() const { return phase_; }
  // POLLIN or POLLOUT: what to wait for.
  short events() const;
  // Whether the other end has sent anything at all.
  bool heard() const { return heard_; }
  // The listener: what the dialer proved. Valid when done.
  const Claim& claim() const { return claim_; }

 private:
  Handshake(Phase phase, const Secret& secret, const CommTag& tag, const Claim& claim)
      : phase_(phase), secret_(secret), tag_(tag), claim_(claim) {}
  void begin_greeting();
  Status take_greeting(std::string_view peer);
  Status take_hello(std::string_view peer);
  Status take_proof(std::string_view peer) const;
  Mac mac_as(std::string_view role, std::span<const uint8_t> hello) const;
  Result<Poll> receive(int fd, std::span<uint8_t> message, std::string_view peer);
  Result<Poll> transmit(int fd, std::span<const uint8_t> message, std::string_view peer);

  Phase phase_;
  bool heard_ = false;
  size_t moved_ = 0;  // bytes of the message of this phase
  Secret secret_;
  CommTag tag_;
  Claim claim_;
  std::array<uint8_t, kGreetingBytes> greeting_{};
  std::array<uint8_t, kHelloBytes> hello_{};
  Mac proof_{};
};

}  // namespace tutti
