// SPDX-License-Identifier: Apache-2.0
// Deadline: a point in time by which a wait must end in data or in an answer.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace tutti {

class Deadline {
 public:
  using Clock = std::chrono::steady_clock;

  static Deadline never() { return Deadline(Clock::time_point::max()); }
  // Negative means never.
  static Deadline in_ms(int64_t ms) {
    return ms < 0 ? never() : Deadline(Clock::now() + std::chrono::milliseconds(ms));
  }

  bool passed() const { return at_ != Clock::time_point::max() && Clock::now() >= at_; }
  // For poll(2): milliseconds left, rounded up, at most `most`.
  int poll_ms(int most = 1000) const {
    if (at_ == Clock::time_point::max()) return most;
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(at_ - Clock::now()).count() + 1;
    return static_cast<int>(std::clamp<int64_t>(left, 0, most));
  }

 private:
  explicit Deadline(Clock::time_point at) : at_(at) {}
  Clock::time_point at_;
};

}  // namespace tutti
