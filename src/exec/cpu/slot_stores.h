// SPDX-License-Identifier: Apache-2.0
// SlotStores: whether slots are written past the caches.
//
// A slot's lines were read by a peer last, so writing them takes them back from its core. Cores that share a cache do
// that at 3 to 6 ns a line, and then the peer reads from that cache: ordinary stores are best. Cores that do not (two
// dies of an EPYC) take 37 ns a line, and as long again to read them, whatever is prefetched; there stores past the
// caches win from 2 KiB on: 4 KiB exchanged in 1.2 us instead of 2.5, 16 KiB in 2.0 instead of 9.4. On a virtual
// machine one may become the other at any time, so it is measured: now and then a slice is written with ordinary stores
// between two readings of the cycle counter.
//
// Slots that only ranks of this core read (more ranks than cores) stay in its own cache: they are never streamed, and
// say nothing about those that another core reads.
//
// Only how a slot is filled depends on it, never what is in it: each rank decides for itself.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/atomic.h"

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace tutti {

class SlotStores {
 public:
  using Counter = uint64_t (*)();  // of cycles
  explicit SlotStores(Counter counter = &cycles) : counter_(counter) {}

  // Before a slice is copied into slots: whether to stream it. settle() follows. away(): another core reads them.
  template <class Away>
  bool stream(uint64_t bytes, Away&& away) {
    if (bytes < kStreamFrom) [[likely]]
      return false;
    if (!away()) return false;
    if (--until_trial_ > 0) return streaming_;
    trial_began_ = counter_();
    return false;
  }
  // The same for a slice that is reduced into slots, whose time says nothing.
  template <class Away>
  bool stream_reduced(uint64_t bytes, Away&& away) const {
    return bytes >= kStreamFrom && streaming_ && away();
  }
  // Instead of stream_reduced() where nothing is ever copied: it is time to arrange a trial, which write() then makes.
  template <class Away>
  bool trial_due(uint64_t bytes, Away&& away) {
    return bytes >= kStreamFrom && away() && --until_trial_ <= 0;
  }
  bool streaming() const { return streaming_; }
  // All of it by put(at, bytes, stream), where slices may be long: a trial takes no more than it needs, from the end,
  // since what the peer has read last is most likely still in its cache.
  template <class Away, class Put>
  void write(uint64_t bytes, Away&& away, Put&& put) {
    const uint64_t last = until_trial_ > 1 ? bytes : std::min(bytes, kTrialBytes);
    if (last < bytes) put(uint64_t{0}, bytes - last, stream_reduced(bytes - last, away));
    put(bytes - last, last, stream(last, away));
    settle(last);
  }
  void settle(uint64_t bytes) {
    if (trial_began_ == 0) [[likely]]
      return;
    conclude(bytes);
  }

 private:
  static constexpr uint64_t kStreamFrom = 2048;  // below it a fence costs what it saves
  static constexpr uint64_t kDearCycles =
      26;  // a line: 8 to 16 where a cache is shared; from 35 (long slices) where none is
  static constexpr uint64_t kTrialBytes = 64 << 10;
  static constexpr int kTrials = 3;  // in a row; the least counts, since a trial may be interrupted
  // Slices between trials. While nothing is streamed a trial is a fence and two readings; else its slice is late.
  static constexpr int kBetweenTrials = 32, kBetweenTrialsStreaming = 500;

  static uint64_t cycles() {
#if defined(__x86_64__)
    return __rdtsc();
#else
    return 0;  // no trial, no streaming
#endif
  }
  void conclude(uint64_t bytes) {
#if defined(__x86_64__)
    _mm_mfence();  // the stores have arrived
#endif
    least_ = std::min(least_, (counter_() - trial_began_) / (bytes / kCacheLine));
    trial_began_ = 0;
    until_trial_ = 1;
    if (++trials_ < kTrials) return;
    streaming_ = least_ > kDearCycles;
    least_ = UINT64_MAX;
    trials_ = 0;
    until_trial_ = streaming_ ? kBetweenTrialsStreaming : kBetweenTrials;
  }

  Counter counter_;
  bool streaming_ = false;
  int until_trial_ = 8;  // not the first slices, which meet fresh pages
  int trials_ = 0;
  uint64_t least_ = UINT64_MAX;
  uint64_t trial_began_ = 0;
};

}  // namespace tutti
