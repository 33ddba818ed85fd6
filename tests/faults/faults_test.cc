// SPDX-License-Identifier: Apache-2.0
// Faults at random points of random operations: killed, stopped, delayed and late ranks, closed sockets. A run follows
// from its seed: ranks, transport, operations, victim, fault and place; only the moment inside the operation is the
// machine's. A survivor of a kill or a closed socket ends with an error that names the right rank; a delayed or stopped
// rank is waited for, or given up after TUTTI_TIMEOUT; nothing hangs, and nothing is left behind.
//
// FAULTS_RUNS and FAULTS_SEED choose more runs, or one again.
#include <dirent.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <regex>
#include <set>

#include "faults/job.h"

namespace faults {
namespace {

enum class Fault { Kill, ClosedSocket, Stop, StopTooLong, DelayedStep, Sleep };
constexpr const char* kFaultNames[] = {
    "kill -9", "closed socket", "stopped for a while", "stopped for too long", "delayed inside a step", "long sleep"};
constexpr int kFaults = 6;
constexpr int64_t kLimitMs = 60'000;   // of a run: beyond it is a hang
constexpr int64_t kTimeoutMs = 700;    // TUTTI_TIMEOUT where a stop shall be too long
constexpr int64_t kPromisedMs = 1000;  // from the fault to the last survivor's error
constexpr size_t kMostCount = 200'000;
constexpr int kCalls = 40;

struct Plan {
  uint64_t seed = 0;
  int ranks = 2, victim = 0;
  bool tcp = false;
  Fault fault = Fault::Kill;
  uint64_t at_call = 0;   // the victim is hit when it has begun so many calls
  int64_t delay_us = 0;   // and this much later
  int64_t length_ms = 0;  // of a stop, delay or sleep

  static Plan of(uint64_t seed) {
    std::mt19937_64 random(seed);
    const auto below = [&](uint64_t n) { return random() % n; };
    Plan plan;
    plan.seed = seed;
    plan.ranks = 2 + static_cast<int>(below(7));
    plan.victim = static_cast<int>(below(static_cast<uint64_t>(plan.ranks)));
    plan.tcp = below(2) != 0;
    do plan.fault = static_cast<Fault>(below(kFaults));
    while (plan.fault == Fault::ClosedSocket && !plan.tcp);
    plan.at_call = 2 + below(kCalls - 10);
    plan.delay_us = static_cast<int64_t>(below(300));
    plan.length_ms = plan.fault == Fault::StopTooLong ? 0 : 30 + static_cast<int64_t>(below(200));
    return plan;
  }
  std::string text() const {
    return std::string(kFaultNames[static_cast<int>(fault)]) + ", rank " + std::to_string(victim) + " of " +
           std::to_string(ranks) + (tcp ? " over tcp" : " in shared memory") + ", at call " + std::to_string(at_call) +
           ", FAULTS_SEED=" + std::to_string(seed);
  }
};

// The same calls on all ranks. `busy` lets some ranks be outside the library when the fault strikes.
tuttiResult_t call(std::mt19937_64& random, int rank, int n, tuttiComm_t comm, float* send, float* recv) {
  const uint64_t kind = random() % 9;
  const size_t counts[] = {1, 33, 1000, 20'000, kMostCount};
  const size_t count = counts[random() % 5] / (kind >= 3 ? static_cast<size_t>(n) : 1) + 1;
  const int root = static_cast<int>(random() % static_cast<uint64_t>(n));
  const uint64_t think = random() % 4 == 0 ? random() % static_cast<uint64_t>(n) : static_cast<uint64_t>(n);
  if (think == static_cast<uint64_t>(rank)) nap_us(2000);
  switch (kind) {
    case 0:
      return tuttiAllReduce(send, recv, count, TUTTI_FLOAT32, TUTTI_SUM, comm, nullptr);
    case 1:
      return tuttiBroadcast(send, recv, count, TUTTI_FLOAT32, root, comm, nullptr);
    case 2:
      return tuttiReduce(send, recv, count, TUTTI_FLOAT32, TUTTI_MAX, root, comm, nullptr);
    case 3:
      return tuttiAllGather(send, recv, count, TUTTI_FLOAT32, comm, nullptr);
    case 4:
      return tuttiReduceScatter(send, recv, count, TUTTI_FLOAT32, TUTTI_SUM, comm, nullptr);
    case 5:
      return tuttiAllToAll(send, recv, count, TUTTI_FLOAT32, comm, nullptr);
    case 6:
      return tuttiGather(send, recv, count, TUTTI_FLOAT32, root, comm, nullptr);
    case 7:
      return tuttiBarrier(comm, nullptr);
    default:
      break;
  }
  tuttiGroupStart();  // a shift around the ring
  tuttiSend(send, count, TUTTI_FLOAT32, (rank + 1) % n, comm, nullptr);
  tuttiRecv(recv, count, TUTTI_FLOAT32, (rank + n - 1) % n, comm, nullptr);
  return tuttiGroupEnd();
}

int64_t g_delay_ms = 0;
void delay_here(int) { nap_us(g_delay_ms * 1000); }

// One of this process's connections, chosen by the seed; there may be none.
void close_a_socket(uint64_t choice) {
  std::vector<int> connected;
  for (int fd = 3; fd < 1024; ++fd) {
    sockaddr_storage address{};
    socklen_t bytes = sizeof address;
    if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &bytes) == 0 &&
        (address.ss_family == AF_INET || address.ss_family == AF_INET6))
      connected.push_back(fd);
  }
  if (!connected.empty()) shutdown(connected[choice % connected.size()], SHUT_RDWR);
}

int body(const Plan& plan, int rank, Page& page) {
  if (rank == plan.victim && plan.fault == Fault::DelayedStep) {
    g_delay_ms = plan.length_ms;
    struct sigaction action {};
    action.sa_handler = delay_here;
    sigaction(SIGUSR1, &action, nullptr);
  }
  std::mt19937_64 random(plan.seed ^ 0x5EED);
  std::vector<float> send(kMostCount + 16), recv(kMostCount * 2 + 64);
  tuttiComm_t comm = nullptr;
  Report& report = page.ranks[rank];
  if (tuttiCommInitRank(&comm, plan.ranks, page.meet(0, rank), rank) != TUTTI_SUCCESS) return 2;
  page.gather(0, plan.ranks);
  tuttiResult_t result = TUTTI_SUCCESS;
  for (int i = 0; i < kCalls && result == TUTTI_SUCCESS; ++i) {
    const uint64_t begun = report.calls.fetch_add(1) + 1;
    if (rank == plan.victim && begun == plan.at_call) {
      if (plan.fault == Fault::Sleep) nap_us(plan.length_ms * 1000);
      if (plan.fault == Fault::ClosedSocket) {
        report.at_ms = now_ms();
        page.id_ready[1].store(1);
        close_a_socket(plan.seed);
      }
    }
    result = call(random, rank, plan.ranks, comm, send.data(), recv.data());
  }
  if (result == TUTTI_SUCCESS) result = tuttiBarrier(comm, nullptr);  // nobody ends without having needed everybody
  report.set(result, result == TUTTI_SUCCESS ? "" : tuttiGetLastError(comm));
  return tuttiCommDestroy(comm) == TUTTI_SUCCESS ? 0 : 3;
}

std::set<std::string> shared_files() {
  std::set<std::string> names;
  if (DIR* directory = opendir("/dev/shm")) {
    while (const dirent* entry = readdir(directory)) {
      if (std::strncmp(entry->d_name, "tutti", 5) == 0) names.insert(entry->d_name);
    }
    closedir(directory);
  }
  return names;
}

// "rank 3", "ranks 0-2, 5": whether the text speaks of that rank.
bool names(const std::string& text, int rank) {
  static const std::regex& lists = *new std::regex("ranks? ([0-9]+(-[0-9]+)?(, [0-9]+(-[0-9]+)?)*)");
  static const std::regex& ranges = *new std::regex("([0-9]+)(-([0-9]+))?");
  const std::sregex_iterator none;
  for (std::sregex_iterator list(text.begin(), text.end(), lists); list != none; ++list) {
    const std::string numbers = (*list)[1];
    for (std::sregex_iterator range(numbers.begin(), numbers.end(), ranges); range != none; ++range) {
      const int first = std::stoi((*range)[1]), last = (*range)[3].matched ? std::stoi((*range)[3]) : first;
      if (first <= rank && rank <= last) return true;
    }
  }
  return false;
}

struct Tally {
  int runs = 0, errors = 0, successes = 0, late = 0;
  int64_t slowest_ms = 0;
};

// What went wrong in the run, or nothing.
std::string check(const Plan& plan, Tally& tally) {
  Environment environment;
  if (plan.tcp) environment.emplace_back("TUTTI_TRANSPORTS", "tcp");
  if (plan.fault == Fault::StopTooLong) environment.emplace_back("TUTTI_TIMEOUT", std::to_string(kTimeoutMs) + "ms");
  const std::set<std::string> before = shared_files();
  Job job(plan.ranks, environment, [&](int rank, Page& page) { return body(plan, rank, page); });
  Page& page = job.page();
  Report& victim = page.ranks[plan.victim];
  const int64_t limit = now_ms() + kLimitMs;
  while (victim.calls.load() < plan.at_call && victim.code.load() < 0 && now_ms() < limit) nap_us(50);
  nap_us(plan.delay_us);
  const auto survivors_done = [&] {
    for (int rank = 0; rank < plan.ranks; ++rank) {
      if (rank != plan.victim && page.ranks[rank].code.load() < 0) return false;
    }
    return true;
  };
  int64_t struck_ms = now_ms();
  // The victim may have come to its end before the fault; killed inside tuttiCommDestroy it is nobody's loss.
  const bool in_time = victim.code.load() < 0;
  switch (plan.fault) {
    case Fault::Kill:
      kill(job.pid(plan.victim), SIGKILL);
      break;
    case Fault::DelayedStep:
      kill(job.pid(plan.victim), SIGUSR1);
      break;
    case Fault::Stop:
      kill(job.pid(plan.victim), SIGSTOP);
      nap_us(plan.length_ms * 1000);
      kill(job.pid(plan.victim), SIGCONT);
      break;
    case Fault::StopTooLong:
      kill(job.pid(plan.victim), SIGSTOP);
      while (!survivors_done() && now_ms() < limit) nap_us(1000);
      kill(job.pid(plan.victim), SIGCONT);
      break;
    case Fault::ClosedSocket:
      while (page.id_ready[1].load() == 0 && now_ms() < limit) nap_us(100);
      struck_ms = now_ms();
      break;
    case Fault::Sleep:
      break;
  }
  const Ending ending = job.wait(limit - now_ms());
  ++tally.runs;
  std::string wrong;
  if (!ending.in_time) wrong += " it hung;";
  if (shared_files() != before) wrong += " something is left in /dev/shm;";
  bool any_error = false;
  for (int rank = 0; rank < plan.ranks; ++rank) any_error |= page.ranks[rank].code.load() > 0;
  const bool must_fail = plan.fault == Fault::Kill && in_time;
  const bool must_succeed = plan.fault == Fault::Stop || plan.fault == Fault::DelayedStep || plan.fault == Fault::Sleep;
  for (int rank = 0; rank < plan.ranks; ++rank) {
    const Report& report = page.ranks[rank];
    const int32_t code = report.code.load();
    const std::string text = report.text;
    const std::string who = " rank " + std::to_string(rank) + " (" + std::to_string(code) + ": " + text + ")";
    if (rank == plan.victim && plan.fault == Fault::Kill) continue;
    if (ending.status[static_cast<size_t>(rank)] != 0)
      wrong += who + " ended with status " + std::to_string(ending.status[static_cast<size_t>(rank)]) + ";";
    if (must_succeed && code != 0) wrong += who + " should have succeeded;";
    // Killed in the last barrier it may have done its part.
    if (must_fail && code == 0 && victim.calls.load() < kCalls) wrong += who + " should have failed;";
    if (code <= 0 || rank == plan.victim) continue;
    const bool closed = plan.fault == Fault::ClosedSocket;
    // Of a closed socket both ends are right: the rank that closed it, and whom it says that it lost.
    bool right = names(text, plan.victim);
    for (int other = 0; closed && other < plan.ranks; ++other) {
      right |= names(victim.text, other) && names(text, other);
    }
    if (!right) wrong += who + " does not name rank " + std::to_string(plan.victim) + ";";
    if (plan.fault == Fault::Kill || closed) {
      const int64_t took = report.at_ms - struck_ms;
      tally.slowest_ms = std::max(tally.slowest_ms, took);
      if (took > kPromisedMs) ++tally.late;
      if (took > 10 * kPromisedMs) wrong += who + " took " + std::to_string(took) + " ms;";
    }
  }
  ++(any_error ? tally.errors : tally.successes);
  return wrong;
}

uint64_t number_from(const char* name, uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

void run(uint64_t first, uint64_t runs) {
  std::map<std::string, Tally> tallies;
  for (uint64_t seed = first; seed < first + runs; ++seed) {
    const Plan plan = Plan::of(seed);
    const std::string kind = std::string(kFaultNames[static_cast<int>(plan.fault)]) + (plan.tcp ? ", tcp" : ", shm");
    const std::string wrong = check(plan, tallies[kind]);
    EXPECT_TRUE(wrong.empty()) << plan.text() << ":" << wrong;
  }
  // Every child has been waited for: there is none that this process does not know of.
  EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1);
  for (const auto& [kind, tally] : tallies) {
    std::printf("%-32s %4d runs, %4d ended in errors, %4d in success", kind.c_str(), tally.runs, tally.errors,
                tally.successes);
    if (tally.slowest_ms > 0)
      std::printf(", slowest error after %ld ms, %d after more than 1 s", tally.slowest_ms, tally.late);
    std::printf("\n");
  }
}

TEST(Faults, EndInDataOrInAnErrorThatNamesTheRank) {
  const uint64_t seed = number_from("FAULTS_SEED", 0);
  if (seed != 0) return run(seed, 1);
  run(1, 16);
}
TEST(FullFaults, EndInDataOrInAnErrorThatNamesTheRank) { run(1001, number_from("FAULTS_RUNS", 1000)); }

}  // namespace
}  // namespace faults
