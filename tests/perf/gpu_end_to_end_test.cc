// SPDX-License-Identifier: Apache-2.0
// The programs with ranks on GPUs, on the fake CUDA driver: values checked, report read. Its kernels are slow: sizes
// are small.
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/perf/programs.h"

namespace {

using tutti::perf::expect_good;
using tutti::perf::Result;

// Two devices, unless `environment` says otherwise.
Result run(const std::string& command, const std::string& environment = "") {
  return tutti::perf::run(command, "TUTTI_CUDA_LIBRARY=" PERF_FAKE_CUDA " " + environment);
}
size_t count(const std::string& text, const std::string& part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

class GpuPrograms : public testing::TestWithParam<const char*> {
 protected:
  std::string program() const { return GetParam(); }
};

TEST_P(GpuPrograms, ThreeRanksOnTwoDevices) {
  const Result result = run(program() + " --ranks 3 -b 8 -e 8K -f 64 -n 2");
  expect_good(result, 2);
  EXPECT_EQ(count(result.output, "device  0 [0000:01:00.0] Fake GPU"), 2u) << result.output;
  EXPECT_EQ(count(result.output, "device  1 [0000:02:00.0] Fake GPU"), 1u) << result.output;
}
TEST_P(GpuPrograms, TwoThreadsWithTwoRanksEach) { expect_good(run(program() + " -t 2 -g 2 -b 1000 -e 1000 -n 2"), 1); }
TEST_P(GpuPrograms, InAGraph) { expect_good(run(program() + " -g 2 -b 4K -e 4K -n 2 -G 2"), 1); }
TEST_P(GpuPrograms, OverNcclsInterface) {
  const Result result = run(program() + " -g 3 -b 4K -e 4K -n 2 --library " PERF_NCCL);
  expect_good(result, 1);
  EXPECT_TRUE(result.says("Fake GPU")) << result.output;
}

INSTANTIATE_TEST_SUITE_P(EndToEnd, GpuPrograms,
                         testing::Values("all_reduce_perf", "all_gather_perf", "reduce_scatter_perf", "broadcast_perf",
                                         "reduce_perf", "alltoall_perf", "alltoallv_perf", "gather_perf",
                                         "scatter_perf", "sendrecv_perf"),
                         [](const auto& info) { return std::string(info.param); });

TEST(GpuEndToEnd, EveryTypeAndEveryOperator) {
  expect_good(run("all_reduce_perf --ranks 2 -b 300 -e 300 -n 1 -w 0 -d all", "FAKE_CUDA_DEVICES=1"), 12);
  expect_good(run("all_reduce_perf --ranks 2 -b 300 -e 300 -n 1 -w 0 -d bfloat16 -o all", "FAKE_CUDA_DEVICES=1"), 6);
}

TEST(GpuEndToEnd, SizesThatAreLargerThanAPeriodOfTheDataAndThanAStage) {
  expect_good(run("all_gather_perf -g 2 -b 18M -e 18M -n 1 -w 0 -d int8", "FAKE_CUDA_DEVICES=1"), 1);
}

TEST(GpuEndToEnd, RanksSeveralOnADeviceInThreads) {
  const Result result = run("all_reduce_perf --ranks 4 -t 4 -b 1K -e 1K -n 2 -p 1", "FAKE_CUDA_DEVICES=1");
  expect_good(result, 1);
  EXPECT_EQ(count(result.output, "device  0"), 4u) << result.output;
}

TEST(GpuEndToEnd, StreamsWaitsAndGroups) {
  expect_good(run("all_reduce_perf -g 2 -b 1K -e 1K -n 2 -y 1"), 1);
  expect_good(run("all_reduce_perf -g 2 -b 1K -e 1K -n 2 -m 3 -u 1"), 1);
  expect_good(run("all_reduce_perf -g 2 -b 1K -e 1K -n 2 -m 2 -G 2"), 1);
  for (const char* blocking : {"1", "2", "3"})
    expect_good(run(std::string("all_reduce_perf -t 2 -b 1K -e 1K -n 2 -z ") + blocking), 1);
  const Result each = run("all_reduce_perf -g 2 -b 1K -e 1K -n 4 -I 1");
  EXPECT_EQ(each.status, 0) << each.output;
  ASSERT_EQ(each.rows().size(), 1u) << each.output;
  EXPECT_EQ(each.rows()[0].size(), 21u) << each.output;
}

TEST(GpuEndToEnd, RegisteredBuffers) {
  for (const char* extra : {" -R 1", " -R 2", " -R 1 --library " PERF_NCCL, " -R 2 --library " PERF_NCCL}) {
    const Result result = run(std::string("all_reduce_perf -g 2 -b 1K -e 1K -n 2") + extra);
    expect_good(result, 1);
    EXPECT_FALSE(result.says("unregistered")) << result.output;
  }
}

// By a kernel where the buffers are, and by copy engines; on streams and in a graph.
TEST(GpuEndToEnd, WindowsAreUsed) {
  for (const char* extra : {"", " -G 1"}) {
    expect_good(run(std::string("all_reduce_perf -g 2 -b 1M -e 1M -n 2 -R 2") + extra, "TUTTI_PROTO=rma"), 1);
    expect_good(run(std::string("all_gather_perf -g 2 -b 4M -e 4M -n 2 -R 2") + extra, "TUTTI_CUDA_COPY=1"), 1);
  }
}

TEST(GpuEndToEnd, WhatAKernelLeavesUndoneIsSeen) {
  for (const char* extra : {"", " -G 1", " --library " PERF_NCCL}) {
    const Result result =
        run(std::string("all_reduce_perf -g 2 -b 1K -e 1K -n 2 -w 0") + extra, "FAKE_CUDA_IDLE_KERNELS=1");
    EXPECT_EQ(result.status, 1) << result.output;
    EXPECT_TRUE(result.says("FAILED")) << result.output;
    ASSERT_EQ(result.rows().size(), 1u) << result.output;
    EXPECT_GT(std::stod(result.rows()[0][8]), 0) << result.output;
  }
}

TEST(GpuEndToEnd, ALibraryThatRefusesIsQuoted) {
  const std::string command = "all_reduce_perf -g 2 -b 1K -e 1K -n 2 --library " PERF_NCCL;
  const Result refused = run(command, "FAKE_CUDA_DEVICES=1 TUTTI_MIN_CHANNELS=8 TUTTI_MAX_CHANNELS=2");
  EXPECT_EQ(refused.status, 3) << refused.output;
  EXPECT_TRUE(refused.says("ncclCommInitRank: ")) << refused.output;
  EXPECT_TRUE(refused.says("several ranks share a GPU here")) << refused.output;
  const Result ours = run("all_reduce_perf -g 2 -b 1K -e 1K -n 2 -t 2 -G 1");
  EXPECT_EQ(ours.status, 3) << ours.output;
  EXPECT_TRUE(ours.says("not all ranks it needs")) << ours.output;
}

TEST(GpuEndToEnd, WhereRanksAre) {
  const Result none = run("all_reduce_perf --ranks 2 -b 1K -e 1K -n 2", "FAKE_CUDA_DEVICES=0");
  expect_good(none, 1);
  EXPECT_TRUE(none.says("[cpu ")) << none.output;
  const Result cpus = run("all_reduce_perf --cpu --ranks 2 -b 1K -e 1K -n 2 --library " PERF_NCCL);
  expect_good(cpus, 1);
  EXPECT_TRUE(cpus.says("[cpu ")) << cpus.output;
  const Result asked = run("all_reduce_perf --gpu --ranks 2", "FAKE_CUDA_DEVICES=0");
  EXPECT_EQ(asked.status, 2) << asked.output;
  EXPECT_TRUE(asked.says("cuInit: ")) << asked.output;
}

TEST(GpuEndToEnd, JsonSaysWhere) {
  const std::string path = testing::TempDir() + "perf_gpu_" + std::to_string(::getpid()) + ".json";
  std::remove(path.c_str());
  expect_good(run("all_gather_perf -g 3 -b 1K -e 4K -f 4 -n 2 -G 2 -J " + path), 2);
  std::ifstream file(path);
  const auto json = nlohmann::json::parse(file);
  EXPECT_EQ(json["config"]["graph"], 2);
  EXPECT_EQ(json["config"]["device_kind"], "gpu");
  EXPECT_EQ(json["config"]["devices"][1]["device"], 1);
  EXPECT_EQ(json["config"]["devices"][1]["device_info"], "Fake GPU");
  EXPECT_EQ(json["results"].size(), 2u);
  std::remove(path.c_str());
}

}  // namespace
