// SPDX-License-Identifier: Apache-2.0
// A rank without peers: its input becomes its output, wherever the layout says that they lie.
#include "exec/cpu/alone_run.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdint>
#include <numeric>
#include <vector>

#include "algo/catalog.h"

namespace tutti {
namespace {

class Alone : public testing::Test {
 protected:
  // A call of `count` numbers, from `input` to `output`.
  void carry(CollLayout layout, const float* input, float* output) {
    call_.layout = layout;
    call_.input = reinterpret_cast<const std::byte*>(input);
    call_.output = reinterpret_cast<std::byte*>(output);
    call_.element_bytes = sizeof(float);
    run_.bind(call_);
    EXPECT_EQ(run_.run(1), Advance::Done);
  }
  static std::vector<float> numbers(size_t count) {
    std::vector<float> made(count);
    std::iota(made.begin(), made.end(), 1.f);
    return made;
  }

  LaneCall call_;
  AloneRun run_;
};

TEST_F(Alone, EveryCollectiveCopies) {
  for (const bool streams : {false, true}) {
    call_.stream_output = streams;
    for (const Coll coll : {Coll::AllReduce, Coll::Reduce, Coll::Broadcast, Coll::AllGather, Coll::ReduceScatter,
                            Coll::AllToAll, Coll::Gather, Coll::Scatter}) {
      for (const size_t count : {0u, 1u, 2u, 3u, 7u, 1000u, 100'003u}) {
        const std::vector<float> input = numbers(count);
        std::vector<float> output(count + 1, -1.f);
        carry(coll_layout(coll, 1, 0, 0, count * sizeof(float)), input.data(), output.data());
        EXPECT_EQ(output.back(), -1.f) << name(coll) << ", " << count;
        output.pop_back();
        EXPECT_EQ(output, input) << name(coll) << ", " << count;
      }
    }
  }
}

TEST_F(Alone, TablesSayWhereTheBlocksLie) {
  const std::vector<float> input = numbers(20);
  std::vector<float> output(20, -1.f);
  const uint64_t from = 5 * sizeof(float), to = 9 * sizeof(float), length = 3 * sizeof(float);
  carry(all_to_all_v_layout(1, {&from, &length}, {&to, &length}), input.data(), output.data());
  std::vector<float> expected(20, -1.f);
  for (size_t i = 0; i < 3; ++i) expected[9 + i] = input[5 + i];
  EXPECT_EQ(output, expected);
}

// Where nothing may be written, a write ends the test.
TEST_F(Alone, InPlaceNothingIsTouched) {
  constexpr size_t kBytes = 1 << 16;
  void* const memory = ::mmap(nullptr, kBytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  for (const bool streams : {false, true}) {
    call_.stream_output = streams;
    carry(coll_layout(Coll::Broadcast, 1, 0, 0, kBytes), static_cast<float*>(memory), static_cast<float*>(memory));
  }
  ::munmap(memory, kBytes);
}

TEST_F(Alone, AFactorApplies) {
  call_.reduce = reduce_function(DataType::Float32, ReduceOp::Sum);
  call_.has_pre = true;
  call_.pre = Scale::multiply(0.5);
  for (const bool streams : {false, true}) {
    call_.stream_output = streams;
    for (const bool in_place : {false, true}) {
      for (const size_t count : {1u, 1001u, 70'001u}) {
        std::vector<float> input = numbers(count), output(count, -1.f), expected = numbers(count);
        for (float& one : expected) one *= 0.5f;
        float* const to = in_place ? input.data() : output.data();
        carry(coll_layout(Coll::AllReduce, 1, 0, 0, count * sizeof(float)), input.data(), to);
        EXPECT_EQ(in_place ? input : output, expected) << count;
      }
    }
  }
}

}  // namespace
}  // namespace tutti
