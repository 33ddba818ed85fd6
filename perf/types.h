// SPDX-License-Identifier: Apache-2.0
// Element types and operators: one table row each, with the name nccl-tests prints and the facts that exact test data
// needs. Exactness is what decides: a value enters test data only if the type holds it without rounding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "tutti/tutti.h"

namespace tutti::perf {

struct TypeInfo {
  const char* name;   // as nccl-tests prints it
  const char* alias;  // also accepted on the command line; may be null
  tuttiDataType_t type;
  int bytes;
  bool is_signed;
  int exponent_bits;  // 0: an integer type
  int mantissa_bits;  // without the leading one
  int exact;          // every integer of magnitude <= exact is held exactly (capped at 2^20, which is plenty)
  int power_of_two;   // 2^power_of_two is held exactly; for floating types 2^-power_of_two as well
  bool is_float() const { return exponent_bits != 0; }
};

enum class Op { Sum, Prod, Max, Min, Avg, MulSum };

struct OpInfo {
  const char* name;
  Op op;
  tuttiRedOp_t handle;  // MulSum has none: the handle is made per communicator
};

std::span<const TypeInfo> all_types();
std::span<const OpInfo> all_ops();
const TypeInfo* find_type(std::string_view name);  // null: no such type
const OpInfo* find_op(std::string_view name);

// Writes `value`, which the type must hold exactly, as one element.
void encode(const TypeInfo& type, double value, void* element);
double decode(const TypeInfo& type, const void* element);

}  // namespace tutti::perf
