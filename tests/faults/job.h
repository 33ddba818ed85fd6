// SPDX-License-Identifier: Apache-2.0
// Job: ranks as forked processes over the public API, with a page that all share and the parent reads. The parent may
// kill, stop or signal them while they run; whatever they do, a job ends within its limit.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "tutti/tutti.h"

namespace faults {

inline constexpr int kMostRanks = 8;
inline constexpr int kMostMeetings = 1024;
inline constexpr size_t kTextBytes = 2048;

struct alignas(64) Report {
  std::atomic<uint64_t> calls{0};  // begun by this rank
  std::atomic<int32_t> code{-1};   // of the first call that failed, or 0 at the end of all; -1: still at it
  int64_t at_ms = 0;               // when
  char text[kTextBytes] = {};
  void set(int32_t result, const char* why);
};

struct Page {
  Report ranks[kMostRanks];
  std::atomic<int> id_ready[kMostMeetings]{};
  tuttiUniqueId ids[kMostMeetings]{};
  std::atomic<int> arrived[kMostMeetings]{};

  // The `which`th communicator of the job: rank 0 makes the id, the others take it.
  tuttiUniqueId meet(int which, int rank);
  // Returns when all have come to the `which`th meeting.
  void gather(int which, int ranks);
};

using Environment = std::vector<std::pair<std::string, std::string>>;

struct Ending {
  bool in_time = true;      // false: processes had to be killed at the limit: a hang
  std::vector<int> status;  // as waitpid(2) says, by rank
};

class Job {
 public:
  // Forks `ranks` processes that run body(rank, page) and exit with what it returns.
  Job(int ranks, const Environment& environment, const std::function<int(int rank, Page& page)>& body);
  ~Job();
  Job(const Job&) = delete;

  Page& page() { return *page_; }
  pid_t pid(int rank) const { return pids_[static_cast<size_t>(rank)]; }
  // Waits for all; whoever runs on after `limit_ms` is killed.
  Ending wait(int64_t limit_ms);

 private:
  Page* page_;
  std::vector<pid_t> pids_;
};

int64_t now_ms();
void nap_us(int64_t us);

}  // namespace faults
