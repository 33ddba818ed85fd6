// SPDX-License-Identifier: Apache-2.0
// ShortMessages: sends and receives of one communicator that were submitted together, each of which fits an LL slot,
// carried to their end by the calling thread. The fast path of a blocking group of messages, and of a lone one.
//
// A message is one slot of its connection, so it is moved whole or not at all, and no lane has to remember how far it
// is: what remains of the general way (group/batch.h) is to post what has room, do the book-keeping while that travels,
// and look at the rest until it has come.
//
// Order: the messages of a peer and direction move in the order in which they were taken in. A connection that was
// found blocked in a pass is left alone until the next, for the slot that comes free meanwhile belongs to the first.
//
// Once the kinds are known, nothing here allocates, locks, or enters the kernel unless it waits.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "comm/communicator.h"
#include "comm/request.h"

namespace tutti {

class ShortMessages {
 public:
  bool empty() const { return comm_ == nullptr; }
  const std::shared_ptr<Communicator>& comm() const { return comm_; }
  // Takes a message in. False: it cannot go this way: its kind has not been seen or is none of short ones, it is for
  // another communicator than those before, or other calls have to end first. `buffer` of a send is only read.
  bool add(const std::shared_ptr<Communicator>& comm, const CallKind& kind, uint64_t bytes, void* buffer);
  // Whether what was taken in, at least one, may still go this way: another thread may have made calls since.
  bool still_fit() const;
  // Carries all of it to the end. A failure is the communicator's.
  Status run();
  // Forgets all that was taken in; or gives it back first, to be carried in another way.
  void clear();
  template <class Take>
  void give_back(Take&& take) {
    for (const auto* const list : {&sends_, &receives_}) {
      for (const Message& message : *list) take(comm_, message.request());
    }
    clear();
  }

 private:
  struct Message {
    const Communicator::KnownMessage* known;
    CallKind kind;
    void* buffer;
    uint64_t bytes;
    Communicator::CallMark mark;
    bool done = false;

    int peer() const { return kind.root; }
    uint32_t identity() const { return known->note.call.identity; }
    bool is_send() const { return kind.is_send; }
    Request request() const;
  };

  Status carry_all();
  // One move of carry().
  Advance move_some(const Waiter& waiter);
  // Some message of the list can: a look that is repeated while this thread waits.
  bool can_move(const std::vector<Message>& list) const;
  bool move(const Message& message);
  // The messages of `list` that can move now. True: at least one did.
  bool pass(std::vector<Message>& list);
  // After the first posts: what keeps books on calls learns of all of them.
  void note(std::vector<Message>& list, uint64_t now);
  void end(std::vector<Message>& list, const Waiter& waiter);
  Status look(const Waiter& waiter) const;
  Status look(const Message& message, const Waiter& waiter) const;
  const Message& first() const { return receives_.empty() ? sends_.front() : receives_.front(); }
  uint64_t& blocked_in(const Message& message) {
    return blocked_in_[2 * static_cast<size_t>(message.peer()) + message.is_send()];
  }

  std::shared_ptr<Communicator> comm_;  // null: nothing was taken in
  uint64_t issued_ = 0;                 // calls of it when the first was
  std::vector<Message> sends_, receives_;
  std::vector<uint64_t> blocked_in_;  // by peer and direction: the pass in which it was last found blocked
  uint64_t pass_ = 0;
};

}  // namespace tutti
