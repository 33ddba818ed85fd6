// SPDX-License-Identifier: Apache-2.0
#include "comm/short_messages.h"

#include <fmt/core.h>

#include "comm/carry.h"
#include "exec/cpu/slot_copy.h"

namespace tutti {

void ShortMessages::clear() {
  comm_.reset();
  sends_.clear();
  receives_.clear();
}

bool ShortMessages::add(const std::shared_ptr<Communicator>& comm, const CallKind& kind, uint64_t bytes, void* buffer) {
  const bool first = comm_ == nullptr;
  if (first ? comm->failed() || !comm->at_rest() : comm_ != comm) return false;
  const Communicator::KnownMessage* const known = comm->find_short_message(kind.word(), bytes);
  if (known == nullptr) return false;
  (kind.is_send ? sends_ : receives_).push_back({known, kind, buffer, bytes, {}});
  if (first) {
    comm_ = comm;
    issued_ = comm->issued();
    const size_t connections = 2 * static_cast<size_t>(comm->size());
    if (blocked_in_.size() < connections) blocked_in_.resize(connections);
  }
  return true;
}

Request ShortMessages::Message::request() const {
  Request request;
  request.coll = Coll::SendRecv;
  if (is_send()) {
    request.input = buffer;
  } else {
    request.output = buffer;
  }
  request.count = bytes / element_size(kind.type);
  request.type = kind.type;
  request.root = peer();
  request.is_send = is_send();
  return request;
}

bool ShortMessages::move(const Message& message) {
  if (LLSender* const to = message.known->to; to != nullptr) {
    if (!to->has_room()) return false;
    SlotStores& stores = comm_->slot_stores();
    fill_slot(to->payload(), message.buffer, message.bytes,
              stores.stream(message.bytes, [&] { return comm_->reads_away(message.peer()); }));
    stores.settle(message.bytes);
    to->publish(message.identity());
    return true;
  }
  LLReceiver& from = *message.known->from;
  if (!from.ready(message.identity())) return false;
  copy_message(message.buffer, from.payload(), message.bytes);
  from.release();
  return true;
}

bool ShortMessages::can_move(const std::vector<Message>& list) const {
  for (const Message& message : list) {
    if (message.is_send() ? message.known->to->has_room() : message.known->from->ready(message.identity())) return true;
  }
  return false;
}

bool ShortMessages::pass(std::vector<Message>& list) {
  bool moved = false;
  for (Message& message : list) {
    if (message.done || blocked_in(message) == pass_) continue;
    message.done = move(message);
    moved |= message.done;
    if (!message.done) blocked_in(message) = pass_;
  }
  return moved;
}

void ShortMessages::note(std::vector<Message>& list, uint64_t now) {
  for (Message& message : list) message.mark = comm_->posted(message.known->note, 0, now);
}

void ShortMessages::end(std::vector<Message>& list, const Waiter& waiter) {
  size_t left = 0;
  for (const Message& message : list) {
    if (!message.done) {
      list[left++] = message;
    } else if (waiter.has_waited()) {
      comm_->ended(true, message.mark);
    } else {
      comm_->ended_at_once(true, message.mark);
    }
  }
  list.erase(list.begin() + static_cast<std::ptrdiff_t>(left), list.end());
}

Status ShortMessages::look(const Message& message, const Waiter& waiter) const {
  StuckCall stuck;
  stuck.call = message.known->note.call;
  stuck.call.number = message.mark.number;
  stuck.message = true;
  const bool mismatched = !message.is_send() && message.known->from->mismatched(message.identity());
  stuck.mismatched = mismatched ? message.peer() : -1;
  stuck.idle_ms = waiter.idle_time().count();
  return comm_->look_at_stuck(stuck, [&message] {
    return fmt::format("{} rank {}", message.is_send() ? "a free slot at" : "data from", message.peer());
  });
}

Status ShortMessages::look(const Waiter& waiter) const {
  if (comm_->failed()) return comm_->failure();
  for (const auto* const list : {&sends_, &receives_}) {
    for (const Message& message : *list) TUTTI_TRY(look(message, waiter));
  }
  return {};
}

// Whoever makes a call may also have the communicator forget a kind, and with it what `known` points to.
bool ShortMessages::still_fit() const { return comm_->issued() == issued_ && !comm_->failed(); }

Status ShortMessages::run() {
  const struct Clear {
    ShortMessages& all;
    ~Clear() { all.clear(); }
  } at_the_end{*this};
  return carry_all();
}

Advance ShortMessages::move_some(const Waiter& waiter) {
  if (sends_.empty() && receives_.empty()) return Advance::Done;
  for (int poll = comm_->polls_for(first().peer(), waiter); !can_move(sends_) && !can_move(receives_);) {
    if (--poll <= 0) return Advance::Blocked;
  }
  ++pass_;
  const bool sent = pass(sends_), received = pass(receives_);
  if (sent) end(sends_, waiter);
  if (received) end(receives_, waiter);
  if (sends_.empty() && receives_.empty()) return Advance::Done;
  return sent || received ? Advance::Progressed : Advance::Blocked;
}

Status ShortMessages::carry_all() {
  Waiter waiter = comm_->make_waiter();
  const uint64_t ticket = comm_->issue();
  ++pass_;
  pass(sends_);
  // The rest while they travel.
  const uint64_t now = ticks();
  note(sends_, now);
  note(receives_, now);
  pass(receives_);
  end(sends_, waiter);
  end(receives_, waiter);
  Status status;
  carry(
      waiter, 1, [&] { return move_some(waiter); }, [&] { return (status = look(waiter)).ok(); },
      [&] { comm_->sleep(waiter); },
      [&](bool waiting) {
        waiting ? comm_->waits_for(first().peer(), 0, waiter.idle_since_ticks()) : comm_->waits_no_longer();
      });
  if (!status.ok()) {
    comm_->fail(status);
    for (const auto* const list : {&sends_, &receives_}) {
      for (const Message& message : *list) comm_->ended(true, message.mark);
    }
  }
  comm_->complete(ticket);
  return status;
}

}  // namespace tutti
