// SPDX-License-Identifier: Apache-2.0
// See door.h.
#include "net/door.h"

#include <bit>

#include "base/log.h"
#include "net/socket.h"

namespace tutti {
namespace {

constexpr int kAcceptBatch = 64;  // between two rounds of handshakes

// All addresses of one family need no wildcard of the other: a host without IPv6 cannot even make one.
Result<UniqueFd> listen_for(const std::vector<SocketAddress>& addresses, uint16_t port) {
  if (addresses.size() == 1) return listen_tcp(addresses[0].with_port(port));
  for (const SocketAddress& address : addresses) {
    if (address.family() == AF_INET6) return listen_tcp(SocketAddress::any_ipv6(port));
  }
  return listen_tcp(SocketAddress::any_ipv4(port));
}

}  // namespace

Result<Door> Door::open(Options options, const std::vector<SocketAddress>& addresses, uint16_t port) {
  TUTTI_TRY(crypto_ready());
  TUTTI_ASSIGN_OR_RETURN(UniqueFd listener, listen_for(addresses, port));
  TUTTI_ASSIGN_OR_RETURN(const SocketAddress bound, address_of_socket(listener.get()));
  return Door(std::move(options), std::move(listener), bound.port());
}

Status Door::poll() {
  TUTTI_TRY(accept_some());
  for (size_t i = 0; i < strangers_.size();) {
    Stranger& stranger = strangers_[i];
    const auto step = stranger.handshake.advance(stranger.fd.get(), stranger.caller.text());
    if (step.ok() && *step == Poll::Pending && !stranger.deadline.passed()) {
      ++i;
      continue;
    }
    if (step.ok() && *step == Poll::Done) {
      guests_.push_back({stranger.handshake.claim(), stranger.caller, std::move(stranger.fd)});
    } else if (!step.ok()) {
      // Opened and closed without a word: a dialer of ours that reached us by another address, or a port scan.
      if (stranger.handshake.heard()) note_stranger(stranger, step.status().message());
    } else {
      note_stranger(stranger, fmt::format("no proof of the secret within {} ms", options_.handshake_ms));
    }
    strangers_.erase(strangers_.begin() + static_cast<std::ptrdiff_t>(i));
  }
  return {};
}

Status Door::accept_some() {
  for (int i = 0; i < kAcceptBatch && !full(); ++i) {
    SocketAddress caller;
    auto accepted = accept_tcp(listener_.get(), caller);
    if (!accepted.ok()) {
      // Most likely out of descriptors: strangers must not be the cause. Without strangers it is our own trouble.
      if (strangers_.empty()) return accepted.status();
      note_stranger(strangers_.front(), accepted.status().message());
      strangers_.pop_front();
      continue;
    }
    if (!*accepted) return {};
    if (strangers_.size() >= options_.most_strangers) {
      note_stranger(strangers_.front(), "too many unproven connections at a time");
      strangers_.pop_front();
    }
    strangers_.push_back({std::move(*accepted), caller, Handshake::as_listener(options_.secret, options_.tag),
                          Deadline::in_ms(options_.handshake_ms), Deadline::in_ms(options_.stay_ms)});
  }
  return {};
}

// Thousands of ranks may dial at once, so nobody is dropped for a newcomer before it had time to prove itself.
bool Door::full() const { return strangers_.size() >= options_.most_strangers && !strangers_.front().stay.passed(); }

// A flood of strangers must not become a flood of log lines: the 1st, 2nd, 4th, 8th ... is told.
void Door::note_stranger(const Stranger& stranger, const std::string& reason) {
  if (!std::has_single_bit(++dropped_)) return;
  log_warn(Subsystem::Net, "{} dropped a connection from {} ({} so far): {}", options_.owner, stranger.caller.text(),
           dropped_, reason);
}

std::optional<Guest> Door::next() {
  if (guests_.empty()) return std::nullopt;
  std::optional<Guest> guest = std::move(guests_.front());
  guests_.pop_front();
  return guest;
}

void Door::add_poll(std::vector<pollfd>& items) const {
  if (!full()) items.push_back({listener_.get(), POLLIN, 0});
  for (const Stranger& stranger : strangers_) items.push_back({stranger.fd.get(), stranger.handshake.events(), 0});
}

// Deadlines are all of the same length, so the oldest passes first.
int Door::poll_ms(int most) const {
  if (strangers_.empty()) return most;
  const Stranger& oldest = strangers_.front();
  return full() ? oldest.stay.poll_ms(most) : oldest.deadline.poll_ms(most);
}

}  // namespace tutti
