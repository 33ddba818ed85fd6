// SPDX-License-Identifier: Apache-2.0
// A job whose ranks are processes on the hosts in HOSTS (tools/hosts): what the tests of this folder share.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tutti/tutti.h"

namespace hosts {

constexpr int kMostRanks = 16;

// Names of the hosts; empty: the test was not started by tools/hosts.
std::vector<std::string> names();
// Runs a command line there and waits for it. The exit status.
int run_on(const std::string& host, const std::string& command);

// Shared by the test and its ranks.
struct Board {
  std::atomic<int> id_ready{0}, ready{0}, go{0};
  tuttiUniqueId id{};
  struct Rank {
    std::atomic<uint64_t> calls{0};
    std::atomic<uint64_t> number{0};   // whatever the body reports
    std::atomic<int64_t> ended_us{0};  // on the clock of now_us(), when the body returned
    char text[1024] = {};              // its error
  } rank[kMostRanks];
};
int64_t now_us();

class Job {
 public:
  using Body = std::function<int(int rank, tuttiComm_t comm, Board& board)>;
  // Starts `per_host` ranks on each host, with these variables ("NAME=value"); each joins and runs the body, whose
  // result is its exit status. An initialisation that fails is status 90.
  Job(const std::vector<std::string>& hosts, int per_host, std::vector<std::string> variables, Body body);
  // Ends what is left.
  ~Job();
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  int ranks() const { return static_cast<int>(children_.size()); }
  pid_t process(int rank) const { return children_[static_cast<size_t>(rank)]; }
  Board& board() { return *board_; }
  // Until all ranks have joined, or `limit_ms` are over.
  bool wait_ready(int limit_ms);
  // Statuses of all ranks (128 + signal); -1 for one that is still running after `limit_ms`.
  std::vector<int> wait_all(int limit_ms);

 private:
  Board* board_;
  std::vector<pid_t> children_;
};

}  // namespace hosts
