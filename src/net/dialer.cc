// SPDX-License-Identifier: Apache-2.0
// See dialer.h.
#include "net/dialer.h"

#include <algorithm>

#include "net/socket.h"

namespace tutti {
namespace {

// Between two tries of an address: short at first (the peer is about to listen), bounded later.
constexpr int kFirstPauseMs = 10, kLongestPauseMs = 500;

int pause_ms(int failures) { return std::min(kFirstPauseMs << std::min(failures - 1, 6), kLongestPauseMs); }

bool readable(int fd) {
  pollfd item{fd, POLLIN, 0};
  return ::poll(&item, 1, 0) > 0;
}

}  // namespace

Dialer::Dialer(Options options) : options_(std::move(options)) {
  for (size_t i = 0; i < options_.addresses.size(); ++i) {
    Attempt attempt;
    attempt.to = options_.addresses[i];
    attempt.start = Deadline::in_ms(static_cast<int64_t>(i) * options_.stagger_ms);
    attempts_.push_back(std::move(attempt));
  }
}

Result<Poll> Dialer::advance() {
  if (connection_) return Poll::Done;
  TUTTI_TRY(crypto_ready());
  if (options_.deadline.passed()) return summary("did not answer in time");

  bool untried_may_start = true;  // all addresses before this one have failed: do not wait for the stagger
  for (Attempt& attempt : attempts_) {
    if (const Attempt* chosen = proving(); chosen != nullptr && chosen != &attempt) continue;
    if (attempt.phase == Phase::Waiting && attempt.failures == 0 && untried_may_start)
      attempt.start = Deadline::in_ms(0);
    step(attempt);
    if (attempt.phase == Phase::Proving) {
      TUTTI_ASSIGN_OR_RETURN(const Poll proven, prove(attempt));
      if (proven == Poll::Done) return Poll::Done;
    }
    if (attempt.failures == 0) untried_may_start = false;
  }
  if (std::ranges::all_of(attempts_, [](const Attempt& attempt) { return attempt.phase == Phase::GivenUp; })) {
    return summary("cannot be reached");
  }
  return Poll::Pending;
}

const Dialer::Attempt* Dialer::proving() const {
  const auto chosen = std::ranges::find(attempts_, Phase::Proving, &Attempt::phase);
  return chosen == attempts_.end() ? nullptr : &*chosen;
}

// Waiting -> Connecting -> Silent -> Proving, as far as it goes without waiting.
void Dialer::step(Attempt& attempt) {
  if (attempt.phase == Phase::Waiting && attempt.start.passed()) {
    auto fd = begin_connect(attempt.to);
    if (!fd.ok()) return fail(attempt, fd.status());
    attempt.fd = std::move(*fd);
    attempt.phase = Phase::Connecting;
  }
  if (attempt.phase == Phase::Connecting) {
    const auto connected = finish_connect(attempt.fd.get(), attempt.to);
    if (!connected.ok()) return fail(attempt, connected.status());
    if (*connected == Poll::Done) attempt.phase = Phase::Silent;
  }
  if (attempt.phase == Phase::Silent && readable(attempt.fd.get())) {
    attempt.handshake = Handshake::as_dialer(options_.secret, options_.tag, options_.claim);
    attempt.phase = Phase::Proving;
  }
}

Result<Poll> Dialer::prove(Attempt& attempt) {
  const auto proven = attempt.handshake->advance(attempt.fd.get(), attempt.to.text());
  if (!proven.ok()) {
    fail(attempt, proven.status());
    return Poll::Pending;
  }
  if (*proven == Poll::Pending) return Poll::Pending;
  connection_ = std::move(attempt.fd);
  attempts_.clear();  // closes what was tried beside it; those never proved anything
  return Poll::Done;
}

void Dialer::fail(Attempt& attempt, const Status& status) {
  attempt.fd.reset();
  attempt.handshake.reset();
  attempt.last_failure = status.message();
  ++attempt.failures;
  attempt.start = Deadline::in_ms(pause_ms(attempt.failures));
  attempt.phase = attempt.failures >= kTries && !options_.keep_trying ? Phase::GivenUp : Phase::Waiting;
}

Status Dialer::summary(const char* what) const {
  std::string failures;
  for (const Attempt& attempt : attempts_) {
    if (!failures.empty()) failures += "; ";
    failures += attempt.last_failure.empty() ? fmt::format("{} is silent", attempt.to.text()) : attempt.last_failure;
  }
  return remote_error("{} {}: {}{}{}", options_.peer, what, failures.empty() ? "it has no address" : failures,
                      options_.remedy.empty() ? "" : "; ", options_.remedy);
}

void Dialer::add_poll(std::vector<pollfd>& items) const {
  if (const Attempt* chosen = proving()) {  // the others rest, so they must not wake us
    items.push_back({chosen->fd.get(), chosen->handshake->events(), 0});
    return;
  }
  for (const Attempt& attempt : attempts_) {
    switch (attempt.phase) {
      case Phase::Connecting:
        items.push_back({attempt.fd.get(), POLLOUT, 0});
        break;
      case Phase::Silent:
        items.push_back({attempt.fd.get(), POLLIN, 0});
        break;
      case Phase::Proving:
      case Phase::Waiting:
      case Phase::GivenUp:
        break;
    }
  }
}

int Dialer::poll_ms(int most) const {
  int least = options_.deadline.poll_ms(most);
  if (proving() != nullptr) return least;
  for (const Attempt& attempt : attempts_) {
    if (attempt.phase == Phase::Waiting) least = attempt.start.poll_ms(least);
  }
  return least;
}

}  // namespace tutti
