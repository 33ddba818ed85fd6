// SPDX-License-Identifier: Apache-2.0
// Recorder, counters, dumps, status and trace as users have them: the shared library and the tool, with real processes.
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <nlohmann/json.hpp>

#include "api/harness.h"

namespace api_test {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

struct Output {
  std::string text;
  int status = -1;
};
// Runs the tool. Its standard error is the test's: other processes of this user may be stopped, and it says so.
Output tool(const std::string& arguments) {
  Output output;
  FILE* pipe = ::popen((std::string(TUTTI_TOOL) + " " + arguments).c_str(), "re");
  if (pipe == nullptr) return output;
  std::array<char, 4096> bytes;
  for (size_t got; (got = std::fread(bytes.data(), 1, bytes.size(), pipe)) > 0;) output.text.append(bytes.data(), got);
  output.status = WEXITSTATUS(::pclose(pipe));
  return output;
}

class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "tutti-observe-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  Folder(const Folder&) = delete;
  ~Folder() { fs::remove_all(path_); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

// Waits for something that another thread or process brings about.
bool eventually(const std::function<bool()>& holds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > end) return false;
    ::usleep(2000);
  }
  return true;
}

json read_json(const std::string& path) {
  std::ifstream file(path);
  return json::parse(std::string(std::istreambuf_iterator<char>(file), {}), nullptr, false);
}

long entries(const char* folder) {
  long count = 0;
  DIR* dir = ::opendir(folder);
  while (::readdir(dir) != nullptr) ++count;
  ::closedir(dir);
  return count;
}

TEST(Observe, DumpsOfAllRanksMakeOneTraceThatNamesTheLateRank) {
  const Folder folder;
  const std::string pattern = folder / "rank%r.json";
  in_ranks(3, [&](int rank, tuttiComm_t comm) {
    float value = 1, sum = 0;
    for (int i = 0; i < 30; ++i) {
      if (rank == 1 && i >= 20) ::usleep(5000);
      ASSERT_OK(tuttiAllReduce(&value, &sum, 1, TUTTI_FLOAT32, TUTTI_SUM, comm, nullptr));
    }
    ASSERT_OK(tuttiGroupStart());
    if (rank == 0) {
      EXPECT_OK(tuttiSend(&value, 1, TUTTI_FLOAT32, 1, comm, nullptr));
    } else if (rank == 1) {
      EXPECT_OK(tuttiRecv(&sum, 1, TUTTI_FLOAT32, 0, comm, nullptr));
    }
    ASSERT_OK(tuttiGroupEnd());
    ASSERT_OK(tuttiBarrier(comm, nullptr));
    ASSERT_OK(tuttiCommDump(comm, pattern.c_str()));
  });
  for (int rank = 0; rank < 3; ++rank) {
    const json document = read_json(folder / ("rank" + std::to_string(rank) + ".json"));
    ASSERT_FALSE(document.is_discarded());
    const json& communicator = document.at("communicators").at(0);
    EXPECT_EQ(communicator.at("rank"), rank);
    uint64_t number = 0, messages = 0;
    for (const json& call : communicator.at("calls")) {
      const bool message = call.at("operation") == "send" || call.at("operation") == "recv";
      EXPECT_EQ(call.at("number"), message ? ++messages : ++number);
      EXPECT_GE(call.at("ended"), call.at("started"));
      EXPECT_GE(call.at("started"), call.at("queued"));
    }
    EXPECT_EQ(number, 31u);
    EXPECT_EQ(messages, rank < 2 ? 1u : 0u);
  }
  const std::string trace = folder / "trace.json";
  const Output output = tool("trace -o " + trace + " --threshold 1000 " + folder / "rank0.json" + " " +
                             folder / "rank1.json" + " " + folder / "rank2.json");
  ASSERT_EQ(output.status, 0) << output.text;
  EXPECT_NE(output.text.find("31 collectives"), std::string::npos) << output.text;
  // The first row is the latest rank's: rank 1, at least in its ten calls.
  const size_t table = output.text.find("total ms");
  ASSERT_NE(table, std::string::npos) << output.text;
  int rank = -1, times = 0;
  ASSERT_EQ(std::sscanf(output.text.c_str() + table + 8, "%d %d", &rank, &times), 2) << output.text;
  EXPECT_EQ(rank, 1) << output.text;
  EXPECT_GE(times, 8) << output.text;
  EXPECT_GE(read_json(trace).at("traceEvents").size(), 3u * 31u);
}

TEST(Observe, AFailureIsDumpedWithTheCallThatDidNotEnd) {
  const Folder folder;
  in_ranks(2,
           [&](int rank, tuttiComm_t comm) {
             float value = 1, sum = 0;
             ASSERT_OK(tuttiAllReduce(&value, &sum, 1, TUTTI_FLOAT32, TUTTI_SUM, comm, nullptr));
             if (rank == 0) {
               EXPECT_NE(tuttiBroadcast(&value, &value, 1, TUTTI_FLOAT32, 1, comm, nullptr), TUTTI_SUCCESS);
             } else {
               ASSERT_TRUE(eventually([&] { return fs::exists(folder / "0.json"); }));
             }
           },
           {{"TUTTI_DUMP_FILE", folder / "%r.json"}, {"TUTTI_TIMEOUT", "300ms"}, {"TUTTI_DEBUG", "none"}});
  const json document = read_json(folder / "0.json");
  ASSERT_FALSE(document.is_discarded());
  EXPECT_EQ(document.at("reason"), "failure");
  const json& communicator = document.at("communicators").at(0);
  EXPECT_NE(communicator.at("failure").get<std::string>().find("broadcast"), std::string::npos);
  ASSERT_EQ(communicator.at("calls").size(), 2u);
  EXPECT_EQ(communicator.at("calls").at(1).at("operation"), "broadcast");
  EXPECT_EQ(communicator.at("calls").at(1).at("root"), 1);
  EXPECT_EQ(communicator.at("calls").at(1).at("ended"), 0);
  EXPECT_FALSE(fs::exists(folder / "1.json"));
}

std::atomic<int> g_signals{0};

TEST(Observe, ASignalDumpsAndReachesTheHandlerThatWasThereBefore) {
  const Folder folder;
  in_child(
      [&] {
        ::signal(SIGUSR2, [](int) { g_signals.fetch_add(1); });
        std::array<tuttiComm_t, 2> comms;
        ASSERT_OK(tuttiCommInitAll(comms.data(), 2, nullptr));
        ASSERT_EQ(::raise(SIGUSR2), 0);
        EXPECT_EQ(g_signals.load(), 1);
        // One process, one %p: both ranks' communicators are in the file.
        const std::string path = folder / ("dump-" + std::to_string(::getpid()));
        ASSERT_TRUE(eventually([&] { return fs::exists(path); }));
        const json document = read_json(path);
        EXPECT_EQ(document.at("reason"), "signal");
        EXPECT_EQ(document.at("communicators").size(), 2u);
        for (const tuttiComm_t comm : comms) EXPECT_OK(tuttiCommDestroy(comm));
        // With no communicator left there is nothing to dump, and nobody is hurt.
        ASSERT_EQ(::raise(SIGUSR2), 0);
        EXPECT_EQ(g_signals.load(), 2);
      },
      {{"TUTTI_DUMP_FILE", folder / "dump-%p"}, {"TUTTI_DUMP_SIGNAL", "USR2"}});
}

TEST(Observe, ASignalThatCannotBeUsedIsAnErrorOfInitialisation) {
  in_child(
      [] {
        tuttiComm_t comm = nullptr;
        EXPECT_FAILS(tuttiCommInitAll(&comm, 1, nullptr), TUTTI_INVALID_ARGUMENT, "TUTTI_DUMP_SIGNAL=KILL");
      },
      {{"TUTTI_DUMP_SIGNAL", "KILL"}});
}

TEST(Observe, StatusNamesTheRankThatARunningJobWaitsFor) {
  in_ranks(2, [&](int rank, tuttiComm_t comm) {
    float value = 1, sum = 0;
    int process = ::getpid();
    ASSERT_OK(tuttiBroadcast(&process, &process, 1, TUTTI_INT32, 0, comm, nullptr));
    if (rank == 1) {
      // Rank 0 is on its way into the next call: the tool must find it waiting there for this rank.
      json waiting;
      const bool found = eventually([&] {
        const json answers = json::parse(tool("status --json " + std::to_string(process)).text, nullptr, false);
        if (!answers.is_array()) return false;
        for (const json& answer : answers) {
          for (const json& one : answer.at("communicators")) {
            if (one.at("state") == "waiting" && one.at("call").at("count") == 7) waiting = one;
          }
        }
        return !waiting.is_null();
      });
      ASSERT_TRUE(found);
      EXPECT_EQ(waiting.at("call").at("operation"), "all_reduce");
      EXPECT_EQ(waiting.at("call").at("number"), 2);
      EXPECT_EQ(waiting.at("waits_for").at("rank"), 1);
      EXPECT_GT(waiting.at("since_seconds").get<double>(), 0.0);
      const std::string name = waiting.at("name").get<std::string>();
      const Output table = tool("status " + name);
      EXPECT_EQ(table.status, 0) << table.text;
      EXPECT_NE(table.text.find(name + " (2 ranks)"), std::string::npos) << table.text;
      EXPECT_NE(table.text.find("all_reduce 7 float32 sum"), std::string::npos) << table.text;
      EXPECT_NE(table.text.find("rank 1"), std::string::npos) << table.text;
      EXPECT_NE(tool("status no-such-communicator").status, 0);
    }
    float many[7] = {}, sums[7];
    ASSERT_OK(tuttiAllReduce(many, sums, 7, TUTTI_FLOAT32, TUTTI_SUM, comm, nullptr));
    ASSERT_OK(tuttiAllReduce(&value, &sum, 1, TUTTI_FLOAT32, TUTTI_SUM, comm, nullptr));
    EXPECT_EQ(sum, 2.0F);
  });
}

// The status socket of a process of this user; its name begins with NUL.
std::string status_address(pid_t process) {
  std::ifstream list("/proc/net/unix");
  const std::string mine = "tutti-status-" + std::to_string(::geteuid()) + "-" + std::to_string(process) + "-";
  for (std::string line; std::getline(list, line);) {
    const size_t at = line.find("@" + mine);
    if (at == std::string::npos) continue;
    std::string name = line.substr(at);
    name.front() = '\0';  // abstract
    return name;
  }
  return {};
}

TEST(Observe, AStoppedProcessWhoseQueueIsFullIsNamedAndHoldsNobodyUp) {
  in_child([] {
    int gate[2];
    ASSERT_EQ(::pipe2(gate, O_CLOEXEC), 0);
    const pid_t job = ::fork();
    if (job == 0) {
      tuttiComm_t comm = nullptr;
      if (tuttiCommInitAll(&comm, 1, nullptr) == TUTTI_SUCCESS) (void)!::write(gate[1], "!", 1);
      ::close(gate[1]);
      for (;;) ::pause();
    }
    ::close(gate[1]);
    char ready = 0;
    ASSERT_EQ(::read(gate[0], &ready, 1), 1);
    ASSERT_EQ(::kill(job, SIGSTOP), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(job, &status, WUNTRACED), job);
    const std::string name = status_address(job);
    ASSERT_FALSE(name.empty());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    name.copy(address.sun_path, name.size());
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    std::vector<int> callers;
    do callers.push_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    while (::connect(callers.back(), reinterpret_cast<const sockaddr*>(&address), size) == 0);
    ASSERT_EQ(errno, EAGAIN);
    EXPECT_NE(tool("status " + std::to_string(job)).status, 0);  // returns at all
    for (const int caller : callers) ::close(caller);
    ::kill(job, SIGKILL);
    ASSERT_EQ(::waitpid(job, &status, 0), job);
  });
}

TEST(Observe, WaitsAreCountedForTheRankThatWasLate) {
  in_ranks(3, [&](int rank, tuttiComm_t comm) {
    float value = 1, sum = 0;
    constexpr int kLate = 5;
    for (int i = 0; i < kLate; ++i) {
      ASSERT_OK(tuttiBarrier(comm, nullptr));
      if (rank == 2) ::usleep(30'000);
      ASSERT_OK(tuttiAllReduce(&value, &sum, 1, TUTTI_FLOAT32, TUTTI_SUM, comm, nullptr));
    }
    std::array<tuttiWait_t, 3> waits;
    ASSERT_OK(tuttiCommGetWaits(comm, waits.data(), 3));
    if (rank != 2) {
      EXPECT_GE(waits[2].waits, 1u);
      EXPECT_GE(waits[2].seconds, 0.030);
      EXPECT_GE(waits[2].seconds, waits[2].longestSeconds);
      EXPECT_GT(waits[2].longestSeconds, 0.010);
    }
    EXPECT_EQ(waits[static_cast<size_t>(rank)].waits, 0u);
    EXPECT_FAILS(tuttiCommGetWaits(comm, waits.data(), 2), TUTTI_INVALID_ARGUMENT, "nranks is 2");
    EXPECT_FAILS(tuttiCommGetWaits(comm, nullptr, 3), TUTTI_INVALID_ARGUMENT, "waits");
    EXPECT_FAILS(tuttiCommDump(comm, nullptr), TUTTI_INVALID_ARGUMENT, "TUTTI_DUMP_FILE");
  });
}

// On one core the rank that waits gives it to the one that computes, and finds its data when it has it back.
TEST(Observe, ALongTurnOfTheCoreIsAWaitForTheRankThatHadIt) {
  cpu_set_t before, one;
  ASSERT_EQ(::sched_getaffinity(0, sizeof before, &before), 0);
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++cpu) {
    if (CPU_ISSET(cpu, &before)) CPU_SET(cpu, &one);
  }
  ASSERT_EQ(::sched_setaffinity(0, sizeof one, &one), 0);
  in_ranks(2, [&](int rank, tuttiComm_t comm) {
    const auto compute = [](double seconds) {
      const auto used = [] {
        timespec time{};
        ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
        return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
      };
      for (const double end = used() + seconds; used() < end;) {
      }
    };
    float value = 1, sum = 0;
    for (int i = 0; i < 40; ++i) {
      if (rank == 1) compute(0.001);
      ASSERT_OK(tuttiAllReduce(&value, &sum, 1, TUTTI_FLOAT32, TUTTI_SUM, comm, nullptr));
    }
    std::array<tuttiWait_t, 2> waits;
    ASSERT_OK(tuttiCommGetWaits(comm, waits.data(), 2));
    if (rank != 0) return;
    EXPECT_GE(waits[1].waits, 10u);
    EXPECT_GE(waits[1].longestSeconds, 0.001);
  });
  EXPECT_EQ(::sched_setaffinity(0, sizeof before, &before), 0);
}

TEST(Observe, InARingTheLateRankIsMeantAndNotTheNeighbourWhoWaitsForIt) {
  in_ranks(4,
           [&](int rank, tuttiComm_t comm) {
             float value = 1, sum = 0;
             for (int i = 0; i < 5; ++i) {
               ASSERT_OK(tuttiBarrier(comm, nullptr));
               if (rank == 2) ::usleep(30'000);
               ASSERT_OK(tuttiAllReduce(&value, &sum, 1, TUTTI_FLOAT32, TUTTI_SUM, comm, nullptr));
             }
             std::array<tuttiWait_t, 4> waits;
             ASSERT_OK(tuttiCommGetWaits(comm, waits.data(), 4));
             if (rank == 2) return;
             for (size_t other = 0; other < 4; ++other) {
               if (other != 2) {
                 EXPECT_GT(waits[2].seconds, waits[other].seconds) << "rank " << rank << " about rank " << other;
               }
             }
           },
           {{"TUTTI_ALGO", "ring"}});
}

TEST(Observe, ComingAndGoingLeavesNoThreadAndNoDescriptor) {
  in_child([] {
    const auto once = [] {
      tuttiComm_t comm = nullptr;
      ASSERT_OK(tuttiCommInitAll(&comm, 1, nullptr));
      ASSERT_OK(tuttiBarrier(comm, nullptr));
      ASSERT_OK(tuttiCommDestroy(comm));
    };
    for (int i = 0; i < 3; ++i) once();
    // The rendezvous thread of a communicator may outlive its making by a moment.
    ASSERT_TRUE(eventually([] { return entries("/proc/self/task") == 3; }));
    const long descriptors = entries("/proc/self/fd");
    for (int i = 0; i < 100; ++i) once();
    EXPECT_TRUE(eventually([] { return entries("/proc/self/task") == 3; })) << entries("/proc/self/task");
    EXPECT_TRUE(eventually([&] { return entries("/proc/self/fd") == descriptors; })) << entries("/proc/self/fd");
  });
}

TEST(Observe, AChildOfForkDoesNotKeepTheParentsServiceAlive) {
  in_child([] {
    tuttiComm_t comm = nullptr;
    ASSERT_OK(tuttiCommInitAll(&comm, 1, nullptr));
    const std::string me = "status " + std::to_string(::getpid());
    EXPECT_EQ(tool(me).status, 0);
    int gate[2];
    ASSERT_EQ(::pipe(gate), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      char byte;
      ::close(gate[1]);
      (void)!::read(gate[0], &byte, 1);  // until the parent is done
      ::_exit(0);
    }
    ASSERT_OK(tuttiCommDestroy(comm));
    const Output after = tool(me);
    EXPECT_NE(after.status, 0) << after.text;
    ::close(gate[0]);
    ::close(gate[1]);
    int status = 0;
    ::waitpid(child, &status, 0);
  });
}

}  // namespace
}  // namespace api_test
