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
extern thread_local int t_group_depth __attribute__((tls_model("initial-exec")));
inline bool in_group() { return t_group_depth > 0; }
void group_start();
// Remembers the first failure of a call inside a group; no effect outside.
void poison_group(const Status& status);
// Submits what the group recorded. Calls without a stream run here and have ended on return; those with one are queued.
Status group_end();

// One call: recorded inside a group, otherwise carried out (without a stream) or queued.
Status submit(const std::shared_ptr<Communicator>& comm, const std::shared_ptr<Stream>& stream, Request request);
// Initialisation inside a group: every job waits for the others' ranks, so each gets a thread at the group's end.
Status submit_init(std::function<Status()> job);

}  // namespace tutti
