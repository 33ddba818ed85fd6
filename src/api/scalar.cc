// SPDX-License-Identifier: Apache-2.0
#include "api/scalar.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace tutti {
namespace {

template <class T>
T load(const void* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// A binary format of 1 sign bit, `exponent` bits and `mantissa` bits with IEEE's bias. e4m3 has no infinities: only the
// all-ones pattern is special, and it is NaN.
double small_float(uint32_t bits, int exponent, int mantissa, bool infinities) {
  const uint32_t fraction = bits & ((1u << mantissa) - 1);
  const int raw = static_cast<int>(bits >> mantissa) & ((1 << exponent) - 1);
  const int top = (1 << exponent) - 1, bias = top >> 1;
  const double sign = bits >> (exponent + mantissa) & 1 ? -1 : 1;
  if (raw == top && infinities)
    return fraction == 0 ? sign * std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  if (raw == top && fraction == (1u << mantissa) - 1) return std::numeric_limits<double>::quiet_NaN();
  if (raw == 0) return sign * std::ldexp(fraction, 1 - bias - mantissa);
  return sign * std::ldexp(fraction + (1u << mantissa), raw - bias - mantissa);
}

}  // namespace

Scale read_scale(DataType type, const void* scalar) {
  switch (type) {
    case DataType::Int8:
      return Scale::multiply_integer(static_cast<uint64_t>(static_cast<int64_t>(load<int8_t>(scalar))));
    case DataType::Uint8:
      return Scale::multiply_integer(load<uint8_t>(scalar));
    case DataType::Int32:
      return Scale::multiply_integer(static_cast<uint64_t>(static_cast<int64_t>(load<int32_t>(scalar))));
    case DataType::Uint32:
      return Scale::multiply_integer(load<uint32_t>(scalar));
    case DataType::Int64:
    case DataType::Uint64:
      return Scale::multiply_integer(load<uint64_t>(scalar));
    case DataType::Float16:
      return Scale::multiply(small_float(load<uint16_t>(scalar), 5, 10, true));
    case DataType::Bfloat16:
      return Scale::multiply(small_float(load<uint16_t>(scalar), 8, 7, true));
    case DataType::Float32:
      return Scale::multiply(load<float>(scalar));
    case DataType::Float64:
      return Scale::multiply(load<double>(scalar));
    case DataType::Float8E4m3:
      return Scale::multiply(small_float(load<uint8_t>(scalar), 4, 3, false));
    case DataType::Float8E5m2:
      return Scale::multiply(small_float(load<uint8_t>(scalar), 5, 2, true));
  }
  return {};
}

}  // namespace tutti
