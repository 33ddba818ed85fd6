// SPDX-License-Identifier: Apache-2.0
// Deadline: a point in time by which a wait must end in data or in an answer. A wait that another thread may end (an
// abort) has a flag for that as well: once it is set the deadline has passed, whatever the clock says.
#pragma once

#include <algorithm>
#include <atomic>
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

  // The same, and passed as soon as the flag is set. The flag outlives the deadline; null: none.
  Deadline or_when(const std::atomic<bool>* cancelled) const {
    Deadline both = *this;
    both.cancelled_ = cancelled;
    return both;
  }

  bool cancelled() const { return cancelled_ != nullptr && cancelled_->load(std::memory_order_acquire); }
  bool passed() const { return cancelled() || (at_ != Clock::time_point::max() && Clock::now() >= at_); }
  // For poll(2): milliseconds left, rounded up, at most `most`.
  int poll_ms(int most = 1000) const {
    if (cancelled_ != nullptr) most = cancelled() ? 0 : std::min(most, kCancelLookMs);
    if (at_ == Clock::time_point::max()) return most;
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(at_ - Clock::now()).count() + 1;
    return static_cast<int>(std::clamp<int64_t>(left, 0, most));
  }

 private:
  static constexpr int kCancelLookMs = 20;  // chosen: freed before a person notices, at 50 wake-ups a second
  explicit Deadline(Clock::time_point at) : at_(at) {}
  Clock::time_point at_;
  const std::atomic<bool>* cancelled_ = nullptr;
};

}  // namespace tutti
