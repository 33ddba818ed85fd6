// SPDX-License-Identifier: Apache-2.0
// `tutti tune`: measures what moving bytes costs on this machine and writes a profile for the planner (TUTTI_PROFILE).
//
// Two processes on two cores do all-gathers through the public API, once per way of moving bytes: the environment
// forces the way and is read once per process, so each way has processes of its own. Each call's input is written anew,
// as programs do, and a call's time is that of the slower rank. A size's figure is the median of its calls.
//
// The processes are forked before this one uses the library, since a process that has used it must not fork.
#include <fcntl.h>
#include <fmt/core.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <limits>
#include <thread>
#include <vector>

#include "exec/cpu/reduce/reduce.h"
#include "plan/profile.h"
#include "tools/tutti/command.h"
#include "tutti/tutti.h"

namespace tutti::tool {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kRanks = 2, kPoints = Curve::kPoints;

double us_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}
double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

// What one measurement wants.
struct Way {
  const char* title;
  const char* protocol;   // TUTTI_PROTO
  const char* algorithm;  // TUTTI_ALGO
  bool windows;
  int last_point;  // beyond it the rate stays
};
constexpr Way kWays[] = {
    {"slots that carry their flag", "ll", "all_gather:direct", false, 6},
    {"slots", "simple", "all_gather:direct", false, kPoints - 1},
    {"copies by the kernel", "rma", "all_gather:pull", false, kPoints - 1},
    {"windows, read", "rma", "all_gather:pull", true, kPoints - 1},
    {"windows, written", "rma", "all_gather:push", true, kPoints - 1},
};

// Between the processes of one measurement. Zeroed memory is its start.
struct Page {
  std::atomic<uint32_t> has_id;
  tuttiUniqueId id;
  alignas(64) std::atomic<uint32_t> arrived[kRanks];
  double call_us[kRanks];
  double us[kPoints];  // results, by rank 0
  char error[512];
};

[[noreturn]] void give_up(Page& page, const char* call) {
  std::snprintf(page.error, sizeof page.error, "%s: %s", call, tuttiGetLastError(nullptr));
  _exit(1);
}
void require(Page& page, tuttiResult_t result, const char* call) {
  if (result != TUTTI_SUCCESS) give_up(page, call);
}

// Both ranks; gives the core away, since the machine may have other work. A rank that died ends the other through the
// parent.
void meet(Page& page, int rank, uint32_t& meetings) {
  page.arrived[rank].store(++meetings, std::memory_order_release);
  while (page.arrived[1 - rank].load(std::memory_order_acquire) < meetings) sched_yield();
}

// One rank's part in one way.
void measure(Page& page, const Way& way, int rank, double budget_ms, std::vector<int> points) {
  tuttiComm_t comm = nullptr;
  if (rank == 0) {
    require(page, tuttiGetUniqueId(&page.id), "tuttiGetUniqueId");
    page.has_id.store(1, std::memory_order_release);
  }
  while (page.has_id.load(std::memory_order_acquire) == 0) sched_yield();
  require(page, tuttiCommInitRank(&comm, kRanks, page.id, rank), "tuttiCommInitRank");
  const size_t most = Curve::bytes_at(points.back());
  void *input = nullptr, *output = nullptr;
  tuttiWindow_t windows[2];
  if (way.windows) {
    require(page, tuttiMemAlloc(&input, most), "tuttiMemAlloc");
    require(page, tuttiMemAlloc(&output, kRanks * most), "tuttiMemAlloc");
    require(page, tuttiCommWindowRegister(comm, input, most, &windows[0], 0), "tuttiCommWindowRegister");
    require(page, tuttiCommWindowRegister(comm, output, kRanks * most, &windows[1], 0), "tuttiCommWindowRegister");
  } else {
    input = std::malloc(most);
    output = std::malloc(kRanks * most);
    if (input == nullptr || output == nullptr) give_up(page, "malloc");
  }
  std::memset(output, 0, kRanks * most);

  uint32_t meetings = 0;
  constexpr size_t kFewest = 5, kMost = 2000;
  for (const int point : points) {
    const size_t bytes = Curve::bytes_at(point);
    std::vector<double> calls;
    const Clock::time_point begin = Clock::now();
    for (bool more = true; more;) {
      std::memset(input, static_cast<int>(calls.size() & 127) + 1, bytes);
      meet(page, rank, meetings);
      const Clock::time_point start = Clock::now();
      const tuttiResult_t result = tuttiAllGather(input, output, bytes, TUTTI_UINT8, comm, nullptr);
      page.call_us[rank] = us_since(start);
      require(page, result, "tuttiAllGather");
      meet(page, rank, meetings);
      calls.push_back(std::max(page.call_us[0], page.call_us[1]));
      const auto* peers = static_cast<const unsigned char*>(output) + (1 - rank) * bytes;
      if (peers[0] != peers[bytes - 1] || peers[0] != ((calls.size() - 1) & 127) + 1) give_up(page, "a value is wrong");
      // Rank 0 decides for both.
      if (rank == 0)
        page.us[point] = calls.size() >= kMost || (us_since(begin) > budget_ms * 1e3 && calls.size() >= kFewest);
      meet(page, rank, meetings);
      more = page.us[point] == 0;
      meet(page, rank, meetings);
    }
    // The first calls connect and touch memory.
    if (rank == 0) page.us[point] = median({calls.begin() + 2, calls.end()});
    meet(page, rank, meetings);
  }
  tuttiCommDestroy(comm);
}

std::vector<int> allowed_cpus() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &allowed)) cpus.push_back(cpu);
  }
  return cpus;
}
void pin(int cpu) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  sched_setaffinity(0, sizeof one, &one);
}

// Runs both ranks of a way to their end.
Result<std::array<double, kPoints>> run(const Way& way, const std::vector<int>& cpus, double budget_ms,
                                        const std::vector<int>& points, const std::string& profile) {
  void* memory = mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return errno_status("mmap", "a page of the tool");
  Page& page = *static_cast<Page*>(memory);
  pid_t children[kRanks];
  const pid_t parent = getpid();
  for (int rank = 0; rank < kRanks; ++rank) {
    children[rank] = fork();
    if (children[rank] < 0) return errno_status("fork", "a rank");
    if (children[rank] > 0) continue;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    setenv("TUTTI_PROTO", way.protocol, 1);
    setenv("TUTTI_ALGO", way.algorithm, 1);
    setenv("TUTTI_PROFILE", profile.c_str(), 1);
    setenv("TUTTI_TRANSPORTS", "shm", 1);
    pin(cpus[static_cast<size_t>(rank)]);
    measure(page, way, rank, budget_ms, points);
    _exit(0);
  }
  bool failed = false;
  for (int left = kRanks; left > 0; --left) {
    int status = 0;
    const pid_t ended = waitpid(-1, &status, 0);
    failed |= status != 0;
    for (const pid_t child : children) {
      if (failed && child != ended) kill(child, SIGKILL);  // it would wait for ever
    }
  }
  std::array<double, kPoints> us;
  std::copy(std::begin(page.us), std::end(page.us), us.begin());
  const std::string why = page.error;
  munmap(memory, sizeof(Page));
  if (failed) return system_error("measuring {} failed: {}", way.title, why.empty() ? "a rank ended early" : why);
  return us;
}

Result<Curve> curve_of(const Way& way, const std::vector<int>& cpus, double budget_ms) {
  std::vector<int> points;
  for (int point = 0; point <= way.last_point; ++point) points.push_back(point);
  TUTTI_ASSIGN_OR_RETURN(auto us, run(way, cpus, budget_ms, points, ""));
  for (size_t point = static_cast<size_t>(way.last_point) + 1; point < us.size(); ++point)
    us[point] = us[point - 1] * 4;
  fmt::print("{:<28}", way.title);
  for (const double one : us) fmt::print(" {:>9.2f}", one);
  fmt::print("\n");
  return Curve(us);
}

// Two processes of one core hand it to each other.
Result<double> switch_us(int cpu, double budget_ms) {
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
double combine_gbps() {
  constexpr size_t kCount = 32 << 10;
  std::vector<float> a(kCount, 1), b(kCount, 2), c(kCount, 3), out(kCount);
  const void* sources[] = {a.data(), b.data(), c.data()};
  void* to = out.data();
  const ReduceFn reduce = reduce_function(DataType::Float32, ReduceOp::Sum);
  const auto best = [&](int count) {
    double least = std::numeric_limits<double>::max();
    for (int repeat = 0; repeat < 200; ++repeat) {
      const Clock::time_point start = Clock::now();
      reduce({.sources = sources, .source_count = count, .destinations = &to, .destination_count = 1, .count = kCount});
      least = std::min(least, us_since(start));
    }
    return least;
  };
  const double more = std::max(best(3) - best(2), 0.1);
  return kCount * sizeof(float) / more * 1e-3;
}

// From which size of output on stores past the caches pay, in slots.
Result<uint64_t> stream_above(const std::vector<int>& cpus, double budget_ms, Profile profile) {
  char path[] = "/tmp/tutti-tune-XXXXXX";
  const int file = mkostemp(path, O_CLOEXEC);
  if (file < 0) return errno_status("mkostemp", path);
  const std::vector<int> points = {6, 7, 8, 9};  // 1 to 64 MiB
  std::array<double, kPoints> us[2];
  Status status;
  for (int streams = 0; streams < 2 && status.ok(); ++streams) {
    profile.stream_above = streams == 1 ? 0 : uint64_t{1} << 50;
    std::ofstream(path) << format_profile(profile);
    auto measured = run(kWays[1], cpus, budget_ms, points, path);
    status = measured.status();
    if (status.ok()) us[streams] = *measured;
  }
  close(file);
  unlink(path);
  TUTTI_TRY(status);
  uint64_t above = uint64_t{1} << 50;
  for (auto point = points.rbegin(); point != points.rend(); ++point) {
    if (us[1][static_cast<size_t>(*point)] >= us[0][static_cast<size_t>(*point)]) break;
    above = kRanks * Curve::bytes_at(*point);
  }
  return above;
}

Status tune(const std::string& output, double budget_ms) {
  const std::vector<int> cpus = allowed_cpus();
  if (cpus.size() < kRanks) {
    return system_error("{} CPU may be used here, {} are needed: run it where jobs run, or leave the built-in profile",
                        cpus.size(), kRanks);
  }
  const Clock::time_point start = Clock::now();
  Profile profile;
  fmt::print("microseconds of an all-gather of two ranks, by bytes of a rank\n{:<28}", "");
  for (int point = 0; point < kPoints; ++point) fmt::print(" {:>9}", Curve::bytes_at(point));
  fmt::print("\n");
  std::fflush(stdout);
  Curve* const curves[] = {&profile.ll, &profile.slots, &profile.kernel, &profile.pull, &profile.push};
  for (size_t way = 0; way < std::size(kWays); ++way) {
    TUTTI_ASSIGN_OR_RETURN(*curves[way], curve_of(kWays[way], cpus, budget_ms));
    std::fflush(stdout);
  }
  TUTTI_ASSIGN_OR_RETURN(profile.switch_us, switch_us(cpus[0], budget_ms));
  profile.combine_gbps = combine_gbps();
  profile.name = "draft";
  TUTTI_ASSIGN_OR_RETURN(profile.stream_above, stream_above(cpus, budget_ms, profile));
  char date[32];
  const time_t now = time(nullptr);
  tm local{};
  strftime(date, sizeof date, "%Y-%m-%d", localtime_r(&now, &local));
  profile.name = fmt::format("{}, {}, tutti tune on CPUs {} and {}", cpu_vendor(), date, cpus[0], cpus[1]);
  fmt::print(
      "a switch between ranks of a core {:.2f} us, combining {:.0f} GB/s, stores past the caches from {} bytes\n",
      profile.switch_us, profile.combine_gbps, profile.stream_above);
  std::ofstream file(output);
  file << format_profile(profile);
  file.close();
  if (!file) return errno_status("write", output);
  fmt::print("written to {} in {:.0f} s: set TUTTI_PROFILE={} for all ranks\n", output, us_since(start) * 1e-6, output);
  return {};
}

}  // namespace

void add_tune(CLI::App& app) {
  static std::string output = "tutti-profile.json";
  static double budget_ms = 250;
  CLI::App* const command =
      app.add_subcommand("tune", "Measure this machine and write a profile for the planner (TUTTI_PROFILE)");
  command->add_option("-o,--output", output, "The file to write")->capture_default_str();
  command->add_option("--budget-ms", budget_ms, "Time for each way and size")
      ->capture_default_str()
      ->check(CLI::Range(1.0, 1e5));
  command->callback([] {
    const Status status = tune(output, budget_ms);
    if (status.ok()) return;
    fmt::print(stderr, "error: {}\n", status.message());
    throw CLI::RuntimeError(1);
  });
}

}  // namespace tutti::tool
