// SPDX-License-Identifier: Apache-2.0
// Ranks in several processes: what they send each other, how failures come across, and that nothing is left. Values of
// all collectives: conformance --cuda --processes.
#include <gmock/gmock.h>

#include <sys/syscall.h>

#include <cstdio>
#include <filesystem>
#include <fstream>

#include "comm_cuda/last_call.h"
#include "comm_cuda/members.h"
#include "plan/profile.h"

namespace tutti {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST_P(Processes, ReduceOverAndOver) {
  in_processes([](Member& member, Meeting&) {
    for (const size_t count : {size_t{1}, size_t{100}, Member::kCount, size_t{7}}) {
      for (int i = 0; i < 3; ++i) ASSERT_EQ(member.all_reduce(count), TUTTI_SUCCESS) << last_text();
      member.synchronize();
      member.expect_sums(count);
      ASSERT_EQ(tuttiBarrier(member.comm, member.handle()), TUTTI_SUCCESS) << last_text();
    }
    member.synchronize();
    EXPECT_EQ(member.condition(), TUTTI_SUCCESS);
  });
}

// More than the slots hold, so that sends need their receives.
TEST_P(Processes, MessagesOfAGroupGoBothWays) {
  in_processes(
      [](Member& member, Meeting&) {
        constexpr size_t kEach = Member::kCount;
        for (int turn = 0; turn < 3; ++turn) {
          ASSERT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
          for (int peer = 0; peer < member.n(); ++peer) {
            const size_t at = static_cast<size_t>(peer) * kEach;
            EXPECT_EQ(tuttiSend(member.in() + at, kEach, TUTTI_FLOAT32, peer, member.comm, member.handle()),
                      TUTTI_SUCCESS);
            EXPECT_EQ(tuttiRecv(member.out() + at, kEach, TUTTI_FLOAT32, peer, member.comm, member.handle()),
                      TUTTI_SUCCESS);
          }
          ASSERT_EQ(tuttiGroupEnd(), TUTTI_SUCCESS) << last_text();
          member.synchronize();
          for (int peer = 0; peer < member.n(); ++peer) {
            for (size_t i = 0; i < kEach; ++i)
              ASSERT_EQ(member.out()[static_cast<size_t>(peer) * kEach + i],
                        Member::value(peer, static_cast<size_t>(member.rank()) * kEach + i));
          }
        }
      },
      {{"TUTTI_BUFFER_BYTES", "8192"}, {"TUTTI_SLICE_BYTES", "2048"}});
}

TEST_P(Processes, LoneMessagesGoRound) {
  in_processes([](Member& member, Meeting&) {
    const int next = (member.rank() + 1) % member.n(), previous = (member.rank() + member.n() - 1) % member.n();
    const auto send = [&] { return tuttiSend(member.in(), 10, TUTTI_FLOAT32, next, member.comm, member.handle()); };
    const auto receive = [&] {
      return tuttiRecv(member.out(), 10, TUTTI_FLOAT32, previous, member.comm, member.handle());
    };
    EXPECT_EQ(member.rank() == 0 ? send() : receive(), TUTTI_SUCCESS) << last_text();
    EXPECT_EQ(member.rank() == 0 ? receive() : send(), TUTTI_SUCCESS) << last_text();
    member.synchronize();
    EXPECT_EQ(member.out()[9], Member::value(previous, 9));
  });
}

TEST_P(Processes, AnAbortEndsTheCallsOfTheOthers) {
  in_processes([](Member& member, Meeting& meeting) {
    if (member.rank() == 0) {
      meeting.await(2);
      EXPECT_EQ(tuttiCommAbort(std::exchange(member.comm, nullptr)), TUTTI_SUCCESS) << last_text();
      return;
    }
    EXPECT_EQ(member.all_reduce(), TUTTI_SUCCESS) << last_text();
    meeting.arrive();
    EXPECT_EQ(member.await_failure(), TUTTI_INVALID_USAGE);  // as on the rank itself
    member.come_to_rest();
    EXPECT_THAT(member.failure_text(), HasSubstr("rank 0 was aborted"));
  });
}

TEST_P(Processes, AKilledProcessIsNamed) {
  void* const memory = ::mmap(nullptr, sizeof(Meeting), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  auto* const told = new (memory) Meeting;
  const launcher::SharedPage page;
  const launcher::Outcome outcome = launcher::run(
      kRanks, *page, 60,
      [&](int rank) {
        GetParam().take(rank, kRanks);
        const tuttiUniqueId id = api_test::shared_id(rank, *page);
        {
          Member member(rank, kRanks, GetParam().device_of(rank), id);
          EXPECT_EQ(member.all_reduce(), TUTTI_SUCCESS) << last_text();
          member.synchronize();
          if (rank == 2) {
            told->await(2);
            raise(SIGKILL);
          }
          EXPECT_EQ(member.all_reduce(), TUTTI_SUCCESS) << last_text();
          told->arrive();
          EXPECT_EQ(member.await_failure(), TUTTI_REMOTE_ERROR);
          member.come_to_rest();
          EXPECT_THAT(member.failure_text(), AllOf(HasSubstr("rank 2"), HasSubstr("has died")));
        }
        if (rank != GetParam().cpu) expect_nothing_left();
        if (!testing::Test::HasFailure()) told->arrive();
        return 0;
      },
      {}, 30);
  EXPECT_EQ(outcome.failed, 2) << outcome.text;  // by the signal
  EXPECT_FALSE(outcome.stalled);
  EXPECT_EQ(told->arrived.load(), 4);  // both others found what they should
  ::munmap(memory, sizeof(Meeting));
}

TEST_P(Processes, CallsThatDoNotFitEndOnAll) {
  in_processes([](Member& member, Meeting&) {
    EXPECT_EQ(member.all_reduce(member.rank() == 1 ? 50 : 60), TUTTI_SUCCESS) << last_text();
    EXPECT_NE(member.await_failure(), TUTTI_SUCCESS);
    member.come_to_rest();
  });
}

TEST_P(Processes, ARankThatDoesNotCallIsNamed) {
  in_processes(
      [](Member& member, Meeting& meeting) {
        EXPECT_EQ(member.all_reduce(), TUTTI_SUCCESS) << last_text();  // all are connected
        member.synchronize();
        if (member.rank() == 1) return meeting.await(2);
        EXPECT_EQ(member.all_reduce(), TUTTI_SUCCESS) << last_text();
        EXPECT_EQ(member.await_failure(), TUTTI_REMOTE_ERROR);
        member.come_to_rest();
        EXPECT_THAT(member.failure_text(), HasSubstr("TUTTI_TIMEOUT"));
        meeting.arrive();
      },
      {{"TUTTI_TIMEOUT", "1500ms"}});
}

// Whoever goes first leaves its memory to those that still have it open.
TEST_P(Processes, LeaveInAnyOrder) {
  in_processes([](Member& member, Meeting& meeting) {
    EXPECT_EQ(member.all_reduce(), TUTTI_SUCCESS) << last_text();
    member.synchronize();
    meeting.await(member.rank());  // rank 0 first
    member.destroy();
    meeting.arrive();
  });
}

TEST_P(Processes, MakeAndDestroyAgain) {
  in_processes([](Member& member, Meeting&) {
    for (int i = 0; i < 3; ++i) {
      tuttiComm_t child = nullptr;
      ASSERT_EQ(tuttiCommSplit(member.comm, 0, -member.rank(), &child, nullptr), TUTTI_SUCCESS) << last_text();
      EXPECT_EQ(tuttiAllReduce(member.in(), member.out(), 64, TUTTI_FLOAT32, TUTTI_SUM, child, member.handle()),
                TUTTI_SUCCESS)
          << last_text();
      member.synchronize();
      member.expect_sums(64);
      EXPECT_EQ(tuttiCommDestroy(child), TUTTI_SUCCESS) << last_text();
    }
  });
}

// Each process replays its own graph; where GPUs are shared, or a rank is on the CPU, capture is refused and ordinary
// calls go on.
TEST_P(Processes, CaptureIsReplayedOrRefused) {
  const bool refused = GetParam().shares_gpus(kRanks) || GetParam().cpu >= 0;
  in_processes([&](Member& member, Meeting&) {
    EXPECT_EQ(member.all_reduce(), TUTTI_SUCCESS) << last_text();
    member.synchronize();
    if (member.on_cpu()) {
      EXPECT_EQ(member.all_reduce(), TUTTI_SUCCESS) << last_text();
      return member.synchronize();
    }
    const gpu::CudaRun& cuda = member.gpu->cuda();
    gpu::CudaGraph graph = nullptr;
    {
      const gpu::CudaScope scope(*member.gpu);
      ASSERT_EQ(cuda.capture_begin(member.stream().handle(), gpu::kCudaCaptureGlobal), 0);
      EXPECT_EQ(member.all_reduce(), refused ? TUTTI_INVALID_USAGE : TUTTI_SUCCESS) << last_text();
      if (refused) EXPECT_THAT(last_text(), HasSubstr("cannot be captured"));
      ASSERT_EQ(cuda.capture_end(member.stream().handle(), &graph), 0);
    }
    if (!refused) {
      const gpu::CudaScope scope(*member.gpu);
      gpu::CudaGraphExec exec = nullptr;
      ASSERT_EQ(cuda.graph_instantiate(&exec, graph, 0), 0);
      for (int i = 0; i < 3; ++i) {
        member.out()[7] = 0;
        ASSERT_EQ(cuda.graph_launch(exec, member.stream().handle()), 0);
        member.synchronize();
        member.expect_sums();
      }
      EXPECT_EQ(cuda.graph_exec_destroy(exec), 0);
    }
    {
      const gpu::CudaScope scope(*member.gpu);
      EXPECT_EQ(cuda.graph_destroy(graph), 0);
    }
    EXPECT_EQ(member.all_reduce(), TUTTI_SUCCESS) << last_text();
    member.synchronize();
    member.expect_sums();
  });
}

// More launches than are put on a stream at once, where calls go in steps.
TEST_P(Processes, LongCallsComeToTheirEnd) {
  if (GetParam().bridged()) GTEST_SKIP() << "no steps";
  in_processes(
      [](Member& member, Meeting&) {
        for (int i = 0; i < 2; ++i) {
          ASSERT_EQ(member.all_reduce(2 * Member::kCount), TUTTI_SUCCESS) << last_text();
          member.synchronize();
          member.expect_sums(2 * Member::kCount);
        }
      },
      {{"TUTTI_SLICE_BYTES", "192"}, {"TUTTI_ALGO", "ring"}, {"TUTTI_MAX_CHANNELS", "1"}});
}

// Of three ranks the first process drives two, the second one.
std::vector<int> ranks_of(int process) { return process == 0 ? std::vector<int>{0, 1} : std::vector<int>{2}; }
// Of this process, in a group; rank r on GPU r % gpus.
tuttiResult_t join(const std::vector<int>& mine, int gpus, const tuttiUniqueId& id, std::vector<tuttiComm_t>& comms) {
  comms.resize(mine.size());
  EXPECT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
  for (size_t i = 0; i < mine.size(); ++i) {
    tuttiConfig_t config = TUTTI_CONFIG_INITIALIZER;
    config.device = mine[i] % gpus;
    (void)tuttiCommInitRankConfig(&comms[i], 3, id, mine[i], &config);
  }
  return tuttiGroupEnd();
}

// Each on a GPU of its own, in groups. `apart`: each process believes to be on a host of its own.
void call_together(Environment more = {}, bool apart = false) {
  more.emplace_back("TUTTI_CUDA_LIBRARY", FAKE_CUDA);
  more.emplace_back("FAKE_CUDA_DEVICES", "4");
  api_test::in_children(
      2,
      [apart](int process, launcher::Page& page) {
        if (apart) setenv("TUTTI_HOST_ID", ("host" + std::to_string(process)).c_str(), 1);
        const tuttiUniqueId id = api_test::shared_id(process, page);
        const std::vector<int> mine = ranks_of(process);
        {
          std::vector<tuttiComm_t> comms;
          ASSERT_EQ(join(mine, 3, id, comms), TUTTI_SUCCESS) << last_text();
          std::vector<gpu::OwnedStream> streams;
          std::vector<gpu::DeviceMemory> words;
          for (const int rank : mine) {
            streams.push_back(*gpu::make_stream(gpu::device(rank)));
            words.push_back(*gpu::allocate_device(gpu::device(rank), sizeof(float)));
            *reinterpret_cast<float*>(words.back().get()) = static_cast<float>(rank + 1);
          }
          for (int turn = 0; turn < 3; ++turn) {
            ASSERT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
            for (size_t i = 0; i < mine.size(); ++i) {
              auto* const word = reinterpret_cast<float*>(words[i].get());
              EXPECT_EQ(tuttiAllReduce(word, word, 1, TUTTI_FLOAT32, TUTTI_SUM, comms[i],
                                       reinterpret_cast<tuttiStream_t>(streams[i].get())),
                        TUTTI_SUCCESS);
            }
            ASSERT_EQ(tuttiGroupEnd(), TUTTI_SUCCESS) << last_text();
          }
          for (size_t i = 0; i < mine.size(); ++i) {
            EXPECT_TRUE(gpu::CudaStream(gpu::device(mine[i]), streams[i].get()).synchronize().ok());
            EXPECT_EQ(*reinterpret_cast<float*>(words[i].get()), 54.0F);  // 1 + 2 + 3, then three times as much, twice
            EXPECT_EQ(tuttiCommDestroy(comms[i]), TUTTI_SUCCESS) << last_text();
          }
        }
        expect_nothing_left();
      },
      more);
}
TEST(ProcessesOfSeveralRanks, CallTogether) { call_together(); }
TEST(ProcessesOfSeveralRanks, CallTogetherFromSeveralHosts) { call_together({}, true); }

// One process has two GPUs, the other one: what was measured on so many counts for both or for none.
TEST(ProcessesOfSeveralRanks, PlanAlikeByAProfileOfSoManyGpus) {
  for (const int gpus : {1, 2, 3}) {
    Profile profile = built_in_profile({});
    profile.gpu = {"Fake GPU", gpus, {1, 1},
                   {1, 1},     1,    {{Coll::AllReduce, Algo::Ring, Proto::Simple, 3, false, {4}, {0.001}}}};
    const std::string path = testing::TempDir() + "gpu_profile." + std::to_string(getpid()) + ".json";
    std::ofstream(path) << format_profile(profile);
    call_together({{"TUTTI_PROFILE", path}});
    std::remove(path.c_str());
  }
}

TEST(ProcessesOfSeveralRanks, AreRefusedWhereGpusAreShared) {
  const launcher::SharedPage found;
  api_test::in_children(2,
                        [&](int process, launcher::Page& page) {
                          const tuttiUniqueId id = api_test::shared_id(process, page);
                          std::vector<tuttiComm_t> comms;
                          const tuttiResult_t code = join(ranks_of(process), 1, id, comms);
                          EXPECT_NE(code, TUTTI_SUCCESS);
                          if (code != TUTTI_INVALID_USAGE) return;
                          EXPECT_THAT(last_text(), HasSubstr("several processes share a GPU"));
                          found->member[0].entered.fetch_add(1);
                        },
                        {{"TUTTI_CUDA_LIBRARY", FAKE_CUDA}});
  EXPECT_GT(found->member[0].entered.load(), 0u);
}

class BridgedProcesses : public InProcesses {};

// The system call in which the thread that carries slots is; empty: there is no such thread.
std::string call_of_the_carrier() {
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name, number;
    std::ifstream(task.path() / "comm") >> name;
    if (name != "tutti-carry") continue;
    std::ifstream(task.path() / "syscall") >> number;
    return number;
  }
  return {};
}

// While nothing is on its way: it waits on a condition, where polls would be sleeps.
TEST_F(BridgedProcesses, TheCarrierSleepsBetweenCalls) {
  in_processes(2, Seating{"TwoHosts", 2, kAllReach, 2}, [](Member& member, Meeting&) {
    const std::string asleep = std::to_string(SYS_futex);
    for (int i = 0; i < 3; ++i) {
      ASSERT_EQ(member.all_reduce(), TUTTI_SUCCESS) << last_text();
      member.synchronize();
      member.expect_sums();
      ASSERT_NE(call_of_the_carrier(), "");
      while (call_of_the_carrier() != asleep) usleep(500);
    }
  });
}

// More messages than slots, and none of them: both kinds of ranks number and connect alike.
TEST_F(BridgedProcesses, EmptyCallsCountOnAllRanks) {
  in_processes(3, Seating{"OnTwoHostsWithACpu", 3, kAllReach, 2, 1}, [](Member& member, Meeting&) {
    const int next = (member.rank() + 1) % 3, previous = (member.rank() + 2) % 3;
    for (int i = 0; i < 3; ++i) {
      ASSERT_EQ(member.all_reduce(0), TUTTI_SUCCESS) << last_text();
      ASSERT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
      EXPECT_EQ(tuttiSend(member.in(), 0, TUTTI_INT8, next, member.comm, member.handle()), TUTTI_SUCCESS);
      EXPECT_EQ(tuttiRecv(member.out(), 0, TUTTI_INT8, previous, member.comm, member.handle()), TUTTI_SUCCESS);
      ASSERT_EQ(tuttiGroupEnd(), TUTTI_SUCCESS) << last_text();
      ASSERT_EQ(member.all_reduce(10), TUTTI_SUCCESS) << last_text();
      member.synchronize();
      member.expect_sums(10);
    }
  });
}

// Ranks of both kinds in one process and one thread.
TEST_F(BridgedProcesses, OneThreadDrivesBothKinds) {
  api_test::in_child([] {
    Seating{"OneProcess", 4}.take(0, 1);
    const std::vector<int> devices = {0, TUTTI_DEVICE_CPU, 1, TUTTI_DEVICE_CPU};
    std::vector<tuttiComm_t> comms(devices.size());
    ASSERT_EQ(tuttiCommInitAll(comms.data(), 4, devices.data()), TUTTI_SUCCESS) << last_text();
    {
      std::vector<float> on_cpu = {2, 4};
      std::vector<gpu::DeviceMemory> on_gpu;
      for (const int device : {0, 1}) on_gpu.push_back(*gpu::allocate_device(gpu::device(device), sizeof(float)));
      float* const words[] = {reinterpret_cast<float*>(on_gpu[0].get()), &on_cpu[0],
                              reinterpret_cast<float*>(on_gpu[1].get()), &on_cpu[1]};
      *words[0] = 1, *words[2] = 3;
      ASSERT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
      for (size_t r = 0; r < 4; ++r)
        EXPECT_EQ(tuttiAllReduce(words[r], words[r], 1, TUTTI_FLOAT32, TUTTI_SUM, comms[r], nullptr), TUTTI_SUCCESS);
      ASSERT_EQ(tuttiGroupEnd(), TUTTI_SUCCESS) << last_text();
      for (const int device : {0, 1}) EXPECT_TRUE(gpu::CudaStream(gpu::device(device), nullptr).synchronize().ok());
      for (const float* const word : words) EXPECT_EQ(*word, 10.0F);
    }
    for (const tuttiComm_t comm : comms) EXPECT_EQ(tuttiCommDestroy(comm), TUTTI_SUCCESS) << last_text();
    expect_nothing_left();
  });
}

// Steps wait for words in memory of one host. Each finds it by itself; who is slow may only see that another has gone.
TEST_F(BridgedProcesses, AreRefusedWhereGpusAreShared) {
  const Seating seating{"OneGpuOnTwoHosts", 1, kAllReach, 2};
  const launcher::SharedPage found;
  api_test::in_children(2, [&](int rank, launcher::Page& page) {
    seating.take(rank, 2);
    tuttiConfig_t config = TUTTI_CONFIG_INITIALIZER;
    config.device = 0;
    tuttiComm_t comm = nullptr;
    const tuttiUniqueId id = api_test::shared_id(rank, page);
    const tuttiResult_t code = tuttiCommInitRankConfig(&comm, 2, id, rank, &config);
    EXPECT_NE(code, TUTTI_SUCCESS);
    if (code != TUTTI_INVALID_USAGE) return;
    EXPECT_THAT(last_text(), HasSubstr("several processes share a GPU"));
    found->member[0].entered.fetch_add(1);
  });
  EXPECT_GT(found->member[0].entered.load(), 0u);
}

// Memory of either kind, with a buffer elsewhere now and then: results are right, and the end waits for the others
// where it has to.
TEST_P(Processes, WindowsServeOrGainNothing) {
  const bool possible = GetParam().all_reach() && GetParam().gpus >= kRanks && !GetParam().bridged();
  in_processes(
      [&](Member& member, Meeting& meeting) {
        constexpr size_t kBytes = size_t{1} << 21;
        gpu::DeviceMemory ordinary;
        void *host = nullptr, *given = nullptr;
        std::vector<float*> kinds;
        if (member.on_cpu()) {
          ASSERT_EQ(tuttiMemAlloc(&host, kBytes), TUTTI_SUCCESS) << last_text();
          kinds.assign(2, static_cast<float*>(host));
        } else {
          ordinary = *gpu::allocate_device(member.gpu, kBytes);
          ASSERT_EQ(tuttiMemAllocDevice(&given, kBytes, member.gpu->ordinal()), TUTTI_SUCCESS) << last_text();
          kinds = {reinterpret_cast<float*>(ordinary.get()), static_cast<float*>(given)};
        }
        int met = 0;
        for (float* const memory : kinds) {
          const size_t half = kBytes / sizeof(float) / 2;
          tuttiWindow_t window = nullptr;
          ASSERT_EQ(tuttiCommWindowRegister(member.comm, memory, kBytes, &window, 0), TUTTI_SUCCESS) << last_text();
          for (int odd = 0; odd <= member.n(); ++odd) {
            float* const to = odd == member.rank() ? member.out() : memory + half;
            for (size_t i = 0; i < Member::kCount; ++i) memory[i] = Member::value(member.rank(), i);
            ASSERT_EQ(
                tuttiAllReduce(memory, to, Member::kCount, TUTTI_FLOAT32, TUTTI_SUM, member.comm, member.handle()),
                TUTTI_SUCCESS)
                << last_text();
            member.synchronize();
            for (size_t i = 0; i < Member::kCount; ++i) ASSERT_EQ(to[i], member.sum(i)) << odd << " at " << i;
          }
          EXPECT_EQ(member.condition(), TUTTI_SUCCESS);
          if (memory == given) EXPECT_EQ(tuttiMemFree(given), TUTTI_SUCCESS) << last_text();  // windows keep it
          // Nobody may free what a peer still has open.
          if (member.rank() != 0) meeting.arrive();
          met += member.n() - 1;
          EXPECT_EQ(tuttiCommWindowDeregister(member.comm, window), TUTTI_SUCCESS) << last_text();
          if (possible && memory == kinds[0]) EXPECT_EQ(meeting.arrived.load(), met);
          ASSERT_EQ(tuttiBarrier(member.comm, member.handle()), TUTTI_SUCCESS);
          member.synchronize();
          EXPECT_EQ(member.all_reduce(), TUTTI_SUCCESS) << last_text();
          member.synchronize();
          member.expect_sums();
        }
        if (host != nullptr) EXPECT_EQ(tuttiMemFree(host), TUTTI_SUCCESS);
      },
      {{"TUTTI_PROTO", "rma"}});
}

// Made in the background, called without waiting in a call, divided and finalized; wherever the ranks are.
class NonBlockingProcesses : public Processes {};
TEST_P(NonBlockingProcesses, NoCallWaits) {
  in_processes([](Member& member, Meeting& meeting) {
    const int n = member.n(), next = (member.rank() + 1) % n, previous = (member.rank() + n - 1) % n;
    // Rank 0 calls when the others have, whose calls have returned by then.
    if (member.rank() == 0) meeting.await(n - 1);
    const tuttiResult_t called = tuttiAllReduce(member.in(), member.out(), Member::kCount, TUTTI_FLOAT32, TUTTI_SUM,
                                                member.comm, member.handle());
    meeting.arrive();
    ASSERT_EQ(member.settled(called), TUTTI_SUCCESS) << tuttiGetLastError(member.comm);
    member.synchronize();
    member.expect_sums();
    // Calls behind a split that is under way keep their places.
    tuttiComm_t child = nullptr;
    ASSERT_EQ(tuttiCommSplit(member.comm, 0, member.rank(), &child, nullptr), TUTTI_IN_PROGRESS) << last_text();
    ASSERT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
    EXPECT_EQ(tuttiSend(member.in(), 100, TUTTI_FLOAT32, next, member.comm, member.handle()), TUTTI_SUCCESS);
    EXPECT_EQ(tuttiRecv(member.out(), 100, TUTTI_FLOAT32, previous, member.comm, member.handle()), TUTTI_SUCCESS);
    ASSERT_EQ(member.settled(tuttiGroupEnd()), TUTTI_SUCCESS) << tuttiGetLastError(member.comm);
    member.synchronize();
    for (size_t i = 0; i < 100; ++i) ASSERT_EQ(member.out()[i], Member::value(previous, i));
    std::swap(member.comm, child);
    EXPECT_EQ(member.settled(TUTTI_IN_PROGRESS), TUTTI_SUCCESS) << tuttiGetLastError(member.comm);
    EXPECT_EQ(member.all_reduce(), TUTTI_SUCCESS) << last_text();
    member.synchronize();
    member.expect_sums();
    EXPECT_EQ(member.settled(tuttiCommFinalize(member.comm)), TUTTI_SUCCESS) << tuttiGetLastError(member.comm);
    EXPECT_EQ(tuttiCommDestroy(child), TUTTI_SUCCESS) << last_text();
  });
}

TEST_P(NonBlockingProcesses, AbortEndsAnInitThatWaitsForRanksThatNeverCome) {
  api_test::in_child([] {
    GetParam().take(0, kRanks);
    tuttiUniqueId id;
    ASSERT_EQ(tuttiGetUniqueId(&id), TUTTI_SUCCESS);
    tuttiConfig_t config = TUTTI_CONFIG_INITIALIZER;
    config.blocking = 0;
    config.device = 0;
    tuttiComm_t comm = nullptr;
    ASSERT_EQ(tuttiCommInitRankConfig(&comm, kRanks, id, 0, &config), TUTTI_IN_PROGRESS) << last_text();
    tuttiResult_t condition = TUTTI_SUCCESS;
    EXPECT_EQ(tuttiCommGetAsyncError(comm, &condition), TUTTI_SUCCESS);
    EXPECT_EQ(condition, TUTTI_IN_PROGRESS);
    EXPECT_EQ(tuttiCommAbort(comm), TUTTI_SUCCESS) << last_text();
    EXPECT_EQ(gpu::alive(), 0);
  });
}

INSTANTIATE_TEST_SUITE_P(Cuda, NonBlockingProcesses,
                         testing::Values(Seating{"GpusOfTheirOwn", 3, kAllReach, 1, -1, false},
                                         Seating{"OneGpu", 1, kAllReach, 1, -1, false},
                                         Seating{"OnTwoHostsWithACpu", 3, kAllReach, 2, 1, false}),
                         [](const auto& one) { return std::string(one.param.name); });

// Lines of 128 bytes where they are seen whole; asked for elsewhere, other slots serve.
TEST_P(Processes, LongLinesServeOrOtherSlotsDo) {
  const bool possible = GetParam().all_reach() && GetParam().gpus >= kRanks && !GetParam().bridged();
  in_processes(
      [&](Member& member, Meeting&) {
        for (const size_t count : {size_t{1}, Member::kCount}) {
          ASSERT_EQ(member.all_reduce(count), TUTTI_SUCCESS) << last_text();
          member.synchronize();
          member.expect_sums(count);
        }
        const std::string protocol = last_protocol(member.comm);
        EXPECT_EQ(protocol.find("ll128") != std::string::npos, possible) << protocol;
      },
      {{"TUTTI_PROTO", "ll128"}});
}

INSTANTIATE_TEST_SUITE_P(Cuda, Processes,
                         testing::Values(Seating{"GpusOfTheirOwn", 3}, Seating{"OneGpu", 1},
                                         Seating{"TwoGpusForThree", 2}, Seating{"ThroughTheHost", 3, "0"},
                                         Seating{"ByARelay", 3, "^0-1"}),
                         [](const auto& one) { return std::string(one.param.name); });
INSTANTIATE_TEST_SUITE_P(Bridged, Processes,
                         testing::Values(Seating{"TwoHosts", 3, kAllReach, 2},
                                         Seating{"BesideACpu", 3, kAllReach, 1, 1},
                                         Seating{"OnTwoHostsWithACpu", 3, kAllReach, 2, 0}),
                         [](const auto& one) { return std::string(one.param.name); });

}  // namespace
}  // namespace tutti
