// SPDX-License-Identifier: Apache-2.0
// Streams, events and callbacks, and the order of one communicator's operations across streams.
#include <atomic>
#include <chrono>
#include <thread>

#include "harness.h"

namespace api_test {
namespace {

using namespace std::chrono_literals;

// Callbacks for tests.
void nap(void*) { std::this_thread::sleep_for(100ms); }
struct Order {
  std::atomic<int> next{1};
  struct Mark {
    Order* order;
    std::atomic<int> place{0};
  };
};
void mark(void* user) {
  auto* m = static_cast<Order::Mark*>(user);
  m->place = m->order->next++;
}

TEST(Streams, RunQueuedWorkInOrder) {
  in_ranks(2, [](int rank, tuttiComm_t comm) {
    tuttiStream_t stream = nullptr;
    ASSERT_OK(tuttiStreamCreate(&stream));
    EXPECT_OK(tuttiStreamQuery(stream));
    int value = rank + 1;
    for (int i = 0; i < 10; ++i) EXPECT_OK(tuttiAllReduce(&value, &value, 1, TUTTI_INT32, TUTTI_SUM, comm, stream));
    EXPECT_OK(tuttiStreamSynchronize(stream));
    EXPECT_EQ(value, 3 * 512);  // 1 + 2, then doubled nine times
    EXPECT_OK(tuttiStreamQuery(stream));
    EXPECT_OK(tuttiStreamDestroy(stream));
  });
}

TEST(Streams, ReturnBeforeTheWorkIsDone) {
  with_all(1, [](auto& comms) {
    tuttiStream_t stream = nullptr;
    ASSERT_OK(tuttiStreamCreate(&stream));
    int in = 5, out = 0;
    EXPECT_OK(tuttiStreamAddCallback(stream, nap, nullptr));
    EXPECT_OK(tuttiAllReduce(&in, &out, 1, TUTTI_INT32, TUTTI_SUM, comms[0], stream));
    EXPECT_EQ(tuttiStreamQuery(stream), TUTTI_IN_PROGRESS);
    EXPECT_OK(tuttiStreamSynchronize(stream));
    EXPECT_EQ(out, 5);
    EXPECT_OK(tuttiStreamDestroy(stream));
  });
}

// The caller computes, and makes no call, until a reduction of 16 MiB on a stream has ended by itself.
TEST(Streams, WorkWhileTheCallerComputes) {
  in_ranks(2, [](int rank, tuttiComm_t comm) {
    tuttiStream_t stream = nullptr;
    ASSERT_OK(tuttiStreamCreate(&stream));
    std::vector<float> in(4 << 20, static_cast<float>(rank + 1)), out(in.size());
    std::atomic<bool> ended{false};
    const auto end = [](void* flag) { static_cast<std::atomic<bool>*>(flag)->store(true); };
    ASSERT_OK(tuttiAllReduce(in.data(), out.data(), in.size(), TUTTI_FLOAT32, TUTTI_SUM, comm, stream));
    ASSERT_OK(tuttiStreamAddCallback(stream, end, &ended));
    uint64_t computed = 0;
    for (; !ended.load(); ++computed) std::atomic_signal_fence(std::memory_order_seq_cst);
    EXPECT_GT(computed, 0u);
    EXPECT_EQ(out.front(), 3);
    EXPECT_EQ(out.back(), 3);
    EXPECT_OK(tuttiStreamDestroy(stream));
  });
}

TEST(Streams, CallBackOnceInPlace) {
  in_child([] {
    tuttiStream_t stream = nullptr;
    ASSERT_OK(tuttiStreamCreate(&stream));
    Order order;
    Order::Mark marks[3] = {{&order}, {&order}, {&order}};
    EXPECT_OK(tuttiStreamAddCallback(stream, mark, &marks[0]));
    EXPECT_OK(tuttiStreamAddCallback(stream, nap, nullptr));
    EXPECT_OK(tuttiStreamAddCallback(stream, mark, &marks[1]));
    EXPECT_OK(tuttiStreamAddCallback(stream, mark, &marks[2]));
    EXPECT_OK(tuttiStreamSynchronize(stream));
    for (int i = 0; i < 3; ++i) EXPECT_EQ(marks[i].place, i + 1);
    EXPECT_OK(tuttiStreamDestroy(stream));
  });
}

TEST(Streams, DestroyWaitsForQueuedWork) {
  in_child([] {
    tuttiStream_t stream = nullptr;
    ASSERT_OK(tuttiStreamCreate(&stream));
    Order order;
    Order::Mark done{&order};
    EXPECT_OK(tuttiStreamAddCallback(stream, nap, nullptr));
    EXPECT_OK(tuttiStreamAddCallback(stream, mark, &done));
    EXPECT_OK(tuttiStreamDestroy(stream));
    EXPECT_EQ(done.place, 1);
  });
}

TEST(Events, OrderOneStreamAfterAnother) {
  in_child([] {
    tuttiStream_t a = nullptr, b = nullptr;
    tuttiEvent_t event = nullptr;
    ASSERT_OK(tuttiStreamCreate(&a));
    ASSERT_OK(tuttiStreamCreate(&b));
    ASSERT_OK(tuttiEventCreate(&event));
    EXPECT_OK(tuttiEventQuery(event));  // marks nothing yet
    EXPECT_OK(tuttiEventSynchronize(event));
    Order order;
    Order::Mark first{&order}, second{&order};
    EXPECT_OK(tuttiStreamAddCallback(a, nap, nullptr));
    EXPECT_OK(tuttiStreamAddCallback(a, mark, &first));
    EXPECT_OK(tuttiEventRecord(event, a));
    EXPECT_EQ(tuttiEventQuery(event), TUTTI_IN_PROGRESS);
    EXPECT_OK(tuttiStreamWaitEvent(b, event));
    EXPECT_OK(tuttiStreamAddCallback(b, mark, &second));
    EXPECT_OK(tuttiStreamSynchronize(b));
    EXPECT_EQ(first.place, 1);
    EXPECT_EQ(second.place, 2);
    EXPECT_OK(tuttiEventQuery(event));
    EXPECT_OK(tuttiEventDestroy(event));
    EXPECT_OK(tuttiStreamDestroy(a));
    EXPECT_OK(tuttiStreamDestroy(b));
  });
}

TEST(Events, KeepAWaitWhenRecordedAgainOrDestroyed) {
  in_child([] {
    tuttiStream_t a = nullptr, b = nullptr;
    tuttiEvent_t event = nullptr;
    ASSERT_OK(tuttiStreamCreate(&a));
    ASSERT_OK(tuttiStreamCreate(&b));
    ASSERT_OK(tuttiEventCreate(&event));
    Order order;
    Order::Mark early{&order}, waiter{&order};
    EXPECT_OK(tuttiStreamAddCallback(a, nap, nullptr));
    EXPECT_OK(tuttiStreamAddCallback(a, mark, &early));
    EXPECT_OK(tuttiEventRecord(event, a));
    EXPECT_OK(tuttiStreamWaitEvent(b, event));
    EXPECT_OK(tuttiStreamAddCallback(b, mark, &waiter));
    EXPECT_OK(tuttiEventRecord(event, b));  // moves the mark, not the wait
    EXPECT_OK(tuttiEventDestroy(event));
    EXPECT_OK(tuttiStreamSynchronize(b));
    EXPECT_EQ(early.place, 1);
    EXPECT_EQ(waiter.place, 2);
    EXPECT_OK(tuttiStreamDestroy(a));
    EXPECT_OK(tuttiStreamDestroy(b));
  });
}

// Rank 0 queues on a then b, rank 1 on b then a, and one of the streams is held up: results follow the issue order.
TEST(Streams, OfOneCommunicatorRunItsOperationsInIssueOrder) {
  in_ranks(2, [](int rank, tuttiComm_t comm) {
    tuttiStream_t streams[2] = {};
    for (tuttiStream_t& stream : streams) ASSERT_OK(tuttiStreamCreate(&stream));
    for (int turn = 0; turn < 10; ++turn) {
      tuttiStream_t a = streams[(rank + turn) % 2], b = streams[(rank + turn + 1) % 2];
      int value = rank + 1;
      if (turn < 3) {
        EXPECT_OK(tuttiStreamAddCallback(a, nap, nullptr));
      }
      EXPECT_OK(tuttiAllReduce(&value, &value, 1, TUTTI_INT32, TUTTI_SUM, comm, a));   // 3
      EXPECT_OK(tuttiAllReduce(&value, &value, 1, TUTTI_INT32, TUTTI_PROD, comm, b));  // 9
      EXPECT_OK(tuttiAllReduce(&value, &value, 1, TUTTI_INT32, TUTTI_SUM, comm, a));   // 18
      EXPECT_OK(
          tuttiAllReduce(&value, &value, 1, TUTTI_INT32, TUTTI_PROD, comm, nullptr));  // 324: a blocking call waits too
      EXPECT_EQ(value, 324);
    }
    for (tuttiStream_t stream : streams) EXPECT_OK(tuttiStreamDestroy(stream));
  });
}

TEST(Streams, CarrySeveralCommunicatorsAtOnce) {
  in_child([] {
    constexpr int kComms = 4;
    tuttiComm_t comms[kComms][2] = {};
    tuttiStream_t streams[kComms][2] = {};
    std::vector<float> data[kComms][2];
    for (int c = 0; c < kComms; ++c) {
      ASSERT_OK(tuttiCommInitAll(comms[c], 2, nullptr));
      for (int r = 0; r < 2; ++r) {
        ASSERT_OK(tuttiStreamCreate(&streams[c][r]));
        data[c][r].assign(50000, static_cast<float>(c + r));
      }
    }
    for (int turn = 0; turn < 5; ++turn)
      for (int r = 0; r < 2; ++r)
        for (int i = 0; i < kComms; ++i) {
          const int c = r == 0 ? i : kComms - 1 - i;  // in another order on the other rank: streams keep them apart
          EXPECT_OK(tuttiAllReduce(data[c][r].data(), data[c][r].data(), 50000, TUTTI_FLOAT32, TUTTI_MAX, comms[c][r],
                                   streams[c][r]));
        }
    for (int c = 0; c < kComms; ++c)
      for (int r = 0; r < 2; ++r) {
        EXPECT_OK(tuttiStreamSynchronize(streams[c][r]));
        EXPECT_EQ(data[c][r], std::vector<float>(50000, static_cast<float>(c + 1)));
        EXPECT_OK(tuttiStreamDestroy(streams[c][r]));
        EXPECT_OK(tuttiCommDestroy(comms[c][r]));
      }
  });
}

TEST(Streams, DestroyingACommunicatorWaitsForItsQueuedWork) {
  with_all(1, [](auto& comms) {
    tuttiStream_t stream = nullptr;
    ASSERT_OK(tuttiStreamCreate(&stream));
    int in = 4, out = 0;
    EXPECT_OK(tuttiStreamAddCallback(stream, nap, nullptr));
    EXPECT_OK(tuttiAllReduce(&in, &out, 1, TUTTI_INT32, TUTTI_SUM, comms[0], stream));
    EXPECT_OK(tuttiCommDestroy(comms[0]));
    EXPECT_EQ(out, 4);
    EXPECT_OK(tuttiStreamDestroy(stream));
    comms.clear();
  });
}

TEST(Streams, OfAWrongKindAreRefused) {
  with_all(1, [](auto& comms) {
    int in = 1, out = 0;
    long long not_a_stream[64] = {};
    tuttiEvent_t event = nullptr;
    tuttiStream_t stream = nullptr;
    ASSERT_OK(tuttiEventCreate(&event));
    ASSERT_OK(tuttiStreamCreate(&stream));
    tuttiStream_t dead = stream;
    ASSERT_OK(tuttiStreamDestroy(stream));
    for (void* wrong : {static_cast<void*>(not_a_stream), reinterpret_cast<void*>(event), reinterpret_cast<void*>(0x1),
                        reinterpret_cast<void*>(comms[0]), reinterpret_cast<void*>(dead)}) {
      auto* as_stream = static_cast<tuttiStream_t>(wrong);
      EXPECT_NE(tuttiAllReduce(&in, &out, 1, TUTTI_INT32, TUTTI_SUM, comms[0], as_stream), TUTTI_SUCCESS);
      EXPECT_NE(last_error().find("stream"), std::string::npos) << last_error();
      EXPECT_NE(tuttiStreamSynchronize(as_stream), TUTTI_SUCCESS);
      EXPECT_NE(tuttiStreamQuery(as_stream), TUTTI_SUCCESS);
      EXPECT_NE(tuttiStreamDestroy(as_stream), TUTTI_SUCCESS);
    }
    EXPECT_NE(tuttiEventQuery(reinterpret_cast<tuttiEvent_t>(not_a_stream)), TUTTI_SUCCESS);
    EXPECT_OK(tuttiAllReduce(&in, &out, 1, TUTTI_INT32, TUTTI_SUM, comms[0], nullptr));
    EXPECT_OK(tuttiEventDestroy(event));
    EXPECT_NE(tuttiEventDestroy(event), TUTTI_SUCCESS);
  });
}

TEST(Streams, NullArgumentsAreNamed) {
  in_child([] {
    tuttiStream_t stream = nullptr;
    EXPECT_FAILS(tuttiStreamCreate(nullptr), TUTTI_INVALID_ARGUMENT, "stream");
    EXPECT_FAILS(tuttiStreamDestroy(nullptr), TUTTI_INVALID_ARGUMENT, "stream");
    EXPECT_FAILS(tuttiStreamSynchronize(nullptr), TUTTI_INVALID_ARGUMENT, "stream");
    EXPECT_FAILS(tuttiStreamQuery(nullptr), TUTTI_INVALID_ARGUMENT, "stream");
    EXPECT_FAILS(tuttiStreamAddCallback(nullptr, nap, nullptr), TUTTI_INVALID_ARGUMENT, "stream");
    EXPECT_FAILS(tuttiEventCreate(nullptr), TUTTI_INVALID_ARGUMENT, "event");
    EXPECT_FAILS(tuttiEventDestroy(nullptr), TUTTI_INVALID_ARGUMENT, "event");
    ASSERT_OK(tuttiStreamCreate(&stream));
    EXPECT_FAILS(tuttiStreamAddCallback(stream, nullptr, nullptr), TUTTI_INVALID_ARGUMENT, "callback");
    EXPECT_FAILS(tuttiEventRecord(nullptr, stream), TUTTI_INVALID_ARGUMENT, "event");
    EXPECT_FAILS(tuttiStreamWaitEvent(stream, nullptr), TUTTI_INVALID_ARGUMENT, "event");
    EXPECT_OK(tuttiStreamDestroy(stream));
  });
}

}  // namespace
}  // namespace api_test
