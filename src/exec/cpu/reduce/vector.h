// SPDX-License-Identifier: Apache-2.0
// Vectors of one target: the compilers' vector extension, and the few instructions that it cannot express.
//
// Included by kernels.h only. Everything is in an unnamed namespace and always inlined: code compiled for a larger
// instruction set must not leave a function behind that the linker could choose for the whole program. For the same
// reason nothing here uses the standard library.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define TUTTI_INLINE [[gnu::always_inline]] inline

namespace tutti::TUTTI_REDUCE_TARGET {
namespace {

#if defined(__AVX512BW__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
// Heads, tails and small calls use vectors of this size on every target.
constexpr int kEdgeBytes = 16;

template <class T, int kBytes>
struct VectorOf {
  typedef T Type __attribute__((vector_size(kBytes)));
};
template <class T, int kBytes>
using Vec = typename VectorOf<T, kBytes>::Type;

// The same bits as elements of another type.
template <class T, class V>
TUTTI_INLINE Vec<T, sizeof(V)> as(V v) {
  return (Vec<T, sizeof(V)>)v;
}
template <class T, int kBytes>
TUTTI_INLINE Vec<T, kBytes> splat(T value) {
  return value - Vec<T, kBytes>{};
}
template <class T, int kBytes>
TUTTI_INLINE Vec<T, kBytes> load(const char* from) {
  Vec<T, kBytes> v;
  __builtin_memcpy(&v, from, kBytes);
  return v;
}
template <class V>
TUTTI_INLINE void store(char* to, V v) {
  __builtin_memcpy(to, &v, sizeof(V));
}

// Past the caches; `to` is aligned to the vector. fence() orders such stores before what the thread stores next.
template <class V>
TUTTI_INLINE void stream(char* to, V v) {
#if defined(__AVX512F__)
  if constexpr (sizeof(V) == 64) return _mm512_stream_si512(reinterpret_cast<__m512i*>(to), (__m512i)v);
#endif
#if defined(__AVX2__)
  if constexpr (sizeof(V) == 32) return _mm256_stream_si256(reinterpret_cast<__m256i*>(to), (__m256i)v);
#endif
#if defined(__x86_64__)
  if constexpr (sizeof(V) == 16) return _mm_stream_si128(reinterpret_cast<__m128i*>(to), (__m128i)v);
#endif
  store(to, v);
}
TUTTI_INLINE void fence() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

template <class T>
TUTTI_INLINE uint64_t load_word(const char* from) {
  T word;
  __builtin_memcpy(&word, from, sizeof(T));
  return word;
}
template <class T>
TUTTI_INLINE void store_word(char* to, uint64_t value) {
  const T word = static_cast<T>(value);
  __builtin_memcpy(to, &word, sizeof(T));
}

// The first `n` bytes of a vector, 0 < n < 16, the rest zero. Reads nothing else: two words that may overlap cover any
// length. Not a masked load: one that follows a narrower store to the same line waits for it to reach the cache, and
// small calls read what the caller has just written.
TUTTI_INLINE Vec<uint64_t, 16> load_part(const char* from, size_t n) {
  if (n >= 8) {
    const uint64_t last = load_word<uint64_t>(from + n - 8);
    return Vec<uint64_t, 16>{load_word<uint64_t>(from), last >> (127 - 8 * n) >> 1};  // n == 8: shifts all 64 bits out
  }
  if (n >= 4) {
    return Vec<uint64_t, 16>{load_word<uint32_t>(from) | load_word<uint32_t>(from + n - 4) << (8 * (n - 4)), 0};
  }
  return Vec<uint64_t, 16>{load_word<uint8_t>(from) | load_word<uint8_t>(from + n / 2) << (8 * (n / 2)) |
                               load_word<uint8_t>(from + n - 1) << (8 * (n - 1)),
                           0};
}
TUTTI_INLINE void store_part(char* to, Vec<uint64_t, 16> v, size_t n) {
  const uint64_t low = v[0], high = v[1];
  if (n >= 8) {
    store_word<uint64_t>(to, low);
    if (n > 8) store_word<uint64_t>(to + n - 8, low >> (8 * (n - 8)) | high << (8 * (16 - n)));
  } else if (n >= 4) {
    store_word<uint32_t>(to, low);
    store_word<uint32_t>(to + n - 4, low >> (8 * (n - 4)));
  } else {
    store_word<uint8_t>(to, low);
    store_word<uint8_t>(to + n / 2, low >> (8 * (n / 2)));
    store_word<uint8_t>(to + n - 1, low >> (8 * (n - 1)));
  }
}

#if defined(__F16C__)
// Halves of a vector of float16, widened; and back, rounded to nearest even.
constexpr bool kHasHalfConversion = true;

TUTTI_INLINE void widen_half(Vec<uint16_t, 16> h, Vec<float, 16>& low, Vec<float, 16>& high) {
  low = (Vec<float, 16>)_mm_cvtph_ps((__m128i)h);
  high = (Vec<float, 16>)_mm_cvtph_ps(_mm_unpackhi_epi64((__m128i)h, (__m128i)h));
}
TUTTI_INLINE Vec<uint16_t, 16> narrow_half(Vec<float, 16> low, Vec<float, 16> high) {
  return (Vec<uint16_t, 16>)_mm_unpacklo_epi64(_mm_cvtps_ph((__m128)low, _MM_FROUND_TO_NEAREST_INT),
                                               _mm_cvtps_ph((__m128)high, _MM_FROUND_TO_NEAREST_INT));
}
// The low 16 bits of each lane; the high ones are zero.
TUTTI_INLINE Vec<uint16_t, 16> narrow_lanes(Vec<uint32_t, 16> low, Vec<uint32_t, 16> high) {
  return (Vec<uint16_t, 16>)_mm_packus_epi32((__m128i)low, (__m128i)high);
}
#if defined(__AVX512BW__)
TUTTI_INLINE void widen_half(Vec<uint16_t, 64> h, Vec<float, 64>& low, Vec<float, 64>& high) {
  low = (Vec<float, 64>)_mm512_cvtph_ps(_mm512_castsi512_si256((__m512i)h));
  high = (Vec<float, 64>)_mm512_cvtph_ps(_mm512_extracti64x4_epi64((__m512i)h, 1));
}
TUTTI_INLINE Vec<uint16_t, 64> narrow_half(Vec<float, 64> low, Vec<float, 64> high) {
  return (Vec<uint16_t, 64>)_mm512_inserti64x4(
      _mm512_castsi256_si512(_mm512_cvtps_ph((__m512)low, _MM_FROUND_TO_NEAREST_INT)),
      _mm512_cvtps_ph((__m512)high, _MM_FROUND_TO_NEAREST_INT), 1);
}
TUTTI_INLINE Vec<uint16_t, 64> narrow_lanes(Vec<uint32_t, 64> low, Vec<uint32_t, 64> high) {
  return (Vec<uint16_t, 64>)_mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16((__m512i)low)),
                                               _mm512_cvtepi32_epi16((__m512i)high), 1);
}
#else
TUTTI_INLINE void widen_half(Vec<uint16_t, 32> h, Vec<float, 32>& low, Vec<float, 32>& high) {
  low = (Vec<float, 32>)_mm256_cvtph_ps(_mm256_castsi256_si128((__m256i)h));
  high = (Vec<float, 32>)_mm256_cvtph_ps(_mm256_extracti128_si256((__m256i)h, 1));
}
TUTTI_INLINE Vec<uint16_t, 32> narrow_half(Vec<float, 32> low, Vec<float, 32> high) {
  return (Vec<uint16_t, 32>)_mm256_set_m128i(_mm256_cvtps_ph((__m256)high, _MM_FROUND_TO_NEAREST_INT),
                                             _mm256_cvtps_ph((__m256)low, _MM_FROUND_TO_NEAREST_INT));
}
TUTTI_INLINE Vec<uint16_t, 32> narrow_lanes(Vec<uint32_t, 32> low, Vec<uint32_t, 32> high) {
  constexpr int kUndoLaneOrder = 0xd8;  // the pack works within 128-bit lanes: quarters 0 2 1 3 -> 0 1 2 3
  return (Vec<uint16_t, 32>)_mm256_permute4x64_epi64(_mm256_packus_epi32((__m256i)low, (__m256i)high), kUndoLaneOrder);
}
#endif
#else
constexpr bool kHasHalfConversion = false;
#endif

}  // namespace
}  // namespace tutti::TUTTI_REDUCE_TARGET
