// SPDX-License-Identifier: Apache-2.0
// What a person who waits sees: a live line on the terminal, and the end of a test that takes too long (-T).
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

namespace tutti::perf {

// One line on standard error that overwrites itself. Does nothing unless standard error is a terminal.
class ProgressLine {
 public:
  ProgressLine(bool enabled, uint64_t total);
  ~ProgressLine() { clear(); }
  void show(uint64_t done, const std::string& what);
  void clear();

 private:
  bool on_;
  bool shown_ = false;
  uint64_t total_;
};

// Ends the process, with a message that names the test, when a test is armed for longer than the limit.
class Watchdog {
 public:
  Watchdog(int limit_s, std::string who);
  ~Watchdog();
  void arm(const std::string& test);
  void disarm();

 private:
  void watch();
  const int limit_s_;
  const std::string who_;
  std::string test_;
  uint64_t round_ = 0;  // even: not armed
  bool ending_ = false;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::thread thread_;
};

}  // namespace tutti::perf
