// SPDX-License-Identifier: Apache-2.0
//
// Control: the drivers' own side channel between the ranks of one host, in shared memory.
//
// Barriers, maxima and small exchanges of the benchmark go through it and never through the library under test: every
// peer is started and judged by the same code, and no peer's barrier leaves its ranks more or less skewed than
// another's. While a rank waits here it calls `progress`, because an MPI library may owe its peers work that it does
// only when called.
#ifndef TUTTI_PERF_COMPARE_CONTROL_H_
#define TUTTI_PERF_COMPARE_CONTROL_H_

#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <new>
#include <string>
#include <vector>

namespace tutti::compare {

inline constexpr int kMaxRanks = 64;
inline constexpr size_t kMailBytes = 16 << 10;

// The shared block. Zeroed memory is a valid initial state.
struct ControlBlock {
  alignas(64) std::atomic<uint32_t> arrived;     // written by every rank on arrival, reset by the last one
  alignas(64) std::atomic<uint32_t> generation;  // written by the last rank to arrive
  alignas(64) std::atomic<uint32_t> failed;      // set by a rank that gives up; the others follow
  struct alignas(64) Value {
    double value;
  };
  alignas(64) std::atomic<uint32_t> turn;        // counts what rank 0 was asked for; the others sleep on it
  char request[64];                              // written by rank 0 before it counts the turn
  Value values[2][kMaxRanks];  // two sets in turn: a set is reused only after the barrier of the other one
  alignas(64) char mail[2][kMaxRanks][kMailBytes];
};
static_assert(std::atomic<uint32_t>::is_always_lock_free);

// How many cores the process may use; the first call, which fixes the answer, comes before pin_evenly() changes it.
inline int cores_before_pinning() {
  static const int count = [] {
    cpu_set_t allowed;
    sched_getaffinity(0, sizeof allowed, &allowed);
    return CPU_COUNT(&allowed);
  }();
  return count;
}

class Control {
 public:
  Control(ControlBlock* block, int ranks, int rank)
      : block_(block), ranks_(ranks), rank_(rank), crowded_(ranks > cores_before_pinning()) {}

  static ControlBlock* map_block(int fd) {  // fd -1: anonymous, for ranks that are forked
    const int flags = fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED;
    void* memory = mmap(nullptr, sizeof(ControlBlock), PROT_READ | PROT_WRITE, flags, fd, 0);
    if (memory == MAP_FAILED) {
      std::perror("mmap of the control block");
      std::exit(1);
    }
    return static_cast<ControlBlock*>(memory);
  }

  int ranks() const { return ranks_; }
  int rank() const { return rank_; }
  bool crowded() const { return crowded_; }
  void set_progress(std::function<void()> progress) { progress_ = std::move(progress); }

  void barrier() {
    const uint32_t mine = block_->generation.load(std::memory_order_relaxed);
    // acq_rel: what any rank wrote before arriving is visible to all ranks that leave.
    if (block_->arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<uint32_t>(ranks_)) {
      block_->arrived.store(0, std::memory_order_relaxed);
      block_->generation.store(mine + 1, std::memory_order_release);  // pairs with the acquire below
      return;
    }
    for (int polls = 0; block_->generation.load(std::memory_order_acquire) == mine; ++polls) {
      if (block_->failed.load(std::memory_order_relaxed) != 0) std::_Exit(3);
      if (progress_) progress_();
      if (crowded_ && polls >= kPollsBeforeYield) sched_yield();
    }
  }

  double max(double value) {
    double largest = value;
    for (const double v : gather(value)) largest = v > largest ? v : largest;
    return largest;
  }
  double sum(double value) {
    double total = 0;
    for (const double v : gather(value)) total += v;
    return total;
  }

  // Every rank's `bytes` bytes, in rank order, to everyone.
  void all_gather(const void* send, void* recv, size_t bytes) {
    if (bytes > kMailBytes) fail("a message of " + std::to_string(bytes) + " bytes is too long for the control block");
    const int set = mail_uses_++ & 1;
    std::memcpy(block_->mail[set][rank_], send, bytes);
    barrier();
    for (int r = 0; r < ranks_; ++r) std::memcpy(static_cast<char*>(recv) + r * bytes, block_->mail[set][r], bytes);
  }

  // The next line of rank 0's standard input, on every rank; "" at its end. All ranks sleep until it comes: meanwhile
  // another driver has the cores.
  std::string request() {
    barrier();  // nobody still reads the line before, and no peer is owed progress
    const uint32_t before = turns_++;
    if (rank_ == 0) {
      block_->request[0] = '\0';
      if (std::fgets(block_->request, sizeof block_->request, stdin) == nullptr) block_->request[0] = '\0';
      block_->request[std::strcspn(block_->request, "\n")] = '\0';
      block_->turn.store(before + 1, std::memory_order_release);  // pairs with the acquire below
      syscall(SYS_futex, &block_->turn, FUTEX_WAKE, ranks_, nullptr, nullptr, 0);
    }
    while (block_->turn.load(std::memory_order_acquire) == before)
      syscall(SYS_futex, &block_->turn, FUTEX_WAIT, before, nullptr, nullptr, 0);
    return block_->request;
  }

  [[noreturn]] void fail(const std::string& message) {
    std::fprintf(stderr, "rank %d: %s\n", rank_, message.c_str());
    std::fflush(nullptr);
    block_->failed.store(1, std::memory_order_relaxed);
    std::_Exit(1);
  }

 private:
  static constexpr int kPollsBeforeYield = 20;  // more ranks than cores: whoever is waited for needs this core

  std::vector<double> gather(double value) {
    const int set = value_uses_++ & 1;
    block_->values[set][rank_].value = value;
    barrier();
    std::vector<double> all;
    for (int r = 0; r < ranks_; ++r) all.push_back(block_->values[set][r].value);
    return all;
  }

  ControlBlock* block_;
  int ranks_;
  int rank_;
  bool crowded_;
  int value_uses_ = 0;
  int mail_uses_ = 0;
  uint32_t turns_ = 0;
  std::function<void()> progress_;
};

// Rank r runs on the (r mod cores)-th core this process may use. Threads created later inherit it.
inline void pin_evenly(int rank) {
  cpu_set_t allowed, mine;
  sched_getaffinity(0, sizeof allowed, &allowed);
  int skip = rank % cores_before_pinning();
  CPU_ZERO(&mine);
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &allowed) && skip-- == 0) CPU_SET(cpu, &mine);
  sched_setaffinity(0, sizeof mine, &mine);
}

// A rank must not outlive whoever started it.
inline void die_with_parent() { prctl(PR_SET_PDEATHSIG, SIGKILL); }

// The calling process moves to the network namespace `host` (tools/hosts).
inline void enter_host(const std::string& host) {
  const int fd = open(("/run/netns/" + host).c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 || setns(fd, CLONE_NEWNET) != 0) {
    std::perror(("network namespace " + host).c_str());
    std::_Exit(1);
  }
  close(fd);
}

// Starts `ranks` processes that run rank_main and waits for them. The first failure ends the others. With hosts, each
// gets an equal run of ranks.
inline int run_forked(int ranks, bool pin, const std::vector<std::string>& hosts,
                      const std::function<int(Control&)>& rank_main) {
  ControlBlock* block = Control::map_block(-1);
  std::vector<pid_t> children;
  for (int rank = 0; rank < ranks; ++rank) {
    const pid_t child = fork();
    if (child == 0) {
      die_with_parent();
      if (pin) pin_evenly(rank);
      if (!hosts.empty()) enter_host(hosts[static_cast<size_t>(rank) * hosts.size() / static_cast<size_t>(ranks)]);
      Control control(block, ranks, rank);
      const int status = rank_main(control);
      std::fflush(nullptr);
      std::_Exit(status);
    }
    children.push_back(child);
  }
  int result = 0;
  for (size_t left = children.size(); left > 0; --left) {
    int status = 0;
    const pid_t ended = wait(&status);
    std::erase(children, ended);
    if (status == 0 || result != 0) continue;
    result = 1;
    std::fprintf(stderr, "a rank ended with status 0x%x\n", status);
    for (const pid_t child : children) kill(child, SIGKILL);
  }
  return result;
}

}  // namespace tutti::compare
#endif  // TUTTI_PERF_COMPARE_CONTROL_H_
