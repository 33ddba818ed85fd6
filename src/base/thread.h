// SPDX-License-Identifier: Apache-2.0
// Threads of the library: they block all signals, so that the program's handlers run in the program's own threads.
#pragma once

#include <pthread.h>
#include <signal.h>

#include <system_error>
#include <thread>
#include <utility>

#include "base/status.h"

namespace tutti {

// `name`: at most 15 characters; `what` ends the sentence "cannot start ..." of the error.
template <class Body>
Result<std::thread> start_thread(const char* name, const char* what, Body&& body) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // the new thread inherits the mask
  std::thread thread;
  Status started;
  try {
    thread = std::thread(std::forward<Body>(body));
  } catch (const std::system_error& failure) {
    started = system_error("cannot start {}: {}; raise the limit on processes (ulimit -u)", what, failure.what());
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  TUTTI_TRY(started);
  pthread_setname_np(thread.native_handle(), name);
  return thread;
}

}  // namespace tutti
