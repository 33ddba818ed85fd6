// SPDX-License-Identifier: Apache-2.0
#include "exec/cpu/reduce/reduce.h"

#include <gtest/gtest.h>

#include <bit>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "exec/cpu/reduce/targets.h"
#include "reference.h"
#include "tutti/tutti.h"

namespace tutti {
namespace {

static_assert(static_cast<int>(DataType::Uint64) == TUTTI_UINT64 &&
              static_cast<int>(DataType::Float16) == TUTTI_FLOAT16);
static_assert(static_cast<int>(DataType::Float8E5m2) == TUTTI_FLOAT8_E5M2 && kDataTypes == TUTTI_NUM_TYPES);
static_assert(static_cast<int>(ReduceOp::Min) == TUTTI_MIN && static_cast<int>(ReduceOp::Prod) == TUTTI_PROD);

constexpr size_t kCounts[] = {0, 1, 2, 3, 7, 17, 63, 64, 65, 1000, 4097};
constexpr int kMaxSources = 9;
constexpr int kMaxDestinations = 3;
constexpr size_t kLargest = 4097;
constexpr char kGuard = 0x5a;

// Memory at a chosen distance from a cache line, with guard bytes around it.
class Block {
 public:
  Block(size_t bytes, size_t misalignment) : memory_(bytes + 3 * kMargin, kGuard) {
    const auto base = reinterpret_cast<uintptr_t>(memory_.data()) + kMargin;
    at_ = memory_.data() + kMargin + (64 - base % 64) % 64 + misalignment;
  }
  Block(const Block&) = delete;
  Block(Block&&) = default;
  char* data() { return at_; }
  void refill() { std::memset(memory_.data(), kGuard, memory_.size()); }
  bool guards_intact(size_t used) const {
    for (const char* p = memory_.data(); p != memory_.data() + memory_.size(); ++p) {
      if ((p < at_ || p >= at_ + used) && *p != kGuard) return false;
    }
    return true;
  }

 private:
  static constexpr size_t kMargin = 128;
  std::vector<char> memory_;
  char* at_;
};

std::vector<ReduceTarget> targets() {
  std::vector<ReduceTarget> all;
  for (int t = 0; t < kReduceTargets; ++t) {
    if (reduce_kernels(static_cast<ReduceTarget>(t)) != nullptr) all.push_back(static_cast<ReduceTarget>(t));
  }
  return all;
}

// Calls `body` with a value of the C++ type that stands for `type`.
template <class Body>
void with_type(DataType type, Body body) {
  switch (type) {
    case DataType::Int8:
      return body(int8_t{});
    case DataType::Uint8:
      return body(uint8_t{});
    case DataType::Int32:
      return body(int32_t{});
    case DataType::Uint32:
      return body(uint32_t{});
    case DataType::Int64:
      return body(int64_t{});
    case DataType::Uint64:
      return body(uint64_t{});
    case DataType::Float16:
      return body(reference::Float16{});
    case DataType::Float32:
      return body(float{});
    case DataType::Float64:
      return body(double{});
    case DataType::Bfloat16:
      return body(reference::Bfloat16{});
    case DataType::Float8E4m3:
      return body(reference::Float8E4m3{});
    case DataType::Float8E5m2:
      return body(reference::Float8E5m2{});
  }
}

// Half of the elements are any bits (for floats: NaN, infinities, subnormals, huge exponents among them), the other
// half moderate numbers, so that sums of many sources do not all end as NaN or infinity.
template <class T>
T random_element(std::mt19937_64& random) {
  const uint64_t bits = random();
  T element;
  if constexpr (std::is_integral_v<T>) {
    element = static_cast<T>(bits);
  } else if ((bits >> 60 & 3) == 0) {
    std::memcpy(&element, &bits, sizeof(T));
  } else {
    const float value =
        std::ldexp(static_cast<float>(static_cast<int32_t>(bits)), -31 + static_cast<int>(bits >> 56 & 7));
    if constexpr (reference::kIsSmall<T>) {
      element = T::round(value);
    } else {
      element = static_cast<T>(value) + static_cast<T>(bits & 0xffff) * static_cast<T>(1e-9);
    }
  }
  return element;
}

class EveryTypeAndOp : public testing::TestWithParam<std::tuple<int, int>> {
 protected:
  DataType type() const { return static_cast<DataType>(std::get<0>(GetParam())); }
  ReduceOp op() const { return static_cast<ReduceOp>(std::get<1>(GetParam())); }
};

template <class T>
void compare_with_reference(DataType type, ReduceOp op) {
  std::mt19937_64 random(static_cast<uint64_t>(type) * 16 + static_cast<uint64_t>(op));
  std::vector<Block> inputs, outputs;
  std::vector<const T*> elements;
  std::vector<std::vector<T>> storage(kMaxSources, std::vector<T>(kLargest));
  for (int i = 0; i < kMaxSources; ++i) {
    inputs.emplace_back(kLargest * sizeof(T), sizeof(T) * (i * 5 % 13));
    for (T& element : storage[i]) element = random_element<T>(random);
  }
  for (int i = 0; i < kMaxDestinations; ++i)
    outputs.emplace_back(kLargest * sizeof(T), i == 2 ? sizeof(T) * 3 : sizeof(T));

  const Scale pre = std::is_integral_v<T> ? Scale::multiply_integer(static_cast<uint64_t>(-3)) : Scale::multiply(0.37f);
  const int scalings = op == ReduceOp::Sum ? 3 : 1;  // none, before, after
  for (const size_t count : kCounts) {
    for (int sources = 1; sources <= kMaxSources; ++sources) {
      for (int scaling = 0; scaling < scalings; ++scaling) {
        const int scaled = scaling == 1 ? sources / 2 : -1;
        const Scale post = scaling == 2 ? Scale::divide(sources + 2) : Scale{};
        elements.clear();
        for (int s = 0; s < sources; ++s) elements.push_back(storage[s].data());
        std::vector<T> expected(count);
        for (size_t i = 0; i < count; ++i) expected[i] = reference::element<T>(elements, i, op, scaled, pre, post);

        for (const ReduceTarget target : targets()) {
          for (int destinations = 1; destinations <= kMaxDestinations; ++destinations) {
            // Every number of destinations with few sources, one with many.
            if (sources > 3 && destinations != 1 + sources % kMaxDestinations) continue;
            for (const uint32_t streamed : {0u, 1u, 6u, 7u}) {
              if (streamed >> destinations != 0 && streamed != 7u) continue;
              for (const bool in_place : {false, true}) {
                std::vector<const void*> from;
                std::vector<void*> to;
                for (int s = 0; s < sources; ++s) {
                  inputs[s].refill();
                  if (count != 0) std::memcpy(inputs[s].data(), storage[s].data(), count * sizeof(T));
                  from.push_back(inputs[s].data());
                }
                for (int d = 0; d < destinations; ++d) {
                  outputs[d].refill();
                  to.push_back(outputs[d].data());
                }
                Block& replaced = in_place ? inputs[sources - 1] : outputs[destinations - 1];
                to.back() = replaced.data();
                reduce_function(type, op, target)({.sources = from.data(),
                                                   .source_count = sources,
                                                   .scaled_source = scaled,
                                                   .destinations = to.data(),
                                                   .destination_count = destinations,
                                                   .streamed = streamed,
                                                   .count = count,
                                                   .pre = scaling == 1 ? pre : Scale{},
                                                   .post = post});
                for (int d = 0; d < destinations; ++d) {
                  Block& block = d == destinations - 1 ? replaced : outputs[d];
                  ASSERT_TRUE(block.guards_intact(count * sizeof(T)));
                  if (count == 0 || std::memcmp(block.data(), expected.data(), count * sizeof(T)) == 0) continue;
                  for (size_t i = 0; i < count; ++i) {
                    T got;
                    std::memcpy(&got, block.data() + i * sizeof(T), sizeof(T));
                    ASSERT_TRUE(reference::same(got, expected[i]))
                        << kReduceTargetNames[static_cast<int>(target)] << " element " << i << " of " << count << ", "
                        << sources << " sources, destination " << d << " of " << destinations << ", streamed "
                        << streamed << (in_place ? ", in place" : "") << ", scaling " << scaling << ": got "
                        << +reference::value_of(got) << ", expected " << +reference::value_of(expected[i]);
                  }
                }
              }
            }
          }
        }
      }
    }
  }
}

TEST_P(EveryTypeAndOp, EqualsTheReferenceOnEveryTargetCountAndAlignment) {
  with_type(type(), [&](auto element) { compare_with_reference<decltype(element)>(type(), op()); });
}

INSTANTIATE_TEST_SUITE_P(CpuReduce, EveryTypeAndOp,
                         testing::Combine(testing::Range(0, kDataTypes), testing::Range(0, kReduceOps)),
                         [](const auto& info) {
                           return std::string(type_name(static_cast<DataType>(std::get<0>(info.param)))) + "_" +
                                  op_name(static_cast<ReduceOp>(std::get<1>(info.param)));
                         });

// Reduces on every target and returns the common bits; fails where they differ.
template <class T>
std::vector<T> reduce_everywhere(DataType type, ReduceOp op, const std::vector<std::vector<T>>& sources, Scale pre = {},
                                 Scale post = {}) {
  std::vector<const void*> from;
  for (const auto& source : sources) from.push_back(source.data());
  std::vector<T> first;
  for (const ReduceTarget target : targets()) {
    std::vector<T> result(sources[0].size());
    void* to = result.data();
    reduce_function(type, op, target)({.sources = from.data(),
                                       .source_count = static_cast<int>(from.size()),
                                       .scaled_source = 0,
                                       .destinations = &to,
                                       .destination_count = 1,
                                       .count = result.size(),
                                       .pre = pre,
                                       .post = post});
    if (first.empty()) first = result;
    for (size_t i = 0; i < result.size(); ++i) {
      EXPECT_TRUE(reference::same(result[i], first[i]))
          << type_name(type) << " differs on " << kReduceTargetNames[static_cast<int>(target)] << " at " << i;
    }
  }
  return first;
}

template <class T>
std::vector<T> all_codes() {
  std::vector<T> codes(size_t{1} << (8 * sizeof(T)));
  for (size_t i = 0; i < codes.size(); ++i) codes[i].bits = static_cast<decltype(T::bits)>(i);
  return codes;
}

template <class T>
class EverySmallFloat : public testing::Test {};
template <class T>
constexpr DataType kTypeOf = DataType::Float16;
template <>
constexpr DataType kTypeOf<reference::Bfloat16> = DataType::Bfloat16;
template <>
constexpr DataType kTypeOf<reference::Float8E4m3> = DataType::Float8E4m3;
template <>
constexpr DataType kTypeOf<reference::Float8E5m2> = DataType::Float8E5m2;
using SmallFloats =
    testing::Types<reference::Float16, reference::Bfloat16, reference::Float8E4m3, reference::Float8E5m2>;
TYPED_TEST_SUITE(EverySmallFloat, SmallFloats);

TYPED_TEST(EverySmallFloat, KeepsEveryCodeOfOneSource) {
  const auto codes = all_codes<TypeParam>();
  for (const ReduceOp op : {ReduceOp::Sum, ReduceOp::Prod, ReduceOp::Max, ReduceOp::Min}) {
    const auto result = reduce_everywhere<TypeParam>(kTypeOf<TypeParam>, op, {codes});
    for (size_t i = 0; i < codes.size(); ++i) {
      TypeParam expected = codes[i];
      if (op == ReduceOp::Sum || op == ReduceOp::Prod) expected = TypeParam::round(expected.value());
      EXPECT_TRUE(reference::same(result[i], expected)) << op_name(op) << " of code " << i;
    }
  }
}

// One times a factor is the rounding of the factor. Around every tie and every limit, at every exponent of float32.
TYPED_TEST(EverySmallFloat, RoundsEveryKindOfFloat32ToNearestEven) {
  const auto type = kTypeOf<TypeParam>;
  const std::vector<std::vector<TypeParam>> one = {std::vector<TypeParam>(1, TypeParam::round(1.0f))};
  std::mt19937 random(1);
  for (uint32_t exponent = 0; exponent < 256; ++exponent) {
    for (int i = 0; i < 300; ++i) {
      uint32_t mantissa = random() & 0x7fffff;
      if (i % 3 == 0) mantissa = (mantissa & ~0u << (random() % 24)) & 0x7fffff;                      // exact, or a tie
      if (i % 3 == 1) mantissa = ((mantissa & ~0u << (random() % 24)) + (i % 2 * 2 - 1)) & 0x7fffff;  // next to one
      const float value =
          std::bit_cast<float>(static_cast<uint32_t>(exponent << 23 | mantissa | (random() & 0x80000000u)));
      const auto result = reduce_everywhere<TypeParam>(type, ReduceOp::Sum, one, Scale::multiply(value));
      const auto expected = TypeParam::round(1.0f * value);
      ASSERT_TRUE(reference::same(result[0], expected))
          << value << " became " << result[0].value() << ", not " << expected.value();
    }
  }
}

TYPED_TEST(EverySmallFloat, AccumulatesInFloat32AndRoundsOnce) {
  // 1 + e + e + e + e with e a quarter of the last place: each alone would be rounded away.
  TypeParam one = TypeParam::round(1.0f), next = one;
  next.bits = static_cast<decltype(next.bits)>(one.bits + 1);
  const TypeParam part = TypeParam::round((next.value() - 1.0f) / 4);
  const auto result =
      reduce_everywhere<TypeParam>(kTypeOf<TypeParam>, ReduceOp::Sum, {{one}, {part}, {part}, {part}, {part}});
  EXPECT_EQ(result[0].bits, next.bits);
}

template <class T>
void sum_and_multiply_all_pairs() {
  const auto codes = all_codes<T>();
  std::vector<std::vector<T>> pairs(2);
  for (const T a : codes) {
    for (const T b : codes) {
      pairs[0].push_back(a);
      pairs[1].push_back(b);
    }
  }
  const std::vector<const T*> sources = {pairs[0].data(), pairs[1].data()};
  for (const ReduceOp op : {ReduceOp::Sum, ReduceOp::Prod, ReduceOp::Max, ReduceOp::Min}) {
    const auto result = reduce_everywhere<T>(kTypeOf<T>, op, pairs);
    for (size_t i = 0; i < result.size(); ++i) {
      const T expected = reference::element<T>(sources, i, op, -1, {}, {});
      ASSERT_TRUE(reference::same(result[i], expected))
          << op_name(op) << " of " << pairs[0][i].value() << " and " << pairs[1][i].value();
    }
  }
}

TEST(Float8, IsRightForEveryPairOfE4m3) { sum_and_multiply_all_pairs<reference::Float8E4m3>(); }
TEST(Float8, IsRightForEveryPairOfE5m2) { sum_and_multiply_all_pairs<reference::Float8E5m2>(); }

TEST(Float8, SaturatesSumsAndKeepsInfinitiesOfMax) {
  using E4m3 = reference::Float8E4m3;
  using E5m2 = reference::Float8E5m2;
  const E4m3 largest4 = E4m3::round(448), minus4 = E4m3::round(-448);
  const auto sum4 =
      reduce_everywhere<E4m3>(DataType::Float8E4m3, ReduceOp::Sum, {{largest4, minus4}, {largest4, minus4}});
  EXPECT_EQ(sum4[0].value(), 448);
  EXPECT_EQ(sum4[1].value(), -448);
  const E5m2 infinity{0x7c}, one = E5m2::round(1), nan{0x7f};
  const auto sum5 = reduce_everywhere<E5m2>(DataType::Float8E5m2, ReduceOp::Sum, {{infinity, nan}, {one, one}});
  EXPECT_EQ(sum5[0].value(), 57344);
  EXPECT_TRUE(std::isnan(sum5[1].value()));
  const auto max5 = reduce_everywhere<E5m2>(DataType::Float8E5m2, ReduceOp::Max, {{infinity, nan}, {one, one}});
  EXPECT_EQ(max5[0].bits, 0x7c);
  EXPECT_TRUE(std::isnan(max5[1].value()));
}

TEST(Float32, MaxAndMinPropagateNanAndOrderZeros) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> a = {nan, 1.0f, -0.0f, 0.0f, infinity, -infinity}, b = {1.0f, nan, 0.0f, -0.0f, 1.0f, nan};
  const auto high = reduce_everywhere<float>(DataType::Float32, ReduceOp::Max, {a, b});
  const auto low = reduce_everywhere<float>(DataType::Float32, ReduceOp::Min, {a, b});
  for (const int i : {0, 1, 5}) {
    EXPECT_TRUE(std::isnan(high[i]));
    EXPECT_TRUE(std::isnan(low[i]));
  }
  for (const int i : {2, 3}) {
    EXPECT_FALSE(std::signbit(high[i]));
    EXPECT_TRUE(std::signbit(low[i]));
  }
  EXPECT_EQ(high[4], infinity);
  EXPECT_EQ(low[4], 1.0f);
}

TEST(Integers, AverageTruncatesTowardZeroAndSumsWrap) {
  const auto average =
      reduce_everywhere<int32_t>(DataType::Int32, ReduceOp::Sum, {{-3, 3, 7}, {-4, 4, 0}}, {}, Scale::divide(2));
  EXPECT_EQ(average, (std::vector<int32_t>{-3, 3, 3}));
  const auto large =
      reduce_everywhere<uint64_t>(DataType::Uint64, ReduceOp::Sum, {{~uint64_t{0} - 1}}, {}, Scale::divide(3));
  EXPECT_EQ(large[0], (~uint64_t{0} - 1) / 3);
  const auto wrapped = reduce_everywhere<int8_t>(DataType::Int8, ReduceOp::Sum, {{127}, {1}});
  EXPECT_EQ(wrapped[0], -128);
}

TEST(CopyBytes, CopiesToEveryDestinationAtEveryAlignment) {
  for (const size_t bytes : {0, 1, 5, 8, 13, 64, 777, 5000, 70001}) {
    for (const size_t misalignment : {0, 1, 8}) {
      for (int n = 1; n <= 4; ++n) {
        for (const uint32_t streamed : {0u, ~0u}) {
          Block source(bytes, 3);
          for (size_t i = 0; i < bytes; ++i) source.data()[i] = static_cast<char>(i * 31 >> 3);
          std::vector<Block> outputs;
          std::vector<void*> to;
          for (int d = 0; d < n; ++d) {
            outputs.emplace_back(bytes, misalignment * (d + 1));
            to.push_back(outputs.back().data());
          }
          copy_bytes(to.data(), n, streamed, source.data(), bytes);
          for (Block& output : outputs) {
            EXPECT_EQ(std::memcmp(output.data(), source.data(), bytes), 0);
            EXPECT_TRUE(output.guards_intact(bytes));
          }
          void* itself = source.data();
          copy_bytes(&itself, 1, streamed, source.data(), bytes);
        }
      }
    }
  }
}

TEST(Targets, TheOneInUseIsTheBestAvailable) {
  EXPECT_EQ(reduce_target(), targets().back());
  EXPECT_EQ(reduce_function(DataType::Float32, ReduceOp::Sum),
            reduce_function(DataType::Float32, ReduceOp::Sum, reduce_target()));
}

}  // namespace
}  // namespace tutti
