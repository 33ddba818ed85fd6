// SPDX-License-Identifier: Apache-2.0
// What we learn from the CUDA driver, from its look-alike.
#include "gpu/cuda_driver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/fakes/fake_machine.h"

namespace tutti::gpu {
namespace {

using ::testing::HasSubstr;

TEST(CudaDriver, OrdinalsAreTheProcesssAndBusIdsTellWhichGpuIsMeant) {
  const auto machine = read_cuda_machine(FAKE_DRIVER_pcie4);
  ASSERT_TRUE(machine.ok()) << machine.status().message();
  EXPECT_EQ(machine->driver_version, 12040);
  ASSERT_EQ(machine->devices.size(), 4u);
  const char* expected[] = {"0000:65:00.0", "0000:66:00.0", "0000:25:00.0", "0000:26:00.0"};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(machine->devices[i].pci->text(), expected[i]);
    EXPECT_EQ(machine->devices[i].name, "NVIDIA A10");
    EXPECT_EQ(machine->devices[i].capability_major * 10 + machine->devices[i].capability_minor, 86);
    EXPECT_EQ(machine->devices[i].multiprocessors, 72);
    EXPECT_FALSE(machine->devices[i].multicast);
    EXPECT_TRUE(machine->devices[i].dma_buf);
    EXPECT_FALSE(machine->devices[i].gpu_direct_rdma);
  }
  EXPECT_EQ(machine->devices[0].host_numa_node, 1);
  ASSERT_EQ(machine->peers.size(), 12u);
  for (const CudaPeerFacts& peer : machine->peers) {
    EXPECT_EQ(peer.access, peer.from / 2 == peer.to / 2);
    EXPECT_FALSE(peer.atomics);
  }
}

TEST(CudaDriver, NvlinkPeersHaveAtomicsAndTheBestRank) {
  const auto machine = read_cuda_machine(FAKE_DRIVER_nvswitch8);
  ASSERT_TRUE(machine.ok()) << machine.status().message();
  ASSERT_EQ(machine->devices.size(), 8u);
  EXPECT_TRUE(machine->devices[7].multicast);
  for (const CudaPeerFacts& peer : machine->peers) {
    EXPECT_TRUE(peer.access && peer.atomics);
    EXPECT_EQ(peer.performance_rank, 0);
  }
}

TEST(CudaDriver, NoDeviceIsAnEmptyMachineAndAMismatchIsTold) {
  const auto none = read_cuda_machine(FAKE_DRIVER_nodriver);
  ASSERT_TRUE(none.ok());
  EXPECT_TRUE(none->devices.empty());
  EXPECT_THAT(read_cuda_machine(FAKE_DRIVER_mismatch).status().message(), HasSubstr("of different driver versions"));
  EXPECT_THAT(read_cuda_machine("/nonexistent/libcuda.so.1").status().message(), HasSubstr("cannot be loaded"));
}

}  // namespace
}  // namespace tutti::gpu
