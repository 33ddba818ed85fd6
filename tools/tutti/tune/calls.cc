// SPDX-License-Identifier: Apache-2.0
#include "tools/tutti/tune/calls.h"

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
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tools/tutti/tune/issue.h"

namespace tutti::tool {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kMostRanks = 64, kMostSizes = 64, kMostWays = 64;
constexpr int kFewestBatches = 3, kMostBatches = 9, kMostCalls = 4000;
// Slots are touched for the first time during the first few hundred calls: that is no part of a way's price.
constexpr int kFirstCalls = 400;
constexpr double kFirstUs = 1e5;
constexpr double kSlowShare = 3;
constexpr uint64_t kSlowFrom = 64 << 10;

double us_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}
// Between the processes. Zeroed memory is its start.
struct Page {
  struct Id {
    std::atomic<uint32_t> known;
    tuttiUniqueId id;
  } ids[kMostWays];
  struct alignas(64) Rank {
    std::atomic<uint32_t> arrived;
    double value;
  } ranks[kMostRanks];
  double us[kMostWays][kMostSizes];  // results, by rank 0
  char error[512];
};

class Rank {
 public:
  Rank(Page& page, const Calls& calls, int rank) : page_(page), calls_(calls), rank_(rank) {
    for (size_t w = 0; w < calls.ways.size(); ++w) {
      Page::Id& place = page.ids[w];
      if (rank == 0) {
        require(tuttiGetUniqueId(&place.id), "tuttiGetUniqueId");
        place.known.store(1, std::memory_order_release);
      }
      while (place.known.load(std::memory_order_acquire) == 0) sched_yield();
      const std::string algorithm = fmt::format("{}:{}", name(calls.coll), name(calls.ways[w].algo));
      const std::string protocol(name(calls.ways[w].proto));
      tuttiConfig_t config = TUTTI_CONFIG_INITIALIZER;
      config.algorithms = algorithm.c_str();
      config.protocols = protocol.c_str();
      require(tuttiCommInitRankConfig(&comm_, calls.ranks, place.id, rank, &config), "tuttiCommInitRankConfig");
      comms_.push_back({comm_});
    }
  }
  ~Rank() {
    for (const Comm& one : comms_) tuttiCommDestroy(one.comm);
  }
  Rank(const Rank&) = delete;
  Rank& operator=(const Rank&) = delete;

  void measure(double budget_ms) {
    for (size_t i = 0; i < calls_.sizes.size(); ++i) {
      const uint64_t bytes = calls_.sizes[i];
      double bests[2] = {0, 0};  // of ordinary buffers, of windows
      Buffers ordinary = {}, shared = {};
      for (size_t w = 0; w < calls_.ways.size(); ++w) {
        const Way& way = calls_.ways[w];
        if (!way.asked.empty() && !way.asked[i]) continue;
        double& best = bests[way.windows];
        Buffers& buffers = way.windows ? shared : ordinary;
        if (buffers.in == nullptr)
          buffers = {allocate(whole_of(bytes), way.windows), allocate(whole_of(bytes), way.windows)};
        const double us = time_way(w, bytes, buffers, best, budget_ms);
        if (rank_ == 0) page_.us[w][i] = us;
        if (us > 0 && (best == 0 || us < best)) best = us;
      }
      std::free(ordinary.in);
      std::free(ordinary.out);
      for (float* const memory : {shared.in, shared.out}) require(tuttiMemFree(memory), "tuttiMemFree");
    }
  }

 private:
  struct Buffers {
    float *in, *out;
  };

  // All ranks; gives the core away, since the machine may have other work. The parent ends those who wait for a rank
  // that died.
  void meet() {
    page_.ranks[rank_].arrived.store(++meetings_, std::memory_order_release);
    for (int r = 0; r < calls_.ranks; ++r) {
      while (page_.ranks[r].arrived.load(std::memory_order_acquire) < meetings_) sched_yield();
    }
  }
  double greatest(double value) {
    page_.ranks[rank_].value = value;
    meet();
    double most = 0;
    for (int r = 0; r < calls_.ranks; ++r) most = std::max(most, page_.ranks[r].value);
    meet();
    return most;
  }

  [[noreturn]] void give_up(const char* call) {
    std::snprintf(page_.error, sizeof page_.error, "%s: %s", call, tuttiGetLastError(comm_));
    _exit(1);
  }
  void require(tuttiResult_t result, const char* call) {
    if (result != TUTTI_SUCCESS) give_up(call);
  }

  // Elements.
  size_t whole_of(uint64_t bytes) const {
    const auto n = static_cast<size_t>(calls_.ranks);
    return std::max<size_t>(bytes / sizeof(float) / n * n, n);
  }
  float* allocate(size_t whole, bool windows) {
    const size_t bytes = whole * sizeof(float);
    void* memory = nullptr;
    if (windows) {
      require(tuttiMemAlloc(&memory, bytes), "tuttiMemAlloc");
    } else if (posix_memalign(&memory, bytes >= (2 << 20) ? 2 << 20 : 4096, bytes) != 0) {
      give_up("posix_memalign");
    }
    std::memset(memory, 0, bytes);
    return static_cast<float*>(memory);
  }

  // All ranks know the same, so they decide alike.
  double time_way(size_t w, uint64_t bytes, const Buffers& buffers, double best, double budget_ms) {
    Comm& own = comms_[w];
    if (own.slow >= 2) return own.last_us * static_cast<double>(bytes) / static_cast<double>(own.last_bytes);
    comm_ = own.comm;
    tuttiWindow_t windows[2] = {};
    const size_t whole = whole_of(bytes);
    if (calls_.ways[w].windows) {
      register_window(buffers.in, whole, &windows[0]);
      register_window(buffers.out, whole, &windows[1]);
    }
    const double us = time_size(own, buffers, whole, budget_ms);
    for (const tuttiWindow_t window : windows) {
      if (window != nullptr) require(tuttiCommWindowDeregister(comm_, window), "tuttiCommWindowDeregister");
    }
    if (us == 0) return 0;
    if (best > 0 && bytes >= kSlowFrom) own.slow = us > kSlowShare * best ? own.slow + 1 : 0;
    own.last_us = us;
    own.last_bytes = bytes;
    return us;
  }
  void register_window(float* memory, size_t whole, tuttiWindow_t* window) {
    require(tuttiCommWindowRegister(comm_, memory, whole * sizeof(float), window, 0), "tuttiCommWindowRegister");
  }

  tuttiResult_t call(const float* in, float* out, size_t whole) {
    return issue({calls_.coll, calls_.ranks, rank_, comm_, nullptr}, in, out, whole);
  }

  // Microseconds inside the calls, each.
  double batch(float* in, float* out, size_t whole, int calls) {
    const bool root = rank_ == 0;
    const bool gathers = calls_.coll == Coll::Gather || calls_.coll == Coll::Reduce;
    const size_t block = whole / static_cast<size_t>(calls_.ranks);
    const bool writes_block = calls_.coll == Coll::AllGather || calls_.coll == Coll::Gather;
    const bool reads_block = calls_.coll == Coll::ReduceScatter || calls_.coll == Coll::Scatter;
    const bool writes = root || (calls_.coll != Coll::Broadcast && calls_.coll != Coll::Scatter);
    const bool reads = root || !gathers;
    // In place as others have it: a broadcast has one buffer.
    float* const input = calls_.coll == Coll::Broadcast ? out : in;
    double inside = 0;
    for (int i = 0; i < calls; ++i) {
      const auto value = static_cast<float>(++version_ & 127);
      if (writes) std::fill_n(input, writes_block ? block : whole, value);
      const Clock::time_point start = Clock::now();
      const tuttiResult_t result = call(input, out, whole);
      inside += us_since(start);
      require(result, "a call");
      if (reads) check(out, reads_block ? block : whole, value);
    }
    return inside / calls;
  }
  void check(const float* out, size_t count, float value) {
    const bool sums =
        calls_.coll == Coll::AllReduce || calls_.coll == Coll::Reduce || calls_.coll == Coll::ReduceScatter;
    const float expected = sums ? value * static_cast<float>(calls_.ranks) : value;
    if (std::count(out, out + count, expected) == static_cast<std::ptrdiff_t>(count)) return;
    std::snprintf(page_.error, sizeof page_.error, "a value is wrong");
    _exit(1);
  }

  struct Comm {
    tuttiComm_t comm;
    bool warm = false;
    int slow = 0;  // sizes in a row
    double last_us = 0;
    uint64_t last_bytes = 0;
  };

  // 0: the way does not serve the size, which all ranks are told alike.
  double time_size(Comm& own, const Buffers& buffers, size_t whole, double budget_ms) {
    meet();
    const tuttiResult_t first = call(calls_.coll == Coll::Broadcast ? buffers.out : buffers.in, buffers.out, whole);
    if (first != TUTTI_INVALID_USAGE) require(first, "a call");
    double us = 0;
    if (first == TUTTI_SUCCESS) us = time_served(own, buffers.in, buffers.out, whole, budget_ms);
    meet();
    return us;
  }
  double time_served(Comm& own, float* in, float* out, size_t whole, double budget_ms) {
    // The pace on the wall, which also is the warm-up.
    const auto pace_of = [&](int calls) {
      meet();
      const Clock::time_point start = Clock::now();
      batch(in, out, whole, calls);
      return greatest(us_since(start) / calls);
    };
    double pace_us = pace_of(1);
    if (!own.warm) {
      pace_us = std::min(pace_us, pace_of(4));
      pace_of(static_cast<int>(std::clamp(kFirstUs / pace_us, 1.0, double{kFirstCalls})));
      own.warm = true;
    }
    const double batch_us = budget_ms * 1e3 / kMostBatches;
    const auto calls_in = [&] { return static_cast<int>(std::clamp(batch_us / pace_us, 1.0, double{kMostCalls})); };
    for (int look = 0; look < 3 && calls_in() > 1; ++look) pace_us = std::min(pace_us, pace_of(calls_in()));
    const int calls = calls_in();
    const double batches = budget_ms * 1e3 / (calls * pace_us);
    const int count = static_cast<int>(std::clamp(batches, double{kFewestBatches}, double{kMostBatches}));
    std::vector<double> each;
    for (int i = 0; i < count; ++i) {
      meet();
      each.push_back(greatest(batch(in, out, whole, calls)));
    }
    return lower_quartile(each);
  }

  Page& page_;
  const Calls& calls_;
  int rank_;
  std::vector<Comm> comms_;     // of each way
  tuttiComm_t comm_ = nullptr;  // the one that is measured
  uint32_t meetings_ = 0, version_ = 0;
};

void set_environment(const Calls& calls) {
  setenv("TUTTI_PROFILE", calls.profile.c_str(), 1);
  setenv("TUTTI_SLICE_BYTES", "0", 1);  // the planner's
  setenv("TUTTI_TRANSPORTS", "shm", 1);
}

}  // namespace

Result<std::vector<std::vector<double>>> time_calls(const Calls& calls, const std::vector<int>& cpus,
                                                    double budget_ms) {
  if (calls.ranks > kMostRanks || calls.sizes.size() > kMostSizes || calls.ways.size() > kMostWays)
    return invalid_argument("at most {} ranks, {} sizes and {} ways can be timed", kMostRanks, kMostSizes, kMostWays);
  void* memory = mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return errno_status("mmap", "a page of the tool");
  Page& page = *static_cast<Page*>(memory);
  std::vector<pid_t> children;
  const pid_t parent = getpid();
  for (int rank = 0; rank < calls.ranks; ++rank) {
    const pid_t child = fork();
    if (child < 0) {
      for (const pid_t one : children) kill(one, SIGKILL);
      return errno_status("fork", "a rank");
    }
    children.push_back(child);
    if (child > 0) continue;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    set_environment(calls);
    pin(cpus[static_cast<size_t>(rank) % cpus.size()]);
    Rank(page, calls, rank).measure(budget_ms);
    _exit(0);
  }
  bool failed = false;
  for (size_t left = children.size(); left > 0; --left) {
    int status = 0;
    const pid_t ended = waitpid(-1, &status, 0);
    std::erase(children, ended);
    failed |= status != 0;
    if (!failed) continue;
    for (const pid_t child : children) kill(child, SIGKILL);  // they would wait for ever
  }
  std::vector<std::vector<double>> us;
  for (size_t w = 0; w < calls.ways.size(); ++w) us.emplace_back(page.us[w], page.us[w] + calls.sizes.size());
  const std::string why = page.error;
  munmap(memory, sizeof(Page));
  if (failed)
    return system_error("timing {} on {} ranks failed: {}", name(calls.coll), calls.ranks,
                        why.empty() ? "a rank ended early" : why);
  return us;
}

double lower_quartile(std::vector<double> values) {
  const auto at = static_cast<std::ptrdiff_t>(values.size() / 4);
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[static_cast<size_t>(at)];
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

}  // namespace tutti::tool
