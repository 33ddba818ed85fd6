// SPDX-License-Identifier: Apache-2.0
// What surrounds a communicator: environment variables, launchers, wrong ids and ranks, fork, a full /dev/shm, system
// calls that are forbidden, many ranks.
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>

#include "harness.h"

namespace api_test {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void expect_sum(tuttiComm_t comm, int rank, int n, size_t count) {
  std::vector<int> data(count, rank + 1);
  EXPECT_OK(tuttiAllReduce(data.data(), data.data(), count, TUTTI_INT32, TUTTI_SUM, comm, nullptr));
  EXPECT_EQ(data, std::vector<int>(count, n * (n + 1) / 2));
}

TEST(Environment, ValuesThatDoNotParseAreNamed) {
  const Environment wrong = {{"TUTTI_TIMEOUT", "banana"},      {"TUTTI_ALGO", "no-such-algorithm"},
                             {"TUTTI_PROTO", "smoke-signals"}, {"TUTTI_TRANSPORTS", "pigeon"},
                             {"TUTTI_SLICE_BYTES", "many"},    {"TUTTI_DEBUG", "shouting"},
                             {"TUTTI_MIN_CHANNELS", "-3"}};
  for (const auto& [name, value] : wrong) {
    in_child(
        [name = name] {
          tuttiComm_t comm = reinterpret_cast<tuttiComm_t>(0x10);
          EXPECT_FAILS(tuttiCommInitAll(&comm, 1, nullptr), TUTTI_INVALID_ARGUMENT, name);
          EXPECT_EQ(comm, nullptr);
        },
        {{name, value}});
  }
}

TEST(Environment, UnknownVariablesOnlyWarn) {
  with_all(1, [](auto& comms) { expect_sum(comms[0], 0, 1, 5); }, {{"TUTTI_NO_SUCH_VARIABLE", "1"}});
}

int free_port() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) std::perror("bind");
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  close(fd);
  return ntohs(address.sin_port);
}

TEST(InitEnv, JoinsWhatALauncherStarted) {
  for (const bool secret : {true, false}) {
    Environment environment = {
        {"WORLD_SIZE", "3"}, {"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", std::to_string(free_port())}};
    if (secret) environment.push_back({"TUTTI_JOB_SECRET", "correct horse battery staple"});
    in_children(
        3,
        [](int rank, launcher::Page&) {
          setenv("RANK", std::to_string(rank).c_str(), 1);
          setenv("LOCAL_RANK", std::to_string(rank).c_str(), 1);
          tuttiComm_t comm = nullptr;
          ASSERT_OK(tuttiCommInitEnv(&comm, nullptr));
          int n = 0, me = -1;
          EXPECT_OK(tuttiCommCount(comm, &n));
          EXPECT_OK(tuttiCommRank(comm, &me));
          EXPECT_EQ(n, 3);
          EXPECT_EQ(me, rank);
          expect_sum(comm, rank, 3, 1000);
          EXPECT_OK(tuttiCommDestroy(comm));
        },
        environment);
  }
}

TEST(InitEnv, NamesTheVariableThatIsWrong) {
  const Environment good = {{"RANK", "0"}, {"WORLD_SIZE", "1"}, {"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", "29999"}};
  const Environment wrong = {
      {"RANK", "x"}, {"RANK", "7"}, {"WORLD_SIZE", "0"}, {"WORLD_SIZE", "two"}, {"MASTER_PORT", "99999"}};
  const auto fails_naming = [](const std::string& name, tuttiResult_t code) {
    tuttiComm_t comm = nullptr;
    EXPECT_FAILS(tuttiCommInitEnv(&comm, nullptr), code, name);
    EXPECT_EQ(comm, nullptr);
  };
  for (const auto& [name, value] : wrong) {
    Environment environment = good;
    environment.push_back({name, value});
    in_child([&, name = name] { fails_naming(name, TUTTI_INVALID_ARGUMENT); }, environment);
  }
  for (const char* missing : {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}) {
    in_child(
        [&] {
          unsetenv(missing);
          fails_naming(missing, TUTTI_INVALID_USAGE);
        },
        good);
  }
}

TEST(Join, AnIdThatNobodyMadeIsRefused) {
  for (const unsigned char filling : {0x00, 0x5a, 0xff}) {
    in_child(
        [filling] {
          tuttiUniqueId id;
          std::memset(&id, filling, sizeof id);
          tuttiComm_t comm = nullptr;
          EXPECT_FAILS(tuttiCommInitRank(&comm, 2, id, 1), TUTTI_INVALID_ARGUMENT, "id");
          EXPECT_EQ(comm, nullptr);
        },
        {{"TUTTI_INIT_TIMEOUT", "3s"}});
  }
}

// Two ranks whose init must fail on both.
void both_fail(const std::function<tuttiResult_t(int rank, const tuttiUniqueId& id, tuttiComm_t* comm)>& join) {
  in_children(2,
              [&](int rank, launcher::Page& page) {
                tuttiComm_t comm = nullptr;
                const auto start = std::chrono::steady_clock::now();
                EXPECT_NE(join(rank, shared_id(rank, page), &comm), TUTTI_SUCCESS);
                EXPECT_EQ(comm, nullptr);
                EXPECT_NE(last_error(), "");
                EXPECT_LT(seconds_since(start), 20);
                std::printf("  rank %d: %s\n", rank, last_error().c_str());
              },
              {{"TUTTI_INIT_TIMEOUT", "3s"}});
}

TEST(Join, AnIdThatWasChangedOnTheWayIsRefused) {
  for (const size_t byte : {size_t{20}, size_t{60}, size_t{127}}) {
    both_fail([&](int rank, tuttiUniqueId id, tuttiComm_t* comm) {
      if (rank == 1) id.internal[byte] = static_cast<char>(id.internal[byte] ^ 1);
      return tuttiCommInitRank(comm, 2, id, rank);
    });
  }
}
TEST(Join, ARankUsedTwiceIsAnErrorForBoth) {
  both_fail([](int, const tuttiUniqueId& id, tuttiComm_t* comm) { return tuttiCommInitRank(comm, 2, id, 0); });
}
TEST(Join, DifferentNumbersOfRanksAreAnErrorForBoth) {
  both_fail(
      [](int rank, const tuttiUniqueId& id, tuttiComm_t* comm) { return tuttiCommInitRank(comm, 2 + rank, id, rank); });
}
TEST(Join, AMissingRankIsAnErrorForTheOthers) {
  both_fail([](int rank, const tuttiUniqueId& id, tuttiComm_t* comm) { return tuttiCommInitRank(comm, 3, id, rank); });
}

TEST(Fork, AChildGetsAnErrorAndNotAHang) {
  in_ranks(2, [](int rank, tuttiComm_t comm) {
    expect_sum(comm, rank, 2, 10);
    tuttiStream_t stream = nullptr;
    ASSERT_OK(tuttiStreamCreate(&stream));
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      alarm(20);
      int x = 1, y = 0;
      const bool refused = tuttiAllReduce(&x, &y, 1, TUTTI_INT32, TUTTI_SUM, comm, nullptr) == TUTTI_INVALID_USAGE &&
                           last_error().find("fork") != std::string::npos &&
                           tuttiAllReduce(&x, &y, 1, TUTTI_INT32, TUTTI_SUM, comm, stream) != TUTTI_SUCCESS &&
                           tuttiStreamSynchronize(stream) != TUTTI_SUCCESS && tuttiCommDestroy(comm) != TUTTI_SUCCESS;
      if (!refused) std::fprintf(stderr, "last error in the child: %s\n", tuttiGetLastError(nullptr));
      _exit(refused ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    expect_sum(comm, rank, 2, 100000);  // the parent's communicator is whole
    EXPECT_OK(tuttiStreamDestroy(stream));
  });
}

// System calls that answer with an error from now on in this process.
void forbid(std::initializer_list<long> calls, int error) {
  std::vector<sock_filter> program = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (const long call : calls) {
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(call), 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog filter = {static_cast<unsigned short>(program.size()), program.data()};
  ASSERT_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
  ASSERT_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0) << strerror(errno);
}

// A /dev/shm of this process alone that has no room. False without the right to mount.
bool fill_dev_shm() {
  if (unshare(CLONE_NEWNS) != 0 || mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return false;
  if (mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=16k") != 0) return false;
  const int fd = open("/dev/shm/filler", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  const std::vector<char> block(4096);
  while (write(fd, block.data(), block.size()) > 0) continue;
  close(fd);
  return true;
}

// Two ranks under restrictions that are made first thing.
void two_ranks(const std::function<void()>& restrict_process, bool may_fail_naming_it) {
  in_children(2, [&](int rank, launcher::Page& page) {
    restrict_process();
    if (testing::Test::HasFatalFailure() || testing::Test::IsSkipped()) return;
    tuttiUniqueId id;
    if (rank == 0) {
      ASSERT_OK(tuttiGetUniqueId(&id));
      page.publish(id);
    }
    tuttiComm_t comm = nullptr;
    const tuttiResult_t joined = tuttiCommInitRank(&comm, 2, page.await(), rank);
    if (joined != TUTTI_SUCCESS && may_fail_naming_it) {
      EXPECT_TRUE(last_error().find("shm") != std::string::npos || last_error().find("memfd") != std::string::npos)
          << last_error();
      std::printf("  rank %d: %s\n", rank, last_error().c_str());
      return;
    }
    ASSERT_EQ(joined, TUTTI_SUCCESS) << last_error();
    for (const size_t count : {1, 1000, 1000000}) expect_sum(comm, rank, 2, count);
    void* memory = nullptr;
    if (tuttiMemAlloc(&memory, 1 << 20) == TUTTI_SUCCESS) {
      std::memset(memory, 1, 1 << 20);
      EXPECT_OK(tuttiMemFree(memory));
    }
    EXPECT_OK(tuttiCommDestroy(comm));
  });
}

TEST(Host, WithoutCrossMemoryAttachWorks) {
  two_ranks([] { forbid({SYS_process_vm_readv, SYS_process_vm_writev}, EPERM); }, false);
}
TEST(Host, WithoutMemfdWorks) {
  two_ranks([] { forbid({SYS_memfd_create}, ENOSYS); }, false);
}
TEST(Host, WithAFullDevShmWorks) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to mount a small /dev/shm";
  const std::function<void()> fill = [] {
    if (!fill_dev_shm()) std::printf("  no right to mount: /dev/shm stays as it is\n");
  };
  two_ranks(fill, false);
}
TEST(Host, WithoutMemfdAndWithAFullDevShmWorksOrSaysWhy) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to mount a small /dev/shm";
  two_ranks(
      [] {
        if (!fill_dev_shm()) std::printf("  no right to mount: /dev/shm stays as it is\n");
        forbid({SYS_memfd_create}, ENOSYS);
      },
      true);
}

size_t files_in_dev_shm() {
  size_t count = 0;
  std::FILE* list = popen("ls -A /dev/shm | wc -l", "r");
  if (list != nullptr && std::fscanf(list, "%zu", &count) != 1) count = 0;
  if (list != nullptr) pclose(list);
  return count;
}

TEST(Host, NothingIsLeftInDevShmAfterAKill) {
  const size_t before = files_in_dev_shm();
  const launcher::SharedPage page;
  launcher::run(2, *page, kLimitSeconds, [&](int rank) {
    tuttiUniqueId id;
    if (rank == 0) {
      if (tuttiGetUniqueId(&id) != TUTTI_SUCCESS) return 1;
      page->publish(id);
    }
    tuttiComm_t comm = nullptr;
    if (tuttiCommInitRank(&comm, 2, page->await(), rank) != TUTTI_SUCCESS) return 1;
    if (tuttiBarrier(comm, nullptr) != TUTTI_SUCCESS) return 1;
    kill(getpid(), SIGKILL);
    return 1;
  });
  EXPECT_LE(files_in_dev_shm(), before);
}

TEST(Host, SixtyFourRanksJoinQuickly) {
  const launcher::SharedPage page;
  constexpr int kRanks = 64;
  const auto start = std::chrono::steady_clock::now();
  std::vector<double> took(kRanks);
  const launcher::Outcome outcome = launcher::run(kRanks, *page, kLimitSeconds, [&](int rank) {
    tuttiUniqueId id;
    if (rank == 0) {
      if (tuttiGetUniqueId(&id) != TUTTI_SUCCESS) return 1;
      page->publish(id);
    }
    tuttiComm_t comm = nullptr;
    const tuttiUniqueId shared = page->await();
    if (tuttiCommInitRank(&comm, kRanks, shared, rank) != TUTTI_SUCCESS) {
      std::fprintf(stderr, "rank %d: %s\n", rank, tuttiGetLastError(nullptr));
      return 1;
    }
    const double joined = seconds_since(start);
    int in = rank, out = 0;
    if (tuttiAllReduce(&in, &out, 1, TUTTI_INT32, TUTTI_SUM, comm, nullptr) != TUTTI_SUCCESS || out != 2016) {
      std::fprintf(stderr, "rank %d: %s\n", rank, tuttiGetLastError(nullptr));
      return 1;
    }
    if (rank == 0)
      std::printf("  64 ranks joined in %.3f s, first AllReduce after %.3f s\n", joined, seconds_since(start));
    return tuttiCommDestroy(comm) == TUTTI_SUCCESS ? 0 : 1;
  });
  EXPECT_TRUE(outcome.ok) << outcome.text;
}

}  // namespace
}  // namespace api_test
