// SPDX-License-Identifier: Apache-2.0
// `tutti tune`: measures what moving bytes costs on this machine and writes a profile for the planner (TUTTI_PROFILE).
//
// In this order, since later parts run with what earlier ones found: slices of the Simple protocol and bytes of slots
// that are cycled through, by how many ranks share a core; the curves of the cost model, from all-gathers of two ranks;
// single constants; then every candidate of every collective on 2, 4 and 8 ranks (`--ranks`), which the planner takes
// as they are. At last, where there are GPUs, the candidates on as many ranks on these, and what a launch and a hop
// take by their smallest calls.
#include <fcntl.h>
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <limits>
#include <numeric>
#include <random>
#include <string_view>
#include <vector>

#include "algo/catalog.h"
#include "exec/cpu/reduce/reduce.h"
#include "plan/profile.h"
#include "tools/tutti/command.h"
#include "tools/tutti/tune/calls.h"
#include "tools/tutti/tune/contest.h"
#include "tools/tutti/tune/gpu_calls.h"
#include "tutti/tutti.h"

namespace tutti::tool {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kPoints = Curve::kPoints;

double us_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

struct Options {
  std::string output = "tutti-profile.json";
  double budget_ms = 10;
  uint64_t most_bytes = 64 << 20;
  std::vector<int> ranks = {2, 4, 8};
  int rounds = 5;
  std::string devices = "auto";
  std::string update;             // a profile of which all but `only` stays; empty: everything is measured
  std::vector<std::string> only;  // collectives; empty: all
};

// A profile in a file, for the processes that are to use it.
class Draft {
 public:
  Draft() : file_(mkostemp(path_, O_CLOEXEC)) {}
  ~Draft() {
    if (file_ < 0) return;
    close(file_);
    unlink(path_);
  }
  Draft(const Draft&) = delete;
  Draft& operator=(const Draft&) = delete;
  Status write(const Profile& profile) {
    if (file_ < 0) return errno_status("mkostemp", path_);
    std::ofstream file(path_);
    file << format_profile(profile);
    file.close();
    return file ? Status() : errno_status("write", path_);
  }
  std::string path() const { return path_; }

 private:
  char path_[32] = "/tmp/tutti-tune-XXXXXX";
  int file_;
};

class Tuner {
 public:
  Tuner(const Options& options, std::vector<int> cpus) : options_(options), cpus_(std::move(cpus)) {
    profile_.name = "draft";
  }

  Result<Profile> run() {
    if (!options_.update.empty()) return update();
    // What has not been measured yet is as it is built in.
    profile_ = built_in_profile(cpu_vendor());
    profile_.name = "draft";
    if (options_.devices != "gpu") TUTTI_TRY(cpus());
    if (options_.devices == "cpu") return profile_;
    const Status gpus_timed = gpus();
    if (gpus_timed.ok()) return profile_;
    if (options_.devices == "gpu") return gpus_timed;
    fmt::print("no GPUs are measured: {}\n", gpus_timed.message());
    profile_.gpu = {};
    return profile_;
  }

 private:
  // Some candidates of CPU ranks anew.
  Result<Profile> update() {
    TUTTI_ASSIGN_OR_RETURN(profile_, read_profile(options_.update));
    TUTTI_ASSIGN_OR_RETURN(std::vector<Timed> timed, all_candidates());
    const auto replaced = [&](const Timed& old) {
      return std::any_of(timed.begin(), timed.end(),
                         [&](const Timed& one) { return one.coll == old.coll && one.ranks == old.ranks; });
    };
    std::erase_if(profile_.timed, replaced);
    profile_.timed.insert(profile_.timed.end(), timed.begin(), timed.end());
    profile_.cpus = static_cast<int>(cpus_.size());
    return profile_;
  }

  Status cpus() {
    TUTTI_TRY(slots());
    TUTTI_TRY(curves());
    TUTTI_ASSIGN_OR_RETURN(profile_.switch_us, switch_us(cpus_[0], options_.budget_ms * 10));
    profile_.combine_gbps = combine_gbps();
    TUTTI_TRY(stream_above());
    fmt::print(
        "a switch between ranks of a core {:.2f} us, combining {:.0f} GB/s, stores past the caches from {} bytes\n",
        profile_.switch_us, profile_.combine_gbps, profile_.stream_above);
    TUTTI_TRY(candidates());
    return {};
  }
  // Last: whoever has used CUDA must not fork.
  Status gpus() {
    TUTTI_ASSIGN_OR_RETURN(bench_, GpuBench::open());
    fmt::print("ranks on {} of {}\n", bench_->gpus(), bench_->gpu());
    GpuProfile& gpu = profile_.gpu;
    gpu.gpu = bench_->gpu();
    gpu.gpus = bench_->gpus();
    TUTTI_ASSIGN_OR_RETURN(gpu.timed, all_candidates());
    gpu.ll = fit_latency(gpu.timed, Proto::LL);
    gpu.simple = fit_latency(gpu.timed, Proto::Simple);
    gpu.share_ll = share_ll(gpu.timed);
    fmt::print("a launch {:.2f} us and a hop {:.2f} with LL, {:.2f} and {:.2f} with Simple; LL moves {:.2f} of it\n",
               gpu.ll.launch_us, gpu.ll.hop_us, gpu.simple.launch_us, gpu.simple.hop_us, gpu.share_ll);
    return {};
  }

  Result<std::vector<std::vector<double>>> time(Calls calls) {
    if (bench_ != nullptr) return bench_->time(calls, options_.budget_ms);
    TUTTI_TRY(draft_.write(profile_));
    calls.profile = draft_.path();
    return time_calls(calls, cpus_, options_.budget_ms);
  }
  Result<std::vector<double>> time_one(Calls calls) {
    TUTTI_ASSIGN_OR_RETURN(const auto us, time(std::move(calls)));
    return us[0];
  }

  // Constants of the Simple protocol that are several by how many ranks share a core, each the best of some powers of
  // two. By two-shot all-reduces, whose slices are written, read and written again. What is built in stays unless
  // another is better by more than such times vary: where stores go past the caches, it does not matter how many slots
  // are cycled through, until the machine is another (SlotStores).
  struct Constant {
    std::string_view title;
    std::array<uint64_t, kSharings> Profile::*of;
    uint64_t least, most;
    std::vector<uint64_t> sizes;
  };
  Status slots() {
    TUTTI_TRY(best_of({"slices", &Profile::slice_bytes, 16 << 10, 512 << 10, {1 << 20, 4 << 20, 16 << 20}}));
    return best_of({"slots of a core", &Profile::cycled_bytes, 256 << 10, 8 << 20, {64 << 10, 256 << 10, 1 << 20}});
  }
  Status best_of(const Constant& constant) {
    std::vector<bool> known(kSharings, false);
    for (const int ranks : options_.ranks) {
      const int cpus = static_cast<int>(cpus_.size());
      const auto sharing = static_cast<size_t>(sharing_class((ranks + cpus - 1) / cpus));
      if (known[sharing] || ranks < 2) continue;
      known[sharing] = true;
      constexpr double kVaries = 1.05;
      double least = std::numeric_limits<double>::max();
      uint64_t& value = (profile_.*constant.of)[sharing];
      const uint64_t before = value;
      uint64_t best = value;
      std::vector<std::string> text;
      for (uint64_t bytes = constant.least; bytes <= constant.most; bytes *= 2) {
        value = bytes;
        TUTTI_ASSIGN_OR_RETURN(const auto us, time_one({.coll = Coll::AllReduce,
                                                        .ranks = ranks,
                                                        .ways = {{Algo::TwoShot, Proto::Simple}},
                                                        .sizes = constant.sizes}));
        double product = 1;
        for (const double one : us) product *= one;
        const double mean = std::cbrt(product), weighed = bytes == before ? mean / kVaries : mean;
        text.push_back(fmt::format("{} KiB {:.1f}", bytes >> 10, mean));
        if (mean > 0 && weighed < least) {
          least = weighed;
          best = bytes;
        }
      }
      value = best;
      fmt::print("{} with {} ranks on {} CPUs, us: {}\n", constant.title, ranks, cpus, fmt::join(text, ", "));
      std::fflush(stdout);
    }
    return {};
  }

  Status curves() {
    struct CurveOf {
      const char* title;
      Curve Profile::*curve;
      Way way;
      int last_point;  // beyond it the rate stays
    };
    const CurveOf kCurves[] = {
        {"slots that carry their flag", &Profile::ll, {Algo::Direct, Proto::LL, false, {}}, 6},
        {"slots", &Profile::slots, {Algo::Direct, Proto::Simple, false, {}}, kPoints - 1},
        {"copies by the kernel", &Profile::kernel, {Algo::Pull, Proto::Rma, false, {}}, kPoints - 1},
        {"windows, read", &Profile::pull, {Algo::Pull, Proto::Rma, true, {}}, kPoints - 1},
        {"windows, written", &Profile::push, {Algo::Push, Proto::Rma, true, {}}, kPoints - 1},
    };
    constexpr int kRanks = 2;
    std::vector<uint64_t> sizes;
    for (int point = 0; point < kPoints; ++point) sizes.push_back(kRanks * Curve::bytes_at(point));
    fmt::print("microseconds of an all-gather of two ranks, by bytes of a rank\n{:<28}", "");
    for (const uint64_t bytes : sizes) fmt::print(" {:>9}", bytes / kRanks);
    fmt::print("\n");
    for (const CurveOf& one : kCurves) {
      const std::vector<uint64_t> some(sizes.begin(), sizes.begin() + one.last_point + 1);
      TUTTI_ASSIGN_OR_RETURN(std::vector<double> us, time_one({.ways = {one.way}, .sizes = some}));
      while (us.size() < sizes.size()) us.push_back(us.back() * 4);
      fmt::print("{:<28}", one.title);
      for (const double each : us) fmt::print(" {:>9.2f}", each);
      fmt::print("\n");
      std::fflush(stdout);
      if (std::find(us.begin(), us.end(), 0) != us.end())
        return system_error("{} do not serve all sizes here: no profile can be made", one.title);
      std::array<double, kPoints> points;
      std::copy(us.begin(), us.end(), points.begin());
      profile_.*one.curve = Curve(points);
    }
    return {};
  }

  // From which size of output on stores past the caches pay, in slots.
  Status stream_above() {
    constexpr int kRanks = 2;
    std::vector<uint64_t> sizes;
    for (uint64_t bytes = 2 << 20; bytes <= 128 << 20; bytes *= 4) sizes.push_back(bytes);
    std::vector<double> us[2];
    for (int streams = 0; streams < 2; ++streams) {
      profile_.stream_above = streams == 1 ? 0 : uint64_t{1} << 50;
      TUTTI_ASSIGN_OR_RETURN(us[streams], time_one({.ranks = kRanks, .ways = {{}}, .sizes = sizes}));
    }
    profile_.stream_above = uint64_t{1} << 50;
    for (size_t i = sizes.size(); i-- > 0 && us[1][i] < us[0][i];) profile_.stream_above = sizes[i];
    return {};
  }

  Status candidates() {
    TUTTI_ASSIGN_OR_RETURN(profile_.timed, all_candidates());
    profile_.cpus = static_cast<int>(cpus_.size());
    return {};
  }
  Result<std::vector<Timed>> all_candidates() {
    std::vector<uint64_t> sizes = {8, 64, 256};
    for (uint64_t bytes = 1 << 10; bytes <= options_.most_bytes; bytes *= 4) sizes.push_back(bytes);
    std::vector<Timed> timed;
    for (const int ranks : options_.ranks) {
      for (int i = 0; i < kCollCount; ++i) {
        const auto coll = static_cast<Coll>(i);
        const auto& only = options_.only;
        if (!only.empty() && std::find(only.begin(), only.end(), name(coll)) == only.end()) continue;
        TUTTI_TRY(time_candidates({.coll = coll, .ranks = ranks, .sizes = sizes}, timed));
      }
    }
    return timed;
  }

  // The least squares of launch + hops * hop, over the smallest size of each candidate of a protocol.
  static GpuProfile::Latency fit_latency(const std::vector<Timed>& timed, Proto proto) {
    double n = 0, x = 0, y = 0, xx = 0, xy = 0, least = std::numeric_limits<double>::max();
    for (const Timed& one : timed) {
      if (one.proto != proto) continue;
      const double hops = find_row(one.coll, one.algo)->hops({one.ranks}), us = one.us.front();
      n += 1;
      x += hops;
      y += us;
      xx += hops * hops;
      xy += hops * us;
      least = std::min(least, us);
    }
    if (n == 0) return {};
    const double spread = n * xx - x * x;
    const double hop = spread > 0 ? std::max((n * xy - x * y) / spread, 0.0) : 0;
    return {std::clamp((y - hop * x) / n, 0.0, least), hop};
  }
  // The bandwidth of LL as a part of that of Simple: by the longest calls of candidates that have both.
  static double share_ll(const std::vector<Timed>& timed) {
    double product = 0, count = 0;
    for (const Timed& ll : timed) {
      for (const Timed& simple : timed) {
        if (ll.proto != Proto::LL || simple.proto != Proto::Simple || ll.coll != simple.coll ||
            ll.algo != simple.algo || ll.ranks != simple.ranks || ll.bytes.back() != simple.bytes.back())
          continue;
        product += std::log(simple.us.back() / ll.us.back());
        count += 1;
      }
    }
    return count == 0 ? 1 : std::min(std::exp(product / count), 1.0);
  }

  std::vector<Way> ways_of(Coll coll, int ranks) const {
    std::vector<Way> ways;
    for (const CatalogRow& row : catalog()) {
      if (row.coll != coll || row.algo == Algo::User || !row.fits({ranks})) continue;
      for (const Proto proto : {Proto::LL, Proto::Simple, Proto::Rma}) {
        if (!row.has(proto) || (bench_ != nullptr && proto == Proto::Rma)) continue;  // kernels use slots
        if ((row.needs & kWindows) == 0) ways.push_back({row.algo, proto, false, {}});
        if (proto == Proto::Rma) ways.push_back({row.algo, proto, true, {}});
      }
    }
    return ways;
  }

  // Windows are a contest of their own: most buffers are not in any, and their best counts among themselves.
  Status time_candidates(Calls calls, std::vector<Timed>& timed) {
    const std::vector<Way> ways = ways_of(calls.coll, calls.ranks);
    const size_t sizes = calls.sizes.size();
    std::vector<Contest> contests(2 * sizes, Contest(ways.size()));
    std::vector<size_t> order(ways.size());
    std::iota(order.begin(), order.end(), size_t{0});
    for (int round = 0; round < options_.rounds; ++round) {
      std::shuffle(order.begin(), order.end(), random_);
      calls.ways.clear();
      std::vector<size_t> who;
      for (const size_t w : order) {
        Way way = ways[w];
        for (size_t i = 0; i < sizes; ++i) way.asked.push_back(contests[2 * i + way.windows].hopeful(w));
        if (std::find(way.asked.begin(), way.asked.end(), true) == way.asked.end()) continue;
        calls.ways.push_back(std::move(way));
        who.push_back(w);
      }
      TUTTI_ASSIGN_OR_RETURN(const auto us, time(calls));
      for (size_t i = 0; i < 2 * sizes; ++i) {
        std::vector<double> of_round(ways.size(), 0);
        for (size_t k = 0; k < who.size(); ++k) {
          if (ways[who[k]].windows == (i % 2 == 1)) of_round[who[k]] = us[k][i / 2];
        }
        contests[i].add(of_round);
      }
    }
    for (size_t w = 0; w < ways.size(); ++w) {
      Timed one = {calls.coll, ways[w].algo, ways[w].proto, calls.ranks, ways[w].windows, {}, {}};
      for (size_t i = 0; i < sizes; ++i) {
        const double us = contests[2 * i + ways[w].windows].us(w);
        if (us == 0) continue;
        one.bytes.push_back(static_cast<double>(calls.sizes[i]));
        one.us.push_back(us);
      }
      if (!one.bytes.empty()) timed.push_back(std::move(one));
    }
    fmt::print("{}, {} ranks, us:", name(calls.coll), calls.ranks);
    for (size_t i = 0; i < sizes; ++i) {
      double best = 0;
      for (size_t w = 0; w < ways.size(); ++w) {
        const double us = contests[2 * i].us(w);
        if (us > 0 && (best == 0 || us < best)) best = us;
      }
      fmt::print(" {:.4g}", best);
    }
    fmt::print("\n");
    std::fflush(stdout);
    return {};
  }

  // Two processes of one core hand it to each other.
  static Result<double> switch_us(int cpu, double budget_ms) {
    auto* turn = static_cast<std::atomic<uint32_t>*>(
        mmap(nullptr, sizeof(std::atomic<uint32_t>), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    if (turn == MAP_FAILED) return errno_status("mmap", "a page of the tool");
    constexpr uint32_t kStop = std::numeric_limits<uint32_t>::max();
    const pid_t child = fork();
    if (child < 0) return errno_status("fork", "a process");
    cpu_set_t before;
    sched_getaffinity(0, sizeof before, &before);
    pin(cpu);
    if (child == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (uint32_t at; (at = turn->load()) != kStop;) {
        if (at % 2 == 1) turn->store(at + 1);
        sched_yield();
      }
      _exit(0);
    }
    const Clock::time_point start = Clock::now();
    uint32_t hand_overs = 0;
    for (uint32_t at = 0; us_since(start) < budget_ms * 1e3;) {
      turn->store(++at);
      while (turn->load() == at) sched_yield();
      ++at;
      hand_overs += 2;
    }
    const double each = us_since(start) / hand_overs;
    turn->store(kStop);
    waitpid(child, nullptr, 0);
    sched_setaffinity(0, sizeof before, &before);
    munmap(turn, sizeof *turn);
    return each;
  }

  // How fast one source more is combined, in the L2.
  static double combine_gbps() {
    constexpr size_t kCount = 32 << 10;
    std::vector<float> a(kCount, 1), b(kCount, 2), c(kCount, 3), out(kCount);
    const void* sources[] = {a.data(), b.data(), c.data()};
    void* to = out.data();
    const ReduceFn reduce = reduce_function(DataType::Float32, ReduceOp::Sum);
    const auto best = [&](int count) {
      double least = std::numeric_limits<double>::max();
      for (int repeat = 0; repeat < 200; ++repeat) {
        const Clock::time_point start = Clock::now();
        reduce(
            {.sources = sources, .source_count = count, .destinations = &to, .destination_count = 1, .count = kCount});
        least = std::min(least, us_since(start));
      }
      return least;
    };
    const double more = std::max(best(3) - best(2), 0.1);
    return kCount * sizeof(float) / more * 1e-3;
  }

  const Options& options_;
  std::vector<int> cpus_;
  Profile profile_;
  Draft draft_;
  std::unique_ptr<GpuBench> bench_;  // null: CPU ranks are timed
  std::minstd_rand random_;          // the same order whenever it runs
};

Status tune(const Options& options) {
  const std::vector<int> cpus = allowed_cpus();
  if (cpus.size() < 2 && options.devices != "gpu") {
    return system_error("{} CPU may be used here, 2 are needed: run it where jobs run, or leave the built-in profile",
                        cpus.size());
  }
  const Clock::time_point start = Clock::now();
  Tuner tuner(options, cpus);
  TUTTI_ASSIGN_OR_RETURN(Profile profile, tuner.run());
  char date[32];
  const time_t now = ::time(nullptr);
  tm local{};
  strftime(date, sizeof date, "%Y-%m-%d", localtime_r(&now, &local));
  profile.name = fmt::format("{}, {}, tutti tune on {} CPUs", cpu_vendor(), date, cpus.size());
  std::ofstream file(options.output);
  file << format_profile(profile);
  file.close();
  if (!file) return errno_status("write", options.output);
  fmt::print("written to {} in {:.0f} s: set TUTTI_PROFILE={} for all ranks\n", options.output, us_since(start) * 1e-6,
             options.output);
  return {};
}

}  // namespace

void add_tune(CLI::App& app) {
  static Options options;
  CLI::App* const command =
      app.add_subcommand("tune", "Measure this machine and write a profile for the planner (TUTTI_PROFILE)");
  command->add_option("-o,--output", options.output, "The file to write")->capture_default_str();
  command->add_option("--budget-ms", options.budget_ms, "Time for each way and size, at least three calls")
      ->capture_default_str()
      ->check(CLI::Range(0.01, 1e5));
  command->add_option("--ranks", options.ranks, "Numbers of ranks to time candidates on")
      ->delimiter(',')
      ->capture_default_str()
      ->check(CLI::Range(1, 64));
  command->add_option("--devices", options.devices, "cpu, gpu, or auto: CPUs, and GPUs where there are some")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "cpu", "gpu"}));
  command->add_option("--only", options.only, "Collectives to time candidates of: all_reduce,send_recv,...")
      ->delimiter(',')
      ->check(CLI::IsMember(std::vector<std::string>(std::begin(kCollNames), std::end(kCollNames))));
  command
      ->add_option(
          "--update", options.update,
          "A profile of this machine, which stays as it is but for the candidates that are timed: CPU ranks of "
          "--ranks and --only")
      ->check(CLI::ExistingFile);
  command->add_option("--rounds", options.rounds, "Times that the candidates are compared")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000));
  command->add_option("--max-bytes", options.most_bytes, "Largest buffer to time candidates with")
      ->capture_default_str()
      ->check(CLI::Range(uint64_t{1024}, uint64_t{1} << 32));
  command->callback([] {
    const Status status = tune(options);
    if (status.ok()) return;
    fmt::print(stderr, "error: {}\n", status.message());
    throw CLI::RuntimeError(1);
  });
}

}  // namespace tutti::tool
