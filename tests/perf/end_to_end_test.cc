// SPDX-License-Identifier: Apache-2.0
// The ten programs as a user runs them: local processes, threads, a launcher's environment; values checked, report
// read.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "tests/perf/programs.h"

namespace {

using tutti::perf::expect_good;
using tutti::perf::Result;

// On CPUs, also where there are GPUs.
Result run(const std::string& command, const std::string& environment = "") {
  return tutti::perf::run(command + " --cpu", environment);
}

class Programs : public testing::TestWithParam<const char*> {
 protected:
  std::string program() const { return GetParam(); }
};

TEST_P(Programs, TwoProcesses) { expect_good(run(program() + " --ranks 2 -b 8 -e 512K -f 256 -n 3 -c 1"), 3); }
TEST_P(Programs, ThreeProcesses) { expect_good(run(program() + " --ranks 3 -b 8 -e 512K -f 256 -n 3 -c 1"), 3); }
TEST_P(Programs, OneRank) { expect_good(run(program() + " -b 8 -e 2K -f 256 -n 2"), 2); }
TEST_P(Programs, TwoThreadsWithTwoRanksEach) {
  expect_good(run(program() + " -t 2 -g 2 -b 1000 -e 70K -f 50 -n 3"), 2);
}
TEST_P(Programs, ZeroSizeAndOddOnes) { expect_good(run(program() + " --ranks 2 -b 0 -e 3000 -i 999 -n 2 -u 1"), 4); }
TEST_P(Programs, OverNcclsInterface) {
  const Result result = run(program() + " --ranks 3 -b 8 -e 512K -f 256 -n 3 -c 1 --library " PERF_NCCL);
  expect_good(result, 3);
  EXPECT_TRUE(result.says("# library: " PERF_NCCL)) << result.output;
}
TEST_P(Programs, OverAnOldVersionOfIt) {
  expect_good(run(program() + " -t 2 -g 2 -b 8 -e 512K -f 256 -n 3 -c 1 --library " PERF_OLD_NCCL), 3);
}
TEST_P(Programs, EveryType) { expect_good(run(program() + " --ranks 2 -b 4000 -e 4000 -n 2 -d all"), 12); }

INSTANTIATE_TEST_SUITE_P(EndToEnd, Programs,
                         testing::Values("all_reduce_perf", "all_gather_perf", "reduce_scatter_perf", "broadcast_perf",
                                         "reduce_perf", "alltoall_perf", "alltoallv_perf", "gather_perf",
                                         "scatter_perf", "sendrecv_perf"),
                         [](const auto& info) { return std::string(info.param); });

TEST(EndToEnd, EveryTypeAndOperator) {
  expect_good(run("all_reduce_perf --ranks 3 -b 3000 -e 3000 -n 2 -d all -o all"), 72);
  expect_good(run("reduce_scatter_perf --ranks 2 -b 3000 -e 3000 -n 1 -d all -o all"), 72);
}

TEST(EndToEnd, EveryRoot) {
  for (const char* program : {"broadcast_perf", "reduce_perf", "gather_perf", "scatter_perf"}) {
    expect_good(run(std::string(program) + " --ranks 3 -b 4K -e 4K -n 2 -r all"), 3);
  }
}

TEST(EndToEnd, GroupsCyclesAndParallelInit) {
  expect_good(run("all_reduce_perf --ranks 2 -b 1K -e 1K -n 3 -m 4 -N 3"), 3);
  expect_good(run("all_reduce_perf -t 3 -p 1 -b 1K -e 1K -n 3 -z 1 -a 3"), 1);
}

TEST(EndToEnd, PerIterationTimes) {
  const Result result = run("all_reduce_perf --ranks 2 -b 1K -e 1K -n 10 -I 1 -K 2");
  EXPECT_EQ(result.status, 0) << result.output;
  ASSERT_EQ(result.rows().size(), 1u);
  EXPECT_EQ(result.rows()[0].size(), 21u) << result.output;
}

TEST(EndToEnd, AnotherLibrarysOperatorsRegistrationAndLauncher) {
  expect_good(run("all_reduce_perf --ranks 2 -b 3000 -e 3000 -n 2 -d all -o all --library " PERF_NCCL), 72);
  for (const char* registration : {"1", "2"}) {
    const std::string command = std::string("all_reduce_perf --ranks 2 -b 64K -e 64K -n 2 -R ") + registration;
    const Result registered = run(command + " --library " PERF_NCCL),
                 refused = run(command + " --library " PERF_OLD_NCCL);
    expect_good(registered, 1);
    EXPECT_FALSE(registered.says("unregistered")) << registered.output;
    expect_good(refused, 1);
    EXPECT_TRUE(refused.says("2 of 2 ranks measure unregistered buffers")) << refused.output;
  }
  expect_good(run("all_reduce_perf --ranks 2 -b 1K -e 1K -n 2 -y 0 --library " PERF_NCCL), 1);
}

TEST(EndToEnd, ALibraryThatIsNoneIsRefused) {
  const Result absent = run("all_reduce_perf --ranks 2 --library /nonexistent/libnccl.so");
  EXPECT_EQ(absent.status, 2) << absent.output;
  EXPECT_TRUE(absent.says("--library /nonexistent/libnccl.so: ")) << absent.output;
  const Result other = run("all_reduce_perf --ranks 2 --library libm.so.6");
  EXPECT_EQ(other.status, 2) << other.output;
  EXPECT_TRUE(other.says("exports no ncclGetVersion")) << other.output;
  const Result streams = run("all_reduce_perf --ranks 2 -y 0 --library " PERF_OLD_NCCL);
  EXPECT_EQ(streams.status, 2) << streams.output;
  EXPECT_TRUE(streams.says("has no streams for the CPU")) << streams.output;
}

TEST(EndToEnd, JsonReport) {
  const std::string path = testing::TempDir() + "perf_end_to_end_" + std::to_string(::getpid()) + ".json";
  std::remove(path.c_str());
  const Result result = run("all_gather_perf --ranks 2 -b 1K -e 4K -f 2 -n 2 -J " + path);
  expect_good(result, 3);
  std::ifstream file(path);
  const auto json = nlohmann::json::parse(file);
  EXPECT_EQ(json["results"].size(), 3u);
  EXPECT_EQ(json["results"][2]["size"], 4096);
  EXPECT_EQ(json["results"][2]["count"], 512);
  EXPECT_EQ(json["results"][2]["out_of_place"]["nwrong"], 0);
  EXPECT_EQ(json["config"]["processes"], 2);
  EXPECT_EQ(json["config"]["devices"].size(), 2u);
  EXPECT_EQ(json["out_of_bounds"]["okay"], true);
  std::remove(path.c_str());
}

// Two processes as torchrun would start them: rank 0 reports, the other is silent.
void run_as_launcher_would(const std::string& command, size_t rows) {
  const int port = 20000 + ::getpid() % 20000;
  Result results[2];
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank) {
    const std::string number = std::to_string(rank);
    const std::string environment = "RANK=" + number + " WORLD_SIZE=2 LOCAL_RANK=" + number +
                                    " LOCAL_WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=" + std::to_string(port);
    threads.emplace_back([&results, rank, command, environment] { results[rank] = run(command, environment); });
  }
  for (std::thread& thread : threads) thread.join();
  expect_good(results[0], rows);
  EXPECT_EQ(results[1].status, 0) << results[1].output;
  EXPECT_TRUE(results[1].rows().empty()) << results[1].output;
}

TEST(EndToEnd, JoinsALaunchersJob) { run_as_launcher_would("all_reduce_perf -b 1K -e 64K -f 8 -n 3", 3); }
TEST(EndToEnd, JoinsALaunchersJobWithThreads) {
  run_as_launcher_would("all_reduce_perf -b 1K -e 1K -n 3 -t 2 -g 2", 1);
}

TEST(EndToEnd, WhatIsWrongEndsWithAStatus) {
  EXPECT_EQ(run("all_reduce_perf -d nothing").status, 2);
  EXPECT_EQ(run("all_reduce_perf --ranks 2 -D 1").status, 2);
  const Result root = run("broadcast_perf --ranks 2 -b 8 -e 8 -r 9");
  EXPECT_EQ(root.status, 2) << root.output;
  EXPECT_TRUE(root.says("only 2 ranks")) << root.output;
  EXPECT_EQ(run("all_reduce_perf --ranks 2 -b 8 -e 8 -J /nonexistent/report.json").status, 2);
  EXPECT_EQ(run("all_reduce_perf --ranks 2 -b 1K -e 1K --min-bandwidth 1e9").status, 1);
}

TEST(EndToEnd, WhatMakesNoSenseIsSaid) {
  const Result result = run("all_reduce_perf --ranks 2 -b 8 -e 8 -n 2 -G 3");
  expect_good(result, 1);
  EXPECT_TRUE(result.says("# note: -G")) << result.output;
}

TEST(EndToEnd, Help) {
  const Result result = run("sendrecv_perf --help");
  EXPECT_EQ(result.status, 0);
  EXPECT_TRUE(result.says("--minbytes"));
}

}  // namespace
