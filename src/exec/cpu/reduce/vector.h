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

// What is shorter than a vector: 8 or 4 bytes (WordPart), or 1 to 3 (BytePart); the rest of the vector is zero. Nothing
// else is touched. Not a masked load: one that follows a narrower store to the same place waits until that has reached
// the cache, and small calls read what the caller has just written.
struct WordPart {
  size_t bytes;
  TUTTI_INLINE Vec<uint64_t, 16> load(const char* from) const {
    return Vec<uint64_t, 16>{bytes == 8 ? load_word<uint64_t>(from) : load_word<uint32_t>(from), 0};
  }
  TUTTI_INLINE void store(char* to, Vec<uint64_t, 16> v) const {
    if (bytes == 8) {
      store_word<uint64_t>(to, v[0]);
    } else {
      store_word<uint32_t>(to, v[0]);
    }
  }
};
struct BytePart {
  size_t bytes;
  TUTTI_INLINE Vec<uint64_t, 16> load(const char* from) const {
    // First, middle and last byte, which may be the same one.
    return Vec<uint64_t, 16>{load_word<uint8_t>(from) | load_word<uint8_t>(from + bytes / 2) << (8 * (bytes / 2)) |
                                 load_word<uint8_t>(from + bytes - 1) << (8 * (bytes - 1)),
                             0};
  }
  TUTTI_INLINE void store(char* to, Vec<uint64_t, 16> v) const {
    store_word<uint8_t>(to, v[0]);
    store_word<uint8_t>(to + bytes / 2, v[0] >> (8 * (bytes / 2)));
    store_word<uint8_t>(to + bytes - 1, v[0] >> (8 * (bytes - 1)));
  }
};

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
#else
TUTTI_INLINE void widen_half(Vec<uint16_t, 32> h, Vec<float, 32>& low, Vec<float, 32>& high) {
  low = (Vec<float, 32>)_mm256_cvtph_ps(_mm256_castsi256_si128((__m256i)h));
  high = (Vec<float, 32>)_mm256_cvtph_ps(_mm256_extracti128_si256((__m256i)h, 1));
}
TUTTI_INLINE Vec<uint16_t, 32> narrow_half(Vec<float, 32> low, Vec<float, 32> high) {
  return (Vec<uint16_t, 32>)_mm256_set_m128i(_mm256_cvtps_ph((__m256)high, _MM_FROUND_TO_NEAREST_INT),
                                             _mm256_cvtps_ph((__m256)low, _MM_FROUND_TO_NEAREST_INT));
}
#endif
// From memory, by halves: the conversion of a register costs a shuffle more.
template <int B>
TUTTI_INLINE void load_half(const char* from, Vec<float, B>& low, Vec<float, B>& high);
template <>
TUTTI_INLINE void load_half<16>(const char* from, Vec<float, 16>& low, Vec<float, 16>& high) {
  low = (Vec<float, 16>)_mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
  high = (Vec<float, 16>)_mm_cvtph_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from + 8)));
}
#if defined(__AVX512BW__)
template <>
TUTTI_INLINE void load_half<64>(const char* from, Vec<float, 64>& low, Vec<float, 64>& high) {
  low = (Vec<float, 64>)_mm512_cvtph_ps((__m256i)load<uint16_t, 32>(from));
  high = (Vec<float, 64>)_mm512_cvtph_ps((__m256i)load<uint16_t, 32>(from + 32));
}
#else
template <>
TUTTI_INLINE void load_half<32>(const char* from, Vec<float, 32>& low, Vec<float, 32>& high) {
  low = (Vec<float, 32>)_mm256_cvtph_ps((__m128i)load<uint16_t, 16>(from));
  high = (Vec<float, 32>)_mm256_cvtph_ps((__m128i)load<uint16_t, 16>(from + 16));
}
#endif
#else
constexpr bool kHasHalfConversion = false;
#endif

}  // namespace
}  // namespace tutti::TUTTI_REDUCE_TARGET
