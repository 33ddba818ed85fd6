// SPDX-License-Identifier: Apache-2.0
// The tables of types and operators, and the conversion of exactly representable values.
#include "perf/types.h"

#include <cmath>
#include <cstring>

namespace tutti::perf {
namespace {

constexpr int kPlenty = 1 << 20;

//                                                                    bytes signed exp mant  exact power_of_two
constexpr TypeInfo kTypes[] = {
    {"int8", "char", TUTTI_INT8, 1, true, 0, 0, 127, 6},
    {"uint8", nullptr, TUTTI_UINT8, 1, false, 0, 0, 255, 7},
    {"int32", "int", TUTTI_INT32, 4, true, 0, 0, kPlenty, 20},
    {"uint32", nullptr, TUTTI_UINT32, 4, false, 0, 0, kPlenty, 20},
    {"int64", nullptr, TUTTI_INT64, 8, true, 0, 0, kPlenty, 20},
    {"uint64", nullptr, TUTTI_UINT64, 8, false, 0, 0, kPlenty, 20},
    {"half", "float16", TUTTI_FLOAT16, 2, true, 5, 10, 2048, 12},
    {"float", "float32", TUTTI_FLOAT32, 4, true, 8, 23, kPlenty, 20},
    {"double", "float64", TUTTI_FLOAT64, 8, true, 11, 52, kPlenty, 20},
    {"bfloat16", "bf16", TUTTI_BFLOAT16, 2, true, 8, 7, 256, 20},
    {"f8e4m3", "fp8_e4m3", TUTTI_FLOAT8_E4M3, 1, true, 4, 3, 16, 6},
    {"f8e5m2", "fp8_e5m2", TUTTI_FLOAT8_E5M2, 1, true, 5, 2, 8, 12},
};

constexpr OpInfo kOps[] = {
    {"sum", Op::Sum, TUTTI_SUM}, {"prod", Op::Prod, TUTTI_PROD}, {"max", Op::Max, TUTTI_MAX},
    {"min", Op::Min, TUTTI_MIN}, {"avg", Op::Avg, TUTTI_AVG},    {"mulsum", Op::MulSum, TUTTI_NUM_OPS},
};

// Little-endian: the low bytes of the bit pattern are the element.
void store_bits(uint64_t bits, int bytes, void* element) { std::memcpy(element, &bits, static_cast<size_t>(bytes)); }

uint64_t load_bits(int bytes, const void* element) {
  uint64_t bits = 0;
  std::memcpy(&bits, element, static_cast<size_t>(bytes));
  return bits;
}

// sign | exponent + bias | mantissa. Values of the test data are finite and need no rounding.
uint64_t float_bits(const TypeInfo& type, double value) {
  const uint64_t sign = std::signbit(value) ? 1 : 0;
  const int bias = (1 << (type.exponent_bits - 1)) - 1;
  uint64_t exponent = 0;
  uint64_t mantissa = 0;
  if (value != 0) {
    int power = std::ilogb(value);
    if (power < 1 - bias) power = 1 - bias;  // subnormal: the exponent field stays 0
    const auto scaled = static_cast<uint64_t>(std::ldexp(std::fabs(value), type.mantissa_bits - power));
    const uint64_t leading_one = uint64_t{1} << type.mantissa_bits;
    mantissa = scaled & (leading_one - 1);
    exponent = (scaled & leading_one) ? static_cast<uint64_t>(power + bias) : 0;
  }
  return (((sign << type.exponent_bits) | exponent) << type.mantissa_bits) | mantissa;
}

}  // namespace

std::span<const TypeInfo> all_types() { return kTypes; }
std::span<const OpInfo> all_ops() { return kOps; }

const TypeInfo* find_type(std::string_view name) {
  for (const TypeInfo& type : kTypes) {
    if (name == type.name || (type.alias != nullptr && name == type.alias)) return &type;
  }
  return nullptr;
}

const OpInfo* find_op(std::string_view name) {
  for (const OpInfo& op : kOps) {
    if (name == op.name) return &op;
  }
  return nullptr;
}

void encode(const TypeInfo& type, double value, void* element) {
  const uint64_t bits = type.is_float() ? float_bits(type, value) : static_cast<uint64_t>(static_cast<int64_t>(value));
  store_bits(bits, type.bytes, element);
}

double decode(const TypeInfo& type, const void* element) {
  const uint64_t bits = load_bits(type.bytes, element);
  if (!type.is_float()) {
    if (!type.is_signed) return static_cast<double>(bits);
    const int unused = 64 - 8 * type.bytes;
    return static_cast<double>(static_cast<int64_t>(bits << unused) >> unused);
  }
  const int bias = (1 << (type.exponent_bits - 1)) - 1;
  const uint64_t mantissa = bits & ((uint64_t{1} << type.mantissa_bits) - 1);
  const auto exponent = static_cast<int>((bits >> type.mantissa_bits) & ((uint64_t{1} << type.exponent_bits) - 1));
  const bool negative = (bits >> (type.mantissa_bits + type.exponent_bits)) & 1;
  const double magnitude = exponent == 0
                               ? std::ldexp(static_cast<double>(mantissa), 1 - bias - type.mantissa_bits)
                               : std::ldexp(static_cast<double>(mantissa | (uint64_t{1} << type.mantissa_bits)),
                                            exponent - bias - type.mantissa_bits);
  return negative ? -magnitude : magnitude;
}

}  // namespace tutti::perf
