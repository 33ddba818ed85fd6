// SPDX-License-Identifier: Apache-2.0
// Communicators come and go by the thousand, and nothing grows: memory, descriptors, threads, mappings, /dev/shm.
#include <dirent.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstring>

#include "lifecycle/life.h"

namespace life_test {
namespace {

struct Usage {
  long descriptors = 0, threads = 0, mappings = 0, shm_files = 0, resident_kib = 0;

  static long entries(const char* folder, const char* prefix = "") {
    long count = 0;
    if (DIR* open = opendir(folder)) {
      while (const dirent* entry = readdir(open))
        count += std::strncmp(entry->d_name, prefix, std::strlen(prefix)) == 0;
      closedir(open);
    }
    return count;
  }
  static Usage now() {
    Usage usage{entries("/proc/self/fd"), entries("/proc/self/task"), 0, entries("/dev/shm", "tutti-"), 0};
    char line[512];
    if (FILE* file = std::fopen("/proc/self/maps", "r")) {
      while (std::fgets(line, sizeof line, file) != nullptr) ++usage.mappings;
      std::fclose(file);
    }
    if (FILE* file = std::fopen("/proc/self/status", "r")) {
      while (std::fgets(line, sizeof line, file) != nullptr) std::sscanf(line, "VmRSS: %ld", &usage.resident_kib);
      std::fclose(file);
    }
    return usage;
  }
};

// What was made is gone when the last rank is done with it, which may be a moment after this rank was.
void expect_no_growth(const Usage& before, int rank, int cycles) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  Usage after = Usage::now();
  const auto grown = [&] {
    return after.descriptors > before.descriptors || after.threads > before.threads ||
           after.shm_files > before.shm_files || after.mappings > before.mappings + 4;
  };
  while (grown() && std::chrono::steady_clock::now() < limit) {
    usleep(10'000);
    after = Usage::now();
  }
  EXPECT_LE(after.descriptors, before.descriptors);
  EXPECT_LE(after.threads, before.threads);
  EXPECT_LE(after.shm_files, before.shm_files);
  EXPECT_LE(after.mappings, before.mappings + 4) << "the allocator may have split one";
  // An allocator keeps some pages; a page or two for each communicator would be seen.
  if (!kSanitized) {
    EXPECT_LT(after.resident_kib, before.resident_kib + 512 + cycles);
  }
  if (rank == 0)
    std::printf("%d cycles: %+ld KiB, %+ld descriptors, %+ld threads, %+ld mappings\n", cycles,
                after.resident_kib - before.resident_kib, after.descriptors - before.descriptors,
                after.threads - before.threads, after.mappings - before.mappings);
}

// One cycle: a communicator by a rendezvous, one by a split of it and one by a shrink; each is used and ended, in all
// the ways there are to end one.
void cycle(tuttiComm_t world, int rank, int n, int number) {
  tuttiUniqueId id;
  if (rank == 0) {
    ASSERT_OK(tuttiGetUniqueId(&id));
  }
  ASSERT_OK(tuttiBroadcast(&id, &id, sizeof id, TUTTI_UINT8, 0, world, nullptr));
  tuttiComm_t joined = nullptr, part = nullptr, rest = nullptr;
  tuttiConfig_t config = TUTTI_CONFIG_INITIALIZER;
  config.blocking = number % 4 != 3;
  const tuttiResult_t begun = tuttiCommInitRankConfig(&joined, n, id, rank, &config);
  ASSERT_EQ(begun, config.blocking != 0 ? TUTTI_SUCCESS : TUTTI_IN_PROGRESS) << tuttiGetLastError(nullptr);
  ASSERT_EQ(await(joined), TUTTI_SUCCESS) << tuttiGetLastError(joined);
  if (config.blocking != 0) {
    ASSERT_EQ(sum_of(joined, 1), n);
  }
  ASSERT_BEGUN(tuttiCommSplit(joined, rank % 2, 0, &part, nullptr));
  ASSERT_EQ(await(part), TUTTI_SUCCESS);
  if (config.blocking != 0) {
    ASSERT_EQ(sum_of(part, 1), (n + 1 - rank % 2) / 2);
  }
  if (rank != n - 1) {
    const int excluded = n - 1;
    ASSERT_OK(tuttiCommShrink(world, &excluded, 1, &rest, nullptr, TUTTI_SHRINK_DEFAULT));
    ASSERT_EQ(sum_of(rest, 1), n - 1);
  }
  switch (number % 3) {
    case 0:
      ASSERT_BEGUN(tuttiCommFinalize(joined));
      ASSERT_OK(tuttiCommDestroy(part));
      ASSERT_OK(tuttiCommDestroy(joined));
      break;
    case 1:
      ASSERT_OK(tuttiCommDestroy(joined));
      ASSERT_OK(tuttiCommDestroy(part));
      break;
    default:
      ASSERT_OK(tuttiCommAbort(part));
      ASSERT_OK(tuttiCommAbort(joined));
      break;
  }
  ASSERT_OK(tuttiCommDestroy(rest));
}

void churn(int n, int warm_up, int cycles, const Environment& environment) {
  in_children(
      n,
      [&](int rank, launcher::Page& page) {
        tuttiComm_t world = nullptr;
        ASSERT_OK(tuttiCommInitRank(&world, n, shared_id(rank, page), rank));
        const auto turn = [&](int times) {
          for (int i = 0; i < times && !testing::Test::HasFailure(); ++i) {
            page.member[rank].at.fetch_add(1);  // the launcher ends what does not move
            cycle(world, rank, n, i);
          }
        };
        // Handles rest for a while before they are used again, so growth counts only after a hundred or so.
        turn(warm_up);
        ASSERT_OK(tuttiBarrier(world, nullptr));  // makes connections of its own
        const Usage before = Usage::now();
        turn(cycles);
        ASSERT_OK(tuttiBarrier(world, nullptr));
        expect_no_growth(before, rank, cycles);
        ASSERT_OK(tuttiBarrier(world, nullptr));
        EXPECT_OK(tuttiCommDestroy(world));
      },
      environment);
}

class Churn : public OverTransport {};
TEST_P(Churn, ManyCommunicatorsComeAndGoAndNothingGrows) { churn(3, 60, 60, over()); }
TUTTI_OVER_TRANSPORTS(Churn);

TEST(FullChurn, ThousandsOfCommunicatorsOverSharedMemory) { churn(4, 200, 2000, {{"TUTTI_TRANSPORTS", "shm"}}); }
TEST(FullChurn, ThousandsOfCommunicatorsOverSockets) { churn(4, 200, 2000, {{"TUTTI_TRANSPORTS", "tcp"}}); }

TEST(FullChurn, ThousandsOfCommunicatorsOfOneProcess) {
  in_children(1, [](int, launcher::Page& page) {
    Usage before;
    for (int i = 0; i < 3000; ++i) {
      page.member[0].at.fetch_add(1);
      if (i == 500) before = Usage::now();
      std::array<tuttiComm_t, 4> comms{}, parts{};
      ASSERT_OK(tuttiCommInitAll(comms.data(), 4, nullptr));
      ASSERT_OK(tuttiGroupStart());
      for (int r = 0; r < 4; ++r) ASSERT_OK(tuttiCommSplit(comms[r], r % 2, 0, &parts[r], nullptr));
      ASSERT_OK(tuttiGroupEnd());
      for (int r = 0; r < 4; ++r) ASSERT_OK(i % 2 == 0 ? tuttiCommDestroy(comms[r]) : tuttiCommAbort(comms[r]));
      for (int r = 0; r < 4; ++r) ASSERT_OK(i % 3 == 0 ? tuttiCommAbort(parts[r]) : tuttiCommDestroy(parts[r]));
    }
    expect_no_growth(before, 0, 2500);
  });
}

}  // namespace
}  // namespace life_test
