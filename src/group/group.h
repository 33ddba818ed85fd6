// SPDX-License-Identifier: Apache-2.0
// Groups: calls between start and end are recorded, then submitted together. The state is per thread; groups nest and
// the outermost end submits. A call that fails poisons the group: its end returns that error and launches nothing.
#pragma once

#include <functional>
#include <memory>

#include "comm/communicator.h"
#include "comm/request.h"
#include "group/stream.h"

namespace tutti {

// How many groups this thread has open.
extern constinit thread_local int t_group_depth __attribute__((tls_model("initial-exec")));
inline bool in_group() { return t_group_depth > 0; }
void group_start();
// Remembers the first failure of a call inside a group; no effect outside.
void poison_group(const Status& status);
// Submits what the group recorded. Calls without a stream run here and have ended on return; those with one are queued.
Status group_end();
// Forgets what the group recorded; the time in microseconds that it would take, 0 for a nested group.
Result<double> group_simulate_end();

// One call: recorded inside a group, otherwise carried out (without a stream) or queued. InProgress: queued on the
// worker of a non-blocking communicator; the same of group_end().
Status submit(const std::shared_ptr<Communicator>& comm, const std::shared_ptr<Stream>& stream, Request request);

// The fast path of a blocking send or receive. False: it is no short one of a known kind, or something else is in the
// way (ShortMessages::add); nothing has happened, and submit() is the way. `buffer` of a send is only read.
bool submit_short_message(const std::shared_ptr<Communicator>& comm, const CallKind& kind, uint64_t bytes, void* buffer,
                          Status& status);

// The same for a communicator on a CUDA device: launched on `stream`, a CUstream (null: the default stream of the
// device), as soon as the calls of the other ranks are there. Returns then, long before it has ended. `worker`: of a
// non-blocking communicator, which waits there for the other ranks; InProgress: it has to.
Status submit_cuda(const std::shared_ptr<Communicator>& comm, void* stream, std::shared_ptr<Stream> worker,
                   Request request);

// Making or ending a communicator. Inside a group it is recorded: every one waits for other ranks, so at the group's
// end each gets a thread. Those that exchange over the same communicator follow each other, as they do on the other
// ranks.
struct SetUp {
  const Communicator* over = nullptr;  // the communicator that the ranks exchange over; null: a rendezvous
  std::shared_ptr<Stream> worker;      // queued there instead: a non-blocking communicator's
  bool last = false;                   // after the calls of the group, not before
  std::function<Status()> run;
  std::function<void()> drop;  // instead of run: the group was poisoned
};
Status submit_set_up(SetUp set_up);
// What a call says that will go on after it has returned.
Status in_progress();

}  // namespace tutti
