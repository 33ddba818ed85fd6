// SPDX-License-Identifier: Apache-2.0
// See bench.h. Order of the tests: types, operators, roots, cycles, sizes, as nccl-tests has it.
#include "perf/bench.h"

#include <algorithm>

namespace tutti::perf {
namespace {

constexpr std::byte kPoison{0xa5};
constexpr size_t kRoom = 4096;  // behind each buffer, for -u and the guard

double seconds_between(std::chrono::steady_clock::time_point from, std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

}  // namespace

uint64_t number_of_tests(const Collective& collective, const Options& o, int n) {
  const uint64_t roots = collective.rooted && o.root == kAllRoots ? static_cast<uint64_t>(n) : 1;
  return o.types.size() * o.ops.size() * roots * static_cast<uint64_t>(o.cycles) * o.ladder.rungs();
}

Outcome Bench::prepare(size_t bytes_per_buffer, std::string* refused) {
  const size_t bytes = bytes_per_buffer + static_cast<size_t>(o_.unalign) * sizeof(double) + kGuardBytes + kRoom;
  for (RankState& rank : ranks_) {
    for (Buffer* buffer : {&rank.send, &rank.recv}) {
      const Outcome outcome = buffer->allocate(l_, *rank.device, bytes, o_.registration, refused);
      if (!outcome.ok()) return outcome;
    }
    Outcome outcome = rank.device->allocate(sizeof(int32_t), &rank.arrived);
    if (outcome.ok() && !o_.null_stream) outcome = rank.device->make_stream(&rank.stream);
    if (!outcome.ok()) return outcome;
  }
  return o_.registration == Registration::None ? Outcome() : register_buffers(refused);
}

// All ranks register together: a thread with several of them in groups, which ends when all have.
Outcome Bench::register_buffers(std::string* refused) {
  for (Buffer RankState::*buffer : {&RankState::send, &RankState::recv}) {
    if (ranks_.size() > 1) {
      const Outcome begun = l_.checked(l_.GroupStart(), "GroupStart", nullptr);
      if (!begun.ok()) return begun;
    }
    for (RankState& rank : ranks_) (rank.*buffer).enroll(o_.registration, rank.comm, refused);
    if (ranks_.size() == 1) continue;
    const Outcome ended = l_.checked(l_.GroupEnd(), "GroupEnd (-R)", nullptr);
    if (!ended.ok()) *refused = ended.message();
  }
  return {};
}

void Bench::finish() {
  for (RankState& rank : ranks_) {
    rank.send.release();
    rank.recv.release();
    if (rank.stream != nullptr) rank.device->end_stream(rank.stream);
    if (rank.arrived != nullptr) rank.device->release(rank.arrived);
    rank.stream = nullptr;
    rank.arrived = nullptr;
  }
}

Outcome Bench::run() {
  const bool reduces = c_.collective.op_column == OpColumn::Chosen;
  for (const TypeInfo* type : o_.types) {
    for (const OpInfo* op : o_.ops) {
      const bool scaled = reduces && op->op == Op::MulSum;
      if (scaled) {
        const Outcome created = create_operators(*type);
        if (!created.ok()) return created;
      }
      const bool every_root = c_.collective.rooted && o_.root == kAllRoots;
      const int first_root = every_root ? 0 : std::max(o_.root, 0);
      const int last_root = every_root ? c_.n - 1 : first_root;
      for (int root = first_root; root <= last_root; ++root) {
        const Outcome outcome = run_sizes({.type = type, .op = reduces ? op : nullptr, .root = root});
        if (!outcome.ok()) return outcome;
      }
      if (scaled) {
        const Outcome destroyed = destroy_operators();
        if (!destroyed.ok()) return destroyed;
      }
      if (!reduces) break;
    }
  }
  totals_.busbw = measured_ == 0 ? 0 : busbw_sum_ / static_cast<double>(measured_);
  totals_.too_slow = o_.min_bandwidth >= 0 && totals_.busbw < 0.9 * o_.min_bandwidth;
  return {};
}

Outcome Bench::run_sizes(Test test) {
  for (int cycle = 0; o_.cycles == 0 || cycle < o_.cycles; ++cycle) {
    for (std::optional<uint64_t> bytes = o_.ladder.first; bytes; bytes = o_.ladder.next(*bytes)) {
      test.bytes = *bytes;
      test.layout = layout_for(c_.collective, *bytes, test.type->bytes, c_.n, o_.traffic);
      const Outcome outcome = run_size(test);
      if (!outcome.ok()) return outcome;
      if (o_.ladder.first == o_.ladder.last) break;
    }
  }
  return {};
}

Outcome Bench::run_size(const Test& test) {
  Row row{.bytes = test.layout.larger() * static_cast<uint64_t>(test.type->bytes),
          .count = test.layout.count,
          .type = test.type,
          .op = test.op != nullptr                         ? test.op->name
                : c_.collective.op_column == OpColumn::Sum ? "sum"
                                                           : "none",
          .root = c_.collective.rooted ? test.root : -1};
  for (const bool in_place : {false, true}) {
    if (in_place && c_.collective.in_place == InPlace::No) continue;
    Test side = test;
    side.in_place = in_place;
    Measurement measurement;
    const Outcome outcome = measure(side, &measurement);
    if (!outcome.ok()) return outcome;
    totals_.wrong += measurement.wrong.value_or(0);
    busbw_sum_ += measurement.bandwidth.bus;
    ++measured_;
    (in_place ? row.in_place : row.out_of_place) = std::move(measurement);
  }
  ++done_;
  row.time_of_day = now_text();
  if (c_.observer.row) c_.observer.row(row);
  return {};
}

Outcome Bench::measure(const Test& test, Measurement* measurement) {
  const std::string name = size_text(test.bytes) + " " + test.type->name + (test.in_place ? " in place" : "");
  if (c_.thread == 0) c_.watchdog.arm(name);
  plan_calls(test);
  tell(test, "filling");
  Outcome outcome = fill_buffers(test, true);
  Times times;
  tell(test, "timing");
  if (outcome.ok()) outcome = time(&times);
  if (outcome.ok()) outcome = gather_times(test, times, measurement);
  tell(test, "checking");
  if (outcome.ok() && o_.checks > 0) outcome = check(test, measurement);
  if (c_.thread == 0) c_.watchdog.disarm();
  return outcome;
}

void Bench::tell(const Test& test, const char* phase) const {
  if (!c_.observer.progress) return;
  c_.observer.progress(done_, std::string(c_.collective.program) + ": " + size_text(test.bytes) + " " +
                                  test.type->name + (test.in_place ? " in place, " : ", ") + phase);
}

// ---- calls ----

std::byte* Bench::first(const Buffer& buffer, const TypeInfo& type) const {
  return buffer.data() + static_cast<size_t>(o_.unalign) * static_cast<size_t>(type.bytes);
}

void Bench::plan_calls(const Test& test) {
  const auto size = static_cast<size_t>(test.type->bytes);
  calls_.clear();
  counts_.assign(ranks_.size(), {});
  for (size_t i = 0; i < ranks_.size(); ++i) {
    const RankState& rank = ranks_[i];
    std::byte* recv = first(rank.recv, *test.type);
    Call call{.send = first(rank.send, *test.type),
              .recv = recv,
              .count = test.layout.count,
              .type = test.type->type,
              .type_bytes = size,
              .place = {rank.rank, c_.n, test.root},
              .comm = rank.comm,
              .stream = rank.stream};
    if (test.op != nullptr) call.op = test.op->op == Op::MulSum ? rank.mulsum : test.op->handle;
    if (test.in_place) {
      call.send = recv + test.layout.send_in_place * static_cast<size_t>(rank.rank) * size;
      call.recv = recv + test.layout.recv_in_place * static_cast<size_t>(rank.rank) * size;
    }
    if (c_.collective.kind == Kind::AllToAllV) {
      const uint64_t total = test.layout.count * static_cast<uint64_t>(c_.n) * size;
      counts_[i] = v_counts(o_.traffic, rank.rank, c_.n, total, test.type->bytes);
      call.v = &counts_[i];
    }
    calls_.push_back(call);
  }
}

// The timed path: plain result codes; text is made only once something failed.
tuttiResult_t Bench::failed(tuttiResult_t result, const char* what) {
  if (result != TUTTI_SUCCESS) failed_call_ = what;
  return result;
}

Outcome Bench::told(tuttiResult_t result) const {
  return failed_wait_.ok() ? l_.checked(result, failed_call_, ranks_[0].comm) : failed_wait_;
}

tuttiResult_t Bench::issue() {
  if (calls_.size() == 1) return failed(call_(l_, calls_[0]), call_name_);
  if (const auto result = l_.GroupStart(); result != TUTTI_SUCCESS) return failed(result, "GroupStart");
  for (const Call& each : calls_) {
    if (const auto result = call_(l_, each); result != TUTTI_SUCCESS) return failed(result, call_name_);
  }
  return failed(l_.GroupEnd(), call_name_);
}

tuttiResult_t Bench::iteration() {
  if (o_.aggregated == 1) {
    if (const auto result = issue(); result != TUTTI_SUCCESS) return result;
  } else {
    if (const auto result = l_.GroupStart(); result != TUTTI_SUCCESS) return failed(result, "GroupStart (-m)");
    for (int i = 0; i < o_.aggregated; ++i) {
      if (const auto result = issue(); result != TUTTI_SUCCESS) return result;
    }
    if (const auto result = l_.GroupEnd(); result != TUTTI_SUCCESS) return failed(result, call_name_);
  }
  if (o_.blocking != Blocking::Wait && o_.blocking != Blocking::WaitAndBarrier) return TUTTI_SUCCESS;
  const auto result =
      wait();  // with -m the calls start at the end of the group, so there is nothing to wait for before
  return result == TUTTI_SUCCESS && o_.blocking == Blocking::WaitAndBarrier ? barrier() : result;
}

tuttiResult_t Bench::wait() {
  for (const RankState& rank : ranks_) {
    failed_wait_ = rank.device->synchronize(rank.stream);
    if (!failed_wait_.ok()) return TUTTI_SYSTEM_ERROR;
  }
  return TUTTI_SUCCESS;
}

// On the ranks' streams on GPUs; in the thread on the CPU, where a call without a stream blocks.
tuttiResult_t Bench::barrier() {
  if (ranks_.size() > 1) {
    if (const auto result = l_.GroupStart(); result != TUTTI_SUCCESS) return failed(result, "GroupStart");
  }
  for (RankState& rank : ranks_) {
    if (const auto result = barrier_of(rank); result != TUTTI_SUCCESS) return failed(result, "Barrier");
  }
  if (ranks_.size() > 1) {
    if (const auto result = l_.GroupEnd(); result != TUTTI_SUCCESS) return failed(result, "Barrier");
  }
  return o_.on_gpus ? wait() : TUTTI_SUCCESS;
}

tuttiResult_t Bench::barrier_of(RankState& rank) const {
  const tuttiStream_t stream = o_.on_gpus ? rank.stream : nullptr;
  if (l_.Barrier != nullptr) return l_.Barrier(rank.comm, stream);
  return l_.AllReduce(rank.arrived, rank.arrived, 1, TUTTI_INT32, TUTTI_SUM, rank.comm, stream);
}

// A scalar of its own for each rank.
Outcome Bench::create_operators(const TypeInfo& type) {
  for (RankState& rank : ranks_) {
    alignas(8) std::byte scalar[8] = {};
    encode(type, mulsum_scalar(rank.rank), scalar);
    const Outcome outcome =
        l_.checked(l_.RedOpCreatePreMulSum(&rank.mulsum, scalar, type.type, TUTTI_SCALAR_HOST_IMMEDIATE, rank.comm),
                   "RedOpCreatePreMulSum", rank.comm);
    if (!outcome.ok()) return outcome;
  }
  return {};
}

Outcome Bench::destroy_operators() {
  for (RankState& rank : ranks_) {
    const Outcome outcome = l_.checked(l_.RedOpDestroy(rank.mulsum, rank.comm), "RedOpDestroy", rank.comm);
    if (!outcome.ok()) return outcome;
  }
  return {};
}

// ---- time ----

Outcome Bench::time(Times* times) {
  tuttiResult_t result = barrier();  // nobody writes into a buffer that its owner still fills
  for (int i = 0; result == TUTTI_SUCCESS && i < o_.warmup; ++i) result = iteration();
  if (result == TUTTI_SUCCESS) result = wait();
  if (result == TUTTI_SUCCESS) result = barrier();
  if (result != TUTTI_SUCCESS) return told(result);
  if (o_.graphs > 0) return time_graph(times);
  return told(o_.per_iteration || o_.blocking == Blocking::OuterBarrier ? time_each(times) : time_all(times));
}

tuttiResult_t Bench::time_all(Times* times) {
  const Clock::time_point begin = Clock::now();
  for (int i = 0; i < o_.iterations; ++i) {
    if (const auto result = iteration(); result != TUTTI_SUCCESS) return result;
  }
  const Clock::time_point issued = Clock::now();
  const auto result = wait();
  const double calls = static_cast<double>(o_.iterations) * o_.aggregated;
  times->issued = seconds_between(begin, issued) / calls;
  times->completed = seconds_between(begin, Clock::now()) / calls;
  return result;
}

// One clock reading per iteration (-I), and with -z 3 a barrier between iterations that no time includes.
tuttiResult_t Bench::time_each(Times* times) {
  const bool outer_barrier = o_.blocking == Blocking::OuterBarrier;
  const double calls = static_cast<double>(o_.iterations) * o_.aggregated;
  times->iterations.reserve(static_cast<size_t>(o_.iterations));
  Clock::time_point last = Clock::now();
  for (int i = 0; i < o_.iterations; ++i) {
    if (const auto result = iteration(); result != TUTTI_SUCCESS) return result;
    const Clock::time_point issued = Clock::now();
    if (const auto result = wait(); result != TUTTI_SUCCESS) return result;
    const Clock::time_point completed = o_.null_stream ? issued : Clock::now();
    times->issued += seconds_between(last, issued) / calls;
    times->completed += seconds_between(last, completed) / calls;
    times->iterations.push_back(seconds_between(last, completed));
    last = completed;
    if (!outer_barrier) continue;
    if (const auto result = barrier(); result != TUTTI_SUCCESS) return result;
    last = Clock::now();
  }
  return TUTTI_SUCCESS;
}

// The timed iterations as one graph, launched once before the clock runs and -G times while it does.
Outcome Bench::time_graph(Times* times) {
  const Cuda* cuda = nullptr;
  const Outcome loaded = Cuda::load(&cuda);
  if (!loaded.ok()) return loaded;
  std::vector<Recording::Place> places;
  for (const RankState& rank : ranks_) places.push_back({rank.device.get(), rank.stream});
  Recording graph(*cuda, places);
  Outcome outcome = graph.begin();
  if (!outcome.ok()) return outcome;
  tuttiResult_t result = TUTTI_SUCCESS;
  for (int i = 0; result == TUTTI_SUCCESS && i < o_.iterations; ++i) result = iteration();
  outcome = told(result);
  const Outcome recorded = graph.end();
  if (!outcome.ok() || !recorded.ok()) return outcome.ok() ? recorded : outcome;
  outcome = graph.launch();
  if (outcome.ok()) outcome = told(wait());
  if (outcome.ok()) outcome = told(barrier());

  const Clock::time_point begin = Clock::now();
  for (int i = 0; outcome.ok() && i < o_.graphs; ++i) outcome = graph.launch();
  const Clock::time_point issued = Clock::now();
  if (outcome.ok()) outcome = told(wait());
  const double calls = static_cast<double>(o_.graphs) * o_.iterations * o_.aggregated;
  times->issued = seconds_between(begin, issued) / calls;
  times->completed = seconds_between(begin, Clock::now()) / calls;
  return outcome;
}

Outcome Bench::gather_times(const Test& test, const Times& times, Measurement* measurement) {
  // Per local rank: the time of its thread.
  const std::vector<double> mine(ranks_.size(), o_.cpu_time ? times.issued : times.completed);
  std::vector<double> all;
  Outcome outcome = c_.team.all_gather(c_.thread, mine, &all);
  if (!outcome.ok()) return outcome;
  measurement->seconds = over_ranks(o_.average, all);
  const uint64_t bytes = test.layout.larger() * static_cast<uint64_t>(test.type->bytes);
  measurement->bandwidth = bandwidth(c_.collective, bytes, measurement->seconds, c_.n);
  if (!o_.per_iteration) return {};

  outcome = c_.team.all_gather(c_.thread, times.iterations, &all);
  if (!outcome.ok()) return outcome;
  const size_t iterations = times.iterations.size();
  std::vector<double> slowest(iterations, 0.0);
  for (size_t i = 0; i < all.size(); ++i) slowest[i % iterations] = std::max(slowest[i % iterations], all[i]);
  measurement->iterations = statistics({slowest.begin() + o_.per_iteration_skip, slowest.end()});
  measurement->iteration_seconds = std::move(slowest);
  return {};
}

// ---- data ----

DataSpec Bench::data_of(const Test& test) const { return {test.type, test.op, c_.n, seed_}; }

// The data of one test, with a new seed. In-place reductions that are timed run on zeros: their own result is their
// next input, and repeated sums or products of anything else would end in overflow or denormals, which are slower.
Outcome Bench::fill_buffers(const Test& test, bool for_timing) {
  ++seed_;
  const auto size = static_cast<size_t>(test.type->bytes);
  const DataSpec data = data_of(test);
  const bool zeros = for_timing && test.in_place && test.op != nullptr;
  for (size_t i = 0; i < ranks_.size(); ++i) {
    const Call& call = calls_[i];
    Device& device = *ranks_[i].device;
    std::byte* base = first(ranks_[i].recv, *test.type);
    const size_t span = test.in_place ? test.layout.larger() : test.layout.recv;
    Outcome outcome = device.set(base, zeros ? std::byte{0} : kPoison, span * size);
    if (outcome.ok()) outcome = device.set(base + span * size, kPoison, kGuardBytes);
    if (outcome.ok() && !zeros && c_.collective.sends(call.place)) {
      outcome =
          device.put(data, call.place.rank, 0, test.layout.send, static_cast<std::byte*>(const_cast<void*>(call.send)));
    }
    if (!outcome.ok()) return outcome;
  }
  return {};
}

Outcome Bench::wrong_of(const Test& test, RankState& rank, uint64_t* wrong) const {
  const auto size = static_cast<size_t>(test.type->bytes);
  const Call& call = calls_[static_cast<size_t>(&rank - ranks_.data())];
  const auto* received = static_cast<const std::byte*>(call.recv);
  const uint64_t total = test.layout.count * static_cast<uint64_t>(c_.n) * size;
  const std::vector<Segment> segments = c_.collective.expected != nullptr
                                            ? c_.collective.expected(call.place, test.layout)
                                            : v_segments(o_.traffic, call.place, total, test.type->bytes);
  *wrong = 0;
  for (const Segment& segment : segments) {
    uint64_t here = 0;
    const Outcome outcome = rank.device->count_wrong(data_of(test), segment.source, segment.first, segment.count,
                                                     received + segment.at * size, &here);
    if (!outcome.ok()) return outcome;
    *wrong += here;
  }
  const size_t span = test.in_place ? test.layout.larger() : test.layout.recv;
  std::byte guard[kGuardBytes];
  const Outcome outcome = rank.device->read(first(rank.recv, *test.type) + span * size, guard, kGuardBytes);
  *wrong += static_cast<uint64_t>(
      std::count_if(guard, guard + kGuardBytes, [](std::byte value) { return value != kPoison; }));
  return outcome;
}

Outcome Bench::count_wrong_everywhere(const Test& test, uint64_t* wrong) {
  std::vector<double> mine, all;
  for (RankState& rank : ranks_) {
    uint64_t here = 0;
    const Outcome read = wrong_of(test, rank, &here);
    if (!read.ok()) return read;
    mine.push_back(static_cast<double>(here));
  }
  const Outcome outcome = c_.team.all_gather(c_.thread, mine, &all);
  *wrong = 0;
  for (const double count : all) *wrong += static_cast<uint64_t>(count);
  return outcome;
}

Outcome Bench::check(const Test& test, Measurement* measurement) {
  uint64_t wrong = 0;
  Outcome outcome;
  // The timed loop left its result behind where a call does not destroy its own input.
  const bool left_result = !test.in_place || c_.collective.in_place == InPlace::Repeatable;
  if (left_result) outcome = count_wrong_everywhere(test, &wrong);
  for (int i = 0; outcome.ok() && wrong == 0 && i < o_.checks; ++i) {
    outcome = fill_buffers(test, false);
    if (!outcome.ok()) return outcome;
    tuttiResult_t result = barrier();
    if (result == TUTTI_SUCCESS) result = issue();
    if (result == TUTTI_SUCCESS) result = wait();
    outcome = result == TUTTI_SUCCESS ? count_wrong_everywhere(test, &wrong) : told(result);
  }
  measurement->wrong = wrong;
  return outcome;
}

}  // namespace tutti::perf
