// SPDX-License-Identifier: Apache-2.0
// Form<T, op, B>: what B bytes of elements T are while operator `op` combines them.
//
//   elements                          form                                   combined as
//   integers, float32, float64       as stored                               themselves
//   small floats, Sum and Prod       Wide: 2 or 4 vectors of float32         float32, narrowed once at the end
//   small floats, Max and Min        integer keys in the order of the values signed integers
//
// Each form has load (from memory), unpack (of a partly filled vector), combine, pack, and for Sum multiply and divide.
// Included by kernels.h only; same rules as vector.h.
#pragma once

#include "exec/cpu/reduce/reduce.h"
#include "exec/cpu/reduce/vector.h"

namespace tutti::TUTTI_REDUCE_TARGET {
namespace {

// Tags of the formats that C++ has no type for: 1 sign, kExponent and kMantissa bits.
template <class StorageT, class SignedT, int kExponentBits, int kMantissaBits, bool kHasInfinity, bool kSaturating>
struct SmallFloat {
  using Storage = StorageT;
  using Signed = SignedT;
  static constexpr int kExponent = kExponentBits;
  static constexpr int kMantissa = kMantissaBits;
  static constexpr bool kInfinity = kHasInfinity;  // otherwise the code of all ones is NaN and there is no infinity
  static constexpr bool kSaturate = kSaturating;
  static constexpr int kParts = 4 / sizeof(Storage);  // float32 vectors per vector of these
  static constexpr int kBits = 8 * sizeof(Storage);
  static constexpr int32_t kBias = (1 << (kExponent - 1)) - 1;
  // Codes without the sign: the largest finite value and the one above it (infinity, or the NaN of e4m3).
  static constexpr int32_t kTop = kInfinity ? ((1 << kExponent) - 1) << kMantissa : (1 << (kBits - 1)) - 1;
  static constexpr int32_t kNan = kInfinity ? kTop | 1 << (kMantissa - 1) : kTop;
};
using Float16 = SmallFloat<uint16_t, int16_t, 5, 10, true, false>;
using Bfloat16 = SmallFloat<uint16_t, int16_t, 8, 7, true, false>;
using Float8E4m3 = SmallFloat<uint8_t, int8_t, 4, 3, false, true>;
using Float8E5m2 = SmallFloat<uint8_t, int8_t, 5, 2, true, true>;

// Unsigned twins, in which sums and products wrap; signed ones, in which keys compare.
template <class T>
struct Twin {
  using Unsigned = T;
};
template <>
struct Twin<int8_t> {
  using Unsigned = uint8_t;
};
template <>
struct Twin<int32_t> {
  using Unsigned = uint32_t;
};
template <>
struct Twin<int64_t> {
  using Unsigned = uint64_t;
};
template <class T>
constexpr bool kFloating = false;
template <>
constexpr bool kFloating<float> = true;
template <>
constexpr bool kFloating<double> = true;

template <class T, int B>
TUTTI_INLINE Vec<T, B> add(Vec<T, B> a, Vec<T, B> b) {
  using U = typename Twin<T>::Unsigned;
  return as<T>(as<U>(a) + as<U>(b));
}
template <class T, int B>
TUTTI_INLINE Vec<T, B> multiply(Vec<T, B> a, Vec<T, B> b) {
  using U = typename Twin<T>::Unsigned;
  return as<T>(as<U>(a) * as<U>(b));
}
template <class T, int B, bool kMax>
TUTTI_INLINE Vec<T, B> select(Vec<T, B> a, Vec<T, B> b) {
  if constexpr (kFloating<T>) {
    Vec<T, B> chosen = kMax ? (a < b ? b : a) : (b < a ? b : a);  // a where either is NaN
    // Equal values differ at most in the sign of zero: +0 is the larger.
    const Vec<T, B> equal = as<T>(kMax ? as<int8_t>(a) & as<int8_t>(b) : as<int8_t>(a) | as<int8_t>(b));
    chosen = a == b ? equal : chosen;
    return b == b ? chosen : b;
  } else {
    return kMax ? (a < b ? b : a) : (b < a ? b : a);
  }
}

template <class T, ReduceOp op, int B>
TUTTI_INLINE Vec<T, B> combine_lanes(Vec<T, B> a, Vec<T, B> b) {
  if constexpr (op == ReduceOp::Sum) {
    return add<T, B>(a, b);
  } else if constexpr (op == ReduceOp::Prod) {
    return multiply<T, B>(a, b);
  } else {
    return select<T, B, op == ReduceOp::Max>(a, b);
  }
}

// Truncates toward zero. No instruction set divides integers lane by lane; up to 32 bits the truncated quotient of
// doubles is exact: a quotient that is no integer is at least 1/n away from the next one, and n < 2^32, |x| <= 2^32.
template <class T>
[[gnu::noinline]] void divide_integers(T* lane, int count, const Scale& scale) {
  if constexpr (sizeof(T) == 8) {
    const T divisor = static_cast<T>(scale.integer);
    for (int i = 0; i < count; ++i) lane[i] /= divisor;
  } else {
    const double divisor = scale.real;
    for (int i = 0; i < count; ++i) lane[i] = static_cast<T>(static_cast<double>(lane[i]) / divisor);
  }
}

// Elements as stored.
template <class T, ReduceOp op, int B>
struct Form {
  using Wide = Vec<T, B>;
  static constexpr int kRegisters = 1;

  TUTTI_INLINE static Wide load(const char* from) { return TUTTI_REDUCE_TARGET::load<T, B>(from); }
  TUTTI_INLINE static Wide unpack(Vec<uint64_t, B> raw) { return as<T>(raw); }
  TUTTI_INLINE static Vec<uint64_t, B> pack(Wide v) { return as<uint64_t>(v); }
  TUTTI_INLINE static Wide combine(Wide a, Wide b) { return combine_lanes<T, op, B>(a, b); }

  TUTTI_INLINE static Wide multiply(Wide v, const Scale& scale) {
    const T factor = kFloating<T> ? static_cast<T>(scale.real) : static_cast<T>(scale.integer);
    return TUTTI_REDUCE_TARGET::multiply<T, B>(v, splat<T, B>(factor));
  }
  template <int kVectors>
  TUTTI_INLINE static void divide(Wide (&v)[kVectors], const Scale& scale) {
    if constexpr (kFloating<T>) {
      const Wide divisor = splat<T, B>(static_cast<T>(scale.real));
#pragma GCC unroll 16
      for (int i = 0; i < kVectors; ++i) v[i] = v[i] / divisor;
    } else {
      T lanes[kVectors * B / sizeof(T)];
      __builtin_memcpy(lanes, v, sizeof(lanes));
      divide_integers(lanes, kVectors * B / sizeof(T), scale);
      __builtin_memcpy(v, lanes, sizeof(lanes));
    }
  }
};

// Bits of float32: the exponent field, and the step of its last bit.
constexpr uint32_t kExponentField = 0x7f800000;
constexpr uint32_t kExponentOne = 1u << 23;
constexpr uint32_t kSignBit = 0x80000000;

// For patterns below 2^31 signed comparisons are as good as unsigned ones, and one instruction everywhere. Arithmetic
// on patterns is unsigned: it may wrap (a NaN's exponent does).
template <int B>
TUTTI_INLINE Vec<uint32_t, B> smaller(Vec<uint32_t, B> a, Vec<uint32_t, B> b) {
  return as<int32_t>(a) < as<int32_t>(b) ? a : b;
}
template <int B>
TUTTI_INLINE Vec<uint32_t, B> larger(Vec<uint32_t, B> a, Vec<uint32_t, B> b) {
  return as<int32_t>(a) > as<int32_t>(b) ? a : b;
}

// A lane whose top bits are a small float (the rest zero), as float32.
//
// The exponent is moved into place and rebased by an addition. Where the exponent field is 0 the implicit 1 is wrong:
// there the field is read as 1 and the 1 subtracted, exact and without ever touching a float32 denormal (slow).
template <class T, int B>
TUTTI_INLINE Vec<float, B> widen_lane(Vec<uint32_t, B> lane) {
  if constexpr (T::kExponent == 8) {
    return as<float>(lane);
  } else {
    constexpr uint32_t kRebase = (127 - T::kBias) * kExponentOne;
    constexpr int32_t kSpecial = T::kTop << (23 - T::kMantissa);  // infinity and above; e4m3: its NaN
    const auto magnitude = (lane & ~kSignBit) >> (8 - T::kExponent);
    const auto one = splat<uint32_t, B>(kRebase + kExponentOne);
    const auto subnormal = as<uint32_t>(as<float>(magnitude + one) - as<float>(one));
    auto value = as<int32_t>(magnitude) < static_cast<int32_t>(kExponentOne) ? subnormal : magnitude + kRebase;
    value = as<int32_t>(magnitude) >= kSpecial ? magnitude | kExponentField : value;
    return as<float>(value | (lane & kSignBit));
  }
}

// What to add to a magnitude so that the adder rounds it to kMantissa bits: 2^(e + 23 - mantissa) for an exponent e. e
// stops at the smallest normal exponent, which makes the subnormals.
template <class T>
struct Anchor {
  static constexpr uint32_t kSmallest = (127 - T::kBias + 1) * kExponentOne;
  static constexpr uint32_t kDistance = (23 - T::kMantissa) * kExponentOne;
};
template <class T, int B>
TUTTI_INLINE Vec<uint32_t, B> exponent_of(Vec<uint32_t, B> bits) {
  return larger<B>(bits & kExponentField, splat<uint32_t, B>(Anchor<T>::kSmallest));
}

// float32 to the code of a small float with its sign, in the low bits of each lane; nearest even.
//
// The sum with the anchor has the rounded integer mantissa in its low bits. A mantissa that rounds up to the next power
// of two carries into the exponent by itself.
template <class T, int B>
TUTTI_INLINE Vec<uint32_t, B> narrow_lane(Vec<float, B> value) {
  const auto bits = as<uint32_t>(value);
  if constexpr (T::kExponent == 8) {
    // Truncation after adding just under half, or half where the kept mantissa is odd. A NaN survives it: its low half
    // is 0, because it came from a bfloat16, from an invalid operation, or from a factor (made so by multiply below).
    return (bits + (0x7fffu + ((bits >> 16) & 1u))) >> 16;
  } else {
    // Above this everything is infinity (then: the first power of two beyond), or saturates.
    constexpr uint32_t kLimitCode = T::kSaturate ? T::kTop - 1 : T::kTop;
    constexpr uint32_t kLimit = (kLimitCode << (23 - T::kMantissa)) + (127 - T::kBias) * kExponentOne;
    const auto magnitude = bits & ~kSignBit;
    const auto clamped = smaller<B>(magnitude, splat<uint32_t, B>(kLimit));
    const auto exponent = exponent_of<T, B>(clamped);
    const auto anchor = exponent + Anchor<T>::kDistance;
    const auto sum = as<uint32_t>(as<float>(clamped) + as<float>(anchor));
    const auto code = (sum - anchor) + ((exponent - Anchor<T>::kSmallest) >> (23 - T::kMantissa));
    const auto nan = splat<uint32_t, B>(T::kNan);
    const auto result = as<int32_t>(magnitude) > static_cast<int32_t>(kExponentField) ? nan : code;
    return result | ((bits >> (32 - T::kBits)) & (1u << (T::kBits - 1)));
  }
}

// Small floats as vectors of float32. Which element lies where does not matter as long as unpack and pack agree:
//   with conversion instructions   part i holds consecutive elements (float8: even elements first, then odd ones)
//   otherwise                      part i holds element i of each 32-bit lane: no shuffles at all
template <class T, int B>
struct WideForm {
  struct Wide {
    Vec<float, B> part[T::kParts];
  };
  static constexpr int kRegisters = T::kParts;
  static constexpr bool kConverts = kHasHalfConversion && T::kExponent != 8;

  TUTTI_INLINE static Wide load(const char* from) {
#if defined(__F16C__)
    if constexpr (kConverts && T::kBits == 16) {
      Wide wide;
      load_half<B>(from, wide.part[0], wide.part[1]);
      return wide;
    }
#endif
    return unpack(TUTTI_REDUCE_TARGET::load<uint64_t, B>(from));
  }

  TUTTI_INLINE static Wide unpack(Vec<uint64_t, B> raw) {
    Wide wide;
#if defined(__F16C__)
    if constexpr (kConverts && T::kBits == 16) {
      widen_half(as<uint16_t>(raw), wide.part[0], wide.part[1]);
      return wide;
    } else if constexpr (kConverts) {
      widen_half(half_of<T>(as<uint16_t>(raw) << 8), wide.part[0], wide.part[1]);
      widen_half(half_of<T>(as<uint16_t>(raw) & uint16_t{0xff00}), wide.part[2], wide.part[3]);
      if constexpr (T::kExponent == 4) {
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) wide.part[i] *= 256.0f;  // the difference of the biases, see half_of
      }
      return wide;
    }
#endif
    if constexpr (!kConverts) {
#pragma GCC unroll 4
      for (int i = 0; i < T::kParts; ++i) {
        constexpr uint32_t kTopBits = ~0u << (32 - T::kBits);
        const auto shifted = as<uint32_t>(raw) << (32 - T::kBits * (i + 1));
        wide.part[i] = widen_lane<T, B>(i == 0 ? shifted : shifted & kTopBits);  // the first has nothing below it
      }
    }
    return wide;
  }

  TUTTI_INLINE static Vec<uint64_t, B> pack(const Wide& wide) {
#if defined(__F16C__)
    if constexpr (kConverts && T::kBits == 16) {
      return as<uint64_t>(narrow_half(wide.part[0], wide.part[1]));
    } else if constexpr (kConverts) {
      const auto even = high_byte<T>(narrow_half(half_precise<T>(wide.part[0]), half_precise<T>(wide.part[1])));
      const auto odd = high_byte<T>(narrow_half(half_precise<T>(wide.part[2]), half_precise<T>(wide.part[3])));
      return as<uint64_t>(even >> 8 | (odd & uint16_t{0xff00}));
    }
#endif
    Vec<uint32_t, B> raw = narrow_lane<T, B>(wide.part[0]);
#pragma GCC unroll 4
    for (int i = 1; i < T::kParts; ++i) raw |= narrow_lane<T, B>(wide.part[i]) << (T::kBits * i);
    return as<uint64_t>(raw);
  }

  TUTTI_INLINE static Wide multiply(Wide wide, const Scale& scale) {
    const bool is_nan = scale.real != scale.real;
    const auto factor = splat<float, B>(is_nan ? __builtin_nanf("") : static_cast<float>(scale.real));
#pragma GCC unroll 4
    for (int i = 0; i < T::kParts; ++i) wide.part[i] = wide.part[i] * factor;
    return wide;
  }
  template <int kVectors>
  TUTTI_INLINE static void divide(Wide (&wide)[kVectors], const Scale& scale) {
    const auto divisor = splat<float, B>(static_cast<float>(scale.real));
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 4
      for (int i = 0; i < T::kParts; ++i) wide[v].part[i] = wide[v].part[i] / divisor;
    }
  }

 private:
  // float8 in the high byte of each lane, as float16. e5m2 is the high byte of a float16. e4m3 has one exponent bit
  // less and another bias: moved right by one it is the float16 of 1/256 of its value, and its NaN must become one.
  template <class F>
  TUTTI_INLINE static Vec<uint16_t, B> half_of(Vec<uint16_t, B> high) {
    if constexpr (F::kExponent == 5) {
      return high;
    } else {
      constexpr uint16_t kMagnitude = 0x3f80, kSignAndMagnitude = 0xbf80, kInfinity = 0x7c00;
      const auto half = as<uint16_t>(as<int16_t>(high) >> 1) & kSignAndMagnitude;
      return (half & kMagnitude) == kMagnitude ? half | kInfinity : half;
    }
  }

  // A float32 rounded and clamped to the values of float8 (e4m3: divided by 256), so that float16 holds it exactly.
  // NaN passes.
  template <class F>
  TUTTI_INLINE static Vec<float, B> half_precise(Vec<float, B> value) {
    constexpr float kLimit = F::kExponent == 4 ? 448 : 57344;
    const auto high = splat<float, B>(kLimit), low = splat<float, B>(-kLimit);
    value = high < value ? high : value;
    value = low > value ? low : value;
    const auto sign = as<uint32_t>(value) & kSignBit;
    const auto anchor = as<float>((exponent_of<F, B>(as<uint32_t>(value)) + Anchor<F>::kDistance) | sign);
    const auto difference = as<uint32_t>((value + anchor) - anchor);
    const auto rounded = as<float>(difference | sign);  // what rounds to zero keeps its sign
    if constexpr (F::kExponent == 4) return rounded * 0x1p-8f;
    return rounded;
  }
  // The inverse of half_of.
  template <class F>
  TUTTI_INLINE static Vec<uint16_t, B> high_byte(Vec<uint16_t, B> half) {
    if constexpr (F::kExponent == 5) {
      return half;
    } else {
      constexpr int16_t kInfinity = 0x7c00;
      const auto code = half << 1 | as<uint16_t>(as<int16_t>(half & 0x7fff) > kInfinity);  // NaN: all ones
      return (code & 0x7f00) | (half & 0x8000);
    }
  }
};

template <class T, ReduceOp op, int B>
struct WideCombine : WideForm<T, B> {
  using Wide = typename WideForm<T, B>::Wide;
  TUTTI_INLINE static Wide combine(Wide a, const Wide& b) {
#pragma GCC unroll 4
    for (int i = 0; i < T::kParts; ++i) {
      a.part[i] = combine_lanes<float, op, B>(a.part[i], b.part[i]);
    }
    return a;
  }
};

// Small floats as integers in the same order: negative codes have their magnitude inverted. NaN of either sign becomes
// the extreme key, so that it wins; that key unpacks to a NaN.
template <class T, ReduceOp op, int B>
struct KeyForm {
  using Signed = typename T::Signed;
  using Wide = Vec<Signed, B>;
  static constexpr int kRegisters = 1;
  static constexpr Signed kMagnitude = static_cast<Signed>((1u << (T::kBits - 1)) - 1);

  TUTTI_INLINE static Wide load(const char* from) { return unpack(TUTTI_REDUCE_TARGET::load<uint64_t, B>(from)); }
  TUTTI_INLINE static Wide unpack(Vec<uint64_t, B> raw) {
    const Wide code = as<Signed>(raw);
    constexpr Signed kLastNumber = static_cast<Signed>(T::kInfinity ? T::kTop : T::kTop - 1);
    constexpr Signed kNanKey = op == ReduceOp::Max ? kMagnitude : static_cast<Signed>(-kMagnitude - 1);
    return (code & kMagnitude) > kLastNumber ? splat<Signed, B>(kNanKey) : flip(code);
  }
  TUTTI_INLINE static Vec<uint64_t, B> pack(Wide key) { return as<uint64_t>(flip(key)); }
  TUTTI_INLINE static Wide combine(Wide a, Wide b) { return select<Signed, B, op == ReduceOp::Max>(a, b); }

 private:
  TUTTI_INLINE static Wide flip(Wide v) { return v < 0 ? v ^ kMagnitude : v; }
};

template <class T, ReduceOp op, int B, bool kKeys = op == ReduceOp::Max || op == ReduceOp::Min>
struct SmallForm : WideCombine<T, op, B> {};
template <class T, ReduceOp op, int B>
struct SmallForm<T, op, B, true> : KeyForm<T, op, B> {};

template <ReduceOp op, int B>
struct Form<Float16, op, B> : SmallForm<Float16, op, B> {};
template <ReduceOp op, int B>
struct Form<Bfloat16, op, B> : SmallForm<Bfloat16, op, B> {};
template <ReduceOp op, int B>
struct Form<Float8E4m3, op, B> : SmallForm<Float8E4m3, op, B> {};
template <ReduceOp op, int B>
struct Form<Float8E5m2, op, B> : SmallForm<Float8E5m2, op, B> {};

}  // namespace
}  // namespace tutti::TUTTI_REDUCE_TARGET
