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
#include <functional>

#include "tutti/tutti.h"

namespace tutti::tool {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kMostRanks = 64, kMostSizes = 64;
constexpr int kFewestBatches = 3, kMostBatches = 9, kMostCalls = 4000;
// Slots are touched for the first time during the first few hundred calls: that is no part of a way's price.
constexpr int kFirstCalls = 400;
constexpr double kFirstUs = 1e5;
constexpr double kSlowShare = 3;
constexpr uint64_t kSlowFrom = 64 << 10;

double us_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}
// Others disturb by adding time, so of several measurements one near the least says most.
double lower_quartile(std::vector<double> values) {
  const auto at = static_cast<std::ptrdiff_t>(values.size() / 4);
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[static_cast<size_t>(at)];
}

// Between the processes of one way. Zeroed memory is its start.
struct Page {
  std::atomic<uint32_t> has_id;
  tuttiUniqueId id;
  struct alignas(64) Rank {
    std::atomic<uint32_t> arrived;
    double value;
  } ranks[kMostRanks];
  double us[kMostSizes];  // results, by rank 0
  char error[512];
};

class Rank {
 public:
  Rank(Page& page, const Way& way, int rank) : page_(page), way_(way), rank_(rank) {
    if (rank == 0) {
      require(tuttiGetUniqueId(&page.id), "tuttiGetUniqueId");
      page.has_id.store(1, std::memory_order_release);
    }
    while (page.has_id.load(std::memory_order_acquire) == 0) sched_yield();
    require(tuttiCommInitRank(&comm_, way.ranks, page.id, rank), "tuttiCommInitRank");
  }
  ~Rank() { tuttiCommDestroy(comm_); }
  Rank(const Rank&) = delete;
  Rank& operator=(const Rank&) = delete;

  void measure(const std::vector<uint64_t>& sizes, const std::vector<double>& best_us, double budget_ms) {
    int slow = 0;
    for (size_t i = 0; i < sizes.size(); ++i) {
      const double us = time_size(sizes[i], budget_ms);
      if (rank_ == 0) page_.us[i] = us;
      if (us == 0 || best_us.empty() || best_us[i] == 0 || sizes[i] < kSlowFrom) continue;
      slow = us > kSlowShare * best_us[i] ? slow + 1 : 0;
      if (slow < 2) continue;
      for (size_t j = i + 1; j < sizes.size() && rank_ == 0; ++j)
        page_.us[j] = us * static_cast<double>(sizes[j]) / static_cast<double>(sizes[i]);
      return;
    }
  }

 private:
  // All ranks; gives the core away, since the machine may have other work. The parent ends those who wait for a rank
  // that died.
  void meet() {
    page_.ranks[rank_].arrived.store(++meetings_, std::memory_order_release);
    for (int r = 0; r < way_.ranks; ++r) {
      while (page_.ranks[r].arrived.load(std::memory_order_acquire) < meetings_) sched_yield();
    }
  }
  double greatest(double value) {
    page_.ranks[rank_].value = value;
    meet();
    double most = 0;
    for (int r = 0; r < way_.ranks; ++r) most = std::max(most, page_.ranks[r].value);
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

  float* allocate(size_t bytes) {
    void* memory = nullptr;
    if (way_.windows) {
      tuttiWindow_t window;
      require(tuttiMemAlloc(&memory, bytes), "tuttiMemAlloc");
      require(tuttiCommWindowRegister(comm_, memory, bytes, &window, 0), "tuttiCommWindowRegister");
      windows_.push_back({memory, window});
    } else if (posix_memalign(&memory, bytes >= (2 << 20) ? 2 << 20 : 4096, bytes) != 0) {
      give_up("posix_memalign");
    }
    std::memset(memory, 0, bytes);
    return static_cast<float*>(memory);
  }
  void release(float* memory) {
    const auto own = [&](const Window& one) { return one.memory == memory; };
    const auto found = std::find_if(windows_.begin(), windows_.end(), own);
    if (found == windows_.end()) return std::free(memory);
    require(tuttiCommWindowDeregister(comm_, found->handle), "tuttiCommWindowDeregister");
    require(tuttiMemFree(memory), "tuttiMemFree");
    windows_.erase(found);
  }

  // A call with `whole` elements in the region or in all blocks together.
  tuttiResult_t call(const float* in, float* out, size_t whole) {
    const size_t block = whole / static_cast<size_t>(way_.ranks);
    const int next = (rank_ + 1) % way_.ranks, previous = (rank_ + way_.ranks - 1) % way_.ranks;
    switch (way_.coll) {
      case Coll::AllReduce:
        return tuttiAllReduce(in, out, whole, TUTTI_FLOAT32, TUTTI_SUM, comm_, nullptr);
      case Coll::Reduce:
        return tuttiReduce(in, out, whole, TUTTI_FLOAT32, TUTTI_SUM, 0, comm_, nullptr);
      case Coll::Broadcast:
        return tuttiBroadcast(in, out, whole, TUTTI_FLOAT32, 0, comm_, nullptr);
      case Coll::AllGather:
        return tuttiAllGather(in, out, block, TUTTI_FLOAT32, comm_, nullptr);
      case Coll::ReduceScatter:
        return tuttiReduceScatter(in, out, block, TUTTI_FLOAT32, TUTTI_SUM, comm_, nullptr);
      case Coll::AllToAll:
        return tuttiAllToAll(in, out, block, TUTTI_FLOAT32, comm_, nullptr);
      case Coll::Gather:
        return tuttiGather(in, out, block, TUTTI_FLOAT32, 0, comm_, nullptr);
      case Coll::Scatter:
        return tuttiScatter(in, out, block, TUTTI_FLOAT32, 0, comm_, nullptr);
      case Coll::SendRecv:
        break;
    }
    tuttiGroupStart();
    tuttiSend(in, whole, TUTTI_FLOAT32, next, comm_, nullptr);
    tuttiRecv(out, whole, TUTTI_FLOAT32, previous, comm_, nullptr);
    return tuttiGroupEnd();
  }

  // Microseconds inside the calls, each.
  double batch(float* in, float* out, size_t whole, int calls) {
    const bool root = rank_ == 0;
    const bool gathers = way_.coll == Coll::Gather || way_.coll == Coll::Reduce;
    const size_t block = whole / static_cast<size_t>(way_.ranks);
    const bool writes_block = way_.coll == Coll::AllGather || way_.coll == Coll::Gather;
    const bool reads_block = way_.coll == Coll::ReduceScatter || way_.coll == Coll::Scatter;
    const bool writes = root || (way_.coll != Coll::Broadcast && way_.coll != Coll::Scatter);
    const bool reads = root || !gathers;
    // In place as others have it: a broadcast has one buffer.
    float* const input = way_.coll == Coll::Broadcast ? out : in;
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
    const bool sums = way_.coll == Coll::AllReduce || way_.coll == Coll::Reduce || way_.coll == Coll::ReduceScatter;
    const float expected = sums ? value * static_cast<float>(way_.ranks) : value;
    if (std::count(out, out + count, expected) == static_cast<std::ptrdiff_t>(count)) return;
    std::snprintf(page_.error, sizeof page_.error, "a value is wrong (%s, %s, %s)", name(way_.coll).data(),
                  way_.algorithm.c_str(), way_.protocol.c_str());
    _exit(1);
  }

  // 0: the way does not serve the size, which all ranks are told alike.
  double time_size(uint64_t bytes, double budget_ms) {
    const auto n = static_cast<size_t>(way_.ranks);
    const size_t whole = std::max<size_t>(bytes / sizeof(float) / n * n, n);
    float* const in = allocate(whole * sizeof(float));
    float* const out = allocate(whole * sizeof(float));
    meet();
    const tuttiResult_t first = call(way_.coll == Coll::Broadcast ? out : in, out, whole);
    if (first != TUTTI_INVALID_USAGE) require(first, "a call");
    double us = 0;
    if (first == TUTTI_SUCCESS) us = time_served(in, out, whole, budget_ms);
    meet();
    release(in);
    release(out);
    return us;
  }
  double time_served(float* in, float* out, size_t whole, double budget_ms) {
    // The pace on the wall, which also is the warm-up.
    const auto pace_of = [&](int calls) {
      meet();
      const Clock::time_point start = Clock::now();
      batch(in, out, whole, calls);
      return greatest(us_since(start) / calls);
    };
    double pace_us = pace_of(1);
    if (!warm_) {
      pace_us = std::min(pace_us, pace_of(4));
      pace_of(static_cast<int>(std::clamp(kFirstUs / pace_us, 1.0, double{kFirstCalls})));
      warm_ = true;
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

  struct Window {
    void* memory;
    tuttiWindow_t handle;
  };
  Page& page_;
  const Way& way_;
  int rank_;
  tuttiComm_t comm_ = nullptr;
  uint32_t meetings_ = 0, version_ = 0;
  bool warm_ = false;
  std::vector<Window> windows_;
};

void force(const Way& way) {
  setenv("TUTTI_PROTO", way.protocol.c_str(), 1);
  setenv("TUTTI_ALGO", fmt::format("{}:{}", name(way.coll), way.algorithm).c_str(), 1);
  setenv("TUTTI_PROFILE", way.profile.c_str(), 1);
  setenv("TUTTI_SLICE_BYTES", std::to_string(way.slice_bytes).c_str(), 1);
  setenv("TUTTI_TRANSPORTS", "shm", 1);
}

}  // namespace

Result<std::vector<double>> time_calls(const Way& way, const std::vector<uint64_t>& sizes,
                                       const std::vector<double>& best_us, const std::vector<int>& cpus,
                                       double budget_ms) {
  if (way.ranks > kMostRanks || sizes.size() > kMostSizes)
    return invalid_argument("at most {} ranks and {} sizes can be timed", kMostRanks, kMostSizes);
  void* memory = mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return errno_status("mmap", "a page of the tool");
  Page& page = *static_cast<Page*>(memory);
  std::vector<pid_t> children;
  const pid_t parent = getpid();
  for (int rank = 0; rank < way.ranks; ++rank) {
    const pid_t child = fork();
    if (child < 0) {
      for (const pid_t one : children) kill(one, SIGKILL);
      return errno_status("fork", "a rank");
    }
    children.push_back(child);
    if (child > 0) continue;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    force(way);
    pin(cpus[static_cast<size_t>(rank) % cpus.size()]);
    Rank(page, way, rank).measure(sizes, best_us, budget_ms);
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
  const std::vector<double> us(page.us, page.us + sizes.size());
  const std::string why = page.error;
  munmap(memory, sizeof(Page));
  if (failed)
    return system_error("timing {} by {}/{} failed: {}", name(way.coll), way.algorithm, way.protocol,
                        why.empty() ? "a rank ended early" : why);
  return us;
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
