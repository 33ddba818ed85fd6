// SPDX-License-Identifier: Apache-2.0
// Waiter: what a thread does when nothing can move: poll, then yield, then sleep.
//
//   ranks <= cores   The peer is running: keep polling, a line arrives within a microsecond. After kSpinRounds idle
//                    rounds give the core away now and then; the peer may have been descheduled.
//   ranks > cores    The peer may be waiting for this very core: at most 20 polls, then sched_yield. A yield costs
//                    0.65 us with somebody to run and 0.19 us without; polling on costs a scheduler slice
//                    (milliseconds).
//   network          What comes, comes by the kernel, which can wake a sleeper at once. A yield that took long says
//                    that somebody else wants this core, and the next will take as long: sleep in the transport
//                    instead.
//   idle for long    kSleepAfterMs after the last movement the wait is not latency critical any more: sleep, a little
//                    longer each time, up to kLongestSleepUs. A futex would need a system call of the peer on its fast
//                    path; measured 10 to 30 times slower under oversubscription.
#pragma once

#include <sched.h>
#include <time.h>

#include <chrono>
#include <cstdint>

#include "base/atomic.h"
#include "base/ticks.h"

namespace tutti {

// What a communicator's waits over a network have learnt: so many of the next ones sleep rather than yield.
struct CoreDemand {
  int sleeps = 0;
};

class Waiter {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr int kPollsOversubscribed = 20;
  static constexpr int kPollsBeside = 2;  // the peer is on this core (core_map.h)
  // About a switch, for the peer may be running: of a short call, whose polls take 5 ns, and of any other, 40 ns. With
  // 300 there, too, an all-to-all of 32 KiB through slots took 18 to 26 us of 4 ranks on 2 cores instead of 12 to 13.
  static constexpr int kPollsApart = 300, kPollsApartLane = 40;
  // The same for a message, whose sender may be ahead and away as well: about a line's way. In a shift around 4 and 8
  // ranks on 2 cores, 40 polls took 2.8 and 5.9 us, 300 3.9 and 9.7, 5 2.8 and 6.6.
  static constexpr int kPollsMessage = 40;
  static constexpr int kPollsDedicated = 1000;         // about 50 us of polling between two looks at anything else
  static constexpr uint64_t kSpinRounds = 4;           // idle rounds of kPollsDedicated before the first yield
  static constexpr uint64_t kSpinRoundsNetwork = 100;  // each a system call of about a microsecond
  static constexpr uint64_t kWaitingAfterNetwork = 50;
  // With more ranks than cores the first round is the turn of this core's other ranks, and no wait unless it took so
  // long: about 50 us. Nor is the clock read before the second.
  static constexpr uint64_t kSecondRound = 2;
  static constexpr uint64_t kLongTurnTicks = 1 << 17;
  static constexpr int kLongYieldUs = 50;      // nobody there: 0.2 us; a scheduler's slice: milliseconds
  static constexpr int kSleepsInstead = 1000;  // until the next yield tries again
  static constexpr int kSleepAfterMs = 20;
  static constexpr int kShortestSleepUs = 50;
  static constexpr int kLongestSleepUs = 1000;

  // `network`: nothing arrives but by the progress function, so there is one poll between two calls of it.
  // `demand` outlives it; null: it learns nothing.
  Waiter(bool oversubscribed, int polls, bool network, CoreDemand* demand = nullptr)
      : demand_(network ? demand : nullptr),
        polls_(network          ? 1
               : polls > 0      ? polls
               : oversubscribed ? kPollsOversubscribed
                                : kPollsDedicated),
        waiting_after_(network          ? kWaitingAfterNetwork
                       : oversubscribed ? kSecondRound
                                        : 1),
        spin_rounds_(oversubscribed ? 0
                     : network      ? kSpinRoundsNetwork
                                    : kSpinRounds) {}

  // Looks at the connections in a row before idle() is worth calling.
  int polls() const { return polls_; }

  void moved() { idle_rounds_ = 0; }
  // Some round of polls was in vain, and since when the last such run of rounds has been (ticks).
  bool has_waited() const { return idle_since_ticks_ != 0; }
  uint64_t idle_since_ticks() const { return idle_since_ticks_; }
  // Long enough without movement to say that this thread waits for somebody. Over a network every message takes a few
  // rounds, and with more ranks than cores every call a turn of the others.
  bool waiting() const { return idle_rounds_ >= waiting_after_; }
  // Now and then meanwhile, most often at the beginning: a look at who is missing costs a line per rank.
  bool note_due() const {
    return idle_rounds_ < 64 ? (idle_rounds_ & (idle_rounds_ - 1)) == 0 : (idle_rounds_ & 63) == 0;
  }

  // Nothing moved. True when this thread has been idle so long that it should sleep: the caller sleeps in its transport
  // or calls sleep().
  bool idle() {
    if (++idle_rounds_ == 1) {
      idle_since_ticks_ = ticks();
    } else if (idle_rounds_ == kSecondRound) {
      idle_since_ = Clock::now();
    }
    if (idle_rounds_ <= spin_rounds_) {
      cpu_relax();
      return false;
    }
    // A round may be a yield that gives a busy machine a scheduler slice, so time is looked at every few of them.
    if ((idle_rounds_ & 7) == 0 && Clock::now() - idle_since_ > std::chrono::milliseconds(kSleepAfterMs)) {
      --idle_rounds_;  // stay in this state until something moves
      return true;
    }
    if (demand_ == nullptr) {
      sched_yield();
      if (idle_rounds_ == 1 && ticks() - idle_since_ticks_ > kLongTurnTicks) {
        idle_rounds_ = kSecondRound;
        idle_since_ = Clock::now();
      }
      return false;
    }
    if (demand_->sleeps > 0) {
      --demand_->sleeps;
      return true;
    }
    const Clock::time_point before = Clock::now();
    sched_yield();
    if (Clock::now() - before > std::chrono::microseconds(kLongYieldUs)) demand_->sleeps = kSleepsInstead;
    return false;
  }
  void sleep() {
    timespec pause{0, sleep_us_ * 1000};
    nanosleep(&pause, nullptr);
    sleep_us_ = sleep_us_ * 2 < kLongestSleepUs ? sleep_us_ * 2 : kLongestSleepUs;
  }
  // Waiting since the last movement, but for the first round.
  std::chrono::milliseconds idle_time() const {
    if (idle_rounds_ < kSecondRound) return std::chrono::milliseconds(0);
    return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - idle_since_);
  }
  bool looks_due() const { return (idle_rounds_ & 63) == 63; }

 private:
  CoreDemand* const demand_;
  const int polls_;
  const uint64_t waiting_after_;
  const uint64_t spin_rounds_;
  uint64_t idle_rounds_ = 0;
  uint64_t idle_since_ticks_ = 0;
  Clock::time_point idle_since_{};  // of the second round
  long sleep_us_ = kShortestSleepUs;
};

}  // namespace tutti
