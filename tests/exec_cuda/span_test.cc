// SPDX-License-Identifier: Apache-2.0
// Spans of the kernels against the CPU's reductions: every type and operator, however the pointers lie.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "exec/cpu/reduce/reduce.h"
#include "exec/cuda/work.h"
#include "fakes/cpu_kernels.h"
#include "fakes/cuda_threads.h"

namespace tutti::cuda {
namespace {

constexpr uint64_t kRoom = 4096;

struct Buffer {
  alignas(16) std::byte bytes[kRoom];
};

struct Case {
  DataType type;
  ReduceOp op;
  int sources, destinations;
  uint64_t count,
      shift;  // elements; by how many the first source is off 16 bytes, the others by one more each if `apart`
  bool apart, local_last, scaled;
};

// Any bits: NaN, infinities and subnormals too. Small integers in between, so that sums of floats are numbers.
void fill(DataType type, std::mt19937_64& draw, Buffer& buffer) {
  for (std::byte& byte : buffer.bytes) byte = static_cast<std::byte>(draw());
  if (type != DataType::Float32 && type != DataType::Float64) return;
  for (uint64_t i = 0; i + 8 <= kRoom; i += 16) {
    if (type == DataType::Float32) {
      const auto value = static_cast<float>(static_cast<int>(draw() % 200) - 100);
      std::memcpy(buffer.bytes + i, &value, sizeof value);
    } else {
      const auto value = static_cast<double>(static_cast<int>(draw() % 200) - 100);
      std::memcpy(buffer.bytes + i, &value, sizeof value);
    }
  }
}

// Equal bits, but for the sign and payload of NaN.
bool same(DataType type, const std::byte* a, const std::byte* b) {
  const size_t bytes = element_size(type);
  if (std::memcmp(a, b, bytes) == 0) return true;
  if (!kDataTypeInfo[static_cast<int>(type)].floating) return false;
  struct Format {
    int exponent, mantissa;
    bool infinity;
  };
  const Format format = type == DataType::Float16      ? Format{5, 10, true}
                        : type == DataType::Bfloat16   ? Format{8, 7, true}
                        : type == DataType::Float8E4m3 ? Format{4, 3, false}
                        : type == DataType::Float8E5m2 ? Format{5, 2, true}
                        : type == DataType::Float32    ? Format{8, 23, true}
                                                       : Format{11, 52, true};
  const auto is_nan = [&](const std::byte* at) {
    uint64_t code = 0;
    std::memcpy(&code, at, bytes);
    const uint64_t magnitude = code & ((uint64_t{1} << (format.exponent + format.mantissa)) - 1);
    const uint64_t infinity = ((uint64_t{1} << format.exponent) - 1) << format.mantissa;
    return format.infinity ? magnitude > infinity : magnitude == (infinity | ((1u << format.mantissa) - 1));
  };
  return is_nan(a) && is_nan(b);
}

void check(const Case& c, uint64_t seed) {
  SCOPED_TRACE(fmt::format("{} {} sources {} destinations {} count {} shift {} apart {} local last {} scaled {}",
                           type_name(c.type), op_name(c.op), c.sources, c.destinations, c.count, c.shift, c.apart,
                           c.local_last, c.scaled));
  const size_t element = element_size(c.type);
  std::mt19937_64 draw(seed);
  std::vector<Buffer> in(static_cast<size_t>(c.sources)), out(static_cast<size_t>(c.destinations)), want = out;
  std::vector<std::byte*> from, to;
  std::vector<void*> expected;
  uint64_t off = c.shift * element;
  for (Buffer& buffer : in) {
    fill(c.type, draw, buffer);
    from.push_back(buffer.bytes + off);
    if (c.apart) off += element;
  }
  for (size_t d = 0; d < out.size(); ++d) {
    std::memset(out[d].bytes, 0x5a, kRoom);
    want[d] = out[d];
    to.push_back(out[d].bytes + off);
    expected.push_back(want[d].bytes + off);
  }
  CpuSpan span;
  span.type = c.type;
  span.op = c.op;
  const int local = c.local_last ? c.sources - 1 : 0;
  for (int s = 0; s < c.sources; ++s)
    if (s != local) span.from.push_back(from[static_cast<size_t>(s)]);
  span.local = from[static_cast<size_t>(local)];
  span.local_index = local;
  span.to.assign(to.begin() + 1, to.end());
  span.kept = to[0];
  span.bytes = c.count * element;
  Reduction reduction{};
  const std::vector<const void*> sources(from.begin(), from.end());
  reduction.sources = sources.data();
  reduction.source_count = c.sources;
  reduction.destinations = expected.data();
  reduction.destination_count = c.destinations;
  reduction.count = c.count;
  if (c.scaled) {
    const bool floating = kDataTypeInfo[static_cast<int>(c.type)].floating;
    span.pre = reduction.pre = floating ? Scale::multiply(0.75) : Scale::multiply_integer(3);
    span.post = reduction.post = Scale::divide(3);
    reduction.scaled_source = local;
  }
  reduce_function(c.type, c.op)(reduction);
  ASSERT_TRUE(run_grid({.threads = 32, .seed = seed}, [&] { combine_on_cpu(span); }));
  for (size_t d = 0; d < out.size(); ++d) {
    for (uint64_t i = 0; i < kRoom; ++i) {
      const auto at = static_cast<uint64_t>(out[d].bytes + i - to[d]);  // wraps before the first
      if (at >= span.bytes) {
        ASSERT_EQ(out[d].bytes[i], want[d].bytes[i]) << "outside the span, byte " << i;
      } else if (at % element == 0) {
        ASSERT_TRUE(same(c.type, out[d].bytes + i, want[d].bytes + i))
            << "destination " << d << " element " << at / element;
      }
    }
  }
}

class EveryElement : public testing::TestWithParam<int> {};

TEST_P(EveryElement, IsCombinedAsOnTheCpuHoweverThePointersLie) {
  const auto type = static_cast<DataType>(GetParam() / kReduceOps);
  const auto op = static_cast<ReduceOp>(GetParam() % kReduceOps);
  uint64_t seed = 1;
  for (const int sources : {1, 2, 5}) {
    for (const uint64_t count : {uint64_t{1}, uint64_t{37}, 3000 / element_size(type)}) {
      for (const uint64_t shift : {0, 1, 3}) {
        for (const bool apart : {false, true}) {
          const bool last = seed % 2 == 0;
          check({type, op, sources, sources == 2 ? 3 : 1, count, shift, apart, last, false}, ++seed);
          if (op == ReduceOp::Sum) check({type, op, sources, 1, count, shift, apart, last, true}, ++seed);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Spans, EveryElement, testing::Range(0, kDataTypes* kReduceOps), [](const auto& info) {
  return fmt::format("{}_{}", type_name(static_cast<DataType>(info.param / kReduceOps)),
                     op_name(static_cast<ReduceOp>(info.param % kReduceOps)));
});

}  // namespace
}  // namespace tutti::cuda
