// SPDX-License-Identifier: Apache-2.0
// See ticks.h.
#include "base/ticks.h"

#include <time.h>

namespace tutti {
namespace {

constexpr int64_t kBillion = 1'000'000'000;
constexpr int64_t kLeastNs = 5'000'000;  // of measuring: two readings are uncertain by about 0.1 us each

struct Reading {
  uint64_t ticks;
  int64_t ns;
};

int64_t clock_ns(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return time.tv_sec * kBillion + time.tv_nsec;
}

// The closest pair of a few: a thread may be interrupted between its two halves.
Reading read_both(clockid_t clock) {
  Reading best{};
  uint64_t least = UINT64_MAX;
  for (int i = 0; i < 5; ++i) {
    const uint64_t before = ticks();
    const int64_t ns = clock_ns(clock);
    const uint64_t gap = ticks() - before;
    if (gap < least) {
      least = gap;
      best = {before + gap / 2, ns};
    }
  }
  return best;
}

const Reading& first_reading() {
  static const Reading first = read_both(CLOCK_MONOTONIC);
  return first;
}

}  // namespace

void start_tick_clock() { (void)first_reading(); }

TickClock read_tick_clock() {
  const Reading& first = first_reading();
  Reading now = read_both(CLOCK_MONOTONIC);
  while (now.ns - first.ns < kLeastNs) {
    const timespec rest{0, kLeastNs - (now.ns - first.ns)};
    ::nanosleep(&rest, nullptr);
    now = read_both(CLOCK_MONOTONIC);
  }
  const Reading wall = read_both(CLOCK_REALTIME);
  TickClock clock{wall.ticks, wall.ns, 0};
#if defined(__aarch64__)
  uint64_t rate;
  asm("mrs %0, cntfrq_el0" : "=r"(rate));
  clock.ticks_per_second = static_cast<double>(rate);
#else
  clock.ticks_per_second = static_cast<double>(now.ticks - first.ticks) * 1e9 / static_cast<double>(now.ns - first.ns);
#endif
  return clock;
}

}  // namespace tutti
