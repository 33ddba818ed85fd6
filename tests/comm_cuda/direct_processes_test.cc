// SPDX-License-Identifier: Apache-2.0
// GPUDirect RDMA between ranks in several processes, over look-alike RDMA devices and the fake CUDA driver: each of the
// ways, what the log says of it, what is flushed, rails that fail, and that nothing is left.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "comm_cuda/direct_machine.h"
#include "comm_cuda/members.h"
#include "tests/fakes/fake_rdma.h"

namespace tutti {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// Descriptors of devices' memory beside those that the driver keeps: of DMA-bufs that nobody has closed.
int dma_bufs() {
  const fakes::FakeCudaAlive driver = gpu::alive_now();
  int count = -driver.device - driver.opened;
  for (const auto& one : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    count += std::filesystem::read_symlink(one.path(), gone).string().starts_with("/memfd:fake-cuda-device");
  }
  return count;
}

class GpuDirectProcesses : public InProcesses {
 protected:
  static Environment with(const Environment& more) {
    Environment all = {{"TUTTI_TRANSPORTS", "shm,rdma"},    {"TUTTI_VERBS_LIBRARY", FAKE_RDMA},
                       {"TUTTI_RDMA_HCA", "fake0,fake1"},   {"TUTTI_RDMA_TIMEOUT", "14"},
                       {"TUTTI_GPU_DIRECT", "sys"},         {"TUTTI_DEBUG", "info"},
                       {"TUTTI_DEBUG_SUBSYS", "transport"}, {"TUTTI_DEBUG_FILE", log_path("%p")}};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  static std::string log_path(const std::string& process) {
    return testing::TempDir() + "gpu_direct." + process + ".log";
  }
  // What the process has logged so far; the file is gone then.
  static std::string take_log() {
    const std::string path = log_path(std::to_string(getpid()));
    std::stringstream text;
    text << std::ifstream(path).rdbuf();
    std::filesystem::remove(path);
    return text.str();
  }
  // Three ranks on GPUs of two hosts, or one of them on a CPU, call a few times. `expect` in each process that has a
  // rank on a GPU, at the end, with what its log says.
  static void call(
      const Environment& more, const std::function<void(Member& member, const std::string& log)>& expect, int cpu = -1,
      const std::function<void(int turn)>& between = [](int) {}) {
    const Seating seating{"Direct", 3, kAllReach, 3, cpu};
    in_processes(
        3, seating,
        [&](Member& member, Meeting&) {
          const fakes::FakeRdma fake = fakes::fake_rdma(FAKE_RDMA);
          const int objects = fake.live_objects();
          for (int turn = 0; turn < 3; ++turn) {
            for (const size_t count : {size_t{1}, Member::kCount, size_t{100}}) {
              ASSERT_EQ(member.all_reduce(count), TUTTI_SUCCESS) << last_text();
              member.synchronize();
              member.expect_sums(count);
            }
            if (member.rank() == 0) between(turn);
          }
          EXPECT_GT(fake.live_objects(), objects);
          EXPECT_EQ(dma_bufs(), 0) << "they are closed once they are registered";
          const std::string log = take_log();
          if (!member.on_cpu()) expect(member, log);
          member.destroy();
          EXPECT_EQ(fake.live_objects(), 0);
          EXPECT_EQ(dma_bufs(), 0);
          take_log();
        },
        with(more));
  }
};

TEST_F(GpuDirectProcesses, ByDmaBuf) {
  call({}, [](Member&, const std::string& log) {
    EXPECT_THAT(log,
                AllOf(HasSubstr("RDMA of CUDA device "), HasSubstr("received: in its memory; of what is sent: in its "),
                      HasSubstr("fake0 by DMA-buf, fake1 by DMA-buf"), Not(HasSubstr("staged"))));
    EXPECT_EQ(gpu::flushes(), 0) << "the GPU orders them";
  });
}

TEST_F(GpuDirectProcesses, ByPeermemWhereADeviceTakesNoDmaBuf) {
  call({{"FAKE_RDMA_NO_DMABUF", "fake1"}, {"FAKE_RDMA_PEERMEM", "all"}, {"TUTTI_GPU_DIRECT_PEERMEM", "1"}},
       [](Member&, const std::string& log) {
         EXPECT_THAT(log, AllOf(HasSubstr("fake0 by DMA-buf, fake1 by nvidia-peermem (no DMA-buf: "),
                                Not(HasSubstr("staged"))));
       });
}

TEST_F(GpuDirectProcesses, StagedWhereADeviceTakesNeither) {
  call({{"FAKE_RDMA_NO_DMABUF", "fake1"}, {"TUTTI_GPU_DIRECT_PEERMEM", "1"}}, [](Member&, const std::string& log) {
    EXPECT_THAT(log, AllOf(HasSubstr("are staged in memory of the host: fake1 does not reach the GPU's memory; no "
                                     "DMA-buf: ibv_reg_dmabuf_mr"),
                           HasSubstr("no nvidia-peermem: ibv_reg_mr"), Not(HasSubstr("fake0 by DMA-buf"))));
  });
}

TEST_F(GpuDirectProcesses, StagedBySettingsAndByDistance) {
  call({{"TUTTI_GPU_DIRECT", "off"}}, [](Member&, const std::string& log) {
    EXPECT_THAT(log, AllOf(HasSubstr("received: staged in memory of the host (TUTTI_GPU_DIRECT=off)"),
                           Not(HasSubstr("DMA-buf"))));
  });
  call({{"TUTTI_GPU_DIRECT", "auto"}}, [](Member&, const std::string& log) {
    EXPECT_THAT(log, HasSubstr("no device is near enough: fake0 (not known), fake1 (not known)"));
  });
}

// Of two devices the near one is used, by all ranks.
TEST_F(GpuDirectProcesses, NearDevicesAreThoseOfTheTopology) {
  const std::string path = testing::TempDir() + "gpu_direct." + std::to_string(getpid()) + ".xml";
  std::ofstream(path) << kDirectMachine;
  call({{"TUTTI_GPU_DIRECT", "pix"}, {"TUTTI_TOPO_FILE", path}}, [](Member&, const std::string& log) {
    EXPECT_THAT(log, AllOf(HasSubstr("too far from it, and not used: fake1 (PHB)"), HasSubstr(": fake0 by DMA-buf\n"),
                           Not(HasSubstr("fake1 port 1 is up"))));
  });
  std::filesystem::remove(path);
}

TEST_F(GpuDirectProcesses, WhatAGpuSeesLateIsFlushed) {
  call({{"FAKE_CUDA_RDMA_ORDERING", "0"}}, [](Member&, const std::string& log) {
    EXPECT_THAT(log, HasSubstr("; what arrives is flushed"));
    EXPECT_GT(gpu::flushes(), 0);
  });
  call({{"FAKE_CUDA_RDMA_ORDERING", "0"}, {"FAKE_CUDA_RDMA_FLUSH", "0"}}, [](Member&, const std::string& log) {
    EXPECT_THAT(log, AllOf(HasSubstr("received: staged in memory of the host (its kernels see writes of devices late"),
                           HasSubstr("of what is sent: in its memory")));
    EXPECT_EQ(gpu::flushes(), 0);
  });
}

TEST_F(GpuDirectProcesses, BesideARankOnTheCpu) {
  call(
      {}, [](Member&, const std::string& log) { EXPECT_THAT(log, HasSubstr("fake0 by DMA-buf, fake1 by DMA-buf")); },
      1);
}

// Of rank 0, at both of its connections: what was on its way goes by the other device, from the same slots.
TEST_F(GpuDirectProcesses, GoOnWhenAPortFails) {
  call(
      {},
      [](Member& member, const std::string& log) {
        if (member.rank() != 0) return;
        EXPECT_THAT(log, HasSubstr("goes on without fake0 port 1"));
      },
      -1,
      [](int turn) {
        if (turn == 0) fakes::fake_rdma(FAKE_RDMA).set_port(0, 1, false, true);
      });
}

TEST_F(GpuDirectProcesses, WithoutMemoryOfTheGpuSlotsAreStaged) {
  in_processes(
      2, {"Direct", 2, kAllReach, 2},
      [](Member& member, Meeting&) {
        // The arena is there; slots towards the other host come with the first call, out before in or after.
        gpu::fail("cuMemGetHandleForAddressRange", 1, gpu::kCudaNotSupported);
        ASSERT_EQ(member.all_reduce(), TUTTI_SUCCESS) << last_text();
        member.synchronize();
        member.expect_sums();
        EXPECT_THAT(take_log(), AllOf(HasSubstr("fake0 does not reach the GPU's memory; no DMA-buf: CUDA's "
                                                "cuMemGetHandleForAddressRange on CUDA device "),
                                      HasSubstr("no nvidia-peermem: the module nvidia_peermem is not loaded")));
        member.destroy();
        take_log();
      },
      with({}));
}

}  // namespace
}  // namespace tutti
