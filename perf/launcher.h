// SPDX-License-Identifier: Apache-2.0
// --ranks N: the parent starts itself N times and looks after the children. It never calls the library, because a
// process that has used the library must not fork.
//
//   parent --socket--> child 0 .. N-1      each all-gather: every child sends one frame, gets the frames of all
//
// The parent answers for its children: one that dies or fails is named with its status, the others are ended, and the
// kernel ends them too when the parent itself is killed (PR_SET_PDEATHSIG). Nothing is left behind.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

namespace tutti::perf {

// In a child's environment: "<process>/<processes>/<descriptor of the socket>".
constexpr const char* kLocalJobVariable = "PERF_LOCAL_JOB";

struct LaunchPlan {
  std::string name;                    // for messages
  std::string executable;              // "/proc/self/exe", or a program for tests
  std::vector<std::string> arguments;  // with arguments[0]
  int processes = 1;
  std::vector<std::vector<int>> cpus{};  // per process; empty: not pinned
  std::FILE* messages = stderr;
  int grace_ms = 2000;  // between SIGTERM and SIGKILL
};

// Runs all children to their end. Returns the exit status for the parent (see ExitStatus), 128 + signal when
// interrupted.
int launch(const LaunchPlan& plan);

// All children of a frame exchange: header, then payload.
struct FrameHeader {
  unsigned long long bytes;
};

}  // namespace tutti::perf
