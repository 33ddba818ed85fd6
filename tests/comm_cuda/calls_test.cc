// SPDX-License-Identifier: Apache-2.0
// Calls: one launch for all ranks of a GPU, between the work of their streams, without the host waiting.
#include <thread>

#include "comm_cuda/ranks.h"

namespace tutti {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(CudaCalls, RanksOfOneGpuShareALaunchAndLeaveNothing) {
  for (const int n : {1, 2, 3, 4, 8, 12}) {
    SCOPED_TRACE(n);
    Ranks ranks(std::vector<int>(static_cast<size_t>(n), 0));
    ASSERT_EQ(ranks.all_reduce_together(), TUTTI_SUCCESS) << last_text();
    ranks.synchronize();
    ranks.expect_sums(1);
    // Were there more than one, the second would fail.
    gpu::fail("cuLaunchKernelEx", 2, gpu::kCudaLaunchFailed);
    ranks.fill(2);
    ASSERT_EQ(ranks.all_reduce_together(), TUTTI_SUCCESS) << last_text();
    gpu::fail("cuLaunchKernelEx", 1, gpu::kCudaSuccess);
    ranks.synchronize();
    ranks.expect_sums(2);
  }
  EXPECT_EQ(gpu::alive(), 0);
}

TEST(CudaCalls, RanksOnTwoGpusMeet) {
  {
    Ranks ranks({0, 1, 0, 1});
    for (int call = 1; call <= 3; ++call) {
      ranks.fill(static_cast<float>(call));
      ASSERT_EQ(ranks.all_reduce_together(), TUTTI_SUCCESS) << last_text();
      ranks.synchronize();
      ranks.expect_sums(static_cast<float>(call));
    }
    int device = -1;
    EXPECT_EQ(tuttiCommDevice(ranks.comm(3), &device), TUTTI_SUCCESS);
    EXPECT_EQ(device, 1);
  }
  EXPECT_EQ(gpu::alive(), 0);
}

TEST(CudaCalls, ComeAfterTheWorkOfEveryStreamAndReturnBeforeIt) {
  Ranks ranks({0, 0, 0});
  const Hold hold(ranks.gpus[1]);
  hold.stop(ranks.streams[1]);
  // What the held stream does before the call is part of what it sums: zeros instead of rank 1's input.
  ASSERT_TRUE(ranks.streams[1].fill(reinterpret_cast<uintptr_t>(ranks.in(1)), 0, Ranks::kCount * sizeof(float)).ok());
  ASSERT_EQ(ranks.all_reduce_together(), TUTTI_SUCCESS) << last_text();
  for (const gpu::CudaStream& stream : ranks.streams) EXPECT_FALSE(*stream.idle());
  // What comes after on any stream sees the result.
  ASSERT_TRUE(ranks.streams[2]
                  .copy(reinterpret_cast<uintptr_t>(ranks.in(2)), reinterpret_cast<uintptr_t>(ranks.out(0)),
                        Ranks::kCount * sizeof(float))
                  .ok());
  hold.go_on();
  ranks.synchronize();
  for (size_t i = 0; i < Ranks::kCount; ++i) {
    ASSERT_EQ(ranks.out(1)[i], 4 + 2 * static_cast<float>(i));
    ASSERT_EQ(ranks.in(2)[i], ranks.out(1)[i]);
  }
}

TEST(CudaCalls, FollowEachOtherAcrossStreams) {
  Ranks ranks({0, 0});
  const Hold hold(ranks.gpus[0]);
  hold.stop(ranks.streams[0]);
  ASSERT_EQ(ranks.all_reduce_together(), TUTTI_SUCCESS) << last_text();
  // The second reads what the first writes, on streams of its own.
  const auto other = *gpu::make_stream(ranks.gpus[0]);
  const gpu::CudaStream late(ranks.gpus[0], other.get());
  ASSERT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
  for (int r = 0; r < 2; ++r) {
    ASSERT_EQ(tuttiAllReduce(ranks.out(r), ranks.in(r), Ranks::kCount, TUTTI_FLOAT32, TUTTI_SUM, ranks.comm(r),
                             reinterpret_cast<tuttiStream_t>(other.get())),
              TUTTI_SUCCESS);
  }
  ASSERT_EQ(tuttiGroupEnd(), TUTTI_SUCCESS) << last_text();
  EXPECT_FALSE(*late.idle());
  hold.go_on();
  ASSERT_TRUE(late.synchronize().ok());
  for (size_t i = 0; i < Ranks::kCount; ++i) ASSERT_EQ(ranks.in(0)[i], 2 * (3 + 2 * static_cast<float>(i)));
}

TEST(CudaCalls, AThreadForEachRankNeedsNoGroup) {
  {
    Ranks ranks({0, 0, 1});
    std::vector<std::thread> threads;
    for (int r = 0; r < ranks.n(); ++r) {
      threads.emplace_back([&ranks, r] {
        for (int call = 0; call < 20; ++call)
          EXPECT_EQ(ranks.all_reduce(r, ranks.stream(r)), TUTTI_SUCCESS) << last_text();
      });
    }
    for (std::thread& thread : threads) thread.join();
    ranks.synchronize();
    ranks.expect_sums(1);
  }
  EXPECT_EQ(gpu::alive(), 0);
}

TEST(CudaCalls, ThreadsMayBringCommunicatorsInAnyOrder) {
  Ranks a({0, 1}), b({0, 1});
  std::vector<std::thread> threads;
  for (int r = 0; r < 2; ++r) {
    threads.emplace_back([&, r] {
      for (int call = 0; call < 20; ++call) {
        const Ranks& first = r == 0 ? a : b;
        const Ranks& second = r == 0 ? b : a;
        EXPECT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
        EXPECT_EQ(first.all_reduce(r, first.stream(r)), TUTTI_SUCCESS);
        EXPECT_EQ(second.all_reduce(r, second.stream(r)), TUTTI_SUCCESS);
        EXPECT_EQ(tuttiGroupEnd(), TUTTI_SUCCESS) << last_text();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Ranks* ranks : {&a, &b}) {
    ranks->synchronize();
    ranks->expect_sums(1);
  }
}

TEST(CudaCalls, MessagesOfAGroupRunSideBySideAlsoToOneself) {
  Ranks ranks({0, 0, 1});
  ASSERT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
  for (int r = 0; r < 3; ++r) {
    for (int peer = 0; peer < 3; ++peer) {
      EXPECT_EQ(tuttiSend(ranks.in(r) + 10 * peer, 10, TUTTI_FLOAT32, peer, ranks.comm(r), ranks.stream(r)),
                TUTTI_SUCCESS);
      EXPECT_EQ(tuttiRecv(ranks.out(r) + 10 * peer, 10, TUTTI_FLOAT32, peer, ranks.comm(r), ranks.stream(r)),
                TUTTI_SUCCESS);
    }
    // A second message of the same pair, behind the first.
    EXPECT_EQ(tuttiSend(ranks.in(r) + 50, 5, TUTTI_FLOAT32, (r + 1) % 3, ranks.comm(r), ranks.stream(r)),
              TUTTI_SUCCESS);
    EXPECT_EQ(tuttiRecv(ranks.out(r) + 50, 5, TUTTI_FLOAT32, (r + 2) % 3, ranks.comm(r), ranks.stream(r)),
              TUTTI_SUCCESS);
  }
  ASSERT_EQ(tuttiGroupEnd(), TUTTI_SUCCESS) << last_text();
  ranks.synchronize();
  for (int r = 0; r < 3; ++r) {
    for (int peer = 0; peer < 3; ++peer) {
      for (int i = 0; i < 10; ++i) ASSERT_EQ(ranks.out(r)[10 * peer + i], ranks.in(peer)[10 * r + i]);
    }
    for (int i = 0; i < 5; ++i) ASSERT_EQ(ranks.out(r)[50 + i], ranks.in((r + 2) % 3)[50 + i]);
  }
}

TEST(CudaCalls, TakeMemoryThatTheDeviceCanUseAndSayWhatToDoAboutOther) {
  Ranks ranks({0});
  const gpu::CudaRun& cuda = ranks.gpus[0]->cuda();
  const gpu::CudaScope scope(*ranks.gpus[0]);
  std::vector<float> plain(Ranks::kCount, 3), registered(Ranks::kCount, 4);
  const auto run = [&](const float* from, float* to) {
    return tuttiAllReduce(from, to, Ranks::kCount, TUTTI_FLOAT32, TUTTI_SUM, ranks.comm(0), ranks.stream(0));
  };
  EXPECT_EQ(run(plain.data(), ranks.out(0)), TUTTI_INVALID_ARGUMENT);
  EXPECT_THAT(last_text(), AllOf(HasSubstr("rank 0"), HasSubstr("send buffer of all_reduce"),
                                 HasSubstr("pageable host memory"), HasSubstr("cudaHostRegister")));
  EXPECT_EQ(run(ranks.in(0), plain.data()), TUTTI_INVALID_ARGUMENT);
  EXPECT_THAT(last_text(), HasSubstr("receive buffer"));
  ASSERT_EQ(cuda.register_host(registered.data(), Ranks::kCount * sizeof(float), gpu::kCudaHostRegisterMapped), 0);
  gpu::CudaAddress managed = 0;
  ASSERT_EQ(cuda.allocate_managed(&managed, Ranks::kCount * sizeof(float), gpu::kCudaManagedGlobal), 0);
  auto* const to = reinterpret_cast<float*>(managed);
  EXPECT_EQ(run(registered.data(), to), TUTTI_SUCCESS) << last_text();
  ranks.synchronize();
  EXPECT_EQ(to[Ranks::kCount - 1], 4);
  EXPECT_EQ(cuda.unregister_host(registered.data()), 0);
  EXPECT_EQ(cuda.free(managed), 0);
}

TEST(CudaCalls, TellStreamsOfOtherKindsAndDevices) {
  Ranks ranks({0});
  tuttiStream_t ours = nullptr;
  ASSERT_EQ(tuttiStreamCreate(&ours), TUTTI_SUCCESS);
  EXPECT_EQ(ranks.all_reduce(0, ours), TUTTI_INVALID_ARGUMENT);
  EXPECT_THAT(last_text(), HasSubstr("tuttiStreamCreate"));
  EXPECT_EQ(tuttiStreamDestroy(ours), TUTTI_SUCCESS);
  const auto elsewhere = *gpu::make_stream(gpu::device(1));
  EXPECT_NE(ranks.all_reduce(0, reinterpret_cast<tuttiStream_t>(elsewhere.get())), TUTTI_SUCCESS);
  EXPECT_EQ(ranks.all_reduce(0, nullptr), TUTTI_SUCCESS) << "the default stream: " << last_text();
}

TEST(CudaCalls, FactorsMayLieInMemoryOfTheDevice) {
  Ranks ranks({0, 0});
  const auto factor = *gpu::allocate_device(ranks.gpus[0], sizeof(float));
  *reinterpret_cast<float*>(factor.get()) = 3;
  tuttiRedOp_t ops[2];
  for (int r = 0; r < 2; ++r) {
    ASSERT_EQ(tuttiRedOpCreatePreMulSum(&ops[r], reinterpret_cast<const void*>(factor.get()), TUTTI_FLOAT32,
                                        TUTTI_SCALAR_DEVICE, ranks.comm(r)),
              TUTTI_SUCCESS);
  }
  *reinterpret_cast<float*>(factor.get()) = 2;  // read when the call runs
  ASSERT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
  for (int r = 0; r < 2; ++r)
    EXPECT_EQ(
        tuttiAllReduce(ranks.in(r), ranks.out(r), Ranks::kCount, TUTTI_FLOAT32, ops[r], ranks.comm(r), ranks.stream(r)),
        TUTTI_SUCCESS);
  ASSERT_EQ(tuttiGroupEnd(), TUTTI_SUCCESS) << last_text();
  ranks.synchronize();
  EXPECT_EQ(ranks.out(1)[0], 6);
}

TEST(CudaCalls, ASplitKeepsTheDevice) {
  Ranks ranks({0, 1, 0, 1});
  std::vector<tuttiComm_t> halves(4);
  ASSERT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
  for (int r = 0; r < 4; ++r)
    EXPECT_EQ(tuttiCommSplit(ranks.comm(r), r / 2, r, &halves[static_cast<size_t>(r)], nullptr), TUTTI_SUCCESS);
  ASSERT_EQ(tuttiGroupEnd(), TUTTI_SUCCESS) << last_text();
  ASSERT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
  for (int r = 0; r < 4; ++r)
    EXPECT_EQ(tuttiAllReduce(ranks.in(r), ranks.out(r), 1, TUTTI_FLOAT32, TUTTI_SUM, halves[static_cast<size_t>(r)],
                             ranks.stream(r)),
              TUTTI_SUCCESS);
  ASSERT_EQ(tuttiGroupEnd(), TUTTI_SUCCESS) << last_text();
  ranks.synchronize();
  EXPECT_EQ(ranks.out(0)[0], 3);
  EXPECT_EQ(ranks.out(3)[0], 7);
  for (const tuttiComm_t half : halves) EXPECT_EQ(tuttiCommDestroy(half), TUTTI_SUCCESS);
}

TEST(CudaCalls, AMissingDeviceIsNamed) {
  tuttiComm_t comm = nullptr;
  const int missing = 7;
  EXPECT_EQ(tuttiCommInitAll(&comm, 1, &missing), TUTTI_CUDA_ERROR);
  EXPECT_THAT(last_text(), HasSubstr("7"));
}

}  // namespace
}  // namespace tutti
