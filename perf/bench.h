// SPDX-License-Identifier: Apache-2.0
// Bench: one thread's part of a run. All threads of all processes walk through the same list of tests in step; the
// thread of rank 0 reports. A test of one size:
//
//   fill buffers, barrier, warm up, barrier | timed loop | check the result, then `-c` more calls on fresh data,
//   checked
//
// With -G the timed loop is recorded once as a graph, and what is timed are its launches.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "perf/buffers.h"
#include "perf/calls.h"
#include "perf/data.h"
#include "perf/options.h"
#include "perf/progress.h"
#include "perf/report.h"
#include "perf/team.h"

namespace tutti::perf {

// Where rank 0's thread tells what it measured; the others have none.
struct Observer {
  std::function<void(const Row&)> row;
  std::function<void(uint64_t done, const std::string& what)> progress;
};

struct BenchContext {
  const Collective& collective;
  const Library& library;
  const Options& options;
  Team& team;
  Watchdog& watchdog;
  const Observer& observer;
  int thread;
  int n;  // ranks in all
};

class Bench {
 public:
  Bench(const BenchContext& context, std::span<RankState> ranks)
      : c_(context),
        o_(context.options),
        l_(context.library),
        ranks_(ranks),
        call_(call_of(context.collective.kind, context.library)),
        call_name_(call_name(context.collective.kind)) {}

  Outcome prepare(size_t bytes_per_buffer, std::string* refused);  // streams and buffers
  Outcome run();
  void finish();
  const Totals& totals() const { return totals_; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Test {
    const TypeInfo* type = nullptr;
    const OpInfo* op = nullptr;  // null: nothing is reduced
    int root = 0;
    uint64_t bytes = 0;  // as asked for; the layout rounds it
    Layout layout{};
    bool in_place = false;
  };
  struct Times {
    double issued = 0, completed = 0;  // seconds per call
    std::vector<double> iterations;    // seconds per iteration
  };

  Outcome run_sizes(Test test);
  Outcome run_size(const Test& test);
  Outcome measure(const Test& test, Measurement* measurement);
  Outcome time(Times* times);
  tuttiResult_t time_all(Times* times);
  tuttiResult_t time_each(Times* times);
  Outcome time_graph(Times* times);
  Outcome gather_times(const Test& test, const Times& times, Measurement* measurement);
  Outcome check(const Test& test, Measurement* measurement);
  Outcome count_wrong_everywhere(const Test& test, uint64_t* wrong);

  void plan_calls(const Test& test);
  DataSpec data_of(const Test& test) const;
  Outcome fill_buffers(const Test& test, bool for_timing);
  Outcome wrong_of(const Test& test, RankState& rank, uint64_t* wrong) const;
  std::byte* first(const Buffer& buffer, const TypeInfo& type) const;
  void tell(const Test& test, const char* phase) const;

  Outcome register_buffers(std::string* refused);

  tuttiResult_t issue();      // the call of each local rank, once
  tuttiResult_t iteration();  // -m of them, with the waits of -z
  tuttiResult_t wait();
  tuttiResult_t barrier();
  tuttiResult_t barrier_of(RankState& rank) const;
  tuttiResult_t failed(tuttiResult_t result, const char* what);
  Outcome told(tuttiResult_t result) const;
  Outcome create_operators(const TypeInfo& type);
  Outcome destroy_operators();

  BenchContext c_;
  const Options& o_;
  const Library& l_;
  std::span<RankState> ranks_;
  CallFunction call_;
  const char* call_name_;
  const char* failed_call_ = "";
  Outcome failed_wait_;          // the device's own words
  std::vector<Call> calls_;      // per local rank, for the current test
  std::vector<VCounts> counts_;  // per local rank, alltoallv
  uint64_t seed_ = 0;
  uint64_t done_ = 0;
  uint64_t measured_ = 0;
  double busbw_sum_ = 0;
  Totals totals_;
};

uint64_t number_of_tests(const Collective&, const Options&, int n);  // 0: for ever

}  // namespace tutti::perf
