// SPDX-License-Identifier: Apache-2.0
// Outcome: success, or one message that says what failed. The benchmarks see nothing of the library but its public
// header, so they carry this small value of their own.
#pragma once

#include <string>
#include <utility>

namespace tutti::perf {

// What a process says with its exit status; the launcher reads it too.
enum ExitStatus {
  kExitOk = 0,
  kExitWrong = 1,   // every rank ran to its end, but a value was wrong or the bandwidth below the demanded one
  kExitUsage = 2,   // an option, a root or a file is bad: nothing was measured
  kExitFailed = 3,  // a rank failed, died or timed out
};

class [[nodiscard]] Outcome {
 public:
  Outcome() = default;
  static Outcome failure(std::string message, ExitStatus status = kExitFailed) {
    Outcome outcome;
    outcome.message_ = std::move(message);
    outcome.status_ = status;
    return outcome;
  }
  bool ok() const { return status_ == kExitOk; }
  const std::string& message() const { return message_; }
  ExitStatus status() const { return status_; }

 private:
  std::string message_;
  ExitStatus status_ = kExitOk;
};

}  // namespace tutti::perf
