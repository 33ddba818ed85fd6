// SPDX-License-Identifier: Apache-2.0
// Reductions one element at a time: the definition that the vectorised ones are compared with.
//
// Small floats are decoded with ldexp and encoded with ilogb and nearbyint in double, by their definition, sharing no
// method with the code under test.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "exec/cpu/reduce/reduce.h"

namespace tutti::reference {

// 1 sign, E exponent and M mantissa bits. kIeee: the top exponent is infinity and NaN; otherwise all ones are NaN.
template <int E, int M, bool kIeee, bool kSaturates, class Storage>
struct Small {
  Storage bits;
  static constexpr int kBias = (1 << (E - 1)) - 1;
  static constexpr uint32_t kInfinity = ((1u << E) - 1) << M;
  static constexpr uint32_t kNan = kIeee ? kInfinity | (1u << (M - 1)) : (1u << (E + M)) - 1;
  static constexpr uint32_t kLargest = kIeee ? kInfinity - 1 : kNan - 1;
  static constexpr uint32_t kSign = 1u << (E + M);

  float value() const {
    const uint32_t magnitude = bits & (kSign - 1);
    float value = 0;
    if (kIeee ? magnitude > kInfinity : magnitude == kNan) {
      value = std::numeric_limits<float>::quiet_NaN();
    } else if (kIeee && magnitude == kInfinity) {
      value = std::numeric_limits<float>::infinity();
    } else {
      const int exponent = static_cast<int>(magnitude >> M);
      const uint32_t mantissa = magnitude & ((1u << M) - 1);
      const uint32_t whole = exponent == 0 ? mantissa : mantissa | (1u << M);
      value = std::ldexp(static_cast<float>(whole), (exponent == 0 ? 1 : exponent) - kBias - M);
    }
    return (bits & kSign) != 0 ? -value : value;
  }
  static Small round(float value) {
    const uint32_t sign = std::signbit(value) ? kSign : 0;
    if (std::isnan(value)) return {static_cast<Storage>(sign | kNan)};
    constexpr uint32_t kOverflow = kSaturates ? kLargest : kInfinity;
    if (std::isinf(value)) return {static_cast<Storage>(sign | kOverflow)};
    const double magnitude = std::fabs(static_cast<double>(value));
    int exponent = magnitude == 0 ? 1 - kBias : std::ilogb(magnitude);
    if (exponent < 1 - kBias) exponent = 1 - kBias;
    if (exponent > kBias + 1) return {static_cast<Storage>(sign | kOverflow)};
    const double whole = std::nearbyint(std::ldexp(magnitude, M - exponent));
    const uint32_t code = static_cast<uint32_t>(whole) + (static_cast<uint32_t>(exponent + kBias - 1) << M);
    return {static_cast<Storage>(sign | (code > kLargest ? kOverflow : code))};
  }
};
using Float16 = Small<5, 10, true, false, uint16_t>;
using Bfloat16 = Small<8, 7, true, false, uint16_t>;
using Float8E4m3 = Small<4, 3, false, true, uint8_t>;
using Float8E5m2 = Small<5, 2, true, true, uint8_t>;

template <class T>
inline constexpr bool kIsSmall = !std::is_arithmetic_v<T>;

template <class T>
auto value_of(T element) {
  if constexpr (kIsSmall<T>) {
    return element.value();
  } else {
    return element;
  }
}

template <class A>
A combine(ReduceOp op, A a, A b) {
  using U = std::conditional_t<std::is_integral_v<A>, uint64_t, A>;
  if (op == ReduceOp::Sum) return static_cast<A>(static_cast<U>(a) + static_cast<U>(b));
  return static_cast<A>(static_cast<U>(a) * static_cast<U>(b));
}

// Whether b, not a, is the one to keep.
template <class T>
bool prefer(ReduceOp op, T first, T second) {
  const auto a = value_of(first);
  const auto b = value_of(second);
  if (a != a) return false;
  if (b != b) return true;
  if constexpr (std::is_floating_point_v<decltype(a + b)>) {
    if (a == b) return std::signbit(op == ReduceOp::Max ? a : b) && !std::signbit(op == ReduceOp::Max ? b : a);
  }
  return op == ReduceOp::Max ? a < b : b < a;
}

template <class T>
T element(const std::vector<const T*>& sources, size_t i, ReduceOp op, int scaled_source, Scale pre, Scale post) {
  using A = decltype(value_of(T{}));
  if (op == ReduceOp::Max || op == ReduceOp::Min) {
    T kept = sources[0][i];
    for (const T* source : sources) {
      if (prefer(op, kept, source[i])) kept = source[i];
    }
    return kept;
  }
  A total{};
  for (size_t s = 0; s < sources.size(); ++s) {
    A value = value_of(sources[s][i]);
    if (static_cast<int>(s) == scaled_source && pre.kind == Scale::Kind::Multiply) {
      if constexpr (std::is_integral_v<A>) {
        value = static_cast<A>(static_cast<uint64_t>(value) * pre.integer);
      } else {
        value = value * static_cast<A>(pre.real);
      }
    }
    total = s == 0 ? value : combine(op, total, value);
  }
  if (post.kind == Scale::Kind::Divide) {
    if constexpr (!std::is_integral_v<A>) {
      total = total / static_cast<A>(post.real);
    } else if constexpr (std::is_signed_v<A>) {
      total = static_cast<A>(static_cast<int64_t>(total) / static_cast<int64_t>(post.integer));
    } else {
      total = static_cast<A>(total / post.integer);
    }
  }
  if constexpr (kIsSmall<T>) {
    return T::round(total);
  } else {
    return total;
  }
}

// The same bits, or both NaN.
template <class T>
bool same(T a, T b) {
  if (value_of(a) != value_of(a)) return value_of(b) != value_of(b);
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

}  // namespace tutti::reference
