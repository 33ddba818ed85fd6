// SPDX-License-Identifier: Apache-2.0
// See progress.h.
#include "perf/progress.h"

#include <unistd.h>

#include <chrono>
#include <cstdio>

#include "perf/outcome.h"

namespace tutti::perf {

ProgressLine::ProgressLine(bool enabled, uint64_t total) : on_(enabled && ::isatty(STDERR_FILENO)), total_(total) {}

void ProgressLine::show(uint64_t done, const std::string& what) {
  if (!on_) return;
  const double percent = total_ == 0 ? 0 : 100.0 * static_cast<double>(done) / static_cast<double>(total_);
  std::fprintf(stderr, "\r\033[K%s", what.c_str());
  if (total_ != 0) std::fprintf(stderr, "  %.0f%%", percent);
  std::fflush(stderr);
  shown_ = true;
}

void ProgressLine::clear() {
  if (!shown_) return;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
  shown_ = false;
}

Watchdog::Watchdog(int limit_s, std::string who) : limit_s_(limit_s), who_(std::move(who)) {
  if (limit_s_ > 0) thread_ = std::thread([this] { watch(); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Watchdog::arm(const std::string& test) {
  if (limit_s_ <= 0) return;
  const std::lock_guard lock(mutex_);
  test_ = test;
  round_ += 1 + round_ % 2;
  changed_.notify_one();
}

void Watchdog::disarm() {
  if (limit_s_ <= 0) return;
  const std::lock_guard lock(mutex_);
  round_ += round_ % 2;
  changed_.notify_one();
}

void Watchdog::watch() {
  std::unique_lock lock(mutex_);
  while (!ending_) {
    const uint64_t round = round_;
    const auto changed = [&] { return ending_ || round_ != round; };
    if (round % 2 == 0) {
      changed_.wait(lock, changed);
      continue;
    }
    if (changed_.wait_for(lock, std::chrono::seconds(limit_s_), changed)) continue;
    std::fprintf(stderr, "%s: %s did not end within %d s (-T)\n", who_.c_str(), test_.c_str(), limit_s_);
    ::_exit(kExitFailed);
  }
}

}  // namespace tutti::perf
