// SPDX-License-Identifier: Apache-2.0
// The only functions that touch memory shared between ranks.
//
//   function        C++ (host)                 PTX (device)             use
//   load_acquire    atomic_ref acquire load    ld.acquire.sys           see a peer's counter, then its data
//   store_release   atomic_ref release store   st.release.sys           publish data, then the counter
//   load_relaxed    atomic_ref relaxed load    ld.relaxed.sys           poll where the data is not read yet
//
// The device forms come with the CUDA lane; both sides of a connection use this table, so that a host and a device meet
// at system scope. Counters are naturally aligned 8-byte words: such an access is single-copy atomic on x86-64, AArch64
// and CUDA alike.
#pragma once

#include <atomic>
#include <cstdint>

namespace tutti {

inline uint64_t load_acquire(const uint64_t& word) {
  return std::atomic_ref<uint64_t>(const_cast<uint64_t&>(word)).load(std::memory_order_acquire);
}
inline uint64_t load_relaxed(const uint64_t& word) {
  return std::atomic_ref<uint64_t>(const_cast<uint64_t&>(word)).load(std::memory_order_relaxed);
}
inline void store_release(uint64_t& word, uint64_t value) {
  std::atomic_ref<uint64_t>(word).store(value, std::memory_order_release);
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
