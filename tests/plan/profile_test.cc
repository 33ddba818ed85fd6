// SPDX-License-Identifier: Apache-2.0
// Profiles: curves between their points, the file format, and what a planner makes of another machine's figures.
#include "plan/profile.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

#include "plan/plan.h"

namespace tutti {
namespace {

Curve curve(double us_per_kib) {
  std::array<double, Curve::kPoints> us{};
  for (int p = 0; p < Curve::kPoints; ++p)
    us[static_cast<size_t>(p)] = us_per_kib * static_cast<double>(Curve::bytes_at(p)) / 1024;
  return Curve(us);
}
Profile some() {
  return {"made up",
          curve(1),
          curve(2),
          curve(3),
          curve(0.5),
          curve(0.25),
          0.75,
          60,
          8 << 20,
          {65536, 32768, 16384},
          {2097152, 1048576, 524288},
          2,
          {{Coll::AllReduce, Algo::Ring, Proto::Simple, 4, false, {64, 4096}, {2, 8}},
           {Coll::Broadcast, Algo::Pull, Proto::Rma, 2, true, {8}, {1}}},
          {"a GPU", 2, {5.5, 0.7}, {7.25, 2.5}, 0.45, {{Coll::AllReduce, Algo::Tree, Proto::LL, 4, false, {8}, {9}}}}};
}

TEST(Curves, AreStraightBetweenTheirPointsAndBeyond) {
  const Curve line = curve(2);
  for (const double bytes : {64.0, 100.0, 1024.0, 3000.0, 4096.0, 1e6, 6.4e7, 1e9})
    EXPECT_NEAR(line(bytes), 2 * bytes / 1024, 1e-6 * bytes) << bytes;
  EXPECT_DOUBLE_EQ(line(0), line(64));
  EXPECT_DOUBLE_EQ(line(1), line(64));
  EXPECT_EQ(Curve::bytes_at(0), 64u);
  EXPECT_EQ(Curve::bytes_at(1), 1024u);
  EXPECT_EQ(Curve::bytes_at(Curve::kPoints - 1), 64u << 20);
}

TEST(TimedCandidates, AreStraightBetweenTheirPointsOnLogarithmicAxes) {
  const Timed timed = {Coll::AllReduce, Algo::Ring, Proto::Simple, 2, false, {64, 4096}, {2, 8}};
  EXPECT_DOUBLE_EQ(timed(1), 2);
  EXPECT_DOUBLE_EQ(timed(64), 2);
  EXPECT_NEAR(timed(512), 4, 1e-9);
  EXPECT_DOUBLE_EQ(timed(4096), 8);
  EXPECT_DOUBLE_EQ(timed(8192), 16);
}

TEST(Profiles, AreReadAsTheyWereWritten) {
  for (const Profile& profile : {some(), built_in_profile("AuthenticAMD"), built_in_profile("GenuineIntel")}) {
    const Result<Profile> again = parse_profile(format_profile(profile), "a test");
    ASSERT_TRUE(again.ok()) << again.status().message();
    EXPECT_EQ(*again, profile);
  }
  EXPECT_EQ(built_in_profile("nobody"), built_in_profile("GenuineIntel"));
}

TEST(Profiles, AFileSaysWhatIsWrongWithIt) {
  const std::string good = format_profile(some());
  const auto refused = [&](std::string_view old_text, std::string_view new_text, std::string_view why) {
    std::string text = good;
    const size_t at = text.find(old_text);
    ASSERT_NE(at, std::string::npos) << old_text;
    text.replace(at, old_text.size(), new_text);
    const Result<Profile> result = parse_profile(text, "FILE");
    ASSERT_FALSE(result.ok()) << new_text;
    EXPECT_NE(result.status().message().find(why), std::string::npos) << result.status().message();
    EXPECT_NE(result.status().message().find("FILE"), std::string::npos);
    EXPECT_NE(result.status().message().find("tutti tune"), std::string::npos);
  };
  refused("{", "[", "not a JSON object");
  refused("\"format\": 2", "\"format\": 1", "format");
  refused("\"name\": \"made up\"", "\"name\": 3", "name");
  refused("\"slots\": [", "\"slots\": [1,", "slots");
  refused("\"slots\": [", "\"slats\": [", "slots");
  refused("\"kernel\": [\n    ", "\"kernel\": [\n    -", "kernel");
  refused("\"switch_us\": 0.75", "\"switch_us\": 0", "switch_us");
  refused("\"combine_gbps\": 60.0", "\"combine_gbps\": \"fast\"", "combine_gbps");
  refused("\"stream_above\": 8388608", "\"stream_above\": -1", "stream_above");
  refused("\"slice_bytes\": [\n    65536", "\"slice_bytes\": [\n    1", "slice_bytes");
  refused("\"cycled_bytes\": [\n    2097152", "\"cycled_bytes\": [\n    0", "cycled_bytes");
  refused("\"cycled_bytes\": [\n    2097152", "\"cycled_bytes\": [\n    4294967296", "cycled_bytes");
  refused("\"cpus\": 2", "\"cpus\": -2", "cpus");
  refused("\"timed\"", "\"times\"", "timed");
  refused("\"ring\"", "\"rinks\"", "rinks");
  refused("\"ranks\": 4", "\"ranks\": 0", "ranks");
  refused("\"windows\": true", "\"windows\": 1", "windows");
  refused("        64.0,\n        4096.0", "        64.0,\n        64.0", "rise");
  refused("        2.0,\n        8.0", "        2.0", "us");
  refused("\"a GPU\"", "\"\"", "gpu");
  refused("\"gpus\": 2", "\"gpus\": 0", "gpus");
  refused("\"hop_us\": 0.7", "\"hop_us\": -1", "hop_us");
  refused("\"launch_us\": 7.25", "\"launch_us\": null", "simple");
  refused("\"share_ll\": 0.45", "\"share_ll\": 0", "share_ll");
  refused("\"tree\"", "\"trees\"", "trees");
  EXPECT_FALSE(read_profile("/nowhere/profile.json").ok());
  EXPECT_FALSE(parse_profile("", "x").ok());
}

// Files from before slots were cycled through say nothing about it.
TEST(Profiles, AFileWithoutCycledBytesGetsTheUsual) {
  Profile profile = some();
  std::string text = format_profile(profile);
  const size_t at = text.find("  \"cycled_bytes\"");
  ASSERT_NE(at, std::string::npos);
  text.erase(at, text.find("],\n", at) + 3 - at);
  const Result<Profile> read = parse_profile(text, "a test");
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(read->cycled_bytes, Profile{}.cycled_bytes);
  profile.cycled_bytes[1] *= 2;
  EXPECT_NE(profile.digest(), read->digest());
}

// The choice follows the figures, not the code.
TEST(Profiles, DecideWhatThePlannerChooses) {
  Profile profile = some();
  Summary summary;
  summary.n = 2;
  summary.single_copy = true;
  summary.slot_capacity = 2 << 20;
  summary.ll_slots = 64;
  summary.most_channels = 8;
  summary.cache_bytes = 2 << 20;
  summary.profile = &profile;
  const auto choice = [&] {
    const Result<Plan> plan = make_plan(summary, {Coll::AllGather, 256 << 10, false});
    EXPECT_TRUE(plan.ok()) << plan.status().message();
    return plan.ok() ? plan->proto : Proto::LL;
  };
  profile.ll = curve(10);
  EXPECT_EQ(choice(), Proto::Simple);
  const uint64_t digest = summary_digest(summary);
  profile.kernel = curve(0.1);
  EXPECT_EQ(choice(), Proto::Rma);
  EXPECT_NE(summary_digest(summary), digest);
  summary.single_copy = false;
  EXPECT_EQ(choice(), Proto::Simple);
  summary.windows = true;
  EXPECT_EQ(choice(), Proto::Rma);
  const Result<Plan> refused = make_plan(summary, {Coll::AllGather, 256 << 10, false, false, true});
  ASSERT_TRUE(refused.ok());
  EXPECT_EQ(refused->proto, Proto::Simple);
}

TEST(Profiles, WhatWasTimedGoesBeforeTheModel) {
  Profile profile = some();
  Summary summary;
  summary.n = 2;
  summary.slot_capacity = 2 << 20;
  summary.ll_slots = 64;
  summary.most_channels = 8;
  summary.cache_bytes = 2 << 20;
  summary.profile = &profile;
  const Shape shape = {Coll::AllReduce, 256 << 10, false};
  const auto best = [&] {
    const auto candidates = plan_candidates(summary, shape);
    EXPECT_TRUE(candidates.ok()) << candidates.status().message();
    return candidates.ok() ? candidates->front().plan : Plan{};
  };
  const Algo by_model = best().algo;
  const Algo other = by_model == Algo::Ring ? Algo::Tree : Algo::Ring;
  profile.timed = {{Coll::AllReduce, other, Proto::Simple, 2, false, {64 << 10, 1 << 20}, {0.5, 2}}};
  EXPECT_EQ(best().algo, other);
  EXPECT_NEAR(best().predicted_us, 1, 1e-9);
  const uint64_t digest = summary_digest(summary);
  profile.timed[0].us[0] = 0.6;
  EXPECT_NE(summary_digest(summary), digest);
  // On other ranks, with more to a core, and with other slices the model is asked.
  profile.timed[0].ranks = 4;
  EXPECT_EQ(best().algo, by_model);
  profile.timed[0].ranks = 2;
  summary.ranks_per_core = 2;
  EXPECT_NE(best().predicted_us, profile.timed[0](256 << 10));
  summary.ranks_per_core = 1;
  summary.slice_bytes = 4096;
  EXPECT_NE(best().predicted_us, profile.timed[0](256 << 10));
}

TEST(Profiles, WindowsAreAnotherThingForRemoteAccessOnly) {
  Profile profile = some();
  profile.timed = {{Coll::AllGather, Algo::Pull, Proto::Rma, 2, false, {64}, {3}},
                   {Coll::AllGather, Algo::Pull, Proto::Rma, 2, true, {64}, {2}},
                   {Coll::AllGather, Algo::Ring, Proto::Simple, 2, false, {64}, {1}}};
  const auto us = [&](Algo algo, Proto proto, bool windows) {
    const Timed* found = profile.find(Coll::AllGather, algo, proto, 2, 1, windows);
    return found == nullptr ? 0 : (*found)(64);
  };
  EXPECT_EQ(us(Algo::Pull, Proto::Rma, false), 3);
  EXPECT_EQ(us(Algo::Pull, Proto::Rma, true), 2);
  EXPECT_EQ(us(Algo::Ring, Proto::Simple, false), 1);
  EXPECT_EQ(us(Algo::Ring, Proto::Simple, true), 1);
  EXPECT_EQ(us(Algo::Push, Proto::Rma, true), 0);
}

}  // namespace
}  // namespace tutti
