// SPDX-License-Identifier: Apache-2.0
// Passing a descriptor from the rank that owns it to the other ranks of its host, over an abstract Unix socket and the
// authenticated exchange of shm_exchange.h. Used for the arena (shm_setup.cc) and for windows (src/comm/windows.cc).
//
//   owner    listen()      before the others are told that they may fetch
//            serve()       until all others have it
//   others   fetch()
//
// Threads: one at a time. serve() and fetch() block until done or their deadline.
#pragma once

#include <vector>

#include "base/deadline.h"
#include "base/handle.h"
#include "transports/shm/shm_exchange.h"

namespace tutti::shm {

struct DescriptorPassing {
  ShmKey key;              // tells passings at the same time apart by its tag
  std::vector<int> ranks;  // who takes part, ascending
  int owner_local = 0;     // place of the owner in `ranks`,
  int local = 0;           // and mine
  const char* what = "";   // for messages

  int owner() const { return ranks[static_cast<size_t>(owner_local)]; }
  Result<UniqueFd> listen() const;
  Status serve(UniqueFd listener, int fd, const Grant& grant, Deadline deadline) const;
  Result<UniqueFd> fetch(Deadline deadline, Grant& grant) const;
};

}  // namespace tutti::shm
