// SPDX-License-Identifier: Apache-2.0
// Span: bytes that lie together, combined from any number of sources into any number of destinations by all threads of
// a block. Each source is read once, each destination written once.
//
//   destination   |head|  16 bytes a thread, several in flight  |tail|
//
// That is where all pointers lie alike with respect to 16 bytes; elsewhere it goes element by element (copies: by the
// widest step that fits all), with as many in flight.
//
// A thread's packs are `apart` from each other. Those beyond the end are read from where its first one is and not
// written, so that one piece of code serves the whole and the rest.
#pragma once

#include <cstddef>
#include <cstdint>

#include "exec/cuda/elements.h"
#include "exec/cuda/threads.h"
#include "exec/cuda/work.h"

namespace tutti::cuda {

// Sources in increasing rank order: those of `from`, and the local operand before number `local_index` of them.
struct Span {
  const Place* from = nullptr;
  int from_count = 0;
  const std::byte* local = nullptr;  // null: none
  int local_index = 0;
  std::byte* kept = nullptr;  // the first destination; null: none
  const Place* to = nullptr;
  int to_count = 0;
  uint64_t at = 0;  // in the slices of peers
  uint64_t bytes = 0;
  const Scale* pre = nullptr;   // of the local operand; null: none
  const Scale* post = nullptr;  // of the result

  TUTTI_DEVICE int sources() const { return from_count + (local != nullptr); }
  TUTTI_DEVICE bool is_local(int s) const { return local != nullptr && s == local_index; }
  // Which of `from` the source s is, if it is not the local one.
  TUTTI_DEVICE int peer(int s) const { return s - (local != nullptr && s > local_index); }
  TUTTI_DEVICE const std::byte* source(int s) const { return is_local(s) ? local : from[peer(s)].at + at; }
  TUTTI_DEVICE int destinations() const { return to_count + (kept != nullptr); }
  TUTTI_DEVICE std::byte* destination(int d) const {
    if (kept != nullptr) {
      if (d == 0) return kept;
      --d;
    }
    return to[d].at + at;
  }
};

// Elements of kBytes bytes of memory.
template <int kBytes>
struct __attribute__((may_alias, aligned(kBytes))) Pack {
  unsigned char byte[kBytes];
};
template <>
struct __attribute__((may_alias, aligned(16))) Pack<16> {
  uint64_t word[2];
};
template <>
struct __attribute__((may_alias, aligned(8))) Pack<8> {
  uint64_t word;
};
template <>
struct __attribute__((may_alias, aligned(4))) Pack<4> {
  uint32_t word;
};
template <>
struct __attribute__((may_alias, aligned(2))) Pack<2> {
  uint16_t word;
};

// A pack from where the GPU reads 16 bytes at once only if it is told so: nvcc takes the loads of what is combined
// apart.
template <int kBytes>
TUTTI_DEVICE Pack<kBytes> load_pack(const std::byte* from) {
#if defined(__CUDA_ARCH__)
  if constexpr (kBytes == 16) {
    Pack<16> pack;
    asm volatile("ld.v2.u64 {%0, %1}, [%2];" : "=l"(pack.word[0]), "=l"(pack.word[1]) : "l"(from) : "memory");
    return pack;
  }
#endif
  return *reinterpret_cast<const Pack<kBytes>*>(from);
}
template <int kBytes>
TUTTI_DEVICE void store_pack(std::byte* to, const Pack<kBytes>& pack) {
#if defined(__CUDA_ARCH__)
  if constexpr (kBytes == 16) {
    asm volatile("st.v2.u64 [%0], {%1, %2};" ::"l"(to), "l"(pack.word[0]), "l"(pack.word[1]) : "memory");
    return;
  }
#endif
  *reinterpret_cast<Pack<kBytes>*>(to) = pack;
}

// Averages are rare and divisions long: one copy of the code for each type, over elements in memory.
template <class E>
TUTTI_OUTLINE void divide_all(typename E::Wide* values, int count, const Scale& scale) {
#pragma unroll 1
  for (int i = 0; i < count; ++i) values[i] = E::divide(values[i], scale);
}

// The elements of kPacks packs while they are combined, in registers: every index is a constant once loops are
// unrolled.
template <class T, ReduceOp op, int kBytes, int kPacks = 1>
struct Gathered {
  using E = Element<T, op>;
  static constexpr int kEach = kBytes / static_cast<int>(sizeof(T)), kAll = kEach * kPacks;
  typename E::Wide wide[kAll];

  TUTTI_DEVICE void take(const Span& span, int s, const Pack<kBytes> (&packs)[kPacks]) {
    const bool scales = op == ReduceOp::Sum && span.pre != nullptr && span.is_local(s);
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      T element[kEach];
      __builtin_memcpy(element, &packs[p], kBytes);
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        typename E::Wide value = E::load(element[i]);
        if (scales) value = E::multiply(value, *span.pre);
        typename E::Wide& sum = wide[p * kEach + i];
        sum = s == 0 ? value : E::combine(sum, value);
      }
    }
  }
  TUTTI_DEVICE void give(const Span& span, Pack<kBytes> (&packs)[kPacks]) {
    if (op == ReduceOp::Sum && span.post != nullptr) divide(*span.post);
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      T element[kEach];
#pragma unroll
      for (int i = 0; i < kEach; ++i) element[i] = E::store(wide[p * kEach + i]);
      __builtin_memcpy(&packs[p], element, kBytes);
    }
  }

 private:
  // Through memory, only here.
  TUTTI_DEVICE void divide(const Scale& scale) {
    typename E::Wide values[kAll];
#pragma unroll
    for (int i = 0; i < kAll; ++i) values[i] = wide[i];
    divide_all<E>(values, kAll, scale);
#pragma unroll
    for (int i = 0; i < kAll; ++i) wide[i] = values[i];
  }
};

// Where a thread's packs are in the span.
template <int kPacks>
struct Places {
  uint64_t at[kPacks];
  TUTTI_DEVICE Places(uint64_t first, uint64_t apart, uint64_t end) {
#pragma unroll
    for (int p = 0; p < kPacks; ++p) at[p] = first + p * apart < end ? first + p * apart : first;
  }
  template <int kBytes>
  TUTTI_DEVICE void load(const std::byte* from, Pack<kBytes> (&packs)[kPacks]) const {
#pragma unroll
    for (int p = 0; p < kPacks; ++p) packs[p] = load_pack<kBytes>(from + at[p]);
  }
  template <int kBytes>
  TUTTI_DEVICE void store(const Span& span, const Pack<kBytes> (&packs)[kPacks]) const {
#pragma unroll 1
    for (int d = 0; d < span.destinations(); ++d) {
      std::byte* const to = span.destination(d);
#pragma unroll
      for (int p = 0; p < kPacks; ++p) {
        if (p == 0 || at[p] != at[0]) store_pack<kBytes>(to + at[p], packs[p]);
      }
    }
  }
};

template <class T, ReduceOp op>
struct Combine {
  static constexpr int kElement = sizeof(T);
  // The packs of a source are on their way while those of the one before are combined.
  template <int kBytes, int kPacks>
  static TUTTI_DEVICE void packs(const Span& span, const Places<kPacks>& places) {
    Gathered<T, op, kBytes, kPacks> gathered;
    Pack<kBytes> pack[kPacks], next[kPacks];
    places.load(span.source(0), pack);
#pragma unroll 1
    for (int s = 0; s < span.sources(); ++s) {
      if (s + 1 < span.sources()) places.load(span.source(s + 1), next);
      gathered.take(span, s, pack);
#pragma unroll
      for (int p = 0; p < kPacks; ++p) pack[p] = next[p];
    }
    gathered.give(span, pack);
    places.store(span, pack);
  }
};
struct Copy {
  static constexpr int kElement = 1;
  template <int kBytes, int kPacks>
  static TUTTI_DEVICE void packs(const Span& span, const Places<kPacks>& places) {
    Pack<kBytes> pack[kPacks];
    places.load(span.source(0), pack);
    places.store(span, pack);
  }
};

// Bytes [begin, end), whole packs only.
template <class Move, int kBytes, int kPacks>
TUTTI_DEVICE void move_packs(const Span& span, uint64_t begin, uint64_t end) {
  const uint64_t apart = static_cast<uint64_t>(thread_count()) * kBytes;
#pragma unroll 1
  for (uint64_t at = begin + static_cast<uint64_t>(thread_index()) * kBytes; at < end; at += kPacks * apart)
    Move::template packs<kBytes, kPacks>(span, Places<kPacks>(at, apart, end));
}

// Bits in which some pointer of the span differs from the first destination, below 16.
TUTTI_DEVICE unsigned differences(const Span& span) {
  const auto low = [](const std::byte* p) { return static_cast<unsigned>(reinterpret_cast<uintptr_t>(p) % 16); };
  const unsigned first = low(span.destination(0));
  unsigned differ = 0;
  for (int s = 0; s < span.sources(); ++s) differ |= low(span.source(s)) ^ first;
  for (int d = 1; d < span.destinations(); ++d) differ |= low(span.destination(d)) ^ first;
  return differ;
}

// By packs of kBytes where `alike` says that the pointers are so modulo kBytes, head and tail by elements; else all so.
template <class Move, int kBytes, int kPacks>
TUTTI_DEVICE void move_span_by(const Span& span, bool alike) {
  uint64_t head = span.bytes, tail = span.bytes;
  if (alike) {
    head = (kBytes - reinterpret_cast<uintptr_t>(span.destination(0)) % kBytes) % kBytes;
    if (head > span.bytes) head = span.bytes;
    tail = head + (span.bytes - head) / kBytes * kBytes;
    move_packs<Move, kBytes, kPacks>(span, head, tail);
  }
#pragma unroll 1
  for (int edge = 0; edge < 2; ++edge)
    move_packs<Move, Move::kElement, 4>(span, edge == 0 ? 0 : tail, edge == 0 ? head : span.bytes);
}

// Registers bound what is in flight: four packs of up to 8 elements, two of 16.
template <class T, ReduceOp op>
TUTTI_OUTLINE void combine(const Span& given) {
  constexpr int kPacks = sizeof(T) == 1 ? 2 : 4;
  const Span span = given;  // registers
  if (span.destinations() == 0 || span.bytes == 0) return;
  move_span_by<Combine<T, op>, 16, kPacks>(span, differences(span) == 0);
}

// Outlined: inlined it would have a span in memory for each of its calls.
TUTTI_OUTLINE void combine_elements(DataType type, ReduceOp op, const Span& span) {
  with_element(type, op, [&]<class T, ReduceOp op_of>() { combine<T, op_of>(span); });
}

// The only source; a destination that is the source itself is left alone.
TUTTI_OUTLINE void copy(Span span) {
  if (span.kept == span.source(0)) span.kept = nullptr;
  if (span.destinations() == 0 || span.bytes == 0) return;
  const unsigned differ = differences(span);
  if (differ == 0) return move_span_by<Copy, 16, 4>(span, true);
  if (differ % 8 == 0) return move_span_by<Copy, 8, 4>(span, true);
  move_span_by<Copy, 4, 4>(span, differ % 4 == 0);
}

}  // namespace tutti::cuda
