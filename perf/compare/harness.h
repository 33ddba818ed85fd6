// SPDX-License-Identifier: Apache-2.0
//
// The measuring part of every driver: batches, verification, one JSON line per cell on standard output.
//
// A batch is a barrier and then K operations back to back; its time is the slowest rank's time / K. K is chosen so that
// a batch takes about 8 ms (K = 1 for large sizes), and the figure of a cell is the median of its batches. Every cell
// is compared with the exact expected output before and after timing; with rewritten buffers after every single call.
//
// A driver supplies a Peer:
//
//   std::string version();
//   std::string variants(const Problem&)      names to measure one by one, comma separated; "" for just one
//   float* allocate(size_t bytes), void release(float*, size_t bytes)   nullptr: unsupported, see last_error()
//   std::string last_error();
//   int first_calls()       so many calls, or kFirstUs of them, before anything is timed
//   template <class Run> std::string with_operation(Problem&, variant, send, recv, run)
//
// Which cells: all of the command line, one after the other, or with --turns those that come on standard input, one line
// each ("all_reduce 1M"). The lines of such a cell end with {"over":true}; until the next request all ranks sleep.
//
// with_operation prepares the call, then runs `run(once)`, where once() performs one operation and returns 0 for
// success. It returns "" or the reason why the peer has no such operation. It may set problem.input_in_recv (an
// in-place operation). `run` is a template argument so that the timed loop contains the library's call and nothing
// indirect.
#ifndef TUTTI_PERF_COMPARE_HARNESS_H_
#define TUTTI_PERF_COMPARE_HARNESS_H_

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "perf/compare/control.h"
#include "perf/compare/options.h"
#include "perf/compare/problem.h"

namespace tutti::compare {

inline double now_us() {
  const auto since_boot = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double, std::micro>(since_boot).count();
}

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

// What one reading of the clock costs; with rewritten buffers every figure contains it once.
inline double clock_cost_us() {
  std::vector<double> costs;
  for (int batch = 0; batch < 11; ++batch) {
    const double begin = now_us();
    for (int i = 0; i < 1000; ++i) now_us();
    costs.push_back((now_us() - begin) / 1000);
  }
  return median(costs);
}

struct Timing {
  std::vector<double> batches_us;  // per operation, slowest rank
  int per_batch = 0;
  bool failed = false;
};

inline constexpr double kFirstUs = 5e4;
inline constexpr int kMinBatches = 4, kMaxBatches = 20, kMaxPerBatch = 20000, kLooksAtPace = 4;

// batch(k) performs k operations and returns this rank's {time in the operations, time on the wall}, both per
// operation.
struct BatchTime {
  double inside_us;
  double wall_us;
};

template <class Batch>
Timing time_batches(Control& control, const Options& options, Batch&& batch) {
  // The pace: a few single operations, then batches by that estimate (which are also the warm-up) until K settles. The
  // least time counts, because a disturbed estimate would leave too few operations in a batch.
  double pace_us = 1e30;
  for (int i = 0; i < 3 && (i == 0 || pace_us < kFirstUs); ++i) {
    control.barrier();
    pace_us = control.max(std::min(pace_us, batch(1).wall_us));
  }
  const auto operations_in = [](double time_us, double pace) {
    return static_cast<int>(std::clamp(time_us / std::max(pace, 1e-3), 1.0, double{kMaxPerBatch}));
  };
  for (int look = 0; look < kLooksAtPace; ++look) {
    const int operations = operations_in(options.batch_us, pace_us);
    if (operations == 1) break;
    control.barrier();
    pace_us = std::min(pace_us, control.max(batch(operations).wall_us));
    if (operations_in(options.batch_us, pace_us) < 1.5 * operations) break;
  }

  Timing timing;
  timing.per_batch = operations_in(options.batch_us, pace_us);
  const double batches = options.budget_us / (timing.per_batch * std::max(pace_us, 1e-3));
  const int count = static_cast<int>(std::clamp(batches, double{kMinBatches}, double{kMaxBatches}));
  for (int b = 0; b < count; ++b) {
    control.barrier();
    const double mine = batch(timing.per_batch).inside_us;
    timing.batches_us.push_back(control.max(mine));
  }
  return timing;
}

// K operations between two readings of the clock.
template <class Once>
auto back_to_back(Once& once, bool& failed) {
  return [&once, &failed](int k) {
    int errors = 0;
    const double begin = now_us();
    for (int i = 0; i < k; ++i) errors |= once();
    const double each = (now_us() - begin) / k;
    failed |= errors != 0;
    return BatchTime{each, each};
  };
}

inline float* allocate_ordinary(size_t bytes) {
  const size_t alignment = bytes >= (2u << 20) ? 2u << 20 : 4096;
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, (bytes + alignment - 1) / alignment * alignment) != 0) return nullptr;
  return static_cast<float*>(memory);
}

class Output {
 public:
  explicit Output(const Control& control) : speaks_(control.rank() == 0) {}

  void driver(const std::string& version, int ranks) {
    if (!speaks_) return;
    std::printf("{\"version\":\"%s\",\"ranks\":%d,\"clock_us\":%.4f}\n", escape(version).c_str(), ranks,
                clock_cost_us());
    std::fflush(stdout);
  }
  void cell(std::string_view collective, size_t bytes, size_t asked, const std::string& variant, Timing timing,
            long wrong) {
    if (!speaks_) return;
    std::vector<double>& t = timing.batches_us;
    double sum = 0;
    for (const double v : t) sum += v;
    std::printf(
        "{\"collective\":\"%.*s\",\"bytes\":%zu,\"asked\":%zu,\"variant\":\"%s\",\"median_us\":%.4f,\"min_us\":%.4f,"
        "\"mean_us\":%.4f,\"per_batch\":%d,\"batches\":%zu,\"wrong\":%ld}\n",
        static_cast<int>(collective.size()), collective.data(), bytes, asked, variant.c_str(), median(t),
        *std::min_element(t.begin(), t.end()), sum / t.size(), timing.per_batch, t.size(), wrong);
    std::fflush(stdout);
  }
  void unsupported(std::string_view collective, size_t bytes, size_t asked, const std::string& variant,
                   const std::string& reason) {
    if (!speaks_) return;
    std::printf("{\"collective\":\"%.*s\",\"bytes\":%zu,\"asked\":%zu,\"variant\":\"%s\",\"unsupported\":\"%s\"}\n",
                static_cast<int>(collective.size()), collective.data(), bytes, asked, variant.c_str(),
                escape(reason).c_str());
    std::fflush(stdout);
  }
  void over() {
    if (!speaks_) return;
    std::puts("{\"over\":true}");
    std::fflush(stdout);
  }

 private:
  static std::string escape(const std::string& text) {
    std::string out;
    for (const char c : text) {
      if (c == '"' || c == '\\') out += '\\';
      out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
    return out;
  }
  bool speaks_;
};

// One cell: a problem, its buffers and what is expected in them.
class Cell {
 public:
  static constexpr int kVersions = 2;

  Cell(const Problem& problem, float* send, float* recv) : problem_(problem), send_(send), recv_(recv) {
    for (int v = 0; v < kVersions; ++v) {
      inputs_.push_back(input_pattern(problem.rank, v));
      answers_.emplace_back(problem, v);
    }
  }

  void write_input(int version) {
    repeat(inputs_[version], problem_.input_in_recv ? recv_ : send_, problem_.send_count);
  }
  long count_wrong(int version) const { return answers_[version].count_wrong(recv_); }

  void spoil_output() { std::fill_n(recv_, problem_.recv_count, -1.0f); }
  // An in-place operation repeated on its own output would grow without bound.
  void clear_in_place_input() {
    if (problem_.collective != Collective::Broadcast) std::fill_n(recv_, problem_.send_count, 0.0f);
  }

  template <class Once>
  long checked_call(Control& control, Once& once, bool& failed) {
    spoil_output();
    write_input(0);
    control.barrier();
    failed |= once() != 0;
    control.barrier();  // a peer may return before its input is free to be overwritten
    return failed ? 0 : count_wrong(0);
  }

  // Untouched buffers: the input is written once, the output is not looked at while the clock runs.
  template <class Once>
  Timing time_untouched(Control& control, const Options& options, Once& once) {
    bool failed = false;
    if (problem_.input_in_recv) clear_in_place_input();
    control.barrier();
    Timing timing = time_batches(control, options, back_to_back(once, failed));
    control.barrier();
    timing.failed = failed;
    return timing;
  }

  // Rewritten buffers: as a program does it, the input is new for each call and the output is used after it. The clock
  // runs in the call only. Ranks that rewrite more slowly make the others wait inside the call, for every peer alike.
  template <class Once>
  Timing time_rewritten(Control& control, const Options& options, Once& once, bool returns_early, long& wrong) {
    bool failed = false;
    const auto batch = [&](int k) {
      double inside = 0;
      const double wall_begin = now_us();
      for (int i = 0; i < k; ++i) {
        const int version = i % kVersions;
        write_input(version);
        const double begin = now_us();
        failed |= once() != 0;
        inside += now_us() - begin;
        wrong += count_wrong(version);
        if (returns_early) control.barrier();
      }
      return BatchTime{inside / k, (now_us() - wall_begin) / k};
    };
    Timing timing = time_batches(control, options, batch);
    control.barrier();
    timing.failed = failed;
    return timing;
  }

 private:
  Problem problem_;
  float* send_;
  float* recv_;
  std::vector<Pattern> inputs_;
  std::vector<Answer> answers_;
};

template <class Peer>
void run_cell(Peer& peer, Control& control, const Options& options, Output& output, Collective collective,
              size_t asked) {
  Problem problem = make_problem(collective, control.ranks(), control.rank(), asked);
  const std::string_view name = name_of(collective);
  // Room for either side, so that an operation may turn out to be in place.
  const size_t room = std::max(problem.send_count, problem.recv_count) * sizeof(float);
  float* send = peer.allocate(room);
  float* recv = send == nullptr ? nullptr : peer.allocate(room);
  const bool no_memory = recv == nullptr && room > 0;
  if (control.max(no_memory) != 0) {
    if (send != nullptr) peer.release(send, room);
    output.unsupported(name, problem.bytes, asked, "", peer.last_error());
    return;
  }
  std::memset(send, 0, room);  // every page exists before the clock runs
  std::memset(recv, 0, room);
  std::vector<std::string> variants = split_list(peer.variants(problem));
  if (variants.empty()) variants.push_back("");
  for (const std::string& variant : variants) {
    const auto measure = [&](auto&& once) -> std::string {
      Cell cell(problem, send, recv);
      bool failed = false;
      long wrong = cell.checked_call(control, once, failed);
      const double begin = now_us();
      for (int call = peer.first_calls(); call > 0 && control.max(now_us() - begin) < kFirstUs; --call)
        failed |= once() != 0;
      if (control.max(failed) != 0) return peer.last_error();
      Timing timing = options.rewritten ? cell.time_rewritten(control, options, once,
                                                              problem.input_in_recv && peer.returns_early(), wrong)
                                        : cell.time_untouched(control, options, once);
      wrong += cell.checked_call(control, once, timing.failed);
      if (control.max(timing.failed) != 0) control.fail("a call failed while it was timed: " + peer.last_error());
      output.cell(name, problem.bytes, asked, variant, timing,
                  static_cast<long>(control.sum(static_cast<double>(wrong))));
      return "";
    };
    const std::string reason = peer.with_operation(problem, variant, send, recv, measure);
    if (!reason.empty()) output.unsupported(name, problem.bytes, asked, variant, reason);
  }
  control.barrier();
  peer.release(send, room);
  peer.release(recv, room);
}

// measure(collective, bytes) for each cell that was asked for.
template <class Measure>
void for_each_cell(Control& control, const Options& options, Output& output, Measure&& measure) {
  if (!options.turns) {
    for (const Collective collective : options.collectives)
      for (const size_t bytes : options.sizes) measure(collective, bytes);
    control.barrier();
    return;
  }
  for (std::string request = control.request(); !request.empty(); request = control.request()) {
    const size_t space = request.find(' ');
    if (space == std::string::npos) control.fail("not a collective and a size: " + request);
    measure(parse_collective(request.substr(0, space)), parse_size(request.substr(space + 1)));
    control.barrier();
    output.over();
  }
}

template <class Peer>
void run_cells(Peer& peer, Control& control, const Options& options) {
  Output output(control);
  output.driver(peer.version(), control.ranks());
  for_each_cell(control, options, output, [&](Collective collective, size_t bytes) {
    run_cell(peer, control, options, output, collective, bytes);
  });
}

// What most peers have in common.
struct OrdinaryPeer {
  std::string variants(const Problem&) { return ""; }
  float* allocate(size_t bytes) { return allocate_ordinary(bytes); }
  void release(float* memory, size_t) { std::free(memory); }
  std::string last_error() { return "out of memory"; }
  // Calls before the clock runs, besides those that find the pace.
  int first_calls() { return 0; }
  // True if an in-place operation may return while its buffer is still being sent.
  bool returns_early() { return false; }
};

}  // namespace tutti::compare
#endif  // TUTTI_PERF_COMPARE_HARNESS_H_
