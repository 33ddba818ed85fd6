// SPDX-License-Identifier: Apache-2.0
// Dumps of ranks, read and put on one time line: what `tutti trace` draws and whom it calls late.
//
// Ticks become seconds in two steps. Ranks under one boot of one kernel share a counter, so their ticks are compared as
// they are, with one rate. Between hosts the offset follows from the calls themselves: no rank leaves an AllReduce, a
// barrier or an all-to-all before the last has entered it, so each such call of two hosts bounds the offset from both
// sides; all of them together leave an interval, whose middle is taken and whose half is the uncertainty stated. Hosts
// without such a call in common are aligned by their wall clocks.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace tutti::tool {

struct DumpedCall {
  uint64_t index = 0, number = 0, count = 0, bytes = 0;
  uint64_t queued = 0, started = 0, ended = 0;  // ticks; ended 0: had not ended
  int root = -1;                                // or the peer; -1: none
  std::string operation, type, op, algorithm, protocol;
  int channels = 0;

  bool message() const { return operation == "send" || operation == "recv"; }
  // Nobody leaves before everybody has entered.
  bool meets() const;
};

struct DumpedRank {
  std::string communicator, id, failure;
  int rank = 0, ranks = 0;
  std::vector<DumpedCall> calls;

  std::string host, boot, file;
  int process = 0;
  double ticks_per_second = 0;
  uint64_t now_ticks = 0;
  int64_t now_unix_ns = 0;
};

// The ranks in one dump file. Checks everything that is used later; `file` is for messages.
Result<std::vector<DumpedRank>> parse_dump(std::string_view text, const std::string& file);

// Where each host's ticks lie on the common time line.
struct HostClock {
  double ticks_per_second = 0;
  uint64_t base_ticks = 0;         // the first that is recorded; differences to it are exact in a double
  double offset_seconds = 0;       // of that tick on the common time line
  double uncertainty_seconds = 0;  // half of the interval that is left
  std::string how;                 // "same counter", "12 calls", "wall clocks"
  std::vector<std::string> hosts;  // names: containers of one kernel have several

  double local_seconds(uint64_t ticks) const {
    return static_cast<double>(static_cast<int64_t>(ticks - base_ticks)) / ticks_per_second;
  }
};

class Timeline {
 public:
  explicit Timeline(std::vector<DumpedRank> ranks);

  const std::vector<DumpedRank>& ranks() const { return ranks_; }
  const std::map<std::string, HostClock>& clocks() const { return clocks_; }  // by boot
  // Seconds since the earliest call in any dump.
  double seconds(const DumpedRank& rank, uint64_t ticks) const;

 private:
  void align(const DumpedRank& reference);

  std::vector<DumpedRank> ranks_;
  std::map<std::string, HostClock> clocks_;
  double origin_ = 0;  // of the earliest call
};

// How punctual a rank was, over the collectives of which all ranks' records are there.
struct Punctuality {
  int rank = 0;
  uint64_t calls = 0;             // collectives compared
  uint64_t late = 0;              // in which it came last, by more than the threshold
  double total = 0, longest = 0;  // seconds that the last but one waited for it
};
struct CommunicatorReport {
  std::string communicator, id;
  int ranks = 0;
  std::vector<int> missing;  // ranks without a dump
  uint64_t compared = 0;
  std::vector<Punctuality> by_rank;     // the latest first
  std::vector<std::string> unfinished;  // "rank 3: all_reduce number 17, since 2.1 s"
};
std::vector<CommunicatorReport> find_stragglers(const Timeline& timeline, double threshold_seconds);

// The Chrome trace format, which Perfetto reads: a process per host process, a track per communicator and rank.
std::string chrome_trace(const Timeline& timeline);

}  // namespace tutti::tool
