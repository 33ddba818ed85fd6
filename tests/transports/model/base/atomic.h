// SPDX-License-Identifier: Apache-2.0
// Stands in for src/base/atomic.h in the model test: the same functions, each a step that the explorer decides about.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tutti {
namespace model {

// What a load returns and what a store publishes (tests/transports/slots_model_test.cc).
class Memory {
 public:
  virtual ~Memory() = default;
  virtual uint64_t load(const uint64_t* word, bool acquire) = 0;
  virtual void store_release(uint64_t* word, uint64_t value) = 0;
};
inline Memory* memory = nullptr;

}  // namespace model

inline uint64_t load_acquire(const uint64_t& word) { return model::memory->load(&word, true); }
inline uint64_t load_relaxed(const uint64_t& word) { return model::memory->load(&word, false); }
inline void store_release(uint64_t& word, uint64_t value) { model::memory->store_release(&word, value); }
inline void cpu_relax() {}

inline constexpr size_t kCacheLine = 64;

}  // namespace tutti
