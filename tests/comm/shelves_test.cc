// SPDX-License-Identifier: Apache-2.0
#include "comm/shelves.h"

#include <gtest/gtest.h>

#include <memory>

namespace tutti {
namespace {

TEST(Shelves, FindWhatWasKeptByKeyAndSize) {
  Shelves<int> shelves;
  EXPECT_EQ(shelves.find(1, 8), nullptr);
  shelves.keep(1, 8, 18);
  shelves.keep(1, 16, 116);
  shelves.keep(2, 8, 28);
  ASSERT_NE(shelves.find(1, 8), nullptr);
  EXPECT_EQ(*shelves.find(1, 8), 18);
  EXPECT_EQ(*shelves.find(1, 16), 116);
  EXPECT_EQ(*shelves.find(2, 8), 28);
  EXPECT_EQ(shelves.find(2, 16), nullptr);
}

// The kinds of call of a program of some size: a key for each collective, type and operator, at each of some sizes.
TEST(Shelves, RememberAHundredKindsOfCall) {
  Shelves<uint64_t> shelves;
  for (uint64_t key = 256; key < 266; ++key) {
    for (uint64_t bytes = 4; bytes <= 2048; bytes *= 2) shelves.keep(key, bytes, key * bytes);
  }
  for (uint64_t key = 256; key < 266; ++key) {
    for (uint64_t bytes = 4; bytes <= 2048; bytes *= 2) {
      ASSERT_NE(shelves.find(key, bytes), nullptr) << key << " " << bytes;
      EXPECT_EQ(*shelves.find(key, bytes), key * bytes);
    }
  }
}

TEST(Shelves, ForgetTheOldestOfABucketAndReleaseIt) {
  Shelves<std::shared_ptr<int>> shelves;
  const auto counted = std::make_shared<int>();
  for (uint64_t bytes = 0; bytes < 100'000; ++bytes) shelves.keep(1, bytes, counted);
  EXPECT_LT(counted.use_count(), 5000);
  EXPECT_NE(shelves.find(1, 99'999), nullptr);
}

}  // namespace
}  // namespace tutti
