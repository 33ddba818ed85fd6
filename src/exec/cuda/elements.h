// SPDX-License-Identifier: Apache-2.0
// Element<T, op>: one element as operator `op` combines it in a kernel. The same bits as exec/cpu/reduce, which says
// what the operators do; the formulas for small floats are those of exec/cpu/reduce/forms.h on one lane.
//
//   elements                          Wide                                   combined as
//   integers, float32, float64       as stored                               themselves
//   small floats, Sum and Prod       float32                                 float32, narrowed once at the end
//   small floats, Max and Min        integer keys in the order of the values signed integers
//
// Compile without contraction (-fmad=false) and without flushing denormals.
#pragma once

#include <cstdint>
#include <type_traits>

#include "algo/element.h"
#include "base/host_device.h"

namespace tutti::cuda {

template <class To, class From>
TUTTI_HD inline To same_bits(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof(To));
  return to;
}

// Formats that C++ has no type for: 1 sign, kExponent and kMantissa bits.
template <class Code, int kExponentBits, int kMantissaBits, bool kHasInfinity, bool kSaturates>
struct SmallFloat {
  Code code;

  static constexpr int kExponent = kExponentBits, kMantissa = kMantissaBits, kBits = 8 * sizeof(Code);
  static constexpr bool kInfinity = kHasInfinity;  // otherwise all ones are NaN and there is no infinity
  static constexpr bool kSaturate = kSaturates;
  static constexpr int32_t kBias = (1 << (kExponent - 1)) - 1;
  static constexpr int32_t kMagnitude = (1 << (kBits - 1)) - 1;
  // Codes without the sign: the one above the largest finite value (infinity, or the NaN of e4m3), and a NaN.
  static constexpr int32_t kTop = kInfinity ? ((1 << kExponent) - 1) << kMantissa : kMagnitude;
  static constexpr int32_t kNan = kInfinity ? kTop | 1 << (kMantissa - 1) : kTop;
};
using Float16 = SmallFloat<uint16_t, 5, 10, true, false>;
using Bfloat16 = SmallFloat<uint16_t, 8, 7, true, false>;
using Float8E4m3 = SmallFloat<uint8_t, 4, 3, false, true>;
using Float8E5m2 = SmallFloat<uint8_t, 5, 2, true, true>;

template <class T>
inline constexpr bool kSmall = !std::is_arithmetic_v<T>;

inline constexpr uint32_t kExponentField = 0x7f800000, kExponentOne = 1u << 23, kSignBit = 0x80000000;

template <class T>
TUTTI_HD inline float widen(T element) {
  const uint32_t lane = static_cast<uint32_t>(element.code) << (32 - T::kBits);
  if constexpr (T::kExponent == 8) return same_bits<float>(lane);
#if defined(__CUDA_ARCH__)
  if constexpr (T::kExponent == 5 && T::kBits == 16) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(element.code));
    return value;
  }
#endif
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  if constexpr (T::kBits == 8) {  // two at a time; the upper one is not used
    uint32_t halves;
    const uint16_t code = element.code;
    if constexpr (T::kExponent == 4) asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(code));
    if constexpr (T::kExponent == 5) asm("cvt.rn.f16x2.e5m2x2 %0, %1;" : "=r"(halves) : "h"(code));
    return widen(Float16{static_cast<uint16_t>(halves)});
  }
#endif
  // The exponent is moved into place and rebased. Where its field is 0 the implicit 1 is wrong: there the field is read
  // as 1 and the 1 subtracted, which is exact.
  constexpr uint32_t kRebase = (127 - T::kBias) * kExponentOne;
  constexpr uint32_t kSpecial = static_cast<uint32_t>(T::kTop) << (23 - T::kMantissa);
  const uint32_t magnitude = (lane & ~kSignBit) >> (8 - T::kExponent);
  constexpr uint32_t kOne = kRebase + kExponentOne;
  uint32_t value = magnitude + kRebase;
  if (magnitude < kExponentOne)
    value = same_bits<uint32_t>(same_bits<float>(magnitude + kOne) - same_bits<float>(kOne));
  if (magnitude >= kSpecial) value = magnitude | kExponentField;
  return same_bits<float>(value | (lane & kSignBit));
}

// To nearest even.
template <class T>
TUTTI_HD inline T narrow(float wide) {
  using Code = decltype(T::code);
#if defined(__CUDA_ARCH__)
  if constexpr (T::kExponent == 5 && T::kBits == 16) {
    uint16_t code;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(code) : "f"(wide));
    return {code};
  }
  if constexpr (T::kExponent == 8) {
    uint16_t code;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(code) : "f"(wide));
    return {code};
  }
#endif
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
  if constexpr (T::kBits == 8) {  // infinities saturate too
    uint16_t codes;
    if constexpr (T::kExponent == 4)
      asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(0.0f), "f"(wide));
    if constexpr (T::kExponent == 5)
      asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(0.0f), "f"(wide));
    return {static_cast<uint8_t>(codes)};
  }
#endif
  const uint32_t bits = same_bits<uint32_t>(wide);
  const uint32_t magnitude = bits & ~kSignBit;
  const uint32_t sign = (bits >> (32 - T::kBits)) & (1u << (T::kBits - 1));
  if (magnitude > kExponentField) return {static_cast<Code>(sign | T::kNan)};
  if constexpr (T::kExponent == 8) {
    return {static_cast<Code>((bits + (0x7fffu + ((bits >> 16) & 1u))) >> 16)};
  } else {
    // The sum with an anchor, a power of two far enough above, has the rounded integer mantissa in its low bits. The
    // anchor's exponent stops where subnormals begin; a mantissa that rounds up carries into the exponent by itself.
    constexpr uint32_t kLimitCode = T::kSaturate ? T::kTop - 1 : T::kTop;
    constexpr uint32_t kLimit = (kLimitCode << (23 - T::kMantissa)) + (127 - T::kBias) * kExponentOne;
    constexpr uint32_t kSmallest = (127 - T::kBias + 1) * kExponentOne;
    constexpr uint32_t kDistance = (23 - T::kMantissa) * kExponentOne;
    const uint32_t clamped = magnitude < kLimit ? magnitude : kLimit;
    const uint32_t field = clamped & kExponentField;
    const uint32_t exponent = field > kSmallest ? field : kSmallest;
    const uint32_t anchor = exponent + kDistance;
    const uint32_t sum = same_bits<uint32_t>(same_bits<float>(clamped) + same_bits<float>(anchor));
    return {static_cast<Code>(sign | ((sum - anchor) + ((exponent - kSmallest) >> (23 - T::kMantissa))))};
  }
}

// The larger or smaller; NaN if one is; +0 is above -0.
template <class F, bool kMax>
TUTTI_HD inline F select_floating(F a, F b) {
  using Bits = std::conditional_t<sizeof(F) == 4, uint32_t, uint64_t>;
  if (b != b) return b;
  if (a == b) {
    const Bits x = same_bits<Bits>(a), y = same_bits<Bits>(b);
    return same_bits<F>(static_cast<Bits>(kMax ? x & y : x | y));
  }
  return kMax ? (a < b ? b : a) : (b < a ? b : a);
}

// Sum and Prod of what has arithmetic. Integers wrap.
template <class W, ReduceOp op>
TUTTI_HD inline W combine_arithmetic(W a, W b) {
  if constexpr (std::is_floating_point_v<W>) {
    return op == ReduceOp::Sum ? a + b : a * b;
  } else {
    using U = std::conditional_t<sizeof(W) == 8, uint64_t, uint32_t>;
    const U x = static_cast<U>(a), y = static_cast<U>(b);
    return static_cast<W>(op == ReduceOp::Sum ? x + y : x * y);
  }
}

template <class T, ReduceOp op>
struct Element {
  static constexpr bool kSelects = op == ReduceOp::Max || op == ReduceOp::Min;
  static constexpr bool kKeys = kSmall<T> && kSelects;
  static constexpr bool kWidens = kSmall<T> && !kSelects;
  using Wide =
      typename std::conditional_t<kKeys, std::type_identity<int32_t>,
                                  std::conditional_t<kWidens, std::type_identity<float>, std::type_identity<T>>>::type;

  TUTTI_HD static Wide load(T element) {
    if constexpr (kKeys) {
      // Negative codes have their magnitude inverted. NaN of either sign becomes the extreme key, so that it wins.
      constexpr int32_t kLastNumber = T::kInfinity ? T::kTop : T::kTop - 1;
      const int32_t code = static_cast<std::make_signed_t<decltype(T::code)>>(element.code);
      if ((code & T::kMagnitude) > kLastNumber) return op == ReduceOp::Max ? T::kMagnitude : -T::kMagnitude - 1;
      return flip(code);
    } else if constexpr (kWidens) {
      return widen(element);
    } else {
      return element;
    }
  }
  TUTTI_HD static T store(Wide wide) {
    if constexpr (kKeys) {
      return {static_cast<decltype(T::code)>(flip(wide))};
    } else if constexpr (kWidens) {
      return narrow<T>(wide);
    } else {
      return wide;
    }
  }
  TUTTI_HD static Wide combine(Wide a, Wide b) {
    if constexpr (!kSelects) {
      return combine_arithmetic<Wide, op>(a, b);
    } else if constexpr (std::is_floating_point_v<Wide>) {
      return select_floating<Wide, op == ReduceOp::Max>(a, b);
    } else {
      return op == ReduceOp::Max ? (a < b ? b : a) : (b < a ? b : a);
    }
  }
  // Sum only.
  TUTTI_HD static Wide multiply(Wide value, const Scale& scale) {
    if constexpr (std::is_floating_point_v<Wide>) {
      return value * static_cast<Wide>(scale.real);
    } else {
      return combine_arithmetic<Wide, ReduceOp::Prod>(value, static_cast<Wide>(scale.integer));
    }
  }
  // Integers toward zero.
  TUTTI_HD static Wide divide(Wide value, const Scale& scale) {
    if constexpr (std::is_floating_point_v<Wide>) {
      return value / static_cast<Wide>(scale.real);
    } else if constexpr (std::is_signed_v<Wide>) {
      return static_cast<Wide>(static_cast<int64_t>(value) / static_cast<int64_t>(scale.integer));
    } else {
      return static_cast<Wide>(static_cast<uint64_t>(value) / scale.integer);
    }
  }
  // A factor as stored in memory.
  TUTTI_HD static Scale factor(T stored) {
    Scale scale;
    scale.kind = Scale::Kind::Multiply;
    if constexpr (kSmall<T>) {
      scale.real = widen(stored);
    } else if constexpr (std::is_floating_point_v<T>) {
      scale.real = stored;
    } else {
      scale.integer = static_cast<uint64_t>(stored);
    }
    return scale;
  }

 private:
  TUTTI_HD static int32_t flip(int32_t code) { return code < 0 ? code ^ T::kMagnitude : code; }
};

// Calls call.template operator()<T>() with the C++ type of what is stored.
template <class Call>
TUTTI_HD inline void with_type(DataType type, const Call& call) {
  switch (type) {
    case DataType::Int8:
      return call.template operator()<int8_t>();
    case DataType::Uint8:
      return call.template operator()<uint8_t>();
    case DataType::Int32:
      return call.template operator()<int32_t>();
    case DataType::Uint32:
      return call.template operator()<uint32_t>();
    case DataType::Int64:
      return call.template operator()<int64_t>();
    case DataType::Uint64:
      return call.template operator()<uint64_t>();
    case DataType::Float16:
      return call.template operator()<Float16>();
    case DataType::Float32:
      return call.template operator()<float>();
    case DataType::Float64:
      return call.template operator()<double>();
    case DataType::Bfloat16:
      return call.template operator()<Bfloat16>();
    case DataType::Float8E4m3:
      return call.template operator()<Float8E4m3>();
    case DataType::Float8E5m2:
      return call.template operator()<Float8E5m2>();
  }
}
// The same, of <T, op>().
template <class Call>
TUTTI_HD inline void with_element(DataType type, ReduceOp op, const Call& call) {
  with_type(type, [&]<class T>() {
    switch (op) {
      case ReduceOp::Sum:
        return call.template operator()<T, ReduceOp::Sum>();
      case ReduceOp::Prod:
        return call.template operator()<T, ReduceOp::Prod>();
      case ReduceOp::Max:
        return call.template operator()<T, ReduceOp::Max>();
      case ReduceOp::Min:
        return call.template operator()<T, ReduceOp::Min>();
    }
  });
}

}  // namespace tutti::cuda
