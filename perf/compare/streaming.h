// SPDX-License-Identifier: Apache-2.0
//
// Copy and sum loops with ordinary or non-temporal stores, for the floors. Leaf header: the only one with vector types.
//
// A non-temporal store does not read the line it replaces, which saves a third of the traffic of a copy that misses the
// caches, and costs when the line would have been in a cache. Callers order such stores before a flag with
// stores_done().
#ifndef TUTTI_PERF_COMPARE_STREAMING_H_
#define TUTTI_PERF_COMPARE_STREAMING_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace tutti::compare {

enum class Store { Ordinary, NonTemporal };

#if defined(__AVX512F__)
struct Vec {
  __m512 v;
  static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void stream(float* p) const { _mm512_stream_ps(p, v); }
  Vec operator+(Vec o) const { return {_mm512_add_ps(v, o.v)}; }
};
#elif defined(__AVX__)
struct Vec {
  __m256 v;
  static Vec load(const float* p) { return {_mm256_loadu_ps(p)}; }
  void store(float* p) const { _mm256_storeu_ps(p, v); }
  void stream(float* p) const { _mm256_stream_ps(p, v); }
  Vec operator+(Vec o) const { return {_mm256_add_ps(v, o.v)}; }
};
#elif defined(__x86_64__)
struct Vec {
  __m128 v;
  static Vec load(const float* p) { return {_mm_loadu_ps(p)}; }
  void store(float* p) const { _mm_storeu_ps(p, v); }
  void stream(float* p) const { _mm_stream_ps(p, v); }
  Vec operator+(Vec o) const { return {_mm_add_ps(v, o.v)}; }
};
#else
struct Vec {  // no portable non-temporal store: both kinds are the same here
  float v;
  static Vec load(const float* p) { return {*p}; }
  void store(float* p) const { *p = v; }
  void stream(float* p) const { *p = v; }
  Vec operator+(Vec o) const { return {v + o.v}; }
};
#endif
inline constexpr size_t kLanes = sizeof(Vec) / sizeof(float);

inline void stores_done() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

template <Store kind>
inline void put(float* p, Vec value) {
  if constexpr (kind == Store::NonTemporal)
    value.stream(p);
  else
    value.store(p);
}

inline bool vector_aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % sizeof(Vec) == 0; }

// out[i] = in[i]
template <Store kind>
void copy(float* out, const float* in, size_t count) {
  if (kind == Store::Ordinary || !vector_aligned(out)) {
    std::memcpy(out, in, count * sizeof(float));
    return;
  }
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) put<kind>(out + i, Vec::load(in + i));
  for (; i < count; ++i) out[i] = in[i];
}

// first[i] = second[i] = a[i] + b[i], each output with its own kind of store.
template <Store kind_first, Store kind_second>
void add_to_both(float* first, float* second, const float* a, const float* b, size_t count) {
  size_t i = 0;
  if (vector_aligned(first) && vector_aligned(second))
    for (; i + kLanes <= count; i += kLanes) {
      const Vec sum = Vec::load(a + i) + Vec::load(b + i);
      put<kind_first>(first + i, sum);
      put<kind_second>(second + i, sum);
    }
  for (; i < count; ++i) first[i] = second[i] = a[i] + b[i];
}

}  // namespace tutti::compare
#endif  // TUTTI_PERF_COMPARE_STREAMING_H_
