// SPDX-License-Identifier: Apache-2.0
// Reductions, one element at a time: the plainest correct form.
#include "exec/cpu/reduce/reduce.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

namespace tutti {
namespace {

// A small float format: 1 sign, E exponent, M mantissa bits. `Special`: the top exponent means infinity and NaN.
template <int E, int M, bool kIeee, bool kSaturates, class Storage>
struct Small {
  Storage bits;
  static constexpr int kBias = (1 << (E - 1)) - 1;
  static constexpr uint32_t kInf = ((1u << E) - 1) << M;  // e4m3: an ordinary number
  static constexpr uint32_t kNan = kIeee ? kInf | (1u << (M - 1)) : (1u << (E + M)) - 1;
  static constexpr uint32_t kLargest = kIeee ? kInf - 1 : kNan - 1;
  static constexpr uint32_t kSign = 1u << (E + M);

  static float widen(Small s) {
    const uint32_t magnitude = s.bits & (kSign - 1);
    float value;
    if (kIeee ? magnitude > kInf : magnitude == kNan) {
      value = std::numeric_limits<float>::quiet_NaN();
    } else if (kIeee && magnitude == kInf) {
      value = std::numeric_limits<float>::infinity();
    } else {
      const int exponent = static_cast<int>(magnitude >> M);
      const uint32_t mantissa = magnitude & ((1u << M) - 1);
      const uint32_t whole = exponent == 0 ? mantissa : mantissa | (1u << M);
      value = __builtin_ldexpf(static_cast<float>(whole), (exponent == 0 ? 1 : exponent) - kBias - M);
    }
    return (s.bits & kSign) != 0 ? -value : value;
  }
  static Small narrow(float value) {
    const uint32_t sign = std::signbit(value) ? kSign : 0;
    if (value != value) return {static_cast<Storage>(sign | kNan)};
    const double magnitude = __builtin_fabs(static_cast<double>(value));
    int exponent = magnitude == 0 ? 1 - kBias : __builtin_ilogb(magnitude);
    if (magnitude > 1e300) exponent = 1024;
    if (exponent < 1 - kBias) exponent = 1 - kBias;
    uint32_t code = kLargest + 1;
    if (exponent <= kBias + 1) {
      const double whole = __builtin_nearbyint(__builtin_ldexp(magnitude, M - exponent));
      code = static_cast<uint32_t>(whole) + (static_cast<uint32_t>(exponent + kBias - 1) << M);
    }
    if (code > kLargest) code = kSaturates ? kLargest : kInf;
    return {static_cast<Storage>(sign | code)};
  }
};
using F16 = Small<5, 10, true, false, uint16_t>;
using Bf16 = Small<8, 7, true, false, uint16_t>;
using E4m3 = Small<4, 3, false, true, uint8_t>;
using E5m2 = Small<5, 2, true, true, uint8_t>;

template <class T>
constexpr bool kIsSmall = !std::is_arithmetic_v<T>;
template <class T, bool = kIsSmall<T>>
struct Accumulator {
  using Type = T;
};
template <class T>
struct Accumulator<T, true> {
  using Type = float;
};

template <class T>
auto load(const void* base, size_t i) {
  T value;
  std::memcpy(&value, static_cast<const char*>(base) + i * sizeof(T), sizeof(T));
  if constexpr (kIsSmall<T>) {
    return T::widen(value);
  } else {
    return value;
  }
}

template <ReduceOp op, class A>
A combine(A a, A b) {
  using U = std::conditional_t<std::is_integral_v<A>, uint64_t, A>;
  if constexpr (op == ReduceOp::Sum) {
    return static_cast<A>(static_cast<U>(a) + static_cast<U>(b));
  } else if constexpr (op == ReduceOp::Prod) {
    return static_cast<A>(static_cast<U>(a) * static_cast<U>(b));
  } else {
    if (a != a) return a;
    if (b != b) return b;
    if constexpr (std::is_floating_point_v<A>) {
      if (a == b) return std::signbit(a) == (op == ReduceOp::Max) ? b : a;
    }
    return (op == ReduceOp::Max) == (a < b) ? b : a;
  }
}

template <class T, ReduceOp op>
void reduce(const Reduction& r) {
  using A = typename Accumulator<T>::Type;
  for (size_t i = 0; i < r.count; ++i) {
    A total{};
    for (int s = 0; s < r.source_count; ++s) {
      A value = load<T>(r.sources[s], i);
      if (op == ReduceOp::Sum && s == r.scaled_source && r.pre.kind == Scale::Kind::Multiply) {
        if constexpr (std::is_integral_v<A>) {
          value = static_cast<A>(static_cast<uint64_t>(value) * r.pre.integer);
        } else {
          value = value * static_cast<A>(r.pre.real);
        }
      }
      total = s == 0 ? value : combine<op>(total, value);
    }
    if (op == ReduceOp::Sum && r.post.kind == Scale::Kind::Divide) {
      if constexpr (std::is_integral_v<A>) {
        total = static_cast<A>(std::is_signed_v<A> ? static_cast<uint64_t>(static_cast<int64_t>(total) /
                                                                           static_cast<int64_t>(r.post.integer))
                                                   : static_cast<uint64_t>(total) / r.post.integer);
      } else {
        total = total / static_cast<A>(r.post.real);
      }
    }
    T result;
    if constexpr (kIsSmall<T>) {
      result = T::narrow(total);
      if (op >= ReduceOp::Max && T::kInf <= T::kLargest + 1 && std::isinf(total)) {
        result.bits =
            static_cast<decltype(result.bits)>(T::kInf | (total < 0 ? T::kSign : 0));  // selected, not rounded
      }
    } else {
      result = total;
    }
    for (int d = 0; d < r.destination_count; ++d) {
      std::memcpy(static_cast<char*>(r.destinations[d]) + i * sizeof(T), &result, sizeof(T));
    }
  }
}

#define ROW(T) \
  { &reduce<T, ReduceOp::Sum>, &reduce<T, ReduceOp::Prod>, &reduce<T, ReduceOp::Max>, &reduce<T, ReduceOp::Min> }
constexpr ReduceFn kFunctions[kDataTypes][kReduceOps] = {
    ROW(int8_t), ROW(uint8_t), ROW(int32_t), ROW(uint32_t), ROW(int64_t), ROW(uint64_t),
    ROW(F16),    ROW(float),   ROW(double),  ROW(Bf16),     ROW(E4m3),    ROW(E5m2),
};
#undef ROW

}  // namespace

ReduceFn reduce_function(DataType type, ReduceOp op) {
  return kFunctions[static_cast<int>(type)][static_cast<int>(op)];
}

void copy_bytes(void* const* destinations, int n, uint32_t, const void* source, size_t bytes) {
  for (int i = 0; i < n; ++i) {
    if (destinations[i] != source && bytes != 0) std::memcpy(destinations[i], source, bytes);
  }
}

}  // namespace tutti
