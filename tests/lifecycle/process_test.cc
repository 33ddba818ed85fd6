// SPDX-License-Identifier: Apache-2.0
// The library and its process: threads, fork, exit without destroy (dlclose: unload.cc).
#include <dirent.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <fstream>
#include <thread>

#include "lifecycle/life.h"

namespace life_test {
namespace {

class Process : public OverTransport {};

// ---- threads ----

TEST_P(Process, ACommunicatorMayMoveFromThreadToThread) {
  in_ranks(
      2,
      [](int, tuttiComm_t comm) {
        for (int i = 0; i < 20; ++i) {
          std::thread caller([&] { EXPECT_EQ(sum_of(comm, i), 2 * i); });
          caller.join();
          EXPECT_EQ(sum_of(comm, 1), 2);
        }
      },
      over());
}

TEST_P(Process, CommunicatorsOfOneProcessWorkSideBySideInThreads) {
  in_ranks(
      2,
      [](int, tuttiComm_t comm) {
        constexpr int kThreads = 4;
        std::array<tuttiComm_t, kThreads> comms{};
        for (tuttiComm_t& one : comms) ASSERT_OK(tuttiCommSplit(comm, 0, 0, &one, nullptr));
        std::vector<std::thread> threads;
        for (int t = 0; t < kThreads; ++t)
          threads.emplace_back([&comms, t] {
            for (int i = 0; i < 100; ++i) ASSERT_EQ(sum_of(comms[t], t + i), 2 * (t + i));
            tuttiComm_t child = nullptr;
            ASSERT_OK(tuttiCommSplit(comms[t], 0, 0, &child, nullptr));
            EXPECT_EQ(sum_of(child, t), 2 * t);
            EXPECT_OK(tuttiCommDestroy(comms[t]));
            EXPECT_OK(tuttiCommDestroy(child));
          });
        for (std::thread& thread : threads) thread.join();
      },
      over());
}

// ---- fork ----

// Descriptors of this process that are sockets or the kernel's anonymous files.
int library_descriptors() {
  int count = 0;
  DIR* open = opendir("/proc/self/fd");
  while (const dirent* entry = readdir(open)) {
    char target[256] = {};
    const std::string path = std::string("/proc/self/fd/") + entry->d_name;
    if (readlink(path.c_str(), target, sizeof target - 1) <= 0) continue;
    count += std::strncmp(target, "socket:", 7) == 0 || std::strstr(target, "eventpoll") != nullptr ||
             std::strstr(target, "memfd:") != nullptr;
  }
  closedir(open);
  return count;
}

// In a child of fork(): its own answer, or death by the alarm.
void in_fork(const std::function<bool()>& body) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    alarm(30);
    const bool right = body();
    if (!right) std::fprintf(stderr, "in the forked child: %s\n", tuttiGetLastError(nullptr));
    _exit(right ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST_P(Process, AForkedChildHoldsNoDescriptorAndNoMemoryOfItsParentsCommunicators) {
  in_ranks(
      2,
      [](int, tuttiComm_t comm) {
        ASSERT_EQ(sum_of(comm, 1), 2);
        tuttiUniqueId id;  // a rendezvous that waits in the background
        ASSERT_OK(tuttiGetUniqueId(&id));
        ASSERT_GT(library_descriptors(), 0);
        in_fork([] {
          std::ifstream maps("/proc/self/maps");
          const std::string text{std::istreambuf_iterator<char>(maps), {}};
          return library_descriptors() == 0 && text.find("memfd:tutti") == std::string::npos;
        });
        EXPECT_EQ(sum_of(comm, 1), 2) << "the parent's communicator is whole";
      },
      over());
}

TEST_P(Process, EveryCallOnAParentsCommunicatorIsRefusedInAForkedChild) {
  in_ranks(
      2,
      [](int, tuttiComm_t comm) {
        in_fork([comm] {
          float value = 1, sum = 0;
          int number = 0;
          tuttiComm_t made = nullptr;
          tuttiResult_t code = TUTTI_SUCCESS;
          const auto refused = [](tuttiResult_t result) {
            return result == TUTTI_INVALID_USAGE && std::strstr(tuttiGetLastError(nullptr), "fork") != nullptr;
          };
          return refused(tuttiAllReduce(&value, &sum, 1, TUTTI_FLOAT32, TUTTI_SUM, comm, nullptr)) &&
                 refused(tuttiCommSplit(comm, 0, 0, &made, nullptr)) &&
                 refused(tuttiCommShrink(comm, nullptr, 0, &made, nullptr, TUTTI_SHRINK_ABORT)) &&
                 refused(tuttiCommFinalize(comm)) && refused(tuttiCommAbort(comm)) && refused(tuttiCommDestroy(comm)) &&
                 refused(tuttiCommGetAsyncError(comm, &code)) && refused(tuttiCommCount(comm, &number));
        });
      },
      over());
}

TEST(Fork, WhileOtherThreadsMakeAndEndCommunicatorsNeverBlocksTheChild) {
  in_child([] {
    std::atomic<bool> stop{false};
    std::array<tuttiComm_t, 1> kept{};
    ASSERT_OK(tuttiCommInitAll(kept.data(), 1, nullptr));
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t)
      threads.emplace_back([&] {
        while (!stop.load()) {
          std::array<tuttiComm_t, 2> comms{};
          ASSERT_OK(tuttiCommInitAll(comms.data(), 2, nullptr));
          for (tuttiComm_t comm : comms) ASSERT_OK(tuttiCommDestroy(comm));
          tuttiStream_t stream = nullptr;
          ASSERT_OK(tuttiStreamCreate(&stream));
          ASSERT_OK(tuttiStreamDestroy(stream));
        }
      });
    for (int i = 0; i < 30; ++i)
      in_fork([&] {
        // What meets the registries, and a communicator of the child's own.
        std::array<tuttiComm_t, 2> comms{};
        return tuttiCommDestroy(kept[0]) == TUTTI_INVALID_USAGE &&
               tuttiCommInitAll(comms.data(), 2, nullptr) == TUTTI_SUCCESS &&
               tuttiCommDestroy(comms[0]) == TUTTI_SUCCESS && tuttiCommDestroy(comms[1]) == TUTTI_SUCCESS;
      });
    stop.store(true);
    for (std::thread& thread : threads) thread.join();
    EXPECT_OK(tuttiCommDestroy(kept[0]));
  });
}

// ---- exit ----

long shm_files() {
  long count = 0;
  if (DIR* open = opendir("/dev/shm")) {
    while (const dirent* entry = readdir(open)) count += std::strncmp(entry->d_name, "tutti-", 6) == 0;
    closedir(open);
  }
  return count;
}

TEST_P(Process, ExitWithoutDestroyNeitherHangsNorLeavesAnything) {
  const long before = shm_files();
  in_children(
      3,
      [](int rank, launcher::Page& page) {
        tuttiConfig_t config = TUTTI_CONFIG_INITIALIZER;
        config.blocking = rank == 2 ? 0 : 1;
        tuttiComm_t comm = nullptr, child = nullptr;
        ASSERT_BEGUN(tuttiCommInitRankConfig(&comm, 3, shared_id(rank, page), rank, &config));
        ASSERT_EQ(await(comm), TUTTI_SUCCESS);
        ASSERT_BEGUN(tuttiCommSplit(comm, 0, 0, &child, nullptr));
        ASSERT_EQ(await(child), TUTTI_SUCCESS);
        // A stream is in the middle of an operation that its peers never join, a group is open: then exit().
        static float value = 1, sum = 0;
        tuttiStream_t stream = nullptr;
        ASSERT_OK(tuttiStreamCreate(&stream));
        if (rank == 1) {
          ASSERT_OK(tuttiAllReduce(&value, &sum, 1, TUTTI_FLOAT32, TUTTI_SUM, child, stream));
        }
        ASSERT_OK(tuttiGroupStart());
      },
      over());
  EXPECT_LE(shm_files(), before);
}

TUTTI_OVER_TRANSPORTS(Process);

}  // namespace
}  // namespace life_test
