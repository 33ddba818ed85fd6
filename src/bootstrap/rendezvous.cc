// SPDX-License-Identifier: Apache-2.0
// See rendezvous.h.
#include "bootstrap/rendezvous.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>

#include "base/log.h"
#include "net/interfaces.h"
#include "net/socket.h"

namespace tutti {
namespace {

constexpr int kIdleMs = 3'600'000;      // a look around per hour costs nothing
constexpr int64_t kVisitorMs = 30'000;  // for a proven rank to send its request, or to read its answer

void* thread_main(void* rendezvous) {
  const std::unique_ptr<Rendezvous> owner(static_cast<Rendezvous*>(rendezvous));
  owner->run();
  return nullptr;
}

// Whether a later request could belong to the same communicator as the first.
bool fits(const JoinRequest& first, const JoinRequest& later) {
  return first.library_version == later.library_version && first.abi == later.abi &&
         first.byte_order == later.byte_order && first.word_bytes == later.word_bytes && first.ranks == later.ranks &&
         first.config_digest == later.config_digest && later.member.rank >= 0 && later.member.rank < later.ranks;
}

}  // namespace

Rendezvous::Visitor::Visitor(Guest arrived)
    : guest(std::move(arrived)),
      deadline(Deadline::in_ms(kVisitorMs)),
      text(fmt::format("rank {} at {}", guest.claim.from, guest.caller.text())) {}

Result<std::unique_ptr<Rendezvous>> Rendezvous::open(const Options& options,
                                                     const std::vector<SocketAddress>& addresses, uint16_t port) {
  TUTTI_TRY(crypto_ready());
  Door::Options door_options{options.secret, tag_of(options.secret), "the rendezvous"};
  TUTTI_ASSIGN_OR_RETURN(Door door, Door::open(std::move(door_options), addresses, port));
  return std::unique_ptr<Rendezvous>(new Rendezvous(options, std::move(door)));
}

void Rendezvous::run() {
  while (phase_ != Phase::Over) {
    wait();
    admit();
    // Thousands wait for the last rank: each has a turn when it has news, or a deadline to keep.
    for (auto& visitor : visitors_) {
      if (visitor->ready || (visitor->hurried() && visitor->deadline.passed())) advance(*visitor);
    }
    std::erase_if(visitors_, [](const auto& visitor) { return visitor->phase == Visitor::Phase::Gone; });
    decide();
  }
}

void Rendezvous::wait() {
  // Once the deadline of lingering is over, only answers are waited for.
  int timeout_ms = deadline_.passed() ? kIdleMs : deadline_.poll_ms(kIdleMs);
  std::vector<pollfd> items;
  if (door_) {
    door_->add_poll(items);
    timeout_ms = door_->poll_ms(timeout_ms);
  }
  for (const auto& visitor : visitors_) {
    const bool writing = visitor->phase == Visitor::Phase::Answering;
    items.push_back({visitor->guest.fd.get(), static_cast<short>(writing ? POLLOUT : POLLIN), 0});
    if (visitor->hurried()) timeout_ms = visitor->deadline.poll_ms(timeout_ms);
  }
  const size_t first = items.size() - visitors_.size();
  if (const Status waited = wait_on(items, timeout_ms); !waited.ok()) refuse(waited);
  for (size_t i = 0; i < visitors_.size(); ++i) visitors_[i]->ready = items[first + i].revents != 0;
}

void Rendezvous::admit() {
  if (!door_) return;
  if (const Status status = door_->poll(); !status.ok()) {
    door_.reset();  // or it would be ready, and fail, again and again
    refuse(status);
    return;
  }
  while (auto guest = door_->next()) {
    visitors_.push_back(std::make_unique<Visitor>(std::move(*guest)));
  }
}

void Rendezvous::advance(Visitor& visitor) {
  if (visitor.phase == Visitor::Phase::Reading) read_request(visitor);
  if (visitor.phase == Visitor::Phase::Waiting || visitor.phase == Visitor::Phase::Connecting) listen_to(visitor);
  if (visitor.phase == Visitor::Phase::Answering) {
    const auto sent = visitor.writer->advance(visitor.guest.fd.get(), visitor.text);
    if (!sent.ok() || visitor.deadline.passed()) {
      lose(visitor);
    } else if (*sent == Poll::Done && visitor.answer != answer_) {
      answer(visitor);  // the table was on its way when things went wrong
    } else if (*sent == Poll::Done) {
      visitor.phase = phase_ == Phase::Answering ? Visitor::Phase::Connecting : Visitor::Phase::Gone;
    }
  }
}

// A rank that waits for the table has nothing to say, one that has it says kConnected: anything else means it is gone.
void Rendezvous::listen_to(Visitor& visitor) {
  std::byte word{};
  const auto count = read_some(visitor.guest.fd.get(), std::span(&word, 1), visitor.text);
  if (count.ok() && *count == 0) return;
  if (count.ok() && visitor.phase == Visitor::Phase::Connecting && word == kConnected) {
    visitor.phase = Visitor::Phase::Gone;
  } else {
    lose(visitor);
  }
}

void Rendezvous::lose(Visitor& visitor) {
  visitor.phase = Visitor::Phase::Gone;
  if (phase_ == Phase::Settling) return;  // the conflict is the cause
  refuse(remote_error("{} left before all ranks were connected: it failed or was stopped, see its own message",
                      visitor.text));
}

void Rendezvous::read_request(Visitor& visitor) {
  const auto received = visitor.reader.advance(visitor.guest.fd.get(), visitor.text);
  if (received.ok() && *received == Poll::Pending && !visitor.deadline.passed()) return;
  if (!received.ok() || *received == Poll::Pending) {
    visitor.phase = Visitor::Phase::Gone;
    log_warn(Subsystem::Bootstrap, "{} proved the secret, but sent no request to join", visitor.text);
    return;
  }
  visitor.phase = Visitor::Phase::Waiting;
  if (answer_ != nullptr) return answer(visitor);  // came late
  auto request = parse_request(visitor.reader.take());
  if (!request.ok()) return refuse(request.status());
  if (request->member.rank != visitor.guest.claim.from) {
    return refuse(remote_error("{} says that it is rank {} and rank {}", visitor.guest.caller.text(),
                               visitor.guest.claim.from, request->member.rank));
  }
  visitor.text = request->member.text();
  // The rank that waits least decides when missing ranks are given up: its own wait ends soon after.
  if (requests_.empty() || (request->timeout_ms >= 0 && (patience_ms_ < 0 || request->timeout_ms < patience_ms_))) {
    patience_ms_ = request->timeout_ms;
    if (phase_ == Phase::Gathering) deadline_ = Deadline::in_ms(patience_ms_);
  }
  if (!ranks_.insert(request->member.rank).second) suspicious_ = true;
  requests_.push_back(std::move(*request));
  if (!fits(requests_.front(), requests_.back())) suspicious_ = true;
}

void Rendezvous::decide() {
  if (phase_ == Phase::Gathering && suspicious_) {
    phase_ = Phase::Settling;
    deadline_ = Deadline::in_ms(options_.settle_ms);
  }
  if (phase_ == Phase::Settling) {
    int most = 0;
    for (const JoinRequest& request : requests_) most = std::max(most, request.ranks);
    if (!deadline_.passed() && static_cast<int>(requests_.size()) < most) return;
    const auto conflict = find_conflict(requests_);
    refuse(conflict.value_or(remote_error("the ranks do not fit together")));
  } else if (phase_ == Phase::Gathering && !requests_.empty()) {
    if (static_cast<int>(requests_.size()) == requests_.front().ranks) {
      std::ranges::sort(requests_, {}, [](const JoinRequest& request) { return request.member.rank; });
      door_.reset();
      answer_all(Phase::Answering, encode_table(requests_));
    } else if (deadline_.passed()) {
      refuse(missing_ranks(requests_, patience_ms_));
    }
  } else if (phase_ == Phase::Answering && visitors_.empty()) {
    phase_ = Phase::Over;
  } else if (phase_ == Phase::Lingering && deadline_.passed()) {
    const bool answering =
        std::ranges::any_of(visitors_, [](const auto& visitor) { return visitor->phase == Visitor::Phase::Answering; });
    if (!answering) phase_ = Phase::Over;
  }
}

void Rendezvous::answer(Visitor& visitor) {
  visitor.answer = answer_;
  const int rank = visitor.guest.claim.from;
  const bool passed_on = phase_ == Phase::Answering && rank > 0;
  visitor.writer.emplace(
      passed_on ? make_frame(encode_place(requests_[static_cast<size_t>(tree_parent(rank))], requests_.size()))
                : answer_);
  visitor.ready = true;
  visitor.phase = Visitor::Phase::Answering;
  visitor.deadline = Deadline::in_ms(kVisitorMs);
}

void Rendezvous::answer_all(Phase phase, const Bytes& message) {
  phase_ = phase;
  deadline_ = phase == Phase::Lingering ? Deadline::in_ms(options_.linger_ms) : Deadline::never();
  answer_ = make_frame(message);
  for (auto& visitor : visitors_) {
    if (visitor->phase == Visitor::Phase::Waiting || visitor->phase == Visitor::Phase::Connecting) answer(*visitor);
  }
}

void Rendezvous::refuse(const Status& why) {
  if (phase_ == Phase::Lingering || phase_ == Phase::Over) return;
  log_warn(Subsystem::Bootstrap, "the rendezvous failed: {}", why.message());
  answer_all(Phase::Lingering, encode_refusal(why));
}

Status Rendezvous::run_in_background(std::unique_ptr<Rendezvous> rendezvous) {
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return system_error("pthread_attr_init failed: out of memory");
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  // The thread inherits the mask: signals stay the application's.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const int failure = pthread_create(&thread, &attributes, thread_main, rendezvous.get());
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_attr_destroy(&attributes);
  if (failure != 0) {
    errno = failure;
    return errno_status("pthread_create", "the rendezvous thread");
  }
  rendezvous.release();  // thread_main's
  return {};
}

Result<UniqueId> start_rendezvous() {
  TUTTI_TRY(crypto_ready());
  UniqueId id{random_secret(), {}};
  TUTTI_ASSIGN_OR_RETURN(id.addresses, local_addresses());
  TUTTI_ASSIGN_OR_RETURN(auto rendezvous, Rendezvous::open({.secret = id.secret}, id.addresses, 0));
  for (SocketAddress& address : id.addresses) address = address.with_port(rendezvous->port());
  TUTTI_TRY(Rendezvous::run_in_background(std::move(rendezvous)));
  return id;
}

}  // namespace tutti
