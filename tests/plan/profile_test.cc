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
Profile some() { return {"made up", curve(1), curve(2), curve(3), curve(0.5), curve(0.25), 0.75, 60, 8 << 20}; }

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
  refused("\"format\": 1", "\"format\": 2", "format");
  refused("\"name\": \"made up\"", "\"name\": 3", "name");
  refused("\"slots\": [", "\"slots\": [1,", "slots");
  refused("\"slots\": [", "\"slats\": [", "slots");
  refused("\"kernel\": [\n    ", "\"kernel\": [\n    -", "kernel");
  refused("\"switch_us\": 0.75", "\"switch_us\": 0", "switch_us");
  refused("\"combine_gbps\": 60.0", "\"combine_gbps\": \"fast\"", "combine_gbps");
  refused("\"stream_above\": 8388608", "\"stream_above\": -1", "stream_above");
  EXPECT_FALSE(read_profile("/nowhere/profile.json").ok());
  EXPECT_FALSE(parse_profile("", "x").ok());
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

}  // namespace
}  // namespace tutti
