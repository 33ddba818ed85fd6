// SPDX-License-Identifier: Apache-2.0
// Element types and operators: what a buffer holds and how two elements become one.
//
// Values equal the public enums' (src/api asserts it), so an argument check is the whole conversion. Average is Sum
// with a division afterwards, a pre-multiplied sum is Sum with a multiplication before: neither is an operator here
// (Scale, below).
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/host_device.h"

namespace tutti {

enum class DataType : uint8_t {
  Int8 = 0,
  Uint8 = 1,
  Int32 = 2,
  Uint32 = 3,
  Int64 = 4,
  Uint64 = 5,
  Float16 = 6,
  Float32 = 7,
  Float64 = 8,
  Bfloat16 = 9,
  Float8E4m3 = 10,  // OCP e4m3fn: no infinity, one NaN per sign, largest 448
  Float8E5m2 = 11,  // OCP e5m2: IEEE-like with infinities, largest finite 57344
};
inline constexpr int kDataTypes = 12;

enum class ReduceOp : uint8_t { Sum = 0, Prod = 1, Max = 2, Min = 3 };
inline constexpr int kReduceOps = 4;

struct DataTypeInfo {
  const char* name;
  uint8_t bytes;
  bool floating;
};
inline constexpr DataTypeInfo kDataTypeInfo[kDataTypes] = {
    {"int8", 1, false},   {"uint8", 1, false},   {"int32", 4, false},      {"uint32", 4, false},
    {"int64", 8, false},  {"uint64", 8, false},  {"float16", 2, true},     {"float32", 4, true},
    {"float64", 8, true}, {"bfloat16", 2, true}, {"float8_e4m3", 1, true}, {"float8_e5m2", 1, true},
};
inline constexpr const char* kReduceOpNames[kReduceOps] = {"sum", "prod", "max", "min"};

TUTTI_HD constexpr size_t element_size(DataType type) {
  switch (type) {
    case DataType::Int8:
    case DataType::Uint8:
    case DataType::Float8E4m3:
    case DataType::Float8E5m2:
      return 1;
    case DataType::Float16:
    case DataType::Bfloat16:
      return 2;
    case DataType::Int32:
    case DataType::Uint32:
    case DataType::Float32:
      return 4;
    case DataType::Int64:
    case DataType::Uint64:
    case DataType::Float64:
      return 8;
  }
  return 0;
}
constexpr const char* type_name(DataType type) { return kDataTypeInfo[static_cast<int>(type)].name; }
constexpr const char* op_name(ReduceOp op) { return kReduceOpNames[static_cast<int>(op)]; }

// A factor on the way in or out; only Sum has one. `real` serves the floating types (float16, bfloat16, float8 and
// float32 take it as a float), `integer` the integer types, as the bits of the number modulo 2^64.
struct Scale {
  enum class Kind : uint8_t { None, Multiply, Divide };

  Kind kind = Kind::None;
  double real = 1;
  uint64_t integer = 1;

  TUTTI_HD static constexpr Scale multiply(double factor) { return {Kind::Multiply, factor, 1}; }
  TUTTI_HD static constexpr Scale multiply_integer(uint64_t factor) { return {Kind::Multiply, 1, factor}; }
  // For averages over n >= 1. Integers truncate toward zero; floating types divide (not: multiply by a reciprocal),
  // before the only rounding.
  TUTTI_HD static constexpr Scale divide(uint32_t n) {
    return {n == 1 ? Kind::None : Kind::Divide, static_cast<double>(n), n};
  }
};

}  // namespace tutti
