// SPDX-License-Identifier: Apache-2.0
// From the command line to the exit status: parse, start processes (--ranks) or join a job, make communicators, run one
// Bench per thread, report. The steps of a run are the table kSteps.
#include "perf/run_tool.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>

#include "perf/bench.h"
#include "perf/cuda.h"
#include "perf/device.h"
#include "perf/job.h"
#include "perf/json_report.h"
#include "perf/launcher.h"
#include "perf/library.h"
#include "perf/memory.h"
#include "perf/options.h"
#include "perf/pinning.h"
#include "perf/probe.h"
#include "perf/report.h"

namespace tutti::perf {
namespace {

void print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

// One process's part of the run. A step fails on all ranks or ends the process: the launcher ends the others then.
class Tool {
 public:
  Tool(const Collective& collective, const Options& options, const Library& library, std::vector<std::string> command)
      : collective_(collective), o_(options), library_(library), command_(std::move(command)) {}

  Outcome run();
  bool leads() const { return job_ == nullptr || job_->process() == 0; }
  int first_rank() const { return ranks_.empty() ? 0 : ranks_[0].rank; }
  const Totals& totals() const { return totals_; }

 private:
  Outcome join();
  Outcome place_ranks();
  Outcome check_against_ranks();
  Outcome open_json();
  Outcome describe();
  Outcome limit_memory();
  Outcome init_communicators();
  Outcome measure();
  Outcome report();
  Outcome destroy();

  Outcome init_ranks(std::span<RankState> ranks) const;
  Outcome with_remedy(const Outcome& outcome) const;
  Outcome run_thread(int thread);
  Outcome prepare_thread(int thread, Bench* bench);
  void print_header();
  Outcome memory_text(std::string* text);
  std::span<RankState> ranks_of(int thread) {
    const auto each = static_cast<size_t>(o_.ranks_per_thread);
    return std::span(ranks_).subspan(static_cast<size_t>(thread) * each, each);
  }
  int local_ranks() const { return o_.threads * o_.ranks_per_thread; }

  const Collective& collective_;
  Options o_;
  const Library& library_;
  const std::vector<std::string> command_;
  std::unique_ptr<Job> job_;
  std::vector<RankState> ranks_;
  std::vector<RankInfo> infos_;  // of all ranks
  tuttiUniqueId id_{};
  int n_ = 0;
  int library_version_ = 0;
  size_t bytes_per_buffer_ = 0;
  JsonReport json_;
  std::unique_ptr<ProgressLine> progress_;
  std::unique_ptr<Team> team_;
  std::unique_ptr<Watchdog> watchdog_;
  Observer observer_;  // empty unless this process has rank 0
  Totals totals_;
  uint64_t memory_[4] = {};  // used at the start, with communicators, with buffers, at the end
};

Outcome Tool::run() {
  constexpr Outcome (Tool::*kSteps[])() = {
      &Tool::join,         &Tool::place_ranks, &Tool::check_against_ranks, &Tool::open_json,
      &Tool::limit_memory, &Tool::describe,    &Tool::init_communicators,  &Tool::measure,
      &Tool::report,       &Tool::destroy};
  for (const auto step : kSteps) {
    Outcome outcome = (this->*step)();
    if (!outcome.ok()) return outcome;
  }
  return {};
}

Outcome Tool::join() {
  memory_[0] = proportional_memory();
  const Outcome joined = join_job(&job_);
  if (!joined.ok()) return joined;
  n_ = local_ranks() * job_->processes();
  ranks_ = std::vector<RankState>(static_cast<size_t>(local_ranks()));
  for (int i = 0; i < local_ranks(); ++i) ranks_[static_cast<size_t>(i)].rank = job_->process() * local_ranks() + i;
  team_ = std::make_unique<Team>(*job_, o_.threads);
  const std::string who = std::string(collective_.program) + ": rank " + std::to_string(first_rank());
  watchdog_ = std::make_unique<Watchdog>(o_.timeout_s, who);
  return library_.checked(library_.GetVersion(&library_version_), "GetVersion", nullptr);
}

// The ranks of a host take its devices in turn, as nccl-tests has it; those of a process lie side by side.
Outcome Tool::place_ranks() {
  struct Host {
    char name[64];
  };
  Host mine{};
  ::gethostname(mine.name, sizeof mine.name - 1);
  std::vector<Host> hosts;
  Outcome outcome = job_->all_gather(std::vector<Host>{mine}, &hosts);
  const Cuda* cuda = nullptr;
  if (outcome.ok() && o_.on_gpus) outcome = Cuda::load(&cuda);
  if (!outcome.ok()) return outcome;
  const auto before = std::count_if(hosts.begin(), hosts.begin() + job_->process(),
                                    [&](const Host& other) { return std::strcmp(other.name, mine.name) == 0; });
  int place = static_cast<int>(before) * local_ranks();
  for (RankState& rank : ranks_) {
    if (o_.on_gpus) {
      outcome = make_gpu(*cuda, place++ % cuda->devices, &rank.device);
    } else {
      rank.device = make_cpu(library_);
    }
    if (!outcome.ok()) return outcome;
  }
  return {};
}

Outcome Tool::check_against_ranks() {
  if (collective_.rooted && o_.root >= n_) {
    return Outcome::failure("-r " + std::to_string(o_.root) + ": there are only " + std::to_string(n_) + " ranks",
                            kExitUsage);
  }
  if (!o_.traffic.matrix.empty() && n_ > o_.traffic.dimension) {
    return Outcome::failure("--matrix: has " + std::to_string(o_.traffic.dimension) + " rows, but there are " +
                                std::to_string(n_) + " ranks",
                            kExitUsage);
  }
  return {};
}

// Rank 0 opens the file; the others learn whether that went well, so that nobody waits for it in vain.
Outcome Tool::open_json() {
  if (o_.json_path.empty()) return {};
  const Outcome opened = leads() ? json_.open(o_.json_path) : Outcome();
  std::vector<int> all;
  const Outcome gathered = job_->all_gather(std::vector<int>{opened.ok() ? 0 : 1}, &all);
  if (!gathered.ok() || !opened.ok()) return gathered.ok() ? opened : gathered;
  return all[0] == 0 ? Outcome() : Outcome::failure("-J: rank 0 cannot open the file", kExitUsage);
}

// All ranks of a device, and all of a host's CPUs, must fit into it: two buffers each. Sizes beyond that are left out,
// as nccl-tests does.
Outcome Tool::limit_memory() {
  struct Room {
    char host[64];
    uint64_t bytes;
  };
  Room mine{};
  ::gethostname(mine.host, sizeof mine.host - 1);
  // For a process: what the fullest of its devices has for those of our ranks that are there.
  mine.bytes = UINT64_MAX;
  for (const RankState& rank : ranks_) {
    const auto here = [&](const RankState& other) { return other.device->ordinal() == rank.device->ordinal(); };
    const auto sharers = static_cast<uint64_t>(std::count_if(ranks_.begin(), ranks_.end(), here));
    mine.bytes = std::min(mine.bytes, rank.device->free_bytes() / sharers);
  }
  std::vector<Room> all;
  const Outcome gathered = job_->all_gather(std::vector<Room>{mine}, &all);
  if (!gathered.ok()) return gathered;
  uint64_t limit = UINT64_MAX;
  for (const Room& room : all) {
    const auto same = [&](const Room& other) { return std::strcmp(other.host, room.host) == 0; };
    const auto sharers = static_cast<uint64_t>(std::count_if(all.begin(), all.end(), same));
    limit = std::min(limit, room.bytes / 10 * 9 / (2 * sharers));
  }
  if (o_.ladder.last > limit) {
    o_.ladder.last = limit;
    o_.ladder.first = std::min(o_.ladder.first, limit);
    o_.notes.push_back("Reducing maxBytes to " + std::to_string(limit) + " due to memory limitation");
  }
  bytes_per_buffer_ = o_.ladder.last;
  if (collective_.kind == Kind::AllToAllV) {  // a matrix has its own sizes
    bytes_per_buffer_ =
        std::max<size_t>(bytes_per_buffer_, layout_for(collective_, o_.ladder.last, 1, n_, o_.traffic).larger());
  }
  return {};
}

// Who and where every rank is, then the header.
Outcome Tool::describe() {
  const Machine machine = this_machine();
  std::vector<RankInfo> mine;
  for (const RankState& rank : ranks_) {
    RankInfo info{.rank = rank.rank, .pid = ::getpid()};
    std::snprintf(info.host, sizeof info.host, "%s", machine.host.c_str());
    info.device = std::max(rank.device->ordinal(), 0);
    std::snprintf(info.place, sizeof info.place, "%s", rank.device->place().c_str());
    std::snprintf(info.model, sizeof info.model, "%s", rank.device->model().c_str());
    mine.push_back(info);
  }
  const Outcome gathered = job_->all_gather(mine, &infos_);
  if (!gathered.ok() || !leads()) return gathered;

  if (json_.is_open()) print("# Writing JSON output to " + json_.path() + "\n");
  print(header_text(collective_, o_, job_->processes(), library_version_, infos_));
  progress_ = std::make_unique<ProgressLine>(true, number_of_tests(collective_, o_, n_));
  observer_.row = [this](const Row& row) {
    progress_->clear();
    print(row_text(o_, row));
    json_.add(o_, row);
  };
  observer_.progress = [this](uint64_t done, const std::string& what) { progress_->show(done, what); };
  return {};
}

// ---- communicators ----

Outcome Tool::init_communicators() {
  if (job_->communicator() != nullptr && local_ranks() == 1 && library_.is_own() && !o_.on_gpus) {
    ranks_[0].comm = job_->communicator();
    ranks_[0].owns_comm = false;
  } else {
    tuttiUniqueId mine{};
    Outcome outcome = leads() ? library_.checked(library_.GetUniqueId(&mine), "GetUniqueId", nullptr) : Outcome();
    std::vector<tuttiUniqueId> all;
    if (outcome.ok()) outcome = job_->all_gather(std::vector<tuttiUniqueId>{mine}, &all);
    if (!outcome.ok()) return outcome;
    id_ = all[0];
    if (!o_.parallel_init) outcome = init_ranks(ranks_);
    if (!outcome.ok()) return outcome;
  }
  memory_[1] = proportional_memory();
  return {};
}

Outcome Tool::init_ranks(std::span<RankState> ranks) const {
  Outcome outcome;
  if (ranks.size() > 1) outcome = library_.checked(library_.GroupStart(), "GroupStart", nullptr);
  for (RankState& rank : ranks) {
    if (!outcome.ok()) break;
    const CurrentDevice current(*rank.device);
    outcome = current.outcome();
    if (outcome.ok())
      outcome = library_.checked(library_.join(&rank.comm, n_, id_, rank.rank, rank.device->ordinal()), "CommInitRank",
                                 nullptr);
  }
  if (ranks.size() > 1 && outcome.ok()) outcome = library_.checked(library_.GroupEnd(), "CommInitRank", nullptr);
  return outcome.ok() || !o_.on_gpus ? outcome : with_remedy(outcome);
}

// What most often stands in the way of ranks on GPUs.
Outcome Tool::with_remedy(const Outcome& outcome) const {
  const auto shared = [&](const RankInfo& one) {
    return std::any_of(infos_.begin(), infos_.end(), [&](const RankInfo& other) {
      return one.rank != other.rank && one.device == other.device && std::strcmp(one.host, other.host) == 0;
    });
  };
  std::string remedy = "; --cpu measures ranks on CPUs";
  if (!library_.is_own() && std::any_of(infos_.begin(), infos_.end(), shared))
    remedy = "; several ranks share a GPU here, which this library may not allow: use as many ranks as GPUs";
  return Outcome::failure(outcome.message() + remedy, outcome.status());
}

Outcome Tool::destroy() {
  for (const RankState& rank : ranks_) {
    if (!rank.owns_comm) continue;
    const Outcome outcome = library_.checked(library_.CommDestroy(rank.comm), "CommDestroy", nullptr);
    if (!outcome.ok()) return outcome;
  }
  watchdog_.reset();
  job_.reset();
  return {};
}

// ---- threads ----

// A thread that fails ends the process at once: its siblings may wait for it inside the library.
Outcome Tool::measure() {
  const auto body = [this](int thread) {
    const Outcome outcome = run_thread(thread);
    if (outcome.ok()) return;
    if (progress_) progress_->clear();
    std::fprintf(stderr, "%s: rank %d: %s\n", collective_.program, ranks_of(thread)[0].rank, outcome.message().c_str());
    ::_exit(outcome.status());
  };
  std::vector<std::thread> threads;
  for (int thread = 1; thread < o_.threads; ++thread) threads.emplace_back(body, thread);
  body(0);
  for (std::thread& thread : threads) thread.join();
  return {};
}

Outcome Tool::run_thread(int thread) {
  const Observer silent;
  const bool reports = thread == 0 && leads();
  const BenchContext context{.collective = collective_,
                             .library = library_,
                             .options = o_,
                             .team = *team_,
                             .watchdog = *watchdog_,
                             .observer = reports ? observer_ : silent,
                             .thread = thread,
                             .n = n_};
  Outcome outcome;
  if (o_.parallel_init && ranks_[0].owns_comm) outcome = init_ranks(ranks_of(thread));
  if (!outcome.ok()) return outcome;
  Bench bench(context, ranks_of(thread));
  outcome = prepare_thread(thread, &bench);
  if (outcome.ok()) outcome = bench.run();
  if (!outcome.ok()) return outcome;
  if (thread == 0) totals_ = bench.totals();
  if (thread == 0) memory_[3] = proportional_memory();
  bench.finish();
  return {};
}

// Buffers; rank 0 says when somebody's could not be registered, then prints the heads of the columns.
Outcome Tool::prepare_thread(int thread, Bench* bench) {
  std::string refused;
  const Outcome prepared = bench->prepare(bytes_per_buffer_, &refused);
  if (!prepared.ok()) return prepared;
  std::vector<double> all;
  const std::vector<double> mine(ranks_of(thread).size(), refused.empty() ? 0 : 1);
  const Outcome gathered = team_->all_gather(thread, mine, &all);
  if (!gathered.ok() || thread != 0) return gathered;
  memory_[2] = proportional_memory();
  if (!leads()) return {};
  const auto refusals = std::count(all.begin(), all.end(), 1.0);
  if (refusals > 0) {
    o_.notes.push_back("-R " + std::to_string(static_cast<int>(o_.registration)) + ": " + std::to_string(refusals) +
                       " of " + std::to_string(n_) + " ranks measure unregistered buffers" +
                       (refused.empty() ? "" : ": " + refused));
    print("# note: " + o_.notes.back() + "\n");
  }
  print(columns_text(o_));
  json_.start(collective_, o_, command_, job_->processes(), library_version_, infos_, this_machine());
  return {};
}

// ---- end ----

Outcome Tool::report() {
  std::string memory;
  const Outcome outcome = o_.memory ? memory_text(&memory) : Outcome();
  if (!leads()) return outcome;
  progress_->clear();
  print(footer_text(collective_, o_, totals_) + memory);
  json_.finish(o_, totals_);
  return outcome;
}

Outcome Tool::memory_text(std::string* text) {
  const std::vector<uint64_t> mine = {memory_[1] - std::min(memory_[0], memory_[1]),
                                      memory_[3] - std::min(memory_[2], memory_[3])};
  std::vector<uint64_t> all;
  const Outcome gathered = job_->all_gather(mine, &all);
  uint64_t init = 0, tests = 0;
  for (size_t i = 0; i + 1 < all.size(); i += 2) {
    init = std::max(init, all[i]);
    tests = std::max(tests, all[i + 1]);
  }
  char line[160];
  std::snprintf(line, sizeof line, "# %-20s : initialisation %.2f MiB, tests %.2f MiB per process (largest)\n",
                "Memory without data", static_cast<double>(init) / 0x1p20, static_cast<double>(tests) / 0x1p20);
  *text = line;
  return gathered;
}

// Where the ranks are. A child of --ranks is on CPUs: only there processes are started.
Outcome choose_device(const Library& library, Options* o) {
  const bool child = std::getenv(kLocalJobVariable) != nullptr;
  bool gpus = o->device == DeviceChoice::Gpu;
  if (o->device == DeviceChoice::Auto && !child) {
    const Probed probed = probe_gpus(library.is_own());
    gpus = probed.usable;
    if (!gpus && o->graphs > 0) o->notes.push_back("no GPU is used: " + probed.why_not);
  }
  // A library of ours that stands for NCCL would look for GPUs by itself.
  if (!gpus && !library.is_own()) ::setenv("TUTTI_NCCL_CPU", "1", 1);
  return settle_options(gpus, o);
}

int launch_processes(const Collective& collective, const Options& options, int argc, char** argv) {
  LaunchPlan plan{.name = collective.program,
                  .executable = "/proc/self/exe",
                  .arguments = {argv, argv + argc},
                  .processes = options.local_ranks};
  const std::vector<int> cpus = cores_first(allowed_cpus());
  for (int process = 0; options.pin && process < options.local_ranks; ++process) {
    plan.cpus.push_back(share(cpus, process, options.local_ranks, options.threads));
  }
  return launch(plan);
}

}  // namespace

int run_tool(const char* program, int argc, char** argv) {
  const Collective& collective = *find_collective(program);
  const ParsedOptions parsed = parse_options(collective, argc, argv);
  if (parsed.stop) {
    print(parsed.text);
    return kExitOk;
  }
  const auto explain = [&](const std::string& message) { std::fprintf(stderr, "%s: %s\n", program, message.c_str()); };
  if (!parsed.outcome.ok()) {
    explain(parsed.outcome.message());
    std::fprintf(stderr, "Try %s --help\n", program);
    return parsed.outcome.status();
  }
  Options options = parsed.options;
  std::unique_ptr<const Library> opened;
  if (!options.library_path.empty()) {
    const Outcome outcome = Library::open(options.library_path, &opened);
    if (!outcome.ok()) {
      explain(outcome.message());
      return outcome.status();
    }
  }
  const Library& library = opened ? *opened : Library::own();
  if (const Outcome chosen = choose_device(library, &options); !chosen.ok()) {
    explain(chosen.message());
    return chosen.status();
  }
  if (options.local_ranks > 0 && std::getenv(kLocalJobVariable) == nullptr) {
    return launch_processes(collective, options, argc, argv);
  }
  Tool tool(collective, options, library, {argv, argv + argc});
  const Outcome outcome = tool.run();
  if (!outcome.ok()) {
    const bool agreed = outcome.status() == kExitUsage;  // every rank knows; one of them tells
    if (!agreed || tool.leads()) {
      explain((agreed ? "" : "rank " + std::to_string(tool.first_rank()) + ": ") + outcome.message());
    }
    std::fflush(stdout);
    ::_exit(outcome.status());  // the library may be in the middle of a call
  }
  return tool.totals().wrong != 0 || tool.totals().too_slow ? kExitWrong : kExitOk;
}

}  // namespace tutti::perf
