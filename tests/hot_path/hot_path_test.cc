// SPDX-License-Identifier: Apache-2.0
// After the first call of its kind, a blocking call or group allocates nothing, locks nothing, and enters the kernel
// only to wait (yield, futex, sleep) or, for large messages, to have it copy from a peer.
#include "hot_path/watch.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <functional>
#include <string>
#include <vector>

#include "api/harness.h"

namespace tutti::hot_path {
namespace {

constexpr size_t kSmall[] = {1, 2, 14, 250, 1024};        // float32: up to one LL message
constexpr size_t kLarge[] = {4000, 16 << 10, 256 << 10};  // several, slots, copies by the kernel
constexpr size_t kMostGrouped = 1024;                     // messages: short ones are free of all that in groups, too
constexpr int kRepeats = 3;

class Calls {
 public:
  Calls(tuttiComm_t comm, int rank, int n)
      : comm_(comm),
        rank_(rank),
        n_(n),
        send_(kMost * static_cast<size_t>(n), 1),
        recv_(kMost * static_cast<size_t>(n)) {}

  // Each collective once, with blocks of `count`. False: a call failed.
  bool once(size_t count) {
    const int next = (rank_ + 1) % n_, prev = (rank_ + n_ - 1) % n_;
    float* const in = send_.data();
    float* const out = recv_.data();
    bool ok = true;
    const auto call = [&ok](tuttiResult_t result) { ok &= result == TUTTI_SUCCESS; };
    call(tuttiAllReduce(in, out, count, TUTTI_FLOAT32, TUTTI_SUM, comm_, nullptr));
    call(tuttiAllReduce(in, out, count, TUTTI_FLOAT32, TUTTI_AVG, comm_, nullptr));
    call(tuttiReduce(in, out, count, TUTTI_FLOAT32, TUTTI_MAX, n_ - 1, comm_, nullptr));
    call(tuttiBroadcast(in, out, count, TUTTI_FLOAT32, 0, comm_, nullptr));
    call(tuttiAllGather(in, out, count, TUTTI_FLOAT32, comm_, nullptr));
    call(tuttiReduceScatter(in, out, count, TUTTI_FLOAT32, TUTTI_SUM, comm_, nullptr));
    call(tuttiAllToAll(in, out, count, TUTTI_FLOAT32, comm_, nullptr));
    call(tuttiGather(in, out, count, TUTTI_FLOAT32, 0, comm_, nullptr));
    call(tuttiScatter(in, out, count, TUTTI_FLOAT32, 0, comm_, nullptr));
    call(tuttiBarrier(comm_, nullptr));
    const auto pass_on = [&] { call(tuttiSend(in, count, TUTTI_FLOAT32, next, comm_, nullptr)); };
    const auto take = [&] { call(tuttiRecv(out, count, TUTTI_FLOAT32, prev, comm_, nullptr)); };
    if (n_ == 1) return ok;
    if (rank_ == 0) pass_on();
    take();
    if (rank_ != 0) pass_on();
    call(tuttiGroupStart());
    for (int i = 0; i < 2; ++i) {
      take();
      pass_on();
    }
    call(tuttiGroupEnd());
    return ok;
  }
  bool all(std::span<const size_t> counts) {
    bool ok = true;
    for (int i = 0; i < kRepeats; ++i) {
      for (const size_t count : counts) ok &= once(count);
    }
    return ok;
  }
  // Whether it is so on all ranks.
  bool everywhere(bool here) {
    float all = here ? 1 : 0;
    return tuttiAllReduce(&all, &all, 1, TUTTI_FLOAT32, TUTTI_MIN, comm_, nullptr) == TUTTI_SUCCESS && all == 1;
  }

 private:
  static constexpr size_t kMost = 256 << 10;
  tuttiComm_t comm_;
  int rank_, n_;
  std::vector<float> send_, recv_;
};

class HotPath : public testing::TestWithParam<int> {
 protected:
  // In each of n processes, with connections made and plans known.
  void warm(const std::function<void(Calls& calls)>& body) {
    const int n = GetParam();
    api_test::in_children(n, [&](int rank, launcher::Page& page) {
      tuttiComm_t comm = nullptr;
      ASSERT_OK(tuttiCommInitRank(&comm, n, api_test::shared_id(rank, page), rank));
      Calls calls(comm, rank, n);
      ASSERT_TRUE(calls.all(kSmall) && calls.all(kLarge)) << tuttiGetLastError(nullptr);
      body(calls);
      // Nobody leaves while a peer is still in a call. The communicator goes with the process: under a filter it cannot
      // be destroyed.
      page.member[rank].entered.store(1);
      for (int peer = 0; peer < n; ++peer) {
        while (page.member[peer].entered.load() == 0) sched_yield();
      }
      _exit(testing::Test::HasFailure() ? 1 : 0);
    });
  }
  // What follows may not print: the filter would end it.
  static void run_under(std::span<const int> allowed, Calls& calls, std::span<const size_t> counts) {
    const std::string refusal = forbid_system_calls(allowed);
    if (!refusal.empty()) GTEST_SKIP() << refusal;
    if (!calls.all(counts)) _exit(3);
  }
};

TEST_P(HotPath, AllocatesAndLocksNothing) {
  warm([](Calls& calls) {
    // A call that has to wait for long (on a busy machine) looks after its peers, which may allocate: the best of some
    // attempts counts. What is part of a call is in all of them.
    constexpr int kMostAttempts = 100;
    Seen least{LONG_MAX, LONG_MAX, LONG_MAX};
    bool clean = false;
    for (int attempt = 0; attempt < kMostAttempts && !clean; ++attempt) {
      arm();
      const bool ok = calls.all(kSmall) && calls.all(kLarge);
      const Seen seen = disarm();
      EXPECT_TRUE(ok) << tuttiGetLastError(nullptr);
      least.allocations = std::min(least.allocations, seen.allocations);
      least.frees = std::min(least.frees, seen.frees);
      least.locks = std::min(least.locks, seen.locks);
      clean = calls.everywhere(least.allocations + least.frees + least.locks == 0);
    }
    EXPECT_EQ(least.allocations, 0);
    EXPECT_EQ(least.frees, 0);
    EXPECT_EQ(least.locks, 0);
  });
}

// Yields and sleeps; and, once a call has waited for tens of milliseconds, a look at the clock (a system call where it
// is not in user space) and questions after the peers' lives.
std::vector<int> waiting() {
  std::vector<int> calls{SYS_sched_yield, SYS_futex, SYS_nanosleep, SYS_clock_nanosleep, SYS_clock_gettime,
                         SYS_fcntl,       SYS_ppoll, SYS_recvfrom,  SYS_gettid};
#ifdef SYS_poll
  calls.push_back(SYS_poll);
#endif
  return calls;
}
std::vector<int> waiting_and_copying() {
  std::vector<int> calls = waiting();
  calls.insert(calls.end(), {SYS_process_vm_readv, SYS_process_vm_writev});
  return calls;
}

TEST_P(HotPath, EntersTheKernelForSmallMessagesOnlyToWait) {
  warm([](Calls& calls) { run_under(waiting(), calls, kSmall); });
}

TEST_P(HotPath, EntersTheKernelForLargeMessagesOnlyToWaitOrToCopy) {
  warm([](Calls& calls) { run_under(waiting_and_copying(), calls, kLarge); });
}

INSTANTIATE_TEST_SUITE_P(Ranks, HotPath, testing::Values(1, 2, 4));

// The watches see what they are for.
TEST(Watch, SeesAllocationsAndLocks) {
  arm();
  delete new int(1);
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&mutex);
  pthread_mutex_unlock(&mutex);
  const Seen seen = disarm();
  EXPECT_EQ(seen.locks, 1);
  EXPECT_LE(seen.allocations, 1);  // the compiler may leave the pair out
  arm();
  std::vector<std::string> kept(3, std::string(100, 'x'));
  kept.pop_back();
  const Seen more = disarm();
  EXPECT_GE(more.allocations, 4);
  EXPECT_GE(more.frees, 2);
}

TEST(WatchDeathTest, EndsTheProcessAtASystemCall) {
  const auto open_under_a_filter = [] {
    const std::string refusal = forbid_system_calls(waiting());
    if (!refusal.empty()) _exit(kTrapped);
    sched_yield();
    syscall(SYS_getppid);
    _exit(0);
  };
  EXPECT_EXIT(open_under_a_filter(), testing::ExitedWithCode(kTrapped), "");
}

}  // namespace
}  // namespace tutti::hot_path
