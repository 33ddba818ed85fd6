// SPDX-License-Identifier: Apache-2.0
// LifeLock: the kernel's word on whether a rank of the host is still there.
//
// Each rank opens the shared memory object anew and locks byte `local rank` of it. The lock belongs to that open file
// description, so the kernel releases it when the process ends, however it ends, and at no other time: not when
// another rank of the same process leaves, not when a thread ends, not while the process is stopped. A peer asks with
// one system call, only when it has waited for a while. Against the other ways: a process id may be another's by then
// or mean nothing in another container; sockets to every peer are n^2; a robust futex dies with its thread.
//
// A forked child must not hold the description (base/fork.h). A process that writes a core dump holds it until that is
// written.
#pragma once

#include "base/handle.h"
#include "base/status.h"

namespace tutti {

class LifeLock {
 public:
  // `object`: any descriptor of the shared memory object.
  static Result<LifeLock> take(int object, int local);
  // Another lock on the same description, of a number that is nobody's local rank: what else others have to wait for.
  Status also(int number);
  // False: nobody holds the lock of that local rank. Ask only for ranks that are known to have taken theirs.
  bool held_by(int local) const;
  // Lets go of mine, and can still ask for the others'.
  void release(int local);

 private:
  UniqueFd own_;
};

}  // namespace tutti
