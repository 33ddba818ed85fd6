// SPDX-License-Identifier: Apache-2.0
// Sizes with suffixes and the ladder between them.
#include "perf/sizes.h"

#include <gtest/gtest.h>

namespace tutti::perf {
namespace {

TEST(Sizes, Parse) {
  const struct {
    const char* text;
    uint64_t bytes;
  } good[] = {{"0", 0},           {"8", 8},           {"64K", 65536},     {"1k", 1024},      {"1.5M", 1572864},
              {"2G", 2147483648}, {"1GiB", 1u << 30}, {"16MB", 16 << 20}, {"1T", 1ull << 40}};
  for (const auto& [text, bytes] : good) {
    EXPECT_EQ(parse_size(text), bytes) << text;
  }
  for (const char* bad : {"", "K", "-1", "8X", "1KK", "8 K", "3 ", "nan", "1e30", "0x10G"}) {
    EXPECT_FALSE(parse_size(bad)) << bad;
  }
}

std::vector<uint64_t> walk(const Ladder& ladder) {
  std::vector<uint64_t> sizes;
  for (std::optional<uint64_t> size = ladder.first; size; size = ladder.next(*size)) sizes.push_back(*size);
  EXPECT_EQ(sizes.size(), ladder.rungs());
  return sizes;
}

TEST(Sizes, Ladder) {
  using Sizes = std::vector<uint64_t>;
  EXPECT_EQ(walk({8, 100, 1 << 20, 2}), (Sizes{8, 16, 32, 64}));
  EXPECT_EQ(walk({8, 64, 1 << 20, 4}), (Sizes{8, 32}));
  EXPECT_EQ(walk({0, 30, 10, 1}), (Sizes{0, 10, 20, 30}));
  EXPECT_EQ(walk({0, 29, 10, 0}), (Sizes{0, 10, 20}));
  EXPECT_EQ(walk({}), (Sizes{32u << 20}));
  EXPECT_EQ(walk({1ull << 62, ~0ull, 1, 8}), (Sizes{1ull << 62}));  // the next one would overflow
}

TEST(Sizes, Text) {
  EXPECT_EQ(size_text(65536), "64 KiB");
  EXPECT_EQ(size_text(1000), "1000 B");
  EXPECT_EQ(size_text(0), "0 B");
  EXPECT_EQ(size_text(3ull << 30), "3 GiB");
}

}  // namespace
}  // namespace tutti::perf
