// SPDX-License-Identifier: Apache-2.0
// Which steps' slices may come early: none whose place an earlier step of the round still reads or writes.
#include "exec/cpu/landing_steps.h"

#include <gtest/gtest.h>

#include <string>

#include "algo/catalog.h"

namespace tutti {
namespace {

bool touches(const Step& step, int block, int n) {
  for (int i = 0; i < step.blocks; ++i) {
    if (step.src == Buffer::Output && step.source_at(i, n) == block) return true;
    if (step.dst == Buffer::Output && step.dst_block >= 0 && step.target_at(i, n) == block) return true;
  }
  return false;
}
bool writes(const Step& step, int block, int n) {
  Step kept = step;
  kept.src = Buffer::None;
  return touches(kept, block, n);
}

// How many steps may land at all, and how many of them at any time.
struct Count {
  int lands = 0, at_once = 0;
};

Count check(const AnySchedule& schedule, int n, const std::string& what) {
  SCOPED_TRACE(what);
  Count count;
  const std::vector<LandingStep> found = find_landing_steps(schedule, n);
  EXPECT_EQ(found.size(), static_cast<size_t>(schedule.steps()));
  for (int k = 0; k < schedule.steps(); ++k) {
    const LandingStep& one = found[static_cast<size_t>(k)];
    if (!one.lands) continue;
    const Step step = schedule.at(k);
    EXPECT_TRUE(step.src == Buffer::None && !step.reduce && step.from.size(n) == 1 && step.dst == Buffer::Output) << k;
    ++count.lands;
    count.at_once += one.after == 0;
    EXPECT_LE(one.after, one.after_in_place) << k;
    EXPECT_LE(one.after, one.after_input) << k;
    EXPECT_LE(one.after_input, k) << k;
    for (int i = 0; i < step.blocks; ++i) {
      const int block = step.target_at(i, n);
      bool made_into_more = false;
      for (int other = k + 1; other < schedule.steps(); ++other) made_into_more |= writes(schedule.at(other), block, n);
      for (int other = 0; other < k; ++other) {
        const Step earlier = schedule.at(other);
        EXPECT_FALSE(touches(earlier, block, n) && other >= one.after) << "step " << k << ", block " << block;
        const bool reads = earlier.src == Buffer::Input;
        EXPECT_FALSE(reads && other >= one.after_input) << "step " << k << " in place";
        EXPECT_FALSE(reads && made_into_more && other >= one.after_in_place) << "step " << k << ", no result yet";
      }
    }
  }
  return count;
}

TEST(LandingSteps, NoneIsWrittenWhileItIsInUse) {
  for (const CatalogRow& row : catalog()) {
    for (int n = 2; n <= 17; ++n) {
      if (!row.fits(n)) continue;
      Count all;
      for (int me = 0; me < n; ++me) {
        for (int part = 0; part < row.parts(n); ++part) {
          const AnySchedule schedule = row.make({.me = me, .n = n, .root = n / 2, .part = part});
          const std::string what = std::string(name(row.coll)) + " " + std::string(name(row.algo)) +
                                   " n=" + std::to_string(n) + " rank " + std::to_string(me);
          const Count one = check(schedule, n, what);
          all.lands += one.lands;
          all.at_once += one.at_once;
        }
      }
      // What a ring or pairwise exchange receives to keep is written by nothing else.
      if (row.algo == Algo::Ring && (row.coll == Coll::AllGather || row.coll == Coll::AllReduce)) {
        EXPECT_EQ(all.lands, n * (n - 1)) << name(row.coll) << " n=" << n;
        EXPECT_EQ(all.at_once, all.lands) << name(row.coll) << " n=" << n;
      }
    }
  }
}

// In place, a block of an all-to-all leaves before another takes its place.
TEST(LandingSteps, AnAllToAllInPlaceWaitsForWhatItSends) {
  for (const CatalogRow& row : catalog()) {
    if (row.coll != Coll::AllToAll) continue;
    for (int n = 2; n <= 9; ++n) {
      if (!row.fits(n)) continue;
      const AnySchedule schedule = row.make({.me = 1, .n = n});
      const std::vector<LandingStep> found = find_landing_steps(schedule, n);
      for (int k = 0; k < schedule.steps(); ++k) {
        if (!found[static_cast<size_t>(k)].lands) continue;
        for (int other = found[static_cast<size_t>(k)].after_input; other < k; ++other)
          EXPECT_NE(schedule.at(other).src, Buffer::Input) << name(row.algo) << " n=" << n << " step " << k;
      }
    }
  }
}

}  // namespace
}  // namespace tutti
