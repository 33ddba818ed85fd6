// SPDX-License-Identifier: Apache-2.0
// The time line of several hosts' dumps, who is late on it, and what a dump must hold.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "tools/tutti/dumps.h"

namespace tutti::tool {
namespace {

// A rank whose counter has a rate and a beginning of its own. Times are true seconds.
struct Machine {
  std::string boot;
  double rate = 1e9;
  uint64_t zero = 1'000'000'000'000;
  double wall_error = 0;  // of its wall clock
  uint64_t at(double seconds) const { return zero + static_cast<uint64_t>(std::llround(seconds * rate)); }
};

struct Interval {
  double start, end;  // end < 0: not ended
};

DumpedRank rank_on(const Machine& machine, int rank, int ranks, const std::vector<Interval>& calls) {
  DumpedRank one;
  one.communicator = "job";
  one.id = "c0ffee";
  one.rank = rank;
  one.ranks = ranks;
  one.host = machine.boot;
  one.boot = machine.boot;
  one.process = 100 + rank;
  one.ticks_per_second = machine.rate;
  one.now_ticks = machine.at(100);
  one.now_unix_ns = 1'700'000'000'000'000'000 + static_cast<int64_t>((100 + machine.wall_error) * 1e9);
  for (const Interval& interval : calls) {
    DumpedCall call;
    call.number = one.calls.size() + 1;
    call.index = one.calls.size();
    call.operation = "all_reduce";
    call.type = "float32";
    call.count = 2;
    call.bytes = 8;
    call.queued = call.started = machine.at(interval.start);
    call.ended = interval.end < 0 ? 0 : machine.at(interval.end);
    one.calls.push_back(call);
  }
  return one;
}

TEST(Trace, RanksOfOneHostAreComparedByTheirCounter) {
  const Machine host{"a"};
  const Timeline timeline({rank_on(host, 0, 2, {{1, 2}}), rank_on(host, 1, 2, {{1.5, 2}})});
  EXPECT_NEAR(timeline.seconds(timeline.ranks()[0], timeline.ranks()[0].calls[0].started), 0, 1e-9);
  EXPECT_NEAR(timeline.seconds(timeline.ranks()[1], timeline.ranks()[1].calls[0].started), 0.5, 1e-9);
}

TEST(Trace, HostsAreAlignedByTheCallsInWhichTheyMet) {
  // The wall clocks are 3 s apart; the calls say better: each bounds the offset to within its own length.
  const Machine a{"a"}, b{"b", 2.5e9, 77, 3.0};
  std::vector<Interval> at_a, at_b;
  for (int i = 0; i < 20; ++i) {
    const double start = 10 + i, late = i % 2 == 0 ? 0.010 : -0.010;  // now this host is later, now that
    const double met = start + std::abs(late);
    at_a.push_back({start + std::max(0.0, late), met + 20e-6});
    at_b.push_back({start + std::max(0.0, -late), met + 20e-6});
  }
  const Timeline timeline({rank_on(a, 0, 2, at_a), rank_on(b, 1, 2, at_b)});
  const HostClock& clock = timeline.clocks().at("b");
  EXPECT_EQ(clock.how, "20 calls in common");
  EXPECT_LE(clock.uncertainty_seconds, 25e-6);
  const auto start = [&](size_t rank, size_t call) {
    const DumpedRank& one = timeline.ranks()[rank];
    return timeline.seconds(one, one.calls[call].started);
  };
  EXPECT_NEAR(start(0, 0) - start(1, 0), 0.010, 30e-6);
  EXPECT_NEAR(start(1, 1) - start(0, 1), 0.010, 30e-6);
}

TEST(Trace, HostsThatNeverMetAreAlignedByTheirWallClocks) {
  const Machine a{"a"}, b{"b", 3e9, 5, 0};
  DumpedRank other = rank_on(b, 0, 1, {{2, 3}});
  other.id = "another";
  const Timeline timeline({rank_on(a, 0, 1, {{1, 2}}), other});
  EXPECT_EQ(timeline.clocks().at("b").how, "wall clocks");
  EXPECT_NEAR(timeline.seconds(timeline.ranks()[1], timeline.ranks()[1].calls[0].started), 1, 1e-6);
}

TEST(Trace, NamesTheRankThatComesLateHowOftenAndByHowMuch) {
  const Machine host{"a"};
  std::vector<std::vector<Interval>> calls(3);
  for (int i = 0; i < 10; ++i) {
    const double late = i < 4 ? 0.002 : 0.0;  // rank 2 in four of ten
    calls[0].push_back({i + 0.0, i + 0.003});
    calls[1].push_back({i + 1e-6, i + 0.003});
    calls[2].push_back({i + late, i + 0.003});
  }
  const Timeline timeline(
      {rank_on(host, 0, 3, calls[0]), rank_on(host, 1, 3, calls[1]), rank_on(host, 2, 3, calls[2])});
  const auto reports = find_stragglers(timeline, 10e-6);
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].compared, 10u);
  EXPECT_TRUE(reports[0].missing.empty());
  EXPECT_TRUE(reports[0].unfinished.empty());
  const Punctuality& latest = reports[0].by_rank.front();
  EXPECT_EQ(latest.rank, 2);
  EXPECT_EQ(latest.late, 4u);
  EXPECT_NEAR(latest.total, 4 * (0.002 - 1e-6), 1e-8);
  EXPECT_NEAR(latest.longest, 0.002 - 1e-6, 1e-8);
  for (size_t i = 1; i < 3; ++i) EXPECT_EQ(reports[0].by_rank[i].late, 0u);
}

TEST(Trace, TellsWhoseDumpIsMissingAndWhatHadNotEnded) {
  const Machine host{"a"};
  const Timeline timeline({rank_on(host, 1, 3, {{1, 2}, {3, -1}})});
  const auto reports = find_stragglers(timeline, 10e-6);
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].compared, 0u);
  EXPECT_EQ(reports[0].missing, (std::vector<int>{0, 2}));
  ASSERT_EQ(reports[0].unfinished.size(), 1u);
  EXPECT_NE(reports[0].unfinished[0].find("rank 1: all_reduce number 2"), std::string::npos);
}

TEST(Trace, ThePictureHasEachCallAtItsPlace) {
  const Machine host{"a"};
  const Timeline timeline({rank_on(host, 0, 2, {{1, 2}}), rank_on(host, 1, 2, {{1.5, -1}})});
  const auto document = nlohmann::json::parse(chrome_trace(timeline));
  std::vector<nlohmann::json> calls;
  for (const auto& event : document.at("traceEvents"))
    if (event.at("ph") == "X") calls.push_back(event);
  ASSERT_EQ(calls.size(), 2u);
  EXPECT_NEAR(calls[0].at("ts").get<double>(), 0, 1e-3);
  EXPECT_NEAR(calls[0].at("dur").get<double>(), 1e6, 1e-3);
  EXPECT_NEAR(calls[1].at("ts").get<double>(), 0.5e6, 1e-3);
  EXPECT_EQ(calls[1].at("args").at("state"), "had not ended");
  EXPECT_NE(calls[0].at("pid"), calls[1].at("pid"));
}

TEST(Trace, ADumpThatIsNoneIsRefusedWithWhatIsWrong) {
  const auto problem = [](const std::string& text) { return parse_dump(text, "file").status().message(); };
  EXPECT_NE(problem("{").find("is not JSON"), std::string::npos);
  EXPECT_NE(problem("[]").find("not a dump"), std::string::npos);
  EXPECT_NE(problem(R"({"format":"tutti dump","version":2})").find("version 2"), std::string::npos);
  const std::string head = R"({"format":"tutti dump","version":1,"host":"a","process":1,)"
                           R"("clock":{"boot":"x","ticks_per_second":1e9,"ticks":5,"unix_ns":5},"communicators":)";
  EXPECT_EQ(problem(head + "[]}"), "");
  EXPECT_NE(problem(head + "{}}").find("'communicators'"), std::string::npos);
  EXPECT_NE(problem(head + R"([{"name":"n","id":"i","ranks":2,"rank":2,"calls":[]}]})").find("'rank'"),
            std::string::npos);
  EXPECT_NE(problem(head + R"([{"name":"n","id":"i","ranks":2,"rank":0,"calls":[{}]}]})").find("'index' is missing"),
            std::string::npos);
  EXPECT_NE(problem(head + R"([{"name":"n","id":"i","ranks":-2,"rank":0,"calls":[]}]})").find("'ranks'"),
            std::string::npos);
}

}  // namespace
}  // namespace tutti::tool
