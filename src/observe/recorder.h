// SPDX-License-Identifier: Apache-2.0
// Recorder: the last kRecords calls of a communicator, for whoever asks later why it stands still or was slow.
//
// A ring of one cache line per call. One thread writes at a time (who carries the communicator's calls); any thread
// reads, without a lock and without disturbing the writer:
//
//   begin   stamp := 0, fence(release), the fields, stamp := index + 1 (release)
//   read    stamp (acquire), the fields, fence(acquire), stamp again: equal and not 0, or the record is left out
//   end     `ended` alone: it is 0 until then, and either value is true when it is read
//
// What the codes mean is the caller's matter (CallNames in observed.h): this layer knows no collective.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

#include "base/atomic.h"
#include "base/status.h"

namespace tutti {

struct CallRecord {
  enum Flag : uint8_t { kSend = 1, kReceive = 2, kVector = 4, kBarrier = 8 };

  uint64_t index = 0;   // of all calls of this rank on the communicator, from 0 on
  uint64_t number = 0;  // of its collectives (alike on all ranks), or of its sends and receives, from 1 on
  uint64_t queued = 0, started = 0, ended = 0;  // ticks; ended 0: still under way
  uint64_t count = 0;                           // elements
  int32_t root = 0;                             // or the peer
  uint8_t operation = 0, type = 0, op = 0, flags = 0;
  uint8_t algorithm = 0, protocol = 0, channels = 0;
};

// What calls of one kind and size have in common, as the recorder keeps it.
struct CallWords {
  uint64_t count = 0, what = 0, how = 0;

  CallWords() = default;
  explicit CallWords(const CallRecord& record)
      : count(record.count),
        what(static_cast<uint64_t>(record.operation) << 24 | static_cast<uint64_t>(record.type) << 16 |
             static_cast<uint64_t>(record.op) << 8 | record.flags),
        how(static_cast<uint64_t>(static_cast<uint32_t>(record.root)) << 32 |
            static_cast<uint64_t>(record.algorithm) << 16 | static_cast<uint64_t>(record.protocol) << 8 |
            record.channels) {}
  void remove_flag(CallRecord::Flag flag) { what &= ~uint64_t{flag}; }
};

class Recorder {
 public:
  static constexpr uint64_t kRecords = 1024;

  // Memory comes page by page, as calls are recorded.
  static Result<Recorder> create();
  Recorder() = default;
  Recorder(Recorder&& other) noexcept { *this = std::move(other); }
  Recorder& operator=(Recorder&& other) noexcept {
    std::swap(lines_, other.lines_);
    begun_.store(other.begun_.load(std::memory_order_relaxed), std::memory_order_relaxed);
    return *this;
  }
  ~Recorder();

  // Returns the call's index, for end().
  uint64_t begin(uint64_t number, uint64_t queued, uint64_t started, const CallWords& call) {
    const uint64_t index = begun_.load(std::memory_order_relaxed);
    Line& line = lines_[index % kRecords];
    line.stamp.store(0, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);  // pairs with the acquire fence of read()
    store(line.number, number);
    store(line.queued, queued);
    store(line.started, started);
    store(line.ended, 0);
    store(line.count, call.count);
    store(line.what, call.what);
    store(line.how, call.how);
    line.stamp.store(index + 1, std::memory_order_release);  // pairs with read()
    begun_.store(index + 1, std::memory_order_release);      // pairs with begun()
    return index;
  }
  uint64_t begin(const CallRecord& record) {
    return begin(record.number, record.queued, record.started, CallWords(record));
  }
  // No effect when the ring has come round since.
  void end(uint64_t index, uint64_t at) {
    Line& line = lines_[index % kRecords];
    if (line.stamp.load(std::memory_order_relaxed) == index + 1) store(line.ended, at);
  }

  // Calls begun so far.
  uint64_t begun() const { return begun_.load(std::memory_order_acquire); }
  // False: not there (any more), or just being written.
  bool read(uint64_t index, CallRecord& record) const;
  // What is there, the oldest first.
  std::vector<CallRecord> read_all() const;

 private:
  using Word = std::atomic<uint64_t>;
  struct alignas(kCacheLine) Line {
    Word stamp, number, queued, started, ended, count, what, how;
  };
  static_assert(sizeof(Line) == kCacheLine);

  static void store(Word& word, uint64_t value) { word.store(value, std::memory_order_relaxed); }

  Line* lines_ = nullptr;
  Word begun_{0};
};

}  // namespace tutti
