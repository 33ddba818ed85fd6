// SPDX-License-Identifier: Apache-2.0
// Batch: calls that were submitted together, of one or more communicators, carried to their end by one thread.
//
// Within a communicator, collectives run in issue order; sends and receives run beside them and beside each other, in
// order per peer and direction. Communicators run side by side: one thread may carry all ranks of a communicator, or
// calls whose order differs from rank to rank, without waiting for itself.
#pragma once

#include <vector>

#include "comm/communicator.h"
#include "comm/request.h"

namespace tutti {

// A vector of things that are taken again with the memory they have: after the first time nothing is allocated.
template <class T>
class Kept {
 public:
  T& take() {
    if (used_ == all_.size()) all_.emplace_back();
    return all_[used_++];
  }
  void clear() {
    for (T& one : *this) one.clear();
    used_ = 0;
  }
  bool empty() const { return used_ == 0; }
  size_t size() const { return used_; }
  T& front() { return all_.front(); }
  T* begin() { return all_.data(); }
  T* end() { return all_.data() + used_; }
  const T* begin() const { return all_.data(); }
  const T* end() const { return all_.data() + used_; }

 private:
  std::vector<T> all_;
  size_t used_ = 0;
};

class Batch {
 public:
  // Forgets the calls of a batch that has run, for the next one.
  void clear() { works_.clear(); }
  // Takes the call in; the order of calls is the issue order.
  void add(Communicator& comm, Request request);
  bool empty() const { return works_.empty(); }

  // What only the whole batch shows: a communicator that has failed, sends to oneself without their receives.
  Status check() const;
  // Takes each communicator's place in the issue order; run() must follow, here or on another thread.
  void issue();
  // Carries all calls to their end. Returns the first failure; calls of other communicators run on regardless.
  Status run();

 private:
  // Calls that follow each other.
  struct Strand {
    int peer = -1;  // point-to-point: the peer and direction they share; -1: collectives
    bool is_send = false;
    std::vector<Request> calls;
    size_t next = 0;
    LaneSet* lanes = nullptr;
    Communicator::CallMark mark;  // of the call in progress
    size_t ahead = 0;             // calls before this one have been considered for early posts
    std::vector<int> early;       // posts made early, by call
    bool done() const { return next == calls.size(); }
    void clear();
  };
  struct Work {
    Communicator* comm = nullptr;
    uint64_t ticket = 0;
    Kept<Strand> strands;
    std::vector<Request> self_sends, self_receives;
    bool started = false, done = false;
    Status status;
    void clear();
  };

  static Strand& strand_for(Work& work, const Request& request);
  static void copy_to_self(Work& work);
  // Binds the strand's next call. `note`: what keeps books on calls is told, where that is known already.
  static Status start(Communicator& comm, Strand& strand, bool lends, const CallNote*& note);
  // Progressed, Blocked, or Done when the whole work has ended.
  static Advance advance(Work& work);
  static Advance advance(Communicator& comm, Strand& strand, Status& status);
  // While the call in progress waits, makes the first posts of those behind it, so that calls of a group share the time
  // that lines travel.
  static void post_ahead(Communicator& comm, Strand& strand);
  static void finish(Work& work);
  // One round over all that is `left`. True: something moved.
  bool advance_all(size_t& left);
  void look_at_all(size_t& left, const Waiter& waiter);
  void note_all(bool waiting, uint64_t since);

  Kept<Work> works_;
};

}  // namespace tutti
