// SPDX-License-Identifier: Apache-2.0
// Communicators whose calls go by lines of 128 bytes: values at the edges of lines and slices, and where the planner
// does without them. The lanes themselves: tests/exec_cuda. Between processes: processes_test.cc.
#include <utility>

#include "comm_cuda/ranks.h"
#include "proto/lines.h"

namespace tutti {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

struct Buffers {
  std::vector<gpu::DeviceMemory> in, out;
  explicit Buffers(const Ranks& ranks, size_t floats) {
    for (const gpu::CudaDevicePtr& gpu : ranks.gpus) {
      in.push_back(*gpu::allocate_device(gpu, floats * sizeof(float)));
      out.push_back(*gpu::allocate_device(gpu, floats * sizeof(float)));
    }
  }
  static float* floats(const gpu::DeviceMemory& memory) { return reinterpret_cast<float*>(memory.get()); }
};

// An all-reduce of `count` floats on every rank, with its values.
void all_reduce(const Ranks& ranks, const Buffers& buffers, size_t count) {
  ASSERT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
  for (int r = 0; r < ranks.n(); ++r) {
    float* const in = Buffers::floats(buffers.in[static_cast<size_t>(r)]);
    for (size_t i = 0; i < count; ++i) in[i] = static_cast<float>(r + 1) + static_cast<float>(i % 1000);
    ASSERT_EQ(tuttiAllReduce(in, Buffers::floats(buffers.out[static_cast<size_t>(r)]), count, TUTTI_FLOAT32, TUTTI_SUM,
                             ranks.comm(r), ranks.stream(r)),
              TUTTI_SUCCESS)
        << last_text();
  }
  ASSERT_EQ(tuttiGroupEnd(), TUTTI_SUCCESS) << last_text();
  ranks.synchronize();
  const auto n = static_cast<float>(ranks.n());
  for (const gpu::DeviceMemory& out : buffers.out) {
    for (size_t i = 0; i < count; ++i)
      ASSERT_EQ(Buffers::floats(out)[i], n * (n + 1) / 2 + n * static_cast<float>(i % 1000)) << count << " at " << i;
  }
}

class LongLines : public testing::TestWithParam<std::vector<int>> {};

TEST_P(LongLines, CarryCallsOfAllSizes) {
  constexpr size_t kLine = kLL128LineData / sizeof(float), kSlice = kLL128PayloadBytes / sizeof(float);
  {
    const Ranks ranks(GetParam(), Ranks::kBlocking, "ll128");
    const Buffers buffers(ranks, 20 * kSlice + 7);
    for (const size_t count :
         {size_t{1}, kLine - 1, kLine, kLine + 1, kSlice - 1, kSlice, kSlice + 1, 20 * kSlice + 7}) {
      all_reduce(ranks, buffers, count);
      EXPECT_THAT(last_protocol(ranks.comm(0)), HasSubstr("ll128"));
    }
    // Messages in a ring.
    ASSERT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
    for (int r = 0; r < ranks.n(); ++r) {
      const auto at = static_cast<size_t>(r);
      const int next = (r + 1) % ranks.n(), before = (r + ranks.n() - 1) % ranks.n();
      float *const in = Buffers::floats(buffers.in[at]), *const out = Buffers::floats(buffers.out[at]);
      ASSERT_EQ(tuttiSend(in, kSlice + 1, TUTTI_FLOAT32, next, ranks.comm(r), ranks.stream(r)), TUTTI_SUCCESS);
      ASSERT_EQ(tuttiRecv(out, kSlice + 1, TUTTI_FLOAT32, before, ranks.comm(r), ranks.stream(r)), TUTTI_SUCCESS);
    }
    ASSERT_EQ(tuttiGroupEnd(), TUTTI_SUCCESS) << last_text();
    ranks.synchronize();
    for (int r = 0; r < ranks.n(); ++r) {
      const int before = (r + ranks.n() - 1) % ranks.n();
      EXPECT_EQ(Buffers::floats(buffers.out[static_cast<size_t>(r)])[kSlice],
                Buffers::floats(buffers.in[static_cast<size_t>(before)])[kSlice]);
    }
  }
  EXPECT_EQ(gpu::alive(), 0);
}

INSTANTIATE_TEST_SUITE_P(Devices, LongLines, testing::Values(std::vector<int>{0, 0, 0}, std::vector<int>{0, 1, 0}));

// Asked for, and not possible: other slots serve.
TEST(LongLinesAlone, AreNotUsedByWayOfPcie) {
  {
    ASSERT_EQ(setenv("FAKE_CUDA_NVLINK", "0", 1), 0);
    const Ranks apart({0, 1}, Ranks::kBlocking, "ll128"), together({1, 1}, Ranks::kBlocking, "ll128");
    ASSERT_EQ(unsetenv("FAKE_CUDA_NVLINK"), 0);
    for (const Ranks* const ranks : {&apart, &together}) all_reduce(*ranks, Buffers(*ranks, 1000), 1000);
    EXPECT_THAT(last_protocol(apart.comm(0)), Not(HasSubstr("ll128")));
    EXPECT_THAT(last_protocol(together.comm(0)), HasSubstr("ll128"));
    char text[1 << 14];
    ASSERT_EQ(tuttiExplain(apart.comm(0), "allreduce", 1000, TUTTI_FLOAT32, text, sizeof text), TUTTI_SUCCESS);
    EXPECT_THAT(text, Not(HasSubstr("no algorithm")));
  }
  EXPECT_EQ(gpu::alive(), 0);
}

// By the planner's own choice: in the middle. The fake's GPUs have memory of which nothing is known.
TEST(LongLinesAlone, AreThePlannersChoiceInTheMiddle) {
  const Ranks ranks({0, 0, 0, 0}, Ranks::kBlocking, "auto");
  std::vector<std::string> found;
  for (size_t count = 1; count <= size_t{1} << 26; count *= 4) {
    char text[1 << 14];
    ASSERT_EQ(tuttiExplain(ranks.comm(0), "allreduce", count, TUTTI_FLOAT32, text, sizeof text), TUTTI_SUCCESS)
        << last_text();
    const std::string all = text;
    const size_t at = all.find("-> ");
    ASSERT_NE(at, std::string::npos) << all;
    char algorithm[32], protocol[32];
    ASSERT_EQ(std::sscanf(all.c_str() + at, "-> %31s %31s", algorithm, protocol), 2) << all;
    if (found.empty() || found.back() != protocol) found.emplace_back(protocol);
  }
  EXPECT_EQ(found, (std::vector<std::string>{"ll", "ll128", "simple"}));
}

}  // namespace
}  // namespace tutti
