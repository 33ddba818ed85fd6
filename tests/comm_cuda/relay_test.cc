// SPDX-License-Identifier: Apache-2.0
// GPUs that do not map each other's memory: where the slots of their connections lie, in one process and in several.
// What they carry: conformance --cuda with FAKE_CUDA_PEERS. The decision: routes_test.cc and seats_test.cc.
#include <gmock/gmock.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "comm_cuda/members.h"
#include "gpu/cuda_module.h"
#include "gpu/cuda_peers.h"

namespace tutti {
namespace {

using ::testing::HasSubstr;

constexpr size_t kFloats = 64;
// Nothing else in a process has these bytes; each rank sends its own.
std::vector<float> pattern(int rank) {
  std::vector<float> floats(kFloats);
  for (size_t i = 0; i < kFloats; ++i) floats[i] = 12345.25F * static_cast<float>(rank + 1) + static_cast<float>(i);
  return floats;
}
// In how many allocations of the device, or of the host (-1), what the rank has sent is left.
int left_on(int device, int rank) { return gpu::finds(device, pattern(rank).data(), kFloats * sizeof(float)); }
constexpr int kHostMemory = -1;

// Slots that hold what passed; all else that a rank has on GPUs is small.
const Environment kSimple = {{"TUTTI_PROTO", "simple"}, {"TUTTI_BUFFER_BYTES", "8192"}};
Environment with(Environment more) {
  more.insert(more.end(), kSimple.begin(), kSimple.end());
  return more;
}

// ---- in one process ----

struct OneProcess {
  std::vector<tuttiComm_t> comms;
  std::vector<gpu::CudaDevicePtr> gpus;
  std::vector<gpu::OwnedStream> streams;
  std::vector<gpu::DeviceMemory> in, out;

  explicit OneProcess(int n) : comms(static_cast<size_t>(n)) {
    std::vector<int> devices;
    for (int r = 0; r < n; ++r) devices.push_back(r);
    EXPECT_EQ(tuttiCommInitAll(comms.data(), n, devices.data()), TUTTI_SUCCESS) << last_text();
    for (int r = 0; r < n; ++r) {
      gpus.push_back(gpu::device(r));
      streams.push_back(*gpu::make_stream(gpus.back()));
      in.push_back(*gpu::allocate_device(gpus.back(), kFloats * sizeof(float)));
      out.push_back(*gpu::allocate_device(gpus.back(), kFloats * sizeof(float)));
      std::ranges::copy(pattern(r), floats(in.back()));
    }
  }
  ~OneProcess() {
    for (const tuttiComm_t comm : comms) EXPECT_EQ(tuttiCommDestroy(comm), TUTTI_SUCCESS) << last_text();
  }
  static float* floats(const gpu::DeviceMemory& memory) { return reinterpret_cast<float*>(memory.get()); }
  tuttiStream_t stream(size_t rank) const { return reinterpret_cast<tuttiStream_t>(streams[rank].get()); }
  void send(int from, int to) const {
    const auto a = static_cast<size_t>(from), b = static_cast<size_t>(to);
    ASSERT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
    EXPECT_EQ(tuttiSend(floats(in[a]), kFloats, TUTTI_FLOAT32, to, comms[a], stream(a)), TUTTI_SUCCESS);
    EXPECT_EQ(tuttiRecv(floats(out[b]), kFloats, TUTTI_FLOAT32, from, comms[b], stream(b)), TUTTI_SUCCESS);
    ASSERT_EQ(tuttiGroupEnd(), TUTTI_SUCCESS) << last_text();
    for (size_t r = 0; r < gpus.size(); ++r) EXPECT_TRUE(gpu::CudaStream(gpus[r], streams[r].get()).synchronize().ok());
    const std::vector<float> sent = pattern(from);
    EXPECT_TRUE(std::equal(sent.begin(), sent.end(), floats(out[b])));
  }
};

class Relay : public InProcesses {
 protected:
  static void in_one(int n, const char* peers, const std::function<void(const OneProcess& ranks)>& body,
                     const Environment& more = kSimple) {
    api_test::in_child(
        [&] {
          Seating{"OneProcess", n, peers}.take(0, 1);
          body(OneProcess(n));
          EXPECT_EQ(gpu::alive(), 0);
        },
        more);
  }
};

TEST_F(Relay, SlotsLieInTheMemoryOfAThirdGpu) {
  in_one(3, "^0-1", [](const OneProcess& ranks) {
    EXPECT_EQ(gpu::alive_now().registered, 0);
    for (const int from : {0, 1}) {
      EXPECT_EQ(left_on(2, from), 0);
      ranks.send(from, 1 - from);
      EXPECT_EQ(left_on(2, from), 1) << "the arena of rank 2";
      EXPECT_EQ(left_on(kHostMemory, from), 0);
    }
    // Where two map each other, slots stay with the reader.
    ranks.send(2, 0);
    EXPECT_EQ(left_on(0, 2), 2) << "its buffer and its arena";
    EXPECT_EQ(left_on(1, 2), 0);
  });
}

TEST_F(Relay, EachPairGoesItsOwnWay) {
  in_one(4, "^0-1,0-3,1-3,2-3", [](const OneProcess& ranks) {
    EXPECT_EQ(gpu::alive_now().registered, 1);
    ranks.send(0, 1);
    EXPECT_EQ(left_on(2, 0), 1);
    EXPECT_EQ(left_on(kHostMemory, 0), 0);
    ranks.send(1, 3);
    EXPECT_EQ(left_on(kHostMemory, 1), 1);
    EXPECT_EQ(left_on(3, 1), 1) << "its buffer alone";
    EXPECT_EQ(left_on(2, 1), 0);
  });
}

TEST_F(Relay, IsLeftOutWhereItIsNotWanted) {
  in_one(
      3, "^0-1",
      [](const OneProcess& ranks) {
        ranks.send(0, 1);
        EXPECT_EQ(left_on(2, 0), 0);
        EXPECT_EQ(left_on(kHostMemory, 0), 1);
      },
      with({{"TUTTI_CUDA_RELAY", "0"}}));
}

// What the planner is told: a way twice over a link costs more than a direct one, one through the host still more.
TEST_F(Relay, CostsMoreThanADirectWayAndLessThanTheHost) {
  const launcher::SharedPage times;
  const auto time_of = [&](int slot, const char* peers, const char* relay) {
    in_one(
        3, peers,
        [&](const OneProcess& ranks) {
          char text[1 << 14];
          ASSERT_EQ(tuttiExplain(ranks.comms[0], "allreduce", size_t{1} << 26, TUTTI_FLOAT32, text, sizeof text),
                    TUTTI_SUCCESS);
          const std::string all = text;
          double us = 0;
          ASSERT_EQ(std::sscanf(all.c_str() + all.find("-> "), "-> ring simple %lf us", &us), 1) << all;
          times->member[slot].entered = static_cast<uint64_t>(us);
        },
        with({{"TUTTI_CUDA_RELAY", relay}, {"TUTTI_ALGO", "ring"}}));
  };
  time_of(0, "1", "1");
  time_of(1, "^0-1", "1");
  time_of(2, "^0-1", "0");
  EXPECT_LT(times->member[0].entered.load(), times->member[1].entered.load());
  EXPECT_LT(times->member[1].entered.load(), times->member[2].entered.load());
  EXPECT_GT(times->member[0].entered.load(), 0u);
}

TEST_F(Relay, IsNamedInTheLog) {
  const std::string path = testing::TempDir() + "relay." + std::to_string(getpid()) + ".log";
  in_one(
      4, "^0-1,0-3,1-3,2-3", [](const OneProcess&) {}, with({{"TUTTI_DEBUG", "info"}, {"TUTTI_DEBUG_FILE", path}}));
  std::ifstream file(path);
  const std::string log((std::istreambuf_iterator<char>(file)), {});
  EXPECT_THAT(log, HasSubstr("do not map each other: by the GPU of rank 2: 0-1; by memory of the host: 0-3, 1-3, 2-3"));
  std::remove(path.c_str());
}

// A buffer on another GPU is taken where that GPU is mapped, and refused where it is not.
TEST_F(Relay, BuffersOfOtherGpusAreTakenWhereTheyAreMapped) {
  in_one(3, "^0-1", [](const OneProcess& ranks) {
    const auto send_to_self = [&](const gpu::DeviceMemory& buffer) {
      return tuttiSend(OneProcess::floats(buffer), 1, TUTTI_FLOAT32, 0, ranks.comms[0], ranks.stream(0));
    };
    EXPECT_EQ(send_to_self(ranks.in[1]), TUTTI_INVALID_ARGUMENT);
    EXPECT_THAT(last_text(), HasSubstr("is memory of CUDA device 1, but the rank's device is 0"));
    ASSERT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
    EXPECT_EQ(send_to_self(ranks.in[2]), TUTTI_SUCCESS) << last_text();
    EXPECT_EQ(tuttiRecv(OneProcess::floats(ranks.out[0]), 1, TUTTI_FLOAT32, 0, ranks.comms[0], ranks.stream(0)),
              TUTTI_SUCCESS);
    EXPECT_EQ(tuttiGroupEnd(), TUTTI_SUCCESS) << last_text();
  });
}

// ---- in several ----

void exchange(Member& member, int peer) {
  std::ranges::copy(pattern(member.rank()), member.in());
  ASSERT_EQ(tuttiGroupStart(), TUTTI_SUCCESS);
  EXPECT_EQ(tuttiSend(member.in(), kFloats, TUTTI_FLOAT32, peer, member.comm, member.handle()), TUTTI_SUCCESS);
  EXPECT_EQ(tuttiRecv(member.out(), kFloats, TUTTI_FLOAT32, peer, member.comm, member.handle()), TUTTI_SUCCESS);
  ASSERT_EQ(tuttiGroupEnd(), TUTTI_SUCCESS) << last_text();
  member.synchronize();
  const std::vector<float> sent = pattern(peer);
  EXPECT_TRUE(std::equal(sent.begin(), sent.end(), member.out()));
}

TEST_F(Relay, ServesProcesses) {
  in_processes(
      3, Seating{"ByARelay", 3, "^0-1"},
      [](Member& member, Meeting& meeting) {
        EXPECT_EQ(gpu::alive_now().registered, 0);
        EXPECT_EQ(gpu::alive_now().opened, member.rank() == 2 ? 2 : 1) << "those of GPUs that this one maps";
        if (member.rank() < 2) exchange(member, 1 - member.rank());
        meeting.arrive();
        meeting.await(3);
        for (const int rank : {0, 1}) EXPECT_EQ(left_on(2, rank), member.rank() == 2 ? 1 : 0);
      },
      kSimple);
}

// GPU 0 has two processes, whose words are in memory of the host; slots towards GPU 1 are on GPU 2 all the same.
TEST_F(Relay, ServesProcessesThatShareAGpu) {
  in_processes(
      4, Seating{"SharedByTwo", 3, "^0-1"},
      [](Member& member, Meeting& meeting) {
        const int rank = member.rank();  // 0 and 3 are on GPU 0
        if (rank == 1 || rank == 3) exchange(member, 4 - rank);
        meeting.arrive();
        meeting.await(4);
        for (const int one : {1, 3}) {
          EXPECT_EQ(left_on(2, one), rank == 2 ? 1 : 0);
          EXPECT_EQ(left_on(kHostMemory, one), 0);
        }
        ASSERT_EQ(member.all_reduce(), TUTTI_SUCCESS) << last_text();
        member.synchronize();
      },
      kSimple);
}

TEST_F(Relay, ServesSomeProcessesAndTheHostOthers) {
  in_processes(
      4, Seating{"Mixed", 4, "^0-1,0-3,1-3,2-3"},
      [](Member& member, Meeting& meeting) {
        EXPECT_EQ(gpu::alive_now().registered, 1);
        exchange(member, member.rank() ^ 1);  // 0 and 1 by 2; 2 and 3 by the host
        meeting.arrive();
        meeting.await(4);
        for (const int rank : {0, 1}) {
          EXPECT_EQ(left_on(2, rank), member.rank() == 2 ? 1 : 0);
          EXPECT_EQ(left_on(kHostMemory, rank), 0);
        }
        for (const int rank : {2, 3}) EXPECT_EQ(left_on(kHostMemory, rank), 1);
      },
      kSimple);
}

// Guests go on when the rank whose GPU lends the memory has destroyed its communicator.
TEST_F(Relay, LastsAsLongAsItsGuests) {
  in_processes(3, Seating{"ByARelay", 3, "^0-1"}, [](Member& member, Meeting& meeting) {
    EXPECT_EQ(member.all_reduce(), TUTTI_SUCCESS) << last_text();
    member.synchronize();
    if (member.rank() == 2) {
      member.destroy();
      EXPECT_EQ(gpu::alive_now().device, 3) << "its buffers, and the arena, which the others have open";
      meeting.arrive();
      return;
    }
    meeting.await(1);
    exchange(member, 1 - member.rank());
  });
}

// A setting of one rank alone is told before anything is decided.
TEST_F(Relay, IsWantedByAllOrByNone) {
  const launcher::SharedPage found;
  api_test::in_children(2, [&](int rank, launcher::Page& page) {
    Seating{"TwoGpus", 2}.take(rank, 2);
    setenv("TUTTI_CUDA_RELAY", rank == 0 ? "0" : "1", 1);
    tuttiConfig_t config = TUTTI_CONFIG_INITIALIZER;
    config.device = rank;
    tuttiComm_t comm = nullptr;
    EXPECT_NE(tuttiCommInitRankConfig(&comm, 2, api_test::shared_id(rank, page), rank, &config), TUTTI_SUCCESS);
    if (last_text().find("TUTTI_CUDA_RELAY") != std::string::npos) found->member[0].entered.fetch_add(1);
  });
  EXPECT_GT(found->member[0].entered.load(), 0u);
}

// ---- the fake ----

// A kernel that touches what its device does not map is found out, where the processor can tell.
TEST(FakeCudaPeers, EndAKernelThatTouchesWhatItMayNot) {
  const int key = ::pkey_alloc(0, 0);
  if (key < 0) GTEST_SKIP() << "no protection keys here";
  ::pkey_free(key);
  const auto add_on = [](int device, int memory_of) {
    Seating{"OneProcess", 3, "^0-1"}.take(0, 1);
    const gpu::CudaDevicePtr on = gpu::device(device), other = gpu::device(memory_of);
    if (device != memory_of) (void)gpu::open_peer(on, other).ok();
    const gpu::DeviceMemory word = *gpu::allocate_device(other, sizeof(uint64_t));
    *reinterpret_cast<uint64_t*>(word.get()) = 1;
    const gpu::OwnedStream owned = *gpu::make_stream(on);
    const gpu::CudaStream stream(on, owned.get());
    auto* const at = reinterpret_cast<uint64_t*>(word.get());
    fakes::FakeKernelWords parameter{at, 2};
    constexpr unsigned char kImage[] = "any";
    const Result<gpu::CudaModuleOwner> module = gpu::CudaModuleOwner::load(on, kImage, "sm_90");
    EXPECT_TRUE(gpu::launch(stream, *module->kernel("fake_add"), {.blocks = 1, .threads = 1}, &parameter).ok());
    EXPECT_TRUE(stream.synchronize().ok());
    EXPECT_EQ(*at, 3u);
  };
  EXPECT_EXIT((add_on(0, 2), std::exit(testing::Test::HasFailure())), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(add_on(0, 1), testing::KilledBySignal(SIGSEGV), "a kernel on device 0 touched memory");
}

}  // namespace
}  // namespace tutti
