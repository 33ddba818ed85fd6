// SPDX-License-Identifier: Apache-2.0
// Shares of CPUs.
#include "perf/pinning.h"

#include <gtest/gtest.h>

#include <map>

namespace tutti::perf {
namespace {

using Cpus = std::vector<int>;

TEST(Pinning, EnoughCpus) {
  const Cpus eight = {0, 1, 2, 3, 8, 9, 10, 11};
  EXPECT_EQ(share(eight, 0, 2, 1), (Cpus{0}));
  EXPECT_EQ(share(eight, 1, 2, 1), (Cpus{8}));  // spread, not packed
  EXPECT_EQ(share(eight, 1, 2, 4), (Cpus{8, 9, 10, 11}));
  EXPECT_EQ(share(eight, 2, 3, 2), (Cpus{9, 10, 11}));
  EXPECT_EQ(share(eight, 7, 8, 1), (Cpus{11}));
}

TEST(Pinning, TooFewCpusAreSharedEvenly) {
  const Cpus three = {4, 5, 7};
  std::map<int, int> load;
  for (int process = 0; process < 8; ++process) {
    const Cpus mine = share(three, process, 8, 2);
    ASSERT_EQ(mine.size(), 1u);
    ++load[mine[0]];
  }
  EXPECT_EQ(load, (std::map<int, int>{{4, 3}, {5, 3}, {7, 2}}));
}

TEST(Pinning, Lists) {
  EXPECT_EQ(cpu_list({0, 1, 2, 3, 8, 10, 11}), "0-3,8,10-11");
  EXPECT_EQ(cpu_list({5}), "5");
  EXPECT_EQ(cpu_list({}), "");
  EXPECT_FALSE(allowed_cpus().empty());
  EXPECT_EQ(cores_first(allowed_cpus()).size(), allowed_cpus().size());
}

}  // namespace
}  // namespace tutti::perf
