// SPDX-License-Identifier: Apache-2.0
// The report, character by character: logs are read by scripts written for nccl-tests.
#include "perf/report.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <sstream>

#include "perf/json_report.h"

namespace tutti::perf {
namespace {

Options options_of(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "all_reduce_perf");
  auto parsed =
      parse_options(*find_collective("all_reduce_perf"), static_cast<int>(arguments.size()), arguments.data());
  EXPECT_TRUE(parsed.outcome.ok()) << parsed.outcome.message();
  return parsed.options;
}

Row sample_row() {
  Row row{.bytes = 1048576, .count = 262144, .type = find_type("float"), .op = "sum", .root = -1};
  row.out_of_place = Measurement{
      .seconds = 123.456e-6, .bandwidth = {8.4935, 14.8636}, .wrong = 0, .iterations = {}, .iteration_seconds = {}};
  row.in_place = Measurement{
      .seconds = 98.7e-6, .bandwidth = {10.624, 18.592}, .wrong = 3, .iterations = {}, .iteration_seconds = {}};
  return row;
}

TEST(Report, GoldenHeader) {
  EXPECT_EQ(columns_text(options_of({})),
            "#\n"
            "#                                                              out-of-place                       "
            "in-place          \n"
            "#       size         count      type   redop    root     time   algbw   busbw  #wrong     time   algbw   "
            "busbw  #wrong \n"
            "#        (B)    (elements)                               (us)  (GB/s)  (GB/s)             (us)  (GB/s)  "
            "(GB/s)         \n");
  const RankInfo rank{.rank = 3, .pid = 4711, .host = "node1", .place = "cpu 0-3", .model = "Some CPU"};
  const std::string header = header_text(*find_collective("all_reduce_perf"),
                                         options_of({"-b", "8", "-e", "128M", "-f", "2"}), 2, 100, {rank});
  EXPECT_NE(header.find("# nThread 1 nGpus 1 minBytes 8 maxBytes 134217728 step: 2(factor) warmup iters: 1 iters: 20 "
                        "agg iters: 1 validation: 1 graph: 0 unalign: 0\n"),
            std::string::npos)
      << header;
  EXPECT_NE(header.find("# Collective test starting: all_reduce_perf\n"), std::string::npos);
  EXPECT_NE(header.find("#  Rank  3 Group  0 Pid   4711 on      node1 device  0 [cpu 0-3] Some CPU\n"),
            std::string::npos)
      << header;
  Options graphs = options_of({"-G", "1"});
  ASSERT_TRUE(settle_options(false, &graphs).ok());
  EXPECT_NE(header_text(*find_collective("all_reduce_perf"), graphs, 1, 100, {}).find("# note: -G"), std::string::npos);
}

TEST(Report, GoldenRow) {
  EXPECT_EQ(
      row_text(options_of({}), sample_row()),
      "     1048576        262144     float     sum      -1   123.46    8.49   14.86       0    98.70   10.62   18.59"
      "       3\n");
  Row one_side = sample_row();
  one_side.in_place.reset();
  one_side.out_of_place->wrong.reset();
  EXPECT_EQ(
      row_text(options_of({}), one_side),
      "     1048576        262144     float     sum      -1   123.46    8.49   14.86     N/A     0.00    0.00    0.00"
      "     N/A\n");
}

TEST(Report, ColumnsStayAligned) {
  for (const auto& arguments : {std::vector<const char*>{}, {"-I", "1"}, {"-S", "1"}, {"-I", "1", "-S", "1"}}) {
    const Options o = options_of(arguments);
    Row row = sample_row();
    row.time_of_day = "2026-01-31 13:05:59";
    std::istringstream lines(columns_text(o));
    std::string bar, sides, names, units;
    std::getline(lines, bar);
    std::getline(lines, sides);
    std::getline(lines, names);
    std::getline(lines, units);
    const std::string line = row_text(o, row);
    EXPECT_EQ(names.size(), units.size());
    EXPECT_NEAR(static_cast<double>(line.size()), static_cast<double>(names.size()), 2.0);
    std::istringstream words(line);
    const std::vector<std::string> fields{std::istream_iterator<std::string>(words), {}};
    EXPECT_EQ(fields.size(), (o.per_iteration ? 21u : 13u) + (o.timestamps ? 2u : 0u));
  }
}

TEST(Report, NumbersFitTheirColumns) {
  EXPECT_EQ(fixed_width(1.5, 7), "   1.50");
  EXPECT_EQ(fixed_width(12345.678, 7), "12345.7");
  EXPECT_EQ(fixed_width(1234567.8, 7), "1234568");
  EXPECT_EQ(fixed_width(9999999.9, 7), "1.0e+07");
  EXPECT_EQ(fixed_width(123456.7, 6), "123457");
  EXPECT_EQ(fixed_width(0, 6), "  0.00");
}

// The expression that common nccl-tests log readers use: thirteen fields, numbers where numbers are expected.
TEST(Report, AnExistingParserReadsIt) {
  const std::regex line(
      R"(\s*(\d+)\s+(\d+)\s+(\w+)\s+(\w+)\s+(-?\d+)\s+([\d.e+]+)\s+([\d.e+]+)\s+([\d.e+]+)\s+(\S+)\s+([\d.e+]+)\s+([\d.e+]+)\s+([\d.e+]+)\s+(\S+)\s*)");
  EXPECT_TRUE(std::regex_match(row_text(options_of({}), sample_row()), line));
  Totals totals{.wrong = 0, .busbw = 12.5, .too_slow = false};
  const std::string footer = footer_text(*find_collective("all_reduce_perf"), options_of({}), totals);
  EXPECT_NE(footer.find("# Out of bounds values : 0 OK\n"), std::string::npos) << footer;
  EXPECT_NE(footer.find("# Avg bus bandwidth    : 12.5 \n"), std::string::npos) << footer;
  totals.wrong = 3;
  EXPECT_NE(footer_text(*find_collective("all_reduce_perf"), options_of({}), totals)
                .find("# Out of bounds values : 3 FAILED\n"),
            std::string::npos);
}

TEST(Report, Statistics) {
  const IterationStats stats = statistics({4, 1, 3, 2, 5, 6, 7, 8, 9, 10});
  EXPECT_EQ(stats.min, 1);
  EXPECT_EQ(stats.max, 10);
  EXPECT_EQ(stats.mean, 5.5);
  EXPECT_EQ(stats.p50, 5);
  EXPECT_EQ(stats.p95, 10);
  EXPECT_NEAR(stats.deviation, 2.8723, 1e-4);
  const double per_rank[] = {4, 1, 7};
  EXPECT_EQ(over_ranks(Average::Rank0, per_rank), 4);
  EXPECT_EQ(over_ranks(Average::Mean, per_rank), 4);
  EXPECT_EQ(over_ranks(Average::Min, per_rank), 1);
  EXPECT_EQ(over_ranks(Average::Max, per_rank), 7);
}

TEST(Report, JsonIsCompleteAfterEachLine) {
  const std::string path = testing::TempDir() + "perf_report_" + std::to_string(::getpid()) + ".json";
  std::ofstream(path) << "kept";
  const auto read = [](const std::string& name) {
    std::ifstream file(name);
    return nlohmann::json::parse(file);
  };
  const Options o = options_of({"-b", "1M", "-e", "1M"});
  JsonReport report;
  ASSERT_TRUE(report.open(path).ok());
  EXPECT_EQ(report.path(), path + ".0");  // what existed is kept
  report.start(*find_collective("all_reduce_perf"), o, {"all_reduce_perf"}, 1, 100, {RankInfo{}}, this_machine());
  EXPECT_EQ(read(report.path())["results"].size(), 0u);
  report.add(o, sample_row());
  const auto row = read(report.path())["results"][0];
  EXPECT_EQ(row["size"], 1048576);
  EXPECT_EQ(row["redop"], "sum");
  EXPECT_NEAR(row["out_of_place"]["time"].get<double>(), 123.456, 1e-9);
  EXPECT_EQ(row["in_place"]["nwrong"], 3);
  report.finish(o, {.wrong = 3, .busbw = 1, .too_slow = false});
  const auto all = read(report.path());
  EXPECT_EQ(all["out_of_bounds"]["okay"], false);
  EXPECT_EQ(all["config"]["iterations"], 20);
  EXPECT_FALSE(all["machine"]["kernel"].get<std::string>().empty());
  std::remove(report.path().c_str());
  std::remove(path.c_str());
}

}  // namespace
}  // namespace tutti::perf
