// SPDX-License-Identifier: Apache-2.0
// Ticks: the time stamp counter, for times that must not cost a system call.
//
// x86-64: rdtsc; AArch64: cntvct_el0. Both count at a constant rate and agree between the cores of a host (Linux
// refuses the counter as its own clock where they do not), so ticks of processes of one host can be compared as they
// are. Their rate is measured against the monotonic clock since the first use, and stated where it is told by the
// processor.
#pragma once

#include <cstdint>

namespace tutti {

#if defined(__x86_64__)
inline uint64_t ticks() { return __builtin_ia32_rdtsc(); }
#elif defined(__aarch64__)
inline uint64_t ticks() {
  uint64_t value;
  asm volatile("mrs %0, cntvct_el0" : "=r"(value));
  return value;
}
#endif

// One moment on both clocks, and how ticks become time.
struct TickClock {
  uint64_t now_ticks = 0;
  int64_t now_unix_ns = 0;
  double ticks_per_second = 0;

  double seconds(uint64_t from, uint64_t to) const {
    return static_cast<double>(static_cast<int64_t>(to - from)) / ticks_per_second;
  }
};

// Begins the measurement of the rate; cheap, any number of times.
void start_tick_clock();
// The clock now. Sleeps for a few milliseconds if the measurement has just begun. Not for the fast path.
TickClock read_tick_clock();

}  // namespace tutti
