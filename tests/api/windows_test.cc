// SPDX-License-Identifier: Apache-2.0
// Windows as users have them: registered by processes, by threads, in groups; used from any place in them; ended in any
// order; and whatever cannot be used as a window still gives right results. What collectives compute in them is the
// conformance tests' business.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "api/harness.h"

namespace api_test {
namespace {

constexpr size_t kBytes = 4 << 20;
constexpr size_t kCount = kBytes / 2 / sizeof(float);
const Environment kForced = {{"TUTTI_PROTO", "rma"}};

struct Window {
  float* memory = nullptr;
  tuttiWindow_t handle = nullptr;

  explicit Window(tuttiComm_t comm, size_t bytes = kBytes) {
    void* made = nullptr;
    EXPECT_OK(tuttiMemAlloc(&made, bytes));
    memory = static_cast<float*>(made);
    if (comm == nullptr) return;
    EXPECT_OK(tuttiCommWindowRegister(comm, made, bytes, &handle, 0));
  }
};

// An AllReduce of `count` floats from `send` to `recv`, of which the values are checked.
void check_sum(tuttiComm_t comm, int rank, int n, float* send, float* recv, size_t count) {
  for (size_t i = 0; i < count; ++i) send[i] = static_cast<float>(rank + 1) * static_cast<float>(i % 1000);
  ASSERT_OK(tuttiAllReduce(send, recv, count, TUTTI_FLOAT32, TUTTI_SUM, comm, nullptr));
  const auto all = static_cast<float>(n * (n + 1) / 2);
  for (size_t i = 0; i < count; ++i) ASSERT_EQ(recv[i], all * static_cast<float>(i % 1000)) << i;
}

TEST(Windows, ServeCallsAtAnyPlaceInThem) {
  in_ranks(
      3,
      [](int rank, tuttiComm_t comm) {
        const Window window(comm);
        for (const size_t count : {size_t{1}, size_t{17}, size_t{5000}, kCount / 2 - 64}) {
          // Another place on every rank.
          float* send = window.memory + 16 * rank + 3;
          float* recv = window.memory + kCount + 32 * rank + 1;
          check_sum(comm, rank, 3, send, recv, count);
          check_sum(comm, rank, 3, send, send, count);  // in place
        }
        EXPECT_OK(tuttiCommWindowDeregister(comm, window.handle));
        EXPECT_FAILS(tuttiCommWindowDeregister(comm, window.handle), TUTTI_INVALID_ARGUMENT, "window");
        check_sum(comm, rank, 3, window.memory, window.memory + kCount, 5000);
        EXPECT_OK(tuttiMemFree(window.memory));
      },
      kForced);
}

TEST(Windows, ABufferOutsideOnOneRankStillGivesRightResults) {
  for (const char* proto : {"rma", "auto"}) {
    in_ranks(3,
             [](int rank, tuttiComm_t comm) {
               const Window window(comm);
               std::vector<float> outside(2 * kCount);
               for (int odd = 0; odd < 3; ++odd) {
                 float* send = rank == odd ? outside.data() : window.memory;
                 float* recv = rank == (odd + 1) % 3 ? outside.data() + kCount : window.memory + kCount;
                 check_sum(comm, rank, 3, send, recv, kCount);
                 check_sum(comm, rank, 3, window.memory, window.memory + kCount, kCount);
               }
             },
             {{"TUTTI_PROTO", proto}});
  }
}

// The end of a window lies in it, one element more does not.
TEST(Windows, EndWhereTheyEnd) {
  in_ranks(
      2,
      [](int rank, tuttiComm_t comm) {
        void* memory = nullptr;
        ASSERT_OK(tuttiMemAlloc(&memory, kBytes));
        tuttiWindow_t handle = nullptr;
        ASSERT_OK(tuttiCommWindowRegister(comm, memory, kBytes / 2, &handle, 0));
        auto* data = static_cast<float*>(memory);
        check_sum(comm, rank, 2, data + kCount - 1000, data + kCount - 1000, 1000);
        check_sum(comm, rank, 2, data + kCount - 999, data + kCount - 999, 1000);
        check_sum(comm, rank, 2, data + kCount, data + kCount, 1000);
      },
      kForced);
}

TEST(Windows, SeveralAtATimeEndInAnyOrder) {
  in_ranks(
      2,
      [](int rank, tuttiComm_t comm) {
        const Window first(comm), second(comm, 1 << 20), third(comm);
        check_sum(comm, rank, 2, first.memory, third.memory, 1000);
        EXPECT_OK(tuttiCommWindowDeregister(comm, second.handle));
        check_sum(comm, rank, 2, first.memory, third.memory, 1000);
        check_sum(comm, rank, 2, second.memory, third.memory, 1000);
        EXPECT_OK(tuttiCommWindowDeregister(comm, first.handle));
        const Window fourth(comm);
        check_sum(comm, rank, 2, fourth.memory, third.memory, 1000);
        check_sum(comm, rank, 2, first.memory, fourth.memory, 1000);
        // The others end with the communicator, the memory later or never.
        EXPECT_OK(tuttiMemFree(second.memory));
      },
      kForced);
}

// A rank may free while a peer still has its window.
TEST(Windows, EndedAndFreedByOneRankFirst) {
  in_ranks(
      2,
      [](int rank, tuttiComm_t comm) {
        const Window window(comm);
        check_sum(comm, rank, 2, window.memory, window.memory + kCount, kCount);
        if (rank == 0) {
          EXPECT_OK(tuttiCommWindowDeregister(comm, window.handle));
          EXPECT_OK(tuttiMemFree(window.memory));
        }
        std::vector<float> send(1000), recv(1000);
        if (rank == 1) {
          EXPECT_OK(tuttiCommWindowDeregister(comm, window.handle));
        }
        check_sum(comm, rank, 2, send.data(), recv.data(), 1000);
        if (rank == 1) {
          EXPECT_OK(tuttiMemFree(window.memory));
        }
      },
      kForced);
}

TEST(Windows, OrdinaryMemoryIsLegalAndGainsNothing) {
  in_ranks(
      2,
      [](int rank, tuttiComm_t comm) {
        std::vector<float> plain(2 * kCount);
        const Window shared(nullptr);
        float* memory = rank == 0 ? plain.data() : shared.memory;
        tuttiWindow_t handle = nullptr;
        ASSERT_OK(tuttiCommWindowRegister(comm, memory, kBytes, &handle, 0));
        check_sum(comm, rank, 2, memory, memory + kCount, kCount);
        EXPECT_OK(tuttiCommWindowDeregister(comm, handle));
        // No bytes at all on one rank.
        ASSERT_OK(
            tuttiCommWindowRegister(comm, rank == 0 ? nullptr : shared.memory, rank == 0 ? 0 : kBytes, &handle, 0));
        check_sum(comm, rank, 2, memory, memory + kCount, 1000);
        EXPECT_OK(tuttiCommWindowDeregister(comm, handle));
      },
      kForced);
}

TEST(Windows, RanksOfOneThreadRegisterInAGroup) {
  with_all(
      3,
      [](std::vector<tuttiComm_t>& comms) {
        std::vector<void*> memory(3);
        std::vector<tuttiWindow_t> handles(3);
        for (void*& one : memory) ASSERT_OK(tuttiMemAlloc(&one, kBytes));
        ASSERT_OK(tuttiGroupStart());
        for (size_t r = 0; r < 3; ++r) ASSERT_OK(tuttiCommWindowRegister(comms[r], memory[r], kBytes, &handles[r], 0));
        ASSERT_OK(tuttiGroupEnd());
        const auto data = [&](size_t r) { return static_cast<float*>(memory[r]); };
        for (size_t r = 0; r < 3; ++r)
          for (size_t i = 0; i < kCount; ++i) data(r)[i] = static_cast<float>(r + i % 100);
        ASSERT_OK(tuttiGroupStart());
        for (size_t r = 0; r < 3; ++r)
          ASSERT_OK(tuttiAllReduce(data(r), data(r) + kCount, kCount, TUTTI_FLOAT32, TUTTI_SUM, comms[r], nullptr));
        ASSERT_OK(tuttiGroupEnd());
        for (size_t r = 0; r < 3; ++r)
          for (size_t i = 0; i < kCount; ++i) ASSERT_EQ(data(r)[kCount + i], static_cast<float>(3 + 3 * (i % 100)));
        for (size_t r = 0; r < 3; ++r) {
          EXPECT_OK(tuttiCommWindowDeregister(comms[r], handles[r]));
          EXPECT_OK(tuttiMemFree(memory[r]));
        }
      },
      kForced);
}

// Work queued on streams before a registration is done before it, whatever it uses.
TEST(Windows, WaitForWhatWasIssuedBefore) {
  in_ranks(
      2,
      [](int rank, tuttiComm_t comm) {
        tuttiStream_t stream = nullptr;
        ASSERT_OK(tuttiStreamCreate(&stream));
        const Window window(comm);
        for (int round = 0; round < 5; ++round) {
          for (size_t i = 0; i < kCount; ++i) window.memory[i] = static_cast<float>(rank + round);
          ASSERT_OK(
              tuttiAllReduce(window.memory, window.memory + kCount, kCount, TUTTI_FLOAT32, TUTTI_SUM, comm, stream));
          const Window other(comm, 1 << 20);
          EXPECT_EQ(tuttiStreamQuery(stream), TUTTI_SUCCESS);
          EXPECT_EQ(window.memory[kCount + 5], static_cast<float>(2 * round + 1));
          EXPECT_OK(tuttiCommWindowDeregister(comm, other.handle));
          EXPECT_OK(tuttiMemFree(other.memory));
        }
        EXPECT_OK(tuttiStreamDestroy(stream));
      },
      kForced);
}

// A rank that dies while its buffers are open, or while it uses those of others, ends the others' calls with an error.
TEST(Windows, ADeadRankIsAnErrorAndNoHang) {
  for (const bool windows : {true, false}) {
    const launcher::SharedPage page;
    pid_t ranks[2];
    for (int rank = 0; rank < 2; ++rank) {
      ranks[rank] = fork();
      ASSERT_GE(ranks[rank], 0);
      if (ranks[rank] > 0) continue;
      setenv("TUTTI_PROTO", "rma", 1);
      setenv("TUTTI_TIMEOUT", "2s", 1);
      tuttiComm_t comm = nullptr;
      if (rank == 0) {
        tuttiUniqueId id;
        if (tuttiGetUniqueId(&id) != TUTTI_SUCCESS) _exit(2);
        page->publish(id);
      }
      if (tuttiCommInitRank(&comm, 2, page->await(), rank) != TUTTI_SUCCESS) _exit(3);
      const Window window(windows ? comm : nullptr);
      check_sum(comm, rank, 2, window.memory, window.memory + kCount, kCount);
      if (rank == 1) raise(SIGKILL);
      const tuttiResult_t lost =
          tuttiAllReduce(window.memory, window.memory + kCount, kCount, TUTTI_FLOAT32, TUTTI_SUM, comm, nullptr);
      _exit(lost == TUTTI_SUCCESS || testing::Test::HasFailure() ? 4 : 0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(ranks[1], &status, 0), ranks[1]);
    EXPECT_TRUE(WIFSIGNALED(status)) << status;
    ASSERT_EQ(waitpid(ranks[0], &status, 0), ranks[0]);
    EXPECT_EQ(status, 0) << (WIFEXITED(status) ? WEXITSTATUS(status) : -1);
  }
}

TEST(Windows, LeftBehindEndWithTheirCommunicator) {
  in_child([] {
    tuttiComm_t comm = nullptr;
    ASSERT_OK(tuttiCommInitAll(&comm, 1, nullptr));
    const tuttiComm_t handle = comm;
    const Window window(comm);
    float ordinary = 0;
    void* registration = nullptr;
    ASSERT_OK(tuttiCommRegister(comm, &ordinary, sizeof ordinary, &registration));
    // Handles rest for a while before they are used again.
    bool again = false;
    for (int i = 0; i < 1000 && !again; ++i) {
      ASSERT_OK(tuttiCommDestroy(comm));
      ASSERT_OK(tuttiCommInitAll(&comm, 1, nullptr));
      again = comm == handle;
    }
    ASSERT_TRUE(again) << "no handle was used again";
    EXPECT_FAILS(tuttiCommWindowDeregister(comm, window.handle), TUTTI_INVALID_ARGUMENT, "window");
    EXPECT_FAILS(tuttiCommDeregister(comm, registration), TUTTI_INVALID_ARGUMENT, "registration");
    EXPECT_OK(tuttiCommDestroy(comm));
    EXPECT_OK(tuttiMemFree(window.memory));
  });
}

TEST(Windows, BadArgumentsSaySo) {
  with_all(1, [](std::vector<tuttiComm_t>& comms) {
    tuttiWindow_t handle = nullptr;
    const Window memory(nullptr);
    EXPECT_FAILS(tuttiCommWindowRegister(comms[0], memory.memory, kBytes, nullptr, 0), TUTTI_INVALID_ARGUMENT,
                 "window");
    EXPECT_FAILS(tuttiCommWindowRegister(comms[0], memory.memory, kBytes, &handle, 1), TUTTI_INVALID_ARGUMENT, "flags");
    EXPECT_FAILS(tuttiCommWindowRegister(comms[0], nullptr, 8, &handle, 0), TUTTI_INVALID_ARGUMENT, "ptr");
    EXPECT_FAILS(tuttiCommWindowDeregister(comms[0], nullptr), TUTTI_INVALID_ARGUMENT, "window");
    ASSERT_OK(tuttiCommWindowRegister(comms[0], memory.memory, kBytes, &handle, 0));
    check_sum(comms[0], 0, 1, memory.memory, memory.memory + kCount, kCount);
    EXPECT_OK(tuttiCommWindowDeregister(comms[0], handle));
  });
}

}  // namespace
}  // namespace api_test
