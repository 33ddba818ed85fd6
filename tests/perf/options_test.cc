// SPDX-License-Identifier: Apache-2.0
// The command line: defaults and names of nccl-tests, and an answer to everything that is wrong.
#include "perf/options.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

namespace tutti::perf {
namespace {

ParsedOptions parse(const char* program, std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), program);
  return parse_options(*find_collective(program), static_cast<int>(arguments.size()), arguments.data());
}

TEST(Options, DefaultsOfNcclTests) {
  const auto parsed = parse("all_reduce_perf", {});
  ASSERT_TRUE(parsed.outcome.ok()) << parsed.outcome.message();
  const Options& o = parsed.options;
  EXPECT_EQ(o.ladder.first, 32u << 20);
  EXPECT_EQ(o.ladder.last, 32u << 20);
  EXPECT_EQ(o.ladder.step, 1u << 20);
  EXPECT_EQ(o.iterations, 20);
  EXPECT_EQ(o.warmup, 1);
  EXPECT_EQ(o.aggregated, 1);
  EXPECT_EQ(o.checks, 1);
  EXPECT_EQ(o.cycles, 1);
  EXPECT_EQ(o.threads, 1);
  EXPECT_EQ(o.ranks_per_thread, 1);
  EXPECT_EQ(o.average, Average::Mean);
  EXPECT_STREQ(o.types.at(0)->name, "float");
  EXPECT_STREQ(o.ops.at(0)->name, "sum");
  EXPECT_EQ(o.root, 0);
  EXPECT_TRUE(o.notes.empty());
}

TEST(Options, EveryShortOption) {
  const auto parsed =
      parse("reduce_perf",
            {"-b", "8", "-e", "64K", "-i", "4",        "-f",      "2", "-n",      "5", "-w", "3", "-m", "2", "-N", "4",
             "-c", "0", "-o", "avg", "-d", "bfloat16", "-r",      "3", "-z",      "1", "-y", "0", "-t", "2", "-g", "4",
             "-p", "1", "-C", "1",   "-a", "3",        "-T",      "9", "-R",      "2", "-S", "1", "-M", "1", "-u", "1",
             "-I", "1", "-K", "2",   "-J", "out.json", "--ranks", "8", "--no-pin"});
  ASSERT_TRUE(parsed.outcome.ok()) << parsed.outcome.message();
  const Options& o = parsed.options;
  EXPECT_EQ(o.ladder.first, 8u);
  EXPECT_EQ(o.ladder.last, 65536u);
  EXPECT_EQ(o.ladder.step, 4u);
  EXPECT_EQ(o.ladder.factor, 2u);
  EXPECT_EQ(o.iterations, 5);
  EXPECT_EQ(o.warmup, 3);
  EXPECT_EQ(o.aggregated, 2);
  EXPECT_EQ(o.cycles, 4);
  EXPECT_EQ(o.checks, 0);
  EXPECT_EQ(o.ops.at(0)->op, Op::Avg);
  EXPECT_EQ(o.types.at(0)->type, TUTTI_BFLOAT16);
  EXPECT_EQ(o.root, 3);
  EXPECT_EQ(o.blocking, Blocking::WaitAndBarrier);
  EXPECT_FALSE(o.null_stream);
  EXPECT_EQ(o.threads, 2);
  EXPECT_EQ(o.ranks_per_thread, 4);
  EXPECT_TRUE(o.parallel_init);
  EXPECT_TRUE(o.cpu_time);
  EXPECT_EQ(o.average, Average::Max);
  EXPECT_EQ(o.timeout_s, 9);
  EXPECT_EQ(o.registration, Registration::Window);
  EXPECT_TRUE(o.timestamps);
  EXPECT_TRUE(o.memory);
  EXPECT_EQ(o.unalign, 1);
  EXPECT_TRUE(o.per_iteration);
  EXPECT_EQ(o.per_iteration_skip, 2);
  EXPECT_EQ(o.json_path, "out.json");
  EXPECT_EQ(o.local_ranks, 8);
  EXPECT_FALSE(o.pin);
}

TEST(Options, LongNamesAndAll) {
  const auto parsed = parse("all_reduce_perf", {"--minbytes", "1K", "--maxbytes=2K", "--op", "all", "--datatype", "all",
                                                "--root", "all", "--stepfactor", "2"});
  ASSERT_TRUE(parsed.outcome.ok()) << parsed.outcome.message();
  EXPECT_EQ(parsed.options.ops.size(), 6u);
  EXPECT_EQ(parsed.options.types.size(), 12u);
  EXPECT_EQ(parsed.options.root, kAllRoots);
  EXPECT_EQ(parse("all_gather_perf", {"-o", "all"}).options.ops.size(), 1u);  // nothing is reduced
  EXPECT_EQ(parse("all_reduce_perf", {"-d", "fp8_e4m3"}).options.types.at(0)->type, TUTTI_FLOAT8_E4M3);
  EXPECT_EQ(parse("all_reduce_perf", {"-d", "f8e5m2"}).options.types.at(0)->type, TUTTI_FLOAT8_E5M2);
}

TEST(Options, WhatIsWrongIsNamed) {
  const struct {
    std::vector<const char*> arguments;
    const char* named;
  } cases[] = {
      {{"-b", "8X"}, "-b 8X"},
      {{"-b", "64M"}, "larger than -e"},
      {{"-b", "0", "-e", "8", "-f", "2"}, "-b 0"},
      {{"-b", "0", "-e", "8", "-i", "0"}, "-i 0"},
      {{"-d", "quad"}, "-d quad"},
      {{"-o", "xor"}, "-o xor"},
      {{"-r", "first"}, "-r first"},
      {{"-r", "-2"}, "-r"},
      {{"-n", "0"}, "--iters"},
      {{"-n", "many"}, "--iters"},
      {{"-z", "4"}, "--blocking"},
      {{"-R", "3"}, "--local_register"},
      {{"-D", "1"}, "CPU device"},
      {{"-K", "1"}, "-I"},
      {{"-J", "out.csv"}, ".json"},
      {{"--ranks", "0"}, "--ranks"},
      {{"--nonsense"}, "--nonsense"},
      {{"stray"}, "stray"},
  };
  for (const auto& one : cases) {
    const auto parsed = parse("all_reduce_perf", one.arguments);
    EXPECT_EQ(parsed.outcome.status(), kExitUsage) << one.named;
    EXPECT_NE(parsed.outcome.message().find(one.named), std::string::npos) << parsed.outcome.message();
  }
}

TEST(Options, WhatMakesNoSenseOnACpuIsSaid) {
  auto parsed = parse("all_reduce_perf", {"-G", "2", "-V", "8", "-x", "1", "-C", "1", "-z", "2"});
  ASSERT_TRUE(parsed.outcome.ok()) << parsed.outcome.message();
  ASSERT_TRUE(settle_options(false, &parsed.options).ok());
  ASSERT_EQ(parsed.options.notes.size(), 5u);
  EXPECT_NE(parsed.options.notes[0].find("CUDA graphs"), std::string::npos);
  EXPECT_EQ(parsed.options.graphs, 0);
  EXPECT_TRUE(parsed.options.null_stream);
}

TEST(Options, OnGpusRanksAreDealtOutToThreadsAndHaveStreams) {
  auto parsed = parse("all_reduce_perf", {"--ranks", "8", "-t", "2", "-G", "3"});
  ASSERT_TRUE(settle_options(true, &parsed.options).ok());
  EXPECT_EQ(parsed.options.ranks_per_thread, 4);
  EXPECT_EQ(parsed.options.local_ranks, 0);
  EXPECT_EQ(parsed.options.graphs, 3);
  EXPECT_FALSE(parsed.options.null_stream);
  EXPECT_TRUE(parsed.options.notes.empty());
}

TEST(Options, WhatAGpuCannotDoIsNamed) {
  const struct {
    std::vector<const char*> arguments;
    const char* named;
  } cases[] = {
      {{"--ranks", "3", "-t", "2"}, "does not divide into -t 2"},
      {{"--ranks", "4", "-g", "2"}, "--ranks 4 and -g"},
      {{"-G", "1", "-y", "1"}, "use -y 0"},
      {{"-G", "1", "-z", "1"}, "use -z 0"},
      {{"-G", "1", "-I", "1"}, "use -I 0"},
  };
  for (const auto& one : cases) {
    auto parsed = parse("all_reduce_perf", one.arguments);
    ASSERT_TRUE(parsed.outcome.ok()) << parsed.outcome.message();
    const Outcome settled = settle_options(true, &parsed.options);
    EXPECT_EQ(settled.status(), kExitUsage) << one.named;
    EXPECT_NE(settled.message().find(one.named), std::string::npos) << settled.message();
  }
  EXPECT_EQ(parse("all_reduce_perf", {"--cpu", "--gpu"}).outcome.status(), kExitUsage);
}

TEST(Options, HelpNamesEveryOption) {
  const auto parsed = parse("all_reduce_perf", {"--help"});
  EXPECT_TRUE(parsed.stop);
  for (const char* option :
       {"-t,", "-g,", "-b,", "-e,", "-i,", "-f,", "-n,", "-w,", "-m,",     "-N,",      "-p,",   "-c,",
        "-o,", "-d,", "-r,", "-z,", "-y,", "-T,", "-G,", "-C,", "-S,",     "-J,",      "-a,",   "-R,",
        "-x,", "-D,", "-V,", "-M,", "-u,", "-I,", "-K,", "-h,", "--ranks", "--no-pin", "--cpu", "--gpu"}) {
    EXPECT_NE(parsed.text.find(option), std::string::npos) << option;
  }
  EXPECT_TRUE(parse("all_reduce_perf", {"--version"}).stop);
}

TEST(Options, TrafficMatrix) {
  const std::string path = testing::TempDir() + "perf_matrix_" + std::to_string(::rand()) + ".txt";
  const auto with_matrix = [&](const char* text) {
    std::ofstream(path) << text;
    return parse("alltoallv_perf", {"--matrix", path.c_str(), "--matrix-scale", "2"});
  };
  const auto good = with_matrix("100 200 150\n50 100 75\n\n300 150 200\n");
  ASSERT_TRUE(good.outcome.ok()) << good.outcome.message();
  EXPECT_EQ(good.options.traffic.dimension, 3);
  EXPECT_EQ(good.options.traffic.bytes(0, 1, 3, 0), 400u);
  EXPECT_EQ(good.options.traffic.bytes(1, 2, 3, 0), 144u);  // 150, cut to 16
  for (const char* bad : {"", "1 2\n3\n", "1 2\n", "1 x\n2 3\n", "-1 2\n3 4\n"}) {
    EXPECT_EQ(with_matrix(bad).outcome.status(), kExitUsage) << bad;
  }
  std::remove(path.c_str());
  EXPECT_EQ(parse("alltoallv_perf", {"--matrix", "/nowhere"}).outcome.status(), kExitUsage);
}

}  // namespace
}  // namespace tutti::perf
