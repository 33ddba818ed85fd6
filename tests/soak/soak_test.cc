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
constexpr uint64_t kLongestLife = 1000;  // of a communicator, in operations
constexpr int kSamples = 40;
constexpr size_t kMostCount = 16 << 10;  // elements

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
  static Holdings read() { return {share_kib(), entries("/proc/self/fd"), entries("/proc/self/task")}; }
};

// The ranks that this process carries: one of eight processes has one, a process alone has all, in one thread.
class Job {
 public:
  Job(std::vector<int> ranks, launcher::Page& page) : page_(page) {
    for (const int rank : ranks) mine_.push_back({rank, {}, Data(kRanks * kMostCount), Data(kRanks * kMostCount)});
  }

  void start() {
    if (first().rank == 0) {
      tuttiUniqueId id;
      ASSERT_OK(tuttiGetUniqueId(&id));
      page_.publish(id);
    }
    const tuttiUniqueId id = page_.await();
    ASSERT_NO_FATAL_FAILURE(join(0, id));
    for (size_t slot = 1; slot < kComms; ++slot) ASSERT_NO_FATAL_FAILURE(make(slot, 0));
  }
  // Another communicator in the place of one; its id travels over a third.
  void replace(size_t slot) {
    for (Mine& one : mine_) EXPECT_OK(tuttiCommDestroy(one.comms[slot]));
    make(slot, (slot + 1) % kComms);
  }
  void meet() {
    together([&](Mine& one) { ASSERT_OK(tuttiBarrier(one.comms[0], nullptr)); });
  }
  void end() {
    for (Mine& one : mine_)
      for (const tuttiComm_t comm : one.comms) EXPECT_OK(tuttiCommDestroy(comm));
  }

  void operation(uint64_t number, uint64_t random) {
    page_.member[first().rank].at.store(number, std::memory_order_relaxed);
    const size_t slot = random % kComms;
    // Mostly small, as in a long job, and now and then through every slot.
    const uint64_t size = random >> 8 & 0xff, wide = random >> 16;
    const size_t count = size < 200 ? 1 + size % 16 : size < 250 ? 1 + wide % 2048 : 1 + wide % kMostCount;
    const int root = static_cast<int>(random >> 32 & 7);
    switch (random >> 40 & 7) {
      case 0:
      case 1:
        run(number, count, [&](Mine& one, const int32_t* send, int32_t* receive) {
          return tuttiAllReduce(send, receive, count, TUTTI_INT32, TUTTI_SUM, one.comms[slot], nullptr);
        });
        check(1, count,
              [&](const Mine&, int, size_t i) { return kRanks * value(0, number, i) + kRanks * (kRanks - 1) / 2; });
        break;
      case 2:
        run(number, count, [&](Mine& one, const int32_t* send, int32_t* receive) {
          return tuttiBroadcast(send, receive, count, TUTTI_INT32, root, one.comms[slot], nullptr);
        });
        check(1, count, [&](const Mine&, int, size_t i) { return value(root, number, i); });
        break;
      case 3:
        run(number, count, [&](Mine& one, const int32_t* send, int32_t* receive) {
          return tuttiAllGather(send, receive, count, TUTTI_INT32, one.comms[slot], nullptr);
        });
        check(kRanks, count, [&](const Mine&, int block, size_t i) { return value(block, number, i); });
        break;
      case 4:
        run(number, count * kRanks, [&](Mine& one, const int32_t* send, int32_t* receive) {
          return tuttiReduceScatter(send, receive, count, TUTTI_INT32, TUTTI_MAX, one.comms[slot], nullptr);
        });
        check(1, count, [&](const Mine& one, int, size_t i) {
          return value(kRanks - 1, number, i + static_cast<size_t>(one.rank) * count);
        });
        break;
      case 5:
        run(number, count * kRanks, [&](Mine& one, const int32_t* send, int32_t* receive) {
          return tuttiAllToAll(send, receive, count, TUTTI_INT32, one.comms[slot], nullptr);
        });
        check(kRanks, count, [&](const Mine& one, int block, size_t i) {
          return value(block, number, i + static_cast<size_t>(one.rank) * count);
        });
        break;
      case 6:
        exchange(number, slot, count);
        break;
      default:
        together([&](Mine& one) { ASSERT_OK(tuttiBarrier(one.comms[slot], nullptr)); });
    }
  }

 private:
  using Data = std::vector<int32_t>;
  struct Mine {
    int rank;
    std::array<tuttiComm_t, kComms> comms;
    Data send, receive;
    int32_t sum = 0;
  };
  Mine& first() { return mine_.front(); }

  // `call` for each rank of this process, in a group where one thread speaks for several.
  template <class Call>
  void together(Call call, bool grouped = false) {
    grouped |= mine_.size() > 1;
    if (grouped) {
      ASSERT_OK(tuttiGroupStart());
    }
    for (Mine& one : mine_) call(one);
    if (grouped) {
      ASSERT_OK(tuttiGroupEnd());
    }
  }
  template <class Call>
  void run(uint64_t number, size_t sent, Call call) {
    for (Mine& one : mine_) fill(one, sent, number);
    together([&](Mine& one) { ASSERT_OK(call(one, one.send.data(), one.receive.data())); });
  }
  // Around the ring, beside a collective of another communicator, in one group.
  void exchange(uint64_t number, size_t slot, size_t count) {
    const int32_t send = 1;
    for (Mine& one : mine_) fill(one, count, number);
    const auto call = [&](Mine& one) {
      const int next = (one.rank + 1) % kRanks, before = (one.rank + kRanks - 1) % kRanks;
      EXPECT_OK(tuttiSend(one.send.data(), count, TUTTI_INT32, next, one.comms[slot], nullptr));
      EXPECT_OK(tuttiRecv(one.receive.data(), count, TUTTI_INT32, before, one.comms[slot], nullptr));
      const tuttiComm_t other = one.comms[(slot + 1) % kComms];
      EXPECT_OK(tuttiAllReduce(&send, &one.sum, 1, TUTTI_INT32, TUTTI_SUM, other, nullptr));
    };
    together(call, true);
    for (const Mine& one : mine_) EXPECT_EQ(one.sum, kRanks);
    check(1, count, [&](const Mine& one, int, size_t i) { return value((one.rank + kRanks - 1) % kRanks, number, i); });
  }

  void make(size_t slot, size_t over) {
    tuttiUniqueId made;
    if (first().rank == 0) {
      ASSERT_OK(tuttiGetUniqueId(&made));
    }
    std::vector<tuttiUniqueId> ids(mine_.size(), made);
    together([&](Mine& one) {
      tuttiUniqueId* id = &ids[static_cast<size_t>(&one - mine_.data())];
      ASSERT_OK(tuttiBroadcast(id, id, sizeof *id, TUTTI_UINT8, 0, one.comms[over], nullptr));
    });
    join(slot, ids.front());
  }
  void join(size_t slot, const tuttiUniqueId& id) {
    together([&](Mine& one) { ASSERT_OK(tuttiCommInitRank(&one.comms[slot], kRanks, id, one.rank)); });
  }

  static int32_t value(int rank, uint64_t number, size_t i) {
    return static_cast<int32_t>(number % 1000 + i % 777) + rank;
  }
  static void fill(Mine& one, size_t count, uint64_t number) {
    for (size_t i = 0; i < count; ++i) one.send[i] = value(one.rank, number, i);
  }
  template <class Expected>
  void check(int blocks, size_t count, Expected expected) {
    for (const Mine& one : mine_) {
      for (int block = 0; block < blocks; ++block) {
        for (size_t i = 0; i < count; ++i) {
          if (one.receive[static_cast<size_t>(block) * count + i] == expected(one, block, i)) continue;
          ADD_FAILURE() << "rank " << one.rank << ", block " << block << ", element " << i << " of " << count;
          return;
        }
      }
    }
  }

  launcher::Page& page_;
  std::vector<Mine> mine_;
};

// What a process held over time: the first half fills every cache and table; from then on nothing may grow. The median
// of a quarter counts: what a moment shows depends on what is just being made, and on how full the caches of
// communicators are that come and go.
void expect_flat(const std::vector<Holdings>& samples, int process) {
  const auto median = [&](size_t begin, long Holdings::*what) {
    std::vector<long> values;
    for (size_t i = begin; i < begin + kSamples / 4; ++i) values.push_back(samples[i].*what);
    std::nth_element(values.begin(), values.begin() + kSamples / 8, values.end());
    return values[kSamples / 8];
  };
  const auto compare = [&](const char* name, long Holdings::*what, long slack) {
    const long third = median(kSamples / 2, what), fourth = median(kSamples / 4 * 3, what);
    if (process == 0) std::printf("%s: %ld in the third quarter, %ld in the fourth\n", name, third, fourth);
    EXPECT_LE(fourth, third + slack) << name << " grow in process " << process;
  };
  if (!kSanitized) compare("KiB", &Holdings::kib, 1024 + median(kSamples / 2, &Holdings::kib) / 16);
  compare("descriptors", &Holdings::descriptors, 2);  // strangers may be at a door, e.g. a port scan
  compare("threads", &Holdings::threads, 1);          // a rendezvous ends a moment after its communicator is there
}

void soak(int processes, uint64_t operations, double limit_seconds) {
  const auto body = [&](int process, launcher::Page& page) {
    std::vector<int> ranks;
    for (int rank = process; rank < kRanks; rank += processes) ranks.push_back(rank);
    Job job(std::move(ranks), page);
    ASSERT_NO_FATAL_FAILURE(job.start());
    std::mt19937_64 random(20261124);
    std::vector<Holdings> samples;
    const uint64_t life = std::min(kLongestLife, operations / 20);
    uint64_t replaced = 0;
    for (uint64_t number = 1; number <= operations; ++number) {
      ASSERT_NO_FATAL_FAILURE(job.operation(number, random()));
      if (number % life == 0) {
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
    if (process == 0)
      std::printf("%llu operations, %llu communicators replaced\n", static_cast<unsigned long long>(operations),
                  static_cast<unsigned long long>(replaced));
    expect_flat(samples, process);
    job.end();
  };
  in_children(processes, body, {}, limit_seconds);
}

TEST(Soak, TwoThousandMixedOperationsInEightProcessesHoldNoMoreAndMore) { soak(kRanks, 2'000, kLimitSeconds); }
TEST(Soak, TwentyThousandMixedOperationsInOneProcessHoldNoMoreAndMore) { soak(1, 20'000, kLimitSeconds); }
TEST(FullSoak, AMillionMixedOperationsInEightProcessesHoldNoMoreAndMore) { soak(kRanks, 1'000'000, 3600); }
TEST(FullSoak, AMillionMixedOperationsInOneProcessHoldNoMoreAndMore) { soak(1, 1'000'000, 3600); }

}  // namespace
}  // namespace api_test
