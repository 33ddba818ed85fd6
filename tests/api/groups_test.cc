// SPDX-License-Identifier: Apache-2.0
// Groups: nesting, poison, several communicators, several ranks in a thread, sends and receives beside collectives.
#include <numeric>
#include <thread>

#include "harness.h"

namespace api_test {
namespace {

tuttiResult_t add(tuttiComm_t comm, int& in, int& out, tuttiStream_t stream = nullptr) {
  return tuttiAllReduce(&in, &out, 1, TUTTI_INT32, TUTTI_SUM, comm, stream);
}

TEST(Groups, StartNothingBeforeTheOutermostEnd) {
  with_all(2, [](auto& comms) {
    int in[2] = {1, 2}, out[2] = {-1, -1};
    EXPECT_OK(tuttiGroupStart());
    EXPECT_OK(tuttiGroupStart());
    EXPECT_OK(add(comms[0], in[0], out[0]));
    EXPECT_OK(tuttiGroupEnd());
    EXPECT_OK(tuttiGroupStart());
    EXPECT_OK(tuttiGroupStart());
    EXPECT_OK(add(comms[1], in[1], out[1]));
    EXPECT_OK(tuttiGroupEnd());
    EXPECT_OK(tuttiGroupEnd());
    EXPECT_EQ(out[0], -1);
    EXPECT_EQ(out[1], -1);
    EXPECT_OK(tuttiGroupEnd());
    EXPECT_EQ(out[0], 3);
    EXPECT_EQ(out[1], 3);
  });
}

TEST(Groups, MayBeEmptyAndMustBeOpenToEnd) {
  with_all(1, [](auto&) {
    EXPECT_OK(tuttiGroupStart());
    EXPECT_OK(tuttiGroupEnd());
    EXPECT_FAILS(tuttiGroupEnd(), TUTTI_INVALID_USAGE, "tuttiGroupStart");
  });
}

TEST(Groups, SimulatedStartNothingAndHaveATime) {
  with_all(2, [](auto& comms) {
    int in[2] = {1, 2}, out[2] = {-1, -1};
    double one = -1, two = -1;
    EXPECT_OK(tuttiGroupStart());
    EXPECT_OK(add(comms[0], in[0], out[0]));
    EXPECT_OK(tuttiGroupSimulateEnd(&one));
    EXPECT_GT(one, 0);
    EXPECT_OK(tuttiGroupStart());
    EXPECT_OK(tuttiGroupStart());
    EXPECT_OK(add(comms[0], in[0], out[0]));
    EXPECT_OK(tuttiGroupSimulateEnd(&two));
    EXPECT_EQ(two, 0) << "a nested group is only closed";
    EXPECT_OK(add(comms[0], in[0], out[0]));
    EXPECT_OK(tuttiGroupSimulateEnd(&two));
    EXPECT_DOUBLE_EQ(two, 2 * one);
    EXPECT_EQ(out[0], -1);
    EXPECT_FAILS(tuttiGroupSimulateEnd(&two), TUTTI_INVALID_USAGE, "tuttiGroupStart");

    // A group that failed has no time, and is closed all the same.
    EXPECT_OK(tuttiGroupStart());
    EXPECT_FAILS(tuttiBroadcast(in, out, 1, TUTTI_INT32, 7, comms[0], nullptr), TUTTI_INVALID_ARGUMENT, "root");
    EXPECT_FAILS(tuttiGroupSimulateEnd(&two), TUTTI_INVALID_ARGUMENT, "root");
    EXPECT_FAILS(tuttiGroupEnd(), TUTTI_INVALID_USAGE, "tuttiGroupStart");
    EXPECT_OK(tuttiGroupStart());
    EXPECT_FAILS(tuttiGroupSimulateEnd(nullptr), TUTTI_INVALID_ARGUMENT, "microseconds");
    EXPECT_FAILS(tuttiGroupEnd(), TUTTI_INVALID_USAGE, "tuttiGroupStart");
  });
}

TEST(Groups, RunSeveralOperationsOfEachRankAsIfOneAfterTheOther) {
  with_all(3, [](auto& comms) {
    int a[3] = {1, 2, 3}, b[3] = {}, c[3] = {}, d[3] = {};
    EXPECT_OK(tuttiGroupStart());
    for (size_t r = 0; r < 3; ++r) {
      EXPECT_OK(add(comms[r], a[r], b[r]));  // 6
      EXPECT_OK(add(comms[r], b[r], c[r]));  // 18: reads what the call before wrote
      EXPECT_OK(tuttiReduce(&c[r], &d[r], 1, TUTTI_INT32, TUTTI_SUM, 1, comms[r], nullptr));  // 54 on rank 1
    }
    EXPECT_OK(tuttiGroupEnd());
    for (int r = 0; r < 3; ++r) EXPECT_TRUE(b[r] == 6 && c[r] == 18 && d[r] == (r == 1 ? 54 : 0)) << r;
  });
}

// Small calls of a group post early where they may: independent ones, dependent ones, more than slots can hold, and
// kinds between them that post later.
TEST(Groups, KeepTheOrderOfSmallCallsThatPostEarly) {
  for (const int n : {2, 3, 4}) {
    in_ranks(n, [n](int rank, tuttiComm_t comm) {
      constexpr int kCalls = 150;
      std::vector<int> in(kCalls), out(kCalls), gathered(static_cast<size_t>(kCalls * n));
      int chain = 1, told = 0;
      for (int round = 0; round < 4; ++round) {  // from the second on, every kind of call is known
        chain = 1;
        tuttiGroupStart();
        for (int i = 0; i < kCalls; ++i) {
          in[i] = i * (rank + 1) + round;
          EXPECT_OK(tuttiAllReduce(&in[i], &out[i], 1, TUTTI_INT32, TUTTI_SUM, comm, nullptr));
          if (i % 3 == 0) {
            EXPECT_OK(tuttiAllGather(&in[i], &gathered[i * n], 1, TUTTI_INT32, comm, nullptr));
          }
          if (i % 40 == 0) {
            EXPECT_OK(tuttiAllReduce(&chain, &chain, 1, TUTTI_INT32, TUTTI_SUM, comm, nullptr));
          }
          if (i % 50 == 0) {
            EXPECT_OK(tuttiBroadcast(&out[i], &told, 1, TUTTI_INT32, i % n, comm, nullptr));
          }
          if (i % 70 == 0) {
            EXPECT_OK(tuttiBarrier(comm, nullptr));
          }
        }
        ASSERT_OK(tuttiGroupEnd());
        for (int i = 0; i < kCalls; ++i) {
          EXPECT_EQ(out[i], i * n * (n + 1) / 2 + n * round) << "call " << i << " of round " << round;
          for (int p = 0; p < n && i % 3 == 0; ++p) EXPECT_EQ(gathered[i * n + p], i * (p + 1) + round);
        }
        EXPECT_EQ(chain, n * n * n * n);
        EXPECT_EQ(told, out[100]);
      }
    });
  }
}

TEST(Groups, PoisonedByABadCallReturnItsErrorAndStartNothing) {
  in_ranks(2, [](int rank, tuttiComm_t comm) {
    int in = rank + 1, out = -1;
    EXPECT_OK(tuttiGroupStart());
    EXPECT_OK(add(comm, in, out));
    EXPECT_FAILS(tuttiBroadcast(&in, &out, 1, TUTTI_INT32, 9, comm, nullptr), TUTTI_INVALID_ARGUMENT, "root");
    tuttiAllReduce(&in, nullptr, 1, TUTTI_INT32, TUTTI_SUM, comm, nullptr);  // a second error: the first one stays
    EXPECT_FAILS(tuttiGroupEnd(), TUTTI_INVALID_ARGUMENT, "root is 9");
    EXPECT_EQ(out, -1);
    EXPECT_OK(add(comm, in, out));  // usable
    EXPECT_EQ(out, 3);
    EXPECT_OK(tuttiGroupStart());  // and so is the next group
    EXPECT_OK(add(comm, in, out));
    EXPECT_OK(tuttiGroupEnd());
    EXPECT_EQ(out, 3);
  });
}

TEST(Groups, PoisonReachesTheOutermostEnd) {
  with_all(1, [](auto& comms) {
    int in = 1, out = -1;
    EXPECT_OK(tuttiGroupStart());
    EXPECT_OK(tuttiGroupStart());
    EXPECT_FAILS(tuttiAllReduce(&in, nullptr, 1, TUTTI_INT32, TUTTI_SUM, comms[0], nullptr), TUTTI_INVALID_ARGUMENT,
                 "recv");
    tuttiGroupEnd();
    EXPECT_OK(add(comms[0], in, out));
    EXPECT_FAILS(tuttiGroupEnd(), TUTTI_INVALID_ARGUMENT, "recv is NULL");
    EXPECT_EQ(out, -1);
  });
}

TEST(Groups, CarrySeveralCommunicatorsWhoseOrderDiffersBetweenRanks) {
  in_children(3, [](int rank, launcher::Page& page) {
    // Two communicators over the same ranks, the second in reverse; ids travel over the first.
    tuttiComm_t first = nullptr, second = nullptr;
    ASSERT_OK(tuttiCommInitRank(&first, 3, shared_id(rank, page), rank));
    tuttiUniqueId id{};
    if (rank == 2) {
      ASSERT_OK(tuttiGetUniqueId(&id));
    }
    ASSERT_OK(tuttiBroadcast(&id, &id, sizeof id, TUTTI_INT8, 2, first, nullptr));
    ASSERT_OK(tuttiCommInitRank(&second, 3, id, 2 - rank));
    for (int turn = 0; turn < 20; ++turn) {
      std::vector<int> in(5000, rank + turn), sum(5000), from(5000, rank);
      ASSERT_OK(tuttiGroupStart());
      for (const int which : {rank % 2, 1 - rank % 2}) {
        if (which == 0) {
          EXPECT_OK(tuttiAllReduce(in.data(), sum.data(), 5000, TUTTI_INT32, TUTTI_SUM, first, nullptr));
        }
        if (which == 1) {
          EXPECT_OK(tuttiBroadcast(from.data(), from.data(), 5000, TUTTI_INT32, 0, second, nullptr));
        }
      }
      ASSERT_OK(tuttiGroupEnd());
      EXPECT_EQ(sum, std::vector<int>(5000, 3 + 3 * turn));
      EXPECT_EQ(from, std::vector<int>(5000, 2));  // rank 0 of the second is rank 2 of the first
    }
    EXPECT_OK(tuttiCommDestroy(first));
    EXPECT_OK(tuttiCommDestroy(second));
  });
}

TEST(Groups, ExchangeBetweenAllRanksWithoutDeadlock) {
  in_ranks(4, [](int rank, tuttiComm_t comm) {
    for (const size_t count : {size_t{1}, size_t{1000}, size_t{200000}}) {
      std::vector<std::vector<int>> out(4, std::vector<int>(count)), in(4, std::vector<int>(count, -1));
      for (int p = 0; p < 4; ++p) std::iota(out[p].begin(), out[p].end(), 1000 * rank + 100 * p);
      ASSERT_OK(tuttiGroupStart());
      for (int p = 0; p < 4; ++p) EXPECT_OK(tuttiSend(out[p].data(), count, TUTTI_INT32, p, comm, nullptr));
      for (int p = 3; p >= 0; --p) EXPECT_OK(tuttiRecv(in[p].data(), count, TUTTI_INT32, p, comm, nullptr));
      ASSERT_OK(tuttiGroupEnd());
      for (int p = 0; p < 4; ++p) {
        std::vector<int> want(count);
        std::iota(want.begin(), want.end(), 1000 * p + 100 * rank);
        EXPECT_EQ(in[p], want) << "from " << p;
      }
    }
  });
}

TEST(Groups, MatchSeveralMessagesOfAPairInIssueOrder) {
  in_ranks(2, [](int rank, tuttiComm_t comm) {
    const size_t counts[] = {3, 0, 70000, 1, 4096};
    std::vector<std::vector<double>> data;
    for (size_t i = 0; i < 5; ++i) data.emplace_back(counts[i], rank == 0 ? 1.5 * static_cast<double>(i) : -1);
    ASSERT_OK(tuttiGroupStart());
    for (size_t i = 0; i < 5; ++i) {
      if (rank == 0) {
        EXPECT_OK(tuttiSend(data[i].data(), counts[i], TUTTI_FLOAT64, 1, comm, nullptr));
      }
      if (rank == 1) {
        EXPECT_OK(tuttiRecv(data[i].data(), counts[i], TUTTI_FLOAT64, 0, comm, nullptr));
      }
    }
    ASSERT_OK(tuttiGroupEnd());
    for (size_t i = 0; i < 5; ++i) EXPECT_EQ(data[i], std::vector<double>(counts[i], 1.5 * static_cast<double>(i)));
  });
}

// Short messages whose kinds are known have a path of their own: more than the slots hold, in both directions, of equal
// and of different lengths.
TEST(Groups, KeepTheOrderOfShortMessages) {
  for (const int n : {2, 3}) {
    in_ranks(n, [n](int rank, tuttiComm_t comm) {
      constexpr int kMessages = 300;
      constexpr size_t kLengths[] = {1, 1, 2, 500, 1, 1024};
      const int next = (rank + 1) % n, previous = (rank + n - 1) % n;
      const auto length = [&](int i) { return kLengths[static_cast<size_t>(i) % std::size(kLengths)]; };
      for (int round = 0; round < 3; ++round) {
        std::vector<std::vector<int>> out, in;
        for (int i = 0; i < kMessages; ++i) {
          out.emplace_back(length(i), 1000000 * rank + 1000 * round + i);
          in.emplace_back(length(i), -1);
        }
        tuttiGroupStart();
        for (int i = 0; i < kMessages; ++i) {
          EXPECT_OK(tuttiRecv(in[i].data(), length(i), TUTTI_INT32, previous, comm, nullptr));
          EXPECT_OK(tuttiSend(out[i].data(), length(i), TUTTI_INT32, next, comm, nullptr));
        }
        ASSERT_OK(tuttiGroupEnd());
        for (int i = 0; i < kMessages; ++i)
          EXPECT_EQ(in[i], std::vector<int>(length(i), 1000000 * previous + 1000 * round + i)) << i << ", " << round;
      }
    });
  }
}

// What begins as short messages may go on as anything, and may not begin at all.
TEST(Groups, WithShortMessagesFirstTakeOtherCallsAndErrors) {
  in_ranks(2, [](int rank, tuttiComm_t comm) {
    const int peer = 1 - rank;
    int out = rank, in = -1, sum = 0;
    std::vector<int> much_out(100000, rank), much_in(100000, -1);
    for (int round = 0; round < 3; ++round) {
      in = sum = -1;
      tuttiGroupStart();
      EXPECT_OK(tuttiSend(&out, 1, TUTTI_INT32, peer, comm, nullptr));
      EXPECT_OK(tuttiRecv(&in, 1, TUTTI_INT32, peer, comm, nullptr));
      EXPECT_FAILS(tuttiSend(&out, 1, TUTTI_INT32, 2, comm, nullptr), TUTTI_INVALID_ARGUMENT, "peer");
      EXPECT_FAILS(tuttiGroupEnd(), TUTTI_INVALID_ARGUMENT, "peer");
      EXPECT_EQ(in, -1) << "a poisoned group has started";
      tuttiGroupStart();
      EXPECT_OK(tuttiSend(&out, 1, TUTTI_INT32, peer, comm, nullptr));
      EXPECT_OK(tuttiRecv(&in, 1, TUTTI_INT32, peer, comm, nullptr));
      EXPECT_OK(add(comm, out, sum));
      EXPECT_OK(tuttiSend(much_out.data(), much_out.size(), TUTTI_INT32, peer, comm, nullptr));
      EXPECT_OK(tuttiRecv(much_in.data(), much_in.size(), TUTTI_INT32, peer, comm, nullptr));
      ASSERT_OK(tuttiGroupEnd());
      EXPECT_EQ(in, peer);
      EXPECT_EQ(sum, 1);
      EXPECT_EQ(much_in, std::vector<int>(much_in.size(), peer));
      double us = 0;
      tuttiGroupStart();
      EXPECT_OK(tuttiSend(&out, 1, TUTTI_INT32, peer, comm, nullptr));
      EXPECT_OK(tuttiGroupSimulateEnd(&us));
      EXPECT_GT(us, 0);
    }
  });
}

// While a group is open in one thread, another one, in its turn, makes calls, of so many kinds that those recorded are
// forgotten, and one that is still under way when the group ends.
TEST(Groups, OfShortMessagesMeetCallsOfOtherThreads) {
  in_ranks(2, [](int rank, tuttiComm_t comm) {
    const int peer = 1 - rank;
    tuttiStream_t stream = nullptr;
    ASSERT_OK(tuttiStreamCreate(&stream));
    std::vector<int8_t> out(4096, static_cast<int8_t>(rank + 1)), in(4096);
    std::vector<int> many(3 << 20, 1), sums(many.size());
    int got = -1;
    const auto exchange = [&](size_t bytes) {
      EXPECT_OK(tuttiGroupStart());
      EXPECT_OK(tuttiSend(out.data(), bytes, TUTTI_INT8, peer, comm, nullptr));
      EXPECT_OK(tuttiRecv(in.data(), bytes, TUTTI_INT8, peer, comm, nullptr));
      EXPECT_OK(tuttiGroupEnd());
    };
    const auto record = [&] {
      got = -1;
      EXPECT_OK(tuttiGroupStart());
      EXPECT_OK(tuttiSend(&rank, 1, TUTTI_INT32, peer, comm, nullptr));
      EXPECT_OK(tuttiRecv(&got, 1, TUTTI_INT32, peer, comm, nullptr));
    };
    record();
    EXPECT_OK(tuttiGroupEnd());
    record();
    std::thread([&] {
      for (size_t bytes = 1; bytes <= out.size(); bytes += 2) exchange(bytes);
    }).join();
    EXPECT_OK(tuttiGroupEnd());
    EXPECT_EQ(got, peer);
    record();
    std::thread([&] {
      EXPECT_OK(tuttiAllReduce(many.data(), sums.data(), many.size(), TUTTI_INT32, TUTTI_SUM, comm, stream));
    }).join();
    EXPECT_OK(tuttiGroupEnd());
    EXPECT_EQ(got, peer);
    EXPECT_EQ(sums.back(), 2) << "the group ran before its turn";
    EXPECT_OK(tuttiStreamSynchronize(stream));
    EXPECT_OK(tuttiStreamDestroy(stream));
  });
}

// Also where the other messages of the group go through, and the kinds are known.
TEST(Groups, OfShortMessagesTellAMismatchAndACycle) {
  const auto warm = [](int rank, tuttiComm_t comm, int* buffer) {
    for (size_t count = 1; count <= 2; ++count) {
      tuttiGroupStart();
      EXPECT_OK(tuttiSend(buffer, count, TUTTI_INT32, 1 - rank, comm, nullptr));
      EXPECT_OK(tuttiRecv(buffer + 2, count, TUTTI_INT32, 1 - rank, comm, nullptr));
      EXPECT_OK(tuttiGroupEnd());
    }
  };
  in_ranks(2, [&](int rank, tuttiComm_t comm) {
    int buffer[4] = {};
    warm(rank, comm, buffer);
    tuttiGroupStart();
    EXPECT_OK(tuttiSend(buffer, 1, TUTTI_INT32, 1 - rank, comm, nullptr));
    EXPECT_OK(tuttiRecv(buffer + 2, 1, TUTTI_INT32, 1 - rank, comm, nullptr));
    EXPECT_OK(tuttiSend(buffer, 1, TUTTI_INT32, 1 - rank, comm, nullptr));
    EXPECT_OK(tuttiRecv(buffer + 2, 2, TUTTI_INT32, 1 - rank, comm, nullptr));
    EXPECT_FAILS(tuttiGroupEnd(), TUTTI_INVALID_USAGE, "mismatch in message 4");
    EXPECT_EQ(tuttiSend(buffer, 1, TUTTI_INT32, 1 - rank, comm, nullptr), TUTTI_INVALID_USAGE) << "it has failed";
  });
  in_ranks(2, [&](int rank, tuttiComm_t comm) {
    int buffer[4] = {};
    warm(rank, comm, buffer);
    const tuttiResult_t result = rank == 1 ? tuttiBarrier(comm, nullptr)  // and sends nothing
                                           : tuttiRecv(buffer, 1, TUTTI_INT32, 1, comm, nullptr);
    EXPECT_FAILS(result, TUTTI_INVALID_USAGE, "wait for each other");
  });
}

TEST(Groups, MixSendsReceivesAndCollectives) {
  with_all(3, [](auto& comms) {
    int value[3] = {10, 20, 30}, got[3] = {}, sum[3] = {}, root[3] = {7, 8, 9};
    EXPECT_OK(tuttiGroupStart());
    for (int r = 0; r < 3; ++r) {
      tuttiComm_t comm = comms[static_cast<size_t>(r)];
      EXPECT_OK(tuttiSend(&value[r], 1, TUTTI_INT32, (r + 1) % 3, comm, nullptr));
      EXPECT_OK(add(comm, value[r], sum[r]));
      EXPECT_OK(tuttiRecv(&got[r], 1, TUTTI_INT32, (r + 2) % 3, comm, nullptr));
      EXPECT_OK(tuttiBroadcast(&root[r], &root[r], 1, TUTTI_INT32, 1, comm, nullptr));
    }
    EXPECT_OK(tuttiGroupEnd());
    for (int r = 0; r < 3; ++r) EXPECT_TRUE(got[r] == value[(r + 2) % 3] && sum[r] == 60 && root[r] == 8) << r;
  });
}

TEST(Groups, LetARankSendToItself) {
  for (const int n : {1, 2}) {
    in_ranks(n, [](int rank, tuttiComm_t comm) {
      std::vector<int> a(100000, rank), b(100000, -1);
      int c = 5, d = 0;
      EXPECT_OK(tuttiGroupStart());
      EXPECT_OK(tuttiRecv(b.data(), b.size(), TUTTI_INT32, rank, comm, nullptr));
      EXPECT_OK(tuttiSend(a.data(), a.size(), TUTTI_INT32, rank, comm, nullptr));
      EXPECT_OK(tuttiSend(&c, 1, TUTTI_INT32, rank, comm, nullptr));
      EXPECT_OK(tuttiRecv(&d, 1, TUTTI_INT32, rank, comm, nullptr));
      EXPECT_OK(tuttiGroupEnd());
      EXPECT_EQ(a, b);
      EXPECT_EQ(d, 5);
    });
  }
}

TEST(Groups, RefuseASendToOneselfWithoutItsReceive) {
  in_ranks(2, [](int rank, tuttiComm_t comm) {
    int x = 1, y = 0;
    EXPECT_FAILS(tuttiSend(&x, 1, TUTTI_INT32, rank, comm, nullptr), TUTTI_INVALID_USAGE, "group");
    EXPECT_FAILS(tuttiRecv(&y, 1, TUTTI_INT32, rank, comm, nullptr), TUTTI_INVALID_USAGE, "group");
    EXPECT_OK(tuttiGroupStart());
    EXPECT_OK(tuttiSend(&x, 1, TUTTI_INT32, rank, comm, nullptr));
    EXPECT_EQ(tuttiGroupEnd(), TUTTI_INVALID_USAGE) << last_error();
    x = rank + 1;
    EXPECT_OK(add(comm, x, y));
    EXPECT_EQ(y, 3);
  });
}

TEST(Groups, JoinSeveralRanksInOneThread) {
  in_child([] {
    tuttiUniqueId id;
    ASSERT_OK(tuttiGetUniqueId(&id));
    tuttiComm_t comms[3] = {};
    EXPECT_OK(tuttiGroupStart());
    for (int r = 0; r < 3; ++r) EXPECT_OK(tuttiCommInitRank(&comms[r], 3, id, r));
    ASSERT_OK(tuttiGroupEnd());
    int in[3] = {1, 2, 3}, out[3] = {};
    EXPECT_OK(tuttiGroupStart());
    for (int r = 0; r < 3; ++r) EXPECT_OK(add(comms[r], in[r], out[r]));
    EXPECT_OK(tuttiGroupEnd());
    for (int r = 0; r < 3; ++r) EXPECT_EQ(out[r], 6);
    for (tuttiComm_t comm : comms) EXPECT_OK(tuttiCommDestroy(comm));
  });
}

TEST(Groups, HoldStreamAndBlockingMembersTogether) {
  with_all(2, [](auto& comms) {
    tuttiStream_t stream = nullptr;
    ASSERT_OK(tuttiStreamCreate(&stream));
    int in[2] = {1, 2}, out[2] = {};
    EXPECT_OK(tuttiGroupStart());
    EXPECT_OK(add(comms[0], in[0], out[0], stream));
    EXPECT_OK(add(comms[1], in[1], out[1]));
    EXPECT_OK(tuttiGroupEnd());
    EXPECT_EQ(out[1], 3);
    EXPECT_OK(tuttiStreamSynchronize(stream));
    EXPECT_EQ(out[0], 3);
    EXPECT_OK(tuttiStreamDestroy(stream));
  });
}

}  // namespace
}  // namespace api_test
