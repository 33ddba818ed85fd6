// SPDX-License-Identifier: Apache-2.0
// The test data against a naive reference: for every type and operator, the reduction computed step by step in the type
// itself (each partial result stored and loaded again, in two orders) is what the generator expects, bit by bit.
#include "perf/data.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

namespace tutti::perf {
namespace {

constexpr size_t kElements = 500;

// A value that went through memory; fails when the type cannot hold it.
double stored(const TypeInfo& type, double value) {
  std::byte element[8] = {};
  encode(type, value, element);
  EXPECT_EQ(decode(type, element), value) << type.name << " cannot hold " << value;
  return decode(type, element);
}

double combine(Op op, double a, double b) {
  switch (op) {
    case Op::Sum:
    case Op::Avg:
    case Op::MulSum:
      return a + b;
    case Op::Prod:
      return a * b;
    case Op::Max:
      return std::max(a, b);
    case Op::Min:
      return std::min(a, b);
  }
  return 0;
}

double naive(const DataSpec& spec, const std::vector<const std::byte*>& inputs, size_t i, bool backwards) {
  const TypeInfo& type = *spec.type;
  double total = 0;
  for (int k = 0; k < spec.n; ++k) {
    const int rank = backwards ? spec.n - 1 - k : k;
    double value = decode(type, inputs[static_cast<size_t>(rank)] + i * static_cast<size_t>(type.bytes));
    if (spec.op->op == Op::MulSum) value = stored(type, value * mulsum_scalar(rank));
    total = k == 0 ? value : stored(type, combine(spec.op->op, total, value));
  }
  if (spec.op->op != Op::Avg) return total;
  return stored(type, type.is_float() ? total / spec.n : std::trunc(total / spec.n));
}

class EveryTypeAndOp : public testing::TestWithParam<std::tuple<int, int>> {
 protected:
  const TypeInfo& type() const { return all_types()[static_cast<size_t>(std::get<0>(GetParam()))]; }
  const OpInfo& op() const { return all_ops()[static_cast<size_t>(std::get<1>(GetParam()))]; }
};

TEST_P(EveryTypeAndOp, IsExactInAnyOrder) {
  const auto bytes = static_cast<size_t>(type().bytes);
  for (const int n : {1, 2, 3, 4, 5, 6, 7, 8, 12, 33, 64, 100, 300}) {
    const DataSpec spec{&type(), &op(), n, 7u + static_cast<uint64_t>(n)};
    std::vector<std::vector<std::byte>> buffers;
    std::vector<const std::byte*> inputs;
    for (int rank = 0; rank < n; ++rank) {
      buffers.emplace_back(kElements * bytes);
      fill(spec, rank, 3, kElements, buffers.back().data());
    }
    for (const auto& buffer : buffers) inputs.push_back(buffer.data());
    std::vector<std::byte> expected(kElements * bytes), actual(kElements * bytes);
    fill(spec, kReduction, 3, kElements, expected.data());
    for (const bool backwards : {false, true}) {
      for (size_t i = 0; i < kElements; ++i) encode(type(), naive(spec, inputs, i, backwards), &actual[i * bytes]);
      EXPECT_EQ(count_wrong(spec, kReduction, 3, kElements, actual.data()), 0u) << "n " << n;
    }
    if (HasFailure()) return;
  }
}

// A reduction that leaves a rank out, counts one twice, or is shifted by an element must not look right.
TEST_P(EveryTypeAndOp, NoticesMistakes) {
  const auto bytes = static_cast<size_t>(type().bytes);
  for (const int n : {2, 3, 8, 64}) {
    const DataSpec spec{&type(), &op(), n, 99};
    for (const int victim : {0, n - 1}) {
      uint64_t missing = 0, twice = 0;
      for (size_t i = 0; i < kElements; ++i) {
        std::vector<double> values;
        for (int rank = 0; rank < n; ++rank) {
          values.push_back(contribution(spec, rank, i) * (op().op == Op::MulSum ? mulsum_scalar(rank) : 1));
        }
        const auto reduce = [&](bool without, bool doubled) {
          double total = op().op == Op::Max ? -1e9 : op().op == Op::Min ? 1e9 : op().op == Op::Prod ? 1 : 0;
          for (int rank = 0; rank < n; ++rank) {
            const double value = values[static_cast<size_t>(rank)];
            if (rank != victim || !without) total = combine(op().op, total, value);
            if (rank == victim && doubled) total = combine(op().op, total, value);
          }
          return op().op != Op::Avg ? total : type().is_float() ? total / n : std::trunc(total / n);
        };
        missing += reduce(true, false) != reduced(spec, i);
        twice += reduce(false, true) != reduced(spec, i);
      }
      const bool idempotent = op().op == Op::Max || op().op == Op::Min;
      EXPECT_GT(missing, 0u) << "n " << n << " victim " << victim;
      EXPECT_TRUE(idempotent || twice > 0) << "n " << n << " victim " << victim;
    }
    std::vector<std::byte> shifted(kElements * bytes);
    fill(spec, kReduction, 1, kElements, shifted.data());
    EXPECT_GT(count_wrong(spec, kReduction, 0, kElements, shifted.data()), kElements / 20) << "n " << n;
  }
}

INSTANTIATE_TEST_SUITE_P(Data, EveryTypeAndOp, testing::Combine(testing::Range(0, 12), testing::Range(0, 6)),
                         [](const auto& info) {
                           return std::string(all_types()[static_cast<size_t>(std::get<0>(info.param))].name) + "_" +
                                  all_ops()[static_cast<size_t>(std::get<1>(info.param))].name;
                         });

TEST(Data, EncodesWhatTheFormatsSay) {
  const auto bits = [](const char* name, double value) {
    uint64_t pattern = 0;
    encode(*find_type(name), value, &pattern);
    return pattern;
  };
  EXPECT_EQ(bits("half", 1), 0x3c00u);
  EXPECT_EQ(bits("half", -2048), 0xe800u);
  EXPECT_EQ(bits("bfloat16", -1.5), 0xbfc0u);
  EXPECT_EQ(bits("f8e4m3", 16), 0x58u);
  EXPECT_EQ(bits("f8e4m3", 0.015625), 0x08u);     // smallest normal number
  EXPECT_EQ(bits("f8e4m3", 0.001953125), 0x01u);  // smallest subnormal number
  EXPECT_EQ(bits("f8e5m2", -7), 0xc7u);
  EXPECT_EQ(bits("float", 0.5), 0x3f000000u);
  EXPECT_EQ(bits("double", -1), 0xbff0000000000000u);
  EXPECT_EQ(bits("int8", -3), 0xfdu);
  EXPECT_EQ(bits("uint8", 255), 0xffu);
}

TEST(Data, CopiesKeepTheirPlace) {
  for (const TypeInfo& type : all_types()) {
    const auto bytes = static_cast<size_t>(type.bytes);
    const DataSpec spec{&type, nullptr, 4, 5};
    const size_t count = 3 * kPeriod + 77;
    std::vector<std::byte> data(count * bytes);
    fill(spec, 2, 12345, count, data.data());
    EXPECT_EQ(count_wrong(spec, 2, 12345, count, data.data()), 0u);
    EXPECT_EQ(count_wrong(spec, 2, 12345 + 100, count - 100, data.data() + 100 * bytes), 0u);
    EXPECT_GT(count_wrong(spec, 1, 12345, count, data.data()), count / 2);       // another rank's
    EXPECT_GT(count_wrong(spec, 2, 12345 + 64, count, data.data()), count / 2);  // another place
    const DataSpec later{&type, nullptr, 4, 6};
    EXPECT_GT(count_wrong(later, 2, 12345, count, data.data()), count / 2);  // another test's
    data[bytes * (2 * kPeriod + 5)] ^= std::byte{1};
    data[bytes * (count - 1)] ^= std::byte{4};
    EXPECT_EQ(count_wrong(spec, 2, 12345, count, data.data()), 2u);
    EXPECT_EQ(count_wrong(spec, 2, 0, 0, data.data()), 0u);
  }
}

}  // namespace
}  // namespace tutti::perf
