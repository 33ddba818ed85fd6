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

class Batch {
 public:
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
    int peer = -1;  // point-to-point: the peer and direction they share
    bool is_send = false;
    std::vector<Request> calls;
    size_t next = 0;
    LaneSet* lanes = nullptr;
    Communicator::CallMark mark;  // of the call in progress
    size_t ahead = 0;             // calls before this one have been considered for early posts
    std::vector<int> early;       // posts made early, by call
    bool done() const { return next == calls.size(); }
  };
  struct Work {
    Communicator* comm;
    uint64_t ticket = 0;
    std::vector<Strand> strands;  // the collectives first
    std::vector<Request> self_sends, self_receives;
    bool started = false, done = false;
    Status status;
  };

  static Strand& strand_for(Work& work, const Request& request);
  static void copy_to_self(Work& work);
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
  void note_all(bool waiting);

  std::vector<Work> works_;
};

}  // namespace tutti
