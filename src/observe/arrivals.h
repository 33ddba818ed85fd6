// SPDX-License-Identifier: Apache-2.0
// Arrivals: for whom this rank has waited, how often and for how long. Always on.
//
// Costs nothing while peers are punctual: counted is only a wait in which the thread ran out of polls, with more ranks
// than cores also once the others of its core have had a turn (Waiter::waiting), and then it has nothing better to do.
// Written by the thread that carries the communicator's calls; read from anywhere.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace tutti {

class Arrivals {
 public:
  struct Late {
    uint64_t calls = 0;  // in which this rank waited for that one
    uint64_t ticks = 0;  // in all
    uint64_t longest = 0;
  };

  explicit Arrivals(int ranks) : ranks_(ranks), of_(std::make_unique<Counters[]>(static_cast<size_t>(ranks))) {}

  void add(int rank, uint64_t waited) {
    Counters& counters = of_[static_cast<size_t>(rank)];
    add_to(counters.calls, 1);
    add_to(counters.ticks, waited);
    if (waited > counters.longest.load(std::memory_order_relaxed))
      counters.longest.store(waited, std::memory_order_relaxed);
  }
  Late of(int rank) const {
    const Counters& counters = of_[static_cast<size_t>(rank)];
    return {counters.calls.load(std::memory_order_relaxed), counters.ticks.load(std::memory_order_relaxed),
            counters.longest.load(std::memory_order_relaxed)};
  }
  int ranks() const { return ranks_; }

  // Whom the thread waits for now (-1: nobody), and how many more.
  void waits_for(int rank, int more) {
    waiting_.store(static_cast<uint64_t>(static_cast<uint32_t>(rank)) | static_cast<uint64_t>(more) << 32,
                   std::memory_order_relaxed);
  }
  int waiting_rank() const { return static_cast<int32_t>(waiting_.load(std::memory_order_relaxed)); }
  int waiting_more() const { return static_cast<int>(waiting_.load(std::memory_order_relaxed) >> 32); }

 private:
  struct Counters {
    std::atomic<uint64_t> calls{0}, ticks{0}, longest{0};
  };
  // One writer: no read-modify-write needed.
  static void add_to(std::atomic<uint64_t>& word, uint64_t value) {
    word.store(word.load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
  }

  int ranks_;
  std::unique_ptr<Counters[]> of_;
  std::atomic<uint64_t> waiting_{UINT32_MAX};
};

}  // namespace tutti
