// SPDX-License-Identifier: Apache-2.0
// Streams and events for CPU work: a stream is a worker thread that runs what it is given, in order.
//
// The worker blocks all signals and never changes affinity. Waiting threads sleep on a condition variable: a stream is
// for overlap, the lowest latency is a blocking call without one.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "base/status.h"

namespace tutti {

// A point in a stream's work. Recording again moves the point; a wait stands for the point at the time of the wait.
class Event {
 public:
  // The generation of the latest recording, 0 before the first.
  uint64_t recorded() const;
  uint64_t record();
  void reach(uint64_t generation);
  bool reached(uint64_t generation) const;
  void wait(uint64_t generation) const;

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  uint64_t recorded_ = 0, reached_ = 0;
};

class Stream {
 public:
  // `internal`: the worker of a non-blocking communicator, which no handle of the user names.
  static Result<std::shared_ptr<Stream>> create(bool internal = false);
  ~Stream();  // runs what is queued, then ends the worker

  void enqueue(std::function<Status()> task);
  // Until all that was enqueued before has run; the first failure since the last synchronize.
  Status synchronize();
  bool idle() const;
  bool internal() const { return internal_; }

 private:
  explicit Stream(bool internal) : internal_(internal) {}
  void work();

  const bool internal_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<Status()>> tasks_;
  bool running_ = false, ending_ = false;
  Status first_failure_;
  std::thread worker_;
};

}  // namespace tutti
