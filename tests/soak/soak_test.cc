// SPDX-License-Identifier: Apache-2.0
// Soak: mixed operations on four communicators of eight ranks, which come and go meanwhile, with every result checked;
// memory, descriptors and threads stay as they are. Which operation comes next follows from a seed, alike on all ranks.
#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <random>

#include "api/harness.h"

namespace api_test {
namespace {

constexpr int kRanks = 8, kComms = 4;
constexpr uint64_t kLifeOfACommunicator = 1000;  // operations between two replacements
constexpr int kSamples = 40;
constexpr size_t kMostCount = 16 << 10;  // elements

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

// What a process holds, as the kernel counts it.
struct Holdings {
  long kib = 0;  // its share of all pages: what ranks share counts once in all
  long descriptors = 0, threads = 0;

  static long entries(const char* folder) {
    long count = 0;
    DIR* dir = ::opendir(folder);
    while (dir != nullptr && ::readdir(dir) != nullptr) ++count;
    if (dir != nullptr) ::closedir(dir);
    return count;
  }
  static Holdings read() {
    Holdings now;
    if (FILE* file = std::fopen("/proc/self/smaps_rollup", "re")) {
      char line[256];
      while (std::fgets(line, sizeof line, file) != nullptr) (void)std::sscanf(line, "Pss: %ld", &now.kib);
      std::fclose(file);
    }
    now.descriptors = entries("/proc/self/fd");
    now.threads = entries("/proc/self/task");
    return now;
  }
};

class Job {
 public:
  Job(int rank, launcher::Page& page) : rank_(rank), page_(page), send_(kRanks * kMostCount), receive_(send_.size()) {}

  void start() {
    if (rank_ == 0) {
      tuttiUniqueId id;
      ASSERT_OK(tuttiGetUniqueId(&id));
      page_.publish(id);
    }
    ASSERT_OK(tuttiCommInitRank(&comms_[0], kRanks, page_.await(), rank_));
    for (size_t slot = 1; slot < kComms; ++slot) ASSERT_NO_FATAL_FAILURE(make(slot, 0));
  }
  void meet() { ASSERT_OK(tuttiBarrier(comms_[0], nullptr)); }
  void end() {
    for (const tuttiComm_t comm : comms_) EXPECT_OK(tuttiCommDestroy(comm));
  }

  // Another communicator in the place of one; its id travels over a third.
  void replace(size_t slot) {
    EXPECT_OK(tuttiCommDestroy(comms_[slot]));
    make(slot, (slot + 1) % kComms);
  }

  void operation(uint64_t number, uint64_t random) {
    page_.member[rank_].at.store(number, std::memory_order_relaxed);
    const tuttiComm_t comm = comms_[random % kComms];
    // Mostly small, as in a long job, and now and then through every slot.
    const uint64_t size = random >> 8 & 0xff;
    const size_t count = size < 200   ? 1 + size % 16
                         : size < 250 ? 1 + (random >> 16) % 2048
                                      : 1 + (random >> 16) % kMostCount;
    const int root = static_cast<int>(random >> 32 & 7);
    switch (random >> 40 & 7) {
      case 0:
      case 1:
        fill(count, number);
        ASSERT_OK(tuttiAllReduce(send_.data(), receive_.data(), count, TUTTI_INT32, TUTTI_SUM, comm, nullptr));
        check(0, count, [&](size_t i) { return kRanks * value(0, number, i) + kRanks * (kRanks - 1) / 2; });
        break;
      case 2:
        fill(count, number);
        ASSERT_OK(tuttiBroadcast(send_.data(), receive_.data(), count, TUTTI_INT32, root, comm, nullptr));
        check(0, count, [&](size_t i) { return value(root, number, i); });
        break;
      case 3:
        fill(count, number);
        ASSERT_OK(tuttiAllGather(send_.data(), receive_.data(), count, TUTTI_INT32, comm, nullptr));
        for (int rank = 0; rank < kRanks; ++rank)
          check(static_cast<size_t>(rank) * count, count, [&](size_t i) { return value(rank, number, i); });
        break;
      case 4:
        fill(count * kRanks, number);
        ASSERT_OK(tuttiReduceScatter(send_.data(), receive_.data(), count, TUTTI_INT32, TUTTI_MAX, comm, nullptr));
        check(0, count, [&](size_t i) { return value(kRanks - 1, number, i + static_cast<size_t>(rank_) * count); });
        break;
      case 5:
        fill(count * kRanks, number);
        ASSERT_OK(tuttiAllToAll(send_.data(), receive_.data(), count, TUTTI_INT32, comm, nullptr));
        for (int rank = 0; rank < kRanks; ++rank) {
          check(static_cast<size_t>(rank) * count, count,
                [&](size_t i) { return value(rank, number, i + static_cast<size_t>(rank_) * count); });
        }
        break;
      case 6: {  // around the ring, beside a collective of another communicator, in one group
        const int next = (rank_ + 1) % kRanks, before = (rank_ + kRanks - 1) % kRanks;
        int32_t sum = 0;
        const int32_t one = 1;
        fill(count, number);
        ASSERT_OK(tuttiGroupStart());
        EXPECT_OK(tuttiSend(send_.data(), count, TUTTI_INT32, next, comm, nullptr));
        EXPECT_OK(tuttiRecv(receive_.data(), count, TUTTI_INT32, before, comm, nullptr));
        EXPECT_OK(tuttiAllReduce(&one, &sum, 1, TUTTI_INT32, TUTTI_SUM, comms_[(random + 1) % kComms], nullptr));
        ASSERT_OK(tuttiGroupEnd());
        check(0, count, [&](size_t i) { return value(before, number, i); });
        EXPECT_EQ(sum, kRanks);
        break;
      }
      default:
        ASSERT_OK(tuttiBarrier(comm, nullptr));
    }
  }

 private:
  void make(size_t slot, size_t over) {
    tuttiUniqueId id;
    if (rank_ == 0) {
      ASSERT_OK(tuttiGetUniqueId(&id));
    }
    ASSERT_OK(tuttiBroadcast(&id, &id, sizeof id, TUTTI_UINT8, 0, comms_[over], nullptr));
    ASSERT_OK(tuttiCommInitRank(&comms_[slot], kRanks, id, rank_));
  }

  static int32_t value(int rank, uint64_t number, size_t i) {
    return static_cast<int32_t>(number % 1000 + i % 777) + rank;
  }
  void fill(size_t count, uint64_t number) {
    for (size_t i = 0; i < count; ++i) send_[i] = value(rank_, number, i);
  }
  template <class Expected>
  void check(size_t begin, size_t count, Expected expected) {
    for (size_t i = 0; i < count; ++i) {
      if (receive_[begin + i] != expected(i)) {
        ADD_FAILURE() << "element " << i << " of " << count;
        return;
      }
    }
  }

  int rank_;
  launcher::Page& page_;
  std::array<tuttiComm_t, kComms> comms_{};
  std::vector<int32_t> send_, receive_;
};

void soak(uint64_t operations, double limit_seconds) {
  const auto body = [&](int rank, launcher::Page& page) {
    Job job(rank, page);
    ASSERT_NO_FATAL_FAILURE(job.start());
    std::mt19937_64 random(20261124);
    std::vector<Holdings> samples;
    uint64_t replaced = 0;
    for (uint64_t number = 1; number <= operations; ++number) {
      ASSERT_NO_FATAL_FAILURE(job.operation(number, random()));
      if (number % kLifeOfACommunicator == 0) {
        ASSERT_NO_FATAL_FAILURE(job.replace(replaced++ % kComms));
      }
      if (number % (operations / kSamples) == 0) {
        // Together: what ranks share is counted to those that have it at that moment.
        ASSERT_NO_FATAL_FAILURE(job.meet());
        samples.push_back(Holdings::read());
        ASSERT_NO_FATAL_FAILURE(job.meet());
      }
      if (testing::Test::HasFailure()) return;
    }
    // The first half fills every cache and table; from then on nothing may grow. The largest of a quarter, since what a
    // moment shows depends on what is just being made.
    const auto most = [&](size_t begin, long Holdings::*what) {
      const auto from = samples.begin() + static_cast<std::ptrdiff_t>(begin);
      return *std::max_element(from, from + kSamples / 4, [&](const Holdings& a, const Holdings& b) {
        return a.*what < b.*what;
      }).*what;
    };
    const auto compare = [&](const char* name, long Holdings::*what, long slack) {
      const long third = most(kSamples / 2, what), fourth = most(kSamples / 4 * 3, what);
      if (rank == 0) std::printf("%s: %ld in the third quarter, %ld in the fourth\n", name, third, fourth);
      EXPECT_LE(fourth, third + slack) << name << " grow on rank " << rank;
    };
    if (rank == 0)
      std::printf("%llu operations, %llu communicators replaced\n", static_cast<unsigned long long>(operations),
                  static_cast<unsigned long long>(replaced));
    if (!kSanitized) compare("KiB", &Holdings::kib, 1024);
    compare("descriptors", &Holdings::descriptors, 2);  // strangers may be at a door, e.g. a port scan
    compare("threads", &Holdings::threads, 1);          // a rendezvous ends a moment after its communicator is there
    job.end();
  };
  in_children(kRanks, body, {}, limit_seconds);
}

TEST(Soak, TenThousandMixedOperationsOnComingAndGoingCommunicatorsHoldNoMoreAndMore) { soak(10'000, kLimitSeconds); }
TEST(FullSoak, AMillionMixedOperationsOnComingAndGoingCommunicatorsHoldNoMoreAndMore) { soak(1'000'000, 3600); }

}  // namespace
}  // namespace api_test
