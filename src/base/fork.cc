// SPDX-License-Identifier: Apache-2.0
// See fork.h. The handlers are installed when the library is loaded, so that no first use can race with a fork.
#include "base/fork.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>

namespace tutti {
namespace {

constexpr size_t kMostLocks = 32;
std::array<std::atomic<std::mutex*>, kMostLocks> g_locks{};
std::atomic<size_t> g_lock_count{0};

// One bit per descriptor; pages that no descriptor has needed are never touched. Larger numbers than these (a limit of
// open files that is raised beyond a million) stay open in children.
constexpr size_t kWordBits = 64, kMostDescriptors = 1 << 20;
std::array<std::atomic<uint64_t>, kMostDescriptors / kWordBits> g_descriptors{};
std::atomic<size_t> g_highest{0};

std::atomic<uint64_t> g_generation{1};

// The locks that prepare() has taken: more may be added before parent() or child() runs.
size_t g_taken = 0;

void prepare() {
  g_taken = std::min(g_lock_count.load(std::memory_order_acquire), kMostLocks);
  for (size_t i = 0; i < g_taken; ++i) {
    if (std::mutex* lock = g_locks[i].load(std::memory_order_acquire)) lock->lock();
  }
}

void release() {
  for (size_t i = g_taken; i-- > 0;) {
    if (std::mutex* lock = g_locks[i].load(std::memory_order_acquire)) lock->unlock();
  }
}

void child() {
  release();
  g_generation.fetch_add(1, std::memory_order_relaxed);
  const size_t words = g_highest.load(std::memory_order_relaxed) / kWordBits + 1;
  for (size_t word = 0; word < words; ++word) {
    uint64_t open = g_descriptors[word].exchange(0, std::memory_order_relaxed);
    for (; open != 0; open &= open - 1)
      ::close(static_cast<int>(word * kWordBits + static_cast<size_t>(__builtin_ctzll(open))));
  }
}

[[gnu::constructor]] void install() { ::pthread_atfork(prepare, release, child); }

}  // namespace

void guard_at_fork(std::mutex& lock) {
  const size_t place = g_lock_count.fetch_add(1, std::memory_order_acq_rel);
  if (place < kMostLocks) g_locks[place].store(&lock, std::memory_order_release);
}

void note_descriptor(int fd) {
  const auto number = static_cast<size_t>(fd);
  if (fd < 0 || number >= kMostDescriptors) return;
  g_descriptors[number / kWordBits].fetch_or(uint64_t{1} << number % kWordBits, std::memory_order_relaxed);
  size_t highest = g_highest.load(std::memory_order_relaxed);
  while (highest < number && !g_highest.compare_exchange_weak(highest, number, std::memory_order_relaxed)) {
  }
}

void forget_descriptor(int fd) {
  const auto number = static_cast<size_t>(fd);
  if (fd < 0 || number >= kMostDescriptors) return;
  g_descriptors[number / kWordBits].fetch_and(~(uint64_t{1} << number % kWordBits), std::memory_order_relaxed);
}

uint64_t process_generation() { return g_generation.load(std::memory_order_relaxed); }

}  // namespace tutti
