// SPDX-License-Identifier: Apache-2.0
// What we learn from NVML, from its look-alike.
#include "gpu/nvml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "tests/fakes/fake_machine.h"

namespace tutti::gpu {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<GpuDevice> devices_of(const char* library, std::vector<std::string>& notes) {
  const auto nvml = Nvml::open(library);
  EXPECT_TRUE(nvml.ok()) << nvml.status().message();
  auto devices = nvml->devices(notes);
  EXPECT_TRUE(devices.ok()) << devices.status().message();
  return *devices;
}

TEST(Nvml, EightGpusAndTheirLinksToFourSwitches) {
  std::vector<std::string> notes;
  const auto devices = devices_of(FAKE_DRIVER_nvswitch8, notes);
  const auto& truth = fakes::fake_drivers("nvswitch8").gpus;
  ASSERT_EQ(devices.size(), truth.size());
  EXPECT_TRUE(notes.empty());
  for (size_t i = 0; i < devices.size(); ++i) {
    const GpuDevice& device = devices[i];
    EXPECT_EQ(device.name, truth[i].name);
    EXPECT_EQ(device.uuid, truth[i].uuid);
    EXPECT_EQ(device.pci, *PciAddress::parse(truth[i].bus_id));
    EXPECT_EQ(device.pci_vendor, 0x10de);
    EXPECT_EQ(device.pci_device, 0x2330);
    EXPECT_EQ(device.capability_major * 10 + device.capability_minor, 90);
    EXPECT_EQ(device.memory_bytes, truth[i].memory_bytes);
    EXPECT_EQ(device.pcie_generation, 5);
    EXPECT_EQ(device.pcie_width, 16);
    EXPECT_EQ(device.numa_node, truth[i].numa_node);
    EXPECT_FALSE(device.mig_enabled);
    ASSERT_TRUE(device.fabric.has_value());
    EXPECT_TRUE(device.fabric->complete);
    EXPECT_EQ(device.fabric->clique, 3u);
    std::map<std::string, int> per_switch;
    for (const NvLink& link : device.links) {
      EXPECT_TRUE(link.active);
      EXPECT_EQ(link.version, 4);
      EXPECT_EQ(link.end, LinkEnd::Switch);
      ++per_switch[link.remote->text()];
    }
    EXPECT_EQ(per_switch, (std::map<std::string, int>{
                              {"0000:07:00.0", 4}, {"0000:08:00.0", 4}, {"0000:09:00.0", 5}, {"0000:0a:00.0", 5}}));
  }
}

TEST(Nvml, PeersOfOneSocketReachEachOtherAndTheReasonIsToldForTheOthers) {
  const auto nvml = Nvml::open(FAKE_DRIVER_pcie4);
  ASSERT_TRUE(nvml.ok()) << nvml.status().message();
  EXPECT_EQ(nvml->driver_version(), "550.54.15");
  EXPECT_EQ(nvml->cuda_version(), 12040);
  std::vector<std::string> notes;
  const auto devices = nvml->devices(notes);
  ASSERT_TRUE(devices.ok());
  for (const GpuDevice& device : *devices) EXPECT_TRUE(device.links.empty()) << "unwired links are no links";
  const auto peers = nvml->peers(*devices);
  EXPECT_EQ(peers.size(), 12u);
  for (const PeerAttributes& peer : peers) {
    const bool together = peer.from / 2 == peer.to / 2;
    EXPECT_EQ(peer.read, together ? PeerAccess::Ok : PeerAccess::TopologyNotSupported) << peer.from << " " << peer.to;
    EXPECT_EQ(peer.write, peer.read);
    EXPECT_EQ(peer.nvlink, PeerAccess::NotSupported);
  }
}

TEST(Nvml, InstancesOfACutGpuAndAHiddenFabric) {
  std::vector<std::string> notes;
  const auto devices = devices_of(FAKE_DRIVER_mig, notes);
  ASSERT_EQ(devices.size(), 1u);
  EXPECT_TRUE(devices[0].mig_enabled);
  ASSERT_EQ(devices[0].mig.size(), 2u);
  EXPECT_EQ(devices[0].mig[1].uuid, "MIG-c0000000-0000-5000-8000-000000000002");
  ASSERT_EQ(devices[0].links.size(), 12u);
  EXPECT_EQ(std::ranges::count_if(devices[0].links, &NvLink::active), 10);
  for (const NvLink& link : devices[0].links) EXPECT_FALSE(link.remote.has_value());
}

TEST(Nvml, AGpuThatIsLostIsLeftOutAndNamed) {
  std::vector<std::string> notes;
  const auto devices = devices_of(FAKE_DRIVER_deadgpu, notes);
  ASSERT_EQ(devices.size(), 3u);
  EXPECT_EQ(devices[1].index, 2);
  EXPECT_THAT(notes, ElementsAre(HasSubstr("GPU 1 does not answer (NVML error 15)")));
}

TEST(Nvml, MissingLibraryMissingDriverAndMismatchAreTold) {
  EXPECT_THAT(Nvml::open("/nonexistent/libnvidia-ml.so.1").status().message(), HasSubstr("NVML cannot be loaded"));
  EXPECT_THAT(Nvml::open(FAKE_DRIVER_nodriver).status().message(), HasSubstr("kernel module is not loaded"));
  EXPECT_THAT(Nvml::open(FAKE_DRIVER_mismatch).status().message(), HasSubstr("of different driver versions"));
}

TEST(Nvml, ALibraryThatIsNotNvmlIsRefused) {
  EXPECT_THAT(Nvml::open("libm.so.6").status().message(), HasSubstr("lacks nvml"));
}

}  // namespace
}  // namespace tutti::gpu
