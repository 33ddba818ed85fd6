// SPDX-License-Identifier: Apache-2.0
// What we learn from libibverbs, from its look-alike; and that the real one, where installed, fits the table.
#include "verbs/verbs.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "verbs/objects.h"

namespace tutti::verbs {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Verbs, DevicesPortsAndGids) {
  std::vector<std::string> notes;
  const auto devices = read_devices(FAKE_VERBS, notes);
  ASSERT_TRUE(devices.ok()) << devices.status().message();
  ASSERT_EQ(devices->size(), 2u);
  const Device& infiniband = (*devices)[0];
  EXPECT_EQ(infiniband.name, "mlx5_0");
  EXPECT_EQ(infiniband.guid, 0x0c42a10300abcd00u);
  EXPECT_EQ(infiniband.firmware, "28.39.1002");
  EXPECT_TRUE(infiniband.atomics);
  ASSERT_EQ(infiniband.ports.size(), 1u);
  EXPECT_TRUE(infiniband.ports[0].active);
  EXPECT_EQ(infiniband.ports[0].layer, LinkLayer::InfiniBand);
  EXPECT_EQ(infiniband.ports[0].gbit_per_second, 400);
  EXPECT_EQ(infiniband.ports[0].active_mtu, 4096);
  EXPECT_EQ(infiniband.ports[0].lid, 17u);
  ASSERT_EQ(infiniband.ports[0].gids.size(), 1u);
  EXPECT_EQ(infiniband.ports[0].gids[0].type, GidType::InfiniBand);

  const Device& roce = (*devices)[1];
  ASSERT_EQ(roce.ports.size(), 2u);
  EXPECT_EQ(roce.ports[0].layer, LinkLayer::Ethernet);
  EXPECT_EQ(roce.ports[0].gbit_per_second, 100);
  EXPECT_FALSE(roce.ports[1].active);
  EXPECT_EQ(roce.ports[1].state, "PORT_DOWN");
  const std::vector<Gid>& gids = roce.ports[0].gids;
  ASSERT_EQ(gids.size(), 3u);
  EXPECT_EQ(gids[0].type, GidType::RoCEv1);
  EXPECT_EQ(gids[1].type, GidType::RoCEv2);
  EXPECT_TRUE(gids[1].link_local());
  EXPECT_EQ(gids[2].index, 3);
  EXPECT_TRUE(gids[2].ipv4_mapped());
  EXPECT_EQ(gids[2].text(), "::ffff:10.0.0.7");
}

TEST(Verbs, TypesOfGidsWithALibraryThatDoesNotTellThem) {
  VerbsApi old = **library(FAKE_VERBS);
  old.query_gid_ex = nullptr;
  std::vector<std::string> notes;
  const auto devices = open_devices(FAKE_VERBS, notes);
  ASSERT_TRUE(devices.ok()) << devices.status().message();
  ibv_context* const roce = (*devices)[1].context.get();
  const std::string shown = ::testing::TempDir() + "gid_types_of_mlx5_1";
  std::filesystem::create_directories(shown + "/ports/1/gid_attrs/types");
  std::ofstream(shown + "/ports/1/gid_attrs/types/0") << "IB/RoCE v1\n";
  std::ofstream(shown + "/ports/1/gid_attrs/types/3") << "RoCE v2\n";  // 1 cannot be read
  std::strncpy(roce->device->ibdev_path, shown.c_str(), sizeof roce->device->ibdev_path - 1);
  const Port port = read_port(old, roce, 1);
  std::memset(roce->device->ibdev_path, 0, sizeof roce->device->ibdev_path);
  std::filesystem::remove_all(shown);
  ASSERT_EQ(port.gids.size(), 3u);
  EXPECT_EQ(port.gids[0].type, GidType::RoCEv1);
  EXPECT_EQ(port.gids[1].type, GidType::RoCEv1);
  EXPECT_EQ(port.gids[2].type, GidType::RoCEv2);
}

TEST(Verbs, ADeviceThatDoesNotOpenIsNamedAndNothingStaysOpen) {
  std::vector<std::string> notes;
  ASSERT_TRUE(read_devices(FAKE_VERBS, notes).ok());
  EXPECT_THAT(notes,
              ElementsAre(AllOf(HasSubstr("mlx5_2"), HasSubstr("Permission denied"), HasSubstr("/dev/infiniband"))));
  void* fake = ::dlopen(FAKE_VERBS, RTLD_NOW);
  ASSERT_NE(fake, nullptr);
  const auto open_contexts = reinterpret_cast<int (*)()>(::dlsym(fake, "fake_verbs_open_contexts"));
  EXPECT_EQ(open_contexts(), 0);
}

TEST(Verbs, TheTableIsLoadedOnceAndAWrongLibraryIsRefused) {
  EXPECT_EQ(*library(FAKE_VERBS), *library(FAKE_VERBS));
  EXPECT_THAT(library("libm.so.6").status().message(), HasSubstr("lacks ibv_"));
  EXPECT_THAT(library("/nonexistent/libibverbs.so").status().message(), HasSubstr("libibverbs cannot be loaded"));
}

TEST(Verbs, TheRealLibraryFitsTheTable) {
  const auto real = library();
  if (!real.ok()) GTEST_SKIP() << real.status().message();
  EXPECT_NE((*real)->query_gid_ex, nullptr);
  EXPECT_NE((*real)->create_qp, nullptr);
  std::vector<std::string> notes;
  EXPECT_TRUE(read_devices({}, notes).ok());  // with no RDMA in the kernel: no devices, no failure
}

TEST(Verbs, RatesOfPorts) {
  EXPECT_EQ(port_gbit_per_second(2, 32), 100);   // 4 x EDR
  EXPECT_EQ(port_gbit_per_second(2, 64), 200);   // 4 x HDR
  EXPECT_EQ(port_gbit_per_second(2, 16), 56);    // 4 x FDR
  EXPECT_EQ(port_gbit_per_second(4, 128), 800);  // 8 x NDR
  EXPECT_EQ(port_gbit_per_second(1, 4), 10);
  EXPECT_EQ(port_gbit_per_second(0, 0), 0);
}

}  // namespace
}  // namespace tutti::verbs
