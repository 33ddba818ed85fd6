// SPDX-License-Identifier: Apache-2.0
// Copies of a length that one LL slot holds, where a call costs more than a line of data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/atomic.h"
#include "exec/cpu/reduce/reduce.h"
#include "exec/cpu/slot_stores.h"

namespace tutti {

// The first and the last word, which overlap unless there are two.
template <class Word>
inline void copy_ends(void* to, const void* from, uint64_t bytes) {
  Word first, last;
  const uint64_t at = bytes - sizeof(Word);
  std::memcpy(&first, from, sizeof(Word));
  std::memcpy(&last, static_cast<const std::byte*>(from) + at, sizeof(Word));
  std::memcpy(to, &first, sizeof(Word));
  std::memcpy(static_cast<std::byte*>(to) + at, &last, sizeof(Word));
}

// Into or out of a slot.
inline void copy_message(void* to, const void* from, uint64_t bytes) {
  if (bytes > 16) {
    std::memcpy(to, from, bytes);
  } else if (bytes >= 8) {
    copy_ends<uint64_t>(to, from, bytes);
  } else if (bytes >= 4) {
    copy_ends<uint32_t>(to, from, bytes);
  } else {
    for (uint64_t i = 0; i < bytes; ++i) static_cast<std::byte*>(to)[i] = static_cast<const std::byte*>(from)[i];
  }
}

// Fills the payload of an LL slot. `stream`: past the caches (SlotStores::stream).
inline void fill_slot(void* payload, const void* from, uint64_t bytes, bool stream) {
  if (stream) return copy_bytes(&payload, 1, 1, from, bytes);
  copy_message(payload, from, bytes);
}

}  // namespace tutti
