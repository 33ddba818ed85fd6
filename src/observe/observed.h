// SPDX-License-Identifier: Apache-2.0
// Observed: what can be asked about a communicator while it works, and the two documents made of it: its dump and the
// process's status. Everything here may be read from a thread that has nothing to do with the communicator.
//
// The process keeps a list of its communicators (Watch enters and leaves it); service.h answers from it.
#pragma once

#include <mutex>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "observe/arrivals.h"
#include "observe/recorder.h"

namespace tutti {

// What the codes of a CallRecord mean.
struct CallNames {
  std::span<const std::string_view> operations, types, operators, algorithms, protocols;
  std::span<const uint32_t> type_bytes;
  uint8_t send_receive = 0;  // the operation that is a send or a receive, by its flag
  uint64_t reduces = 0;      // bit per operation that has an operator
  uint64_t rooted = 0;       // bit per operation whose root means something
};

class Observed {
 public:
  struct Identity {
    std::string name;
    std::string id;  // of the communicator: equal on its ranks, hexadecimal
    int rank = 0, ranks = 1;
    const CallNames* names = nullptr;
  };
  Observed(Identity identity, Recorder recorder)
      : identity_(std::move(identity)), recorder(std::move(recorder)), arrivals(identity_.ranks) {}

  const Identity& identity() const { return identity_; }
  // Why it has failed; empty while it has not. The first reason stays.
  void set_failure(const std::string& why);
  std::string failure() const;

 private:
  const Identity identity_;
  mutable std::mutex mutex_;
  std::string failure_;

 public:
  Recorder recorder;
  Arrivals arrivals;
};

// A communicator is in the process's list as long as its Watch lives. The first entry starts the service, the last to
// leave ends it.
class Watch {
 public:
  Watch() = default;
  static Result<Watch> begin(Observed& observed);
  Watch(Watch&& other) noexcept : observed_(std::exchange(other.observed_, nullptr)) {}
  Watch& operator=(Watch&& other) noexcept {
    std::swap(observed_, other.observed_);
    return *this;
  }
  ~Watch();

 private:
  Observed* observed_ = nullptr;
};

enum class DumpReason : uint8_t { Failure, Signal, Request };

// Writes the dump of `one` to the file that `pattern` names (%h host, %p process, %r rank, %c communicator, %% a %).
// The file is there whole or not at all. Returns its path.
Result<std::string> write_dump(const Observed& one, DumpReason reason, std::string_view pattern);
// All communicators of the process; those whose patterns name the same file are together in it.
void write_all_dumps(DumpReason reason, std::string_view pattern);
// The same for a communicator that has just failed, if TUTTI_DUMP_FILE is set.
void dump_after_failure();

// What `tutti status` shows of this process.
std::string status_document();

}  // namespace tutti
