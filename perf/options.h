// SPDX-License-Identifier: Apache-2.0
// The command line: nccl-tests' options with its names and defaults, and a few of our own with long names only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "perf/collectives.h"
#include "perf/outcome.h"
#include "perf/sizes.h"
#include "perf/types.h"

namespace tutti::perf {

enum class Average { Rank0, Mean, Min, Max };                    // -a
enum class Blocking { No, WaitAndBarrier, Wait, OuterBarrier };  // -z
enum class Registration { None, Local, Window };                 // -R

enum class DeviceChoice { Auto, Cpu, Gpu };  // --cpu, --gpu

constexpr int kAllRoots = -1;

struct Options {
  int threads = 1;           // -t
  int ranks_per_thread = 1;  // -g
  Ladder ladder;             // -b -e -i -f
  int iterations = 20;       // -n
  int warmup = 1;            // -w
  int aggregated = 1;        // -m
  int cycles = 1;            // -N, 0: for ever
  int checks = 1;            // -c
  std::vector<const OpInfo*> ops;
  std::vector<const TypeInfo*> types;
  int root = 0;
  Blocking blocking = Blocking::No;
  bool null_stream = true;  // -y; on GPUs false unless asked for
  int graphs = 0;           // -G: launches of a graph of all iterations; 0: no graph
  DeviceChoice device = DeviceChoice::Auto;
  bool on_gpus = false;  // what became of `device`: settle_options()
  bool parallel_init = false;
  bool cpu_time = false;
  bool timestamps = false;
  bool memory = false;
  bool per_iteration = false;
  int per_iteration_skip = 0;
  Average average = Average::Mean;
  Registration registration = Registration::None;
  int unalign = 0;            // elements
  int timeout_s = 0;          // 0: none
  std::string json_path;      // empty: none
  std::string library_path;   // empty: ours
  double min_bandwidth = -1;  // GB/s that the average must reach within 10 %; -1: not checked
  Traffic traffic;
  int local_ranks = 0;  // --ranks; 0: not given. On CPUs so many processes are started
  bool pin = true;
  std::vector<std::string> notes;  // what was asked for and makes no sense here
  struct {
    int null_stream = -1;  // -1: not asked for
    int device_implementation = 0, device_blocks = 16, cta_policy = 0;
  } asked;
};

struct ParsedOptions {
  Options options;
  bool stop = false;  // help or version: print `text` and end well
  std::string text;
  Outcome outcome;
};

ParsedOptions parse_options(const Collective& collective, int argc, const char* const* argv);
// Once it is known where the ranks are: defaults that depend on it, and what makes no sense there.
Outcome settle_options(bool on_gpus, Options* options);

}  // namespace tutti::perf
