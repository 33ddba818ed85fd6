// SPDX-License-Identifier: Apache-2.0
// The only functions that touch memory shared between ranks.
//
//   function        C++ (host)                 PTX (device)             use
//   load_acquire    atomic_ref acquire load    ld.acquire.sys           see a peer's counter, then its data
//   store_release   atomic_ref release store   st.release.sys           publish data, then the counter
//   load_relaxed    atomic_ref relaxed load    ld.relaxed.sys           poll where the data is not read yet
//   store_relaxed   atomic_ref relaxed store   st.relaxed.sys           a word that stands for itself
//   load_pair       two acquire loads          ld.volatile.v2.u64       data with a flag in its word or its line
//   store_pair      two release stores         st.volatile.v2.u64       the same (proto/lines.h says what is whole)
//
// Scope: both sides of a connection use this table, so that a host, a device and another device meet at system scope.
// A block that fills a slot does so with plain stores and passes a barrier of the block before one thread of it does
// the store_release: release is cumulative over what the barrier ordered before it. The reading side does it the other
// way round, load_acquire by one thread, barrier, plain loads by all.
//
// Counters are naturally aligned 8-byte words: such an access is single-copy atomic on x86-64, AArch64 and CUDA alike.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/host_device.h"

namespace tutti {

TUTTI_HD inline uint64_t load_acquire(const uint64_t& word) {
#if defined(__CUDA_ARCH__)
  uint64_t value;
  asm volatile("ld.acquire.sys.u64 %0, [%1];" : "=l"(value) : "l"(&word) : "memory");
  return value;
#else
  return std::atomic_ref<uint64_t>(const_cast<uint64_t&>(word)).load(std::memory_order_acquire);
#endif
}
TUTTI_HD inline uint64_t load_relaxed(const uint64_t& word) {
#if defined(__CUDA_ARCH__)
  uint64_t value;
  asm volatile("ld.relaxed.sys.u64 %0, [%1];" : "=l"(value) : "l"(&word) : "memory");
  return value;
#else
  return std::atomic_ref<uint64_t>(const_cast<uint64_t&>(word)).load(std::memory_order_relaxed);
#endif
}
TUTTI_HD inline void store_release(uint64_t& word, uint64_t value) {
#if defined(__CUDA_ARCH__)
  asm volatile("st.release.sys.u64 [%0], %1;" ::"l"(&word), "l"(value) : "memory");
#else
  std::atomic_ref<uint64_t>(word).store(value, std::memory_order_release);
#endif
}
TUTTI_HD inline void store_relaxed(uint64_t& word, uint64_t value) {
#if defined(__CUDA_ARCH__)
  asm volatile("st.relaxed.sys.u64 [%0], %1;" ::"l"(&word), "l"(value) : "memory");
#else
  std::atomic_ref<uint64_t>(word).store(value, std::memory_order_relaxed);
#endif
}

// 16 bytes that a thread moves at once. Each word is single-copy atomic, the pair is not.
struct alignas(16) WordPair {
  uint64_t word[2];
};
TUTTI_HD inline WordPair load_pair(const WordPair& from) {
#if defined(__CUDA_ARCH__)
  WordPair value;
  asm volatile("ld.volatile.v2.u64 {%0, %1}, [%2];" : "=l"(value.word[0]), "=l"(value.word[1]) : "l"(&from) : "memory");
  return value;
#else
  return {{load_acquire(from.word[0]), load_acquire(from.word[1])}};
#endif
}
TUTTI_HD inline void store_pair(WordPair& to, const WordPair& value) {
#if defined(__CUDA_ARCH__)
  asm volatile("st.volatile.v2.u64 [%0], {%1, %2};" ::"l"(&to), "l"(value.word[0]), "l"(value.word[1]) : "memory");
#else
  store_release(to.word[0], value.word[0]);
  store_release(to.word[1], value.word[1]);
#endif
}

// What a polling loop does between two looks at a line.
inline void cpu_relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

inline constexpr size_t kCacheLine = 64;

}  // namespace tutti
