// SPDX-License-Identifier: Apache-2.0
// How `tutti tune` compares ways that were timed in several rounds.
#include "tools/tutti/tune/contest.h"

#include <gtest/gtest.h>

namespace tutti::tool {
namespace {

TEST(Contests, CompareWithinRoundsAndNotBetweenThem) {
  Contest contest(2);
  // The machine is ten times as slow in the second round; the first way wins in each.
  contest.add({1.0, 1.1});
  contest.add({10.0, 12.0});
  contest.add({1.0, 1.2});
  EXPECT_DOUBLE_EQ(contest.us(0), 1.0);
  EXPECT_DOUBLE_EQ(contest.us(1), 1.2);
}

TEST(Contests, AreNotDecidedByOneRoundThatWasDisturbed) {
  Contest contest(2);
  contest.add({5.0, 1.5});
  contest.add({1.0, 1.5});
  contest.add({1.0, 1.5});
  EXPECT_LT(contest.us(0), contest.us(1));
}

TEST(Contests, EndForAWayThatWasFarBehindInEveryRound) {
  Contest contest(3);
  contest.add({1.0, 2.1, 1.9});
  EXPECT_TRUE(contest.hopeful(0));
  EXPECT_FALSE(contest.hopeful(1)) << "more than twice the best of the only round";
  EXPECT_TRUE(contest.hopeful(2));
  contest.add({1.0, 0, 1.6});
  EXPECT_FALSE(contest.hopeful(2)) << "more than 1.5 times in each of two";
  EXPECT_DOUBLE_EQ(contest.us(1), 2.1) << "what is known of it stays";
}

TEST(Contests, LeaveOutWhoDoesNotServe) {
  Contest contest(2);
  EXPECT_TRUE(contest.hopeful(1));
  contest.add({1.0, 0});
  EXPECT_FALSE(contest.hopeful(1));
  EXPECT_EQ(contest.us(1), 0);
}

}  // namespace
}  // namespace tutti::tool
