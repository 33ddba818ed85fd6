// SPDX-License-Identifier: Apache-2.0
// Which ports a rank uses, which of two ranks' ports go together, and which addresses they are reached at; and how GPU
// memory is reached. All without a device.
#include "transports/rdma/rdma_ports.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

namespace tutti::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

bool admits(const char* list, const char* device, int port = 1) {
  const Result<NameList> parsed = parse_device_list(list);
  EXPECT_TRUE(parsed.ok()) << list << ": " << parsed.status().message();
  return parsed.ok() && parsed->admits(device, port);
}

TEST(RdmaDeviceList, NamesArePrefixesOrWholeAndMayBeExcluded) {
  EXPECT_TRUE(admits("", "mlx5_0"));
  EXPECT_TRUE(admits("mlx5", "mlx5_7", 2));
  EXPECT_TRUE(admits("mlx5_1", "mlx5_10"));
  EXPECT_FALSE(admits("=mlx5_1", "mlx5_10"));
  EXPECT_TRUE(admits("=mlx5_1,mlx5_10", "mlx5_10"));
  EXPECT_FALSE(admits("mlx4", "mlx5_0"));
  EXPECT_FALSE(admits("^mlx5_0,mlx5_1", "mlx5_1"));
  EXPECT_TRUE(admits("^mlx5_0,mlx5_1", "mlx5_2"));
  EXPECT_TRUE(admits("^=mlx5_1", "mlx5_10"));
  EXPECT_FALSE(admits("^=mlx5_1", "mlx5_1"));
}

TEST(RdmaDeviceList, ANumberChoosesOnePort) {
  EXPECT_TRUE(admits("mlx5_0:2,mlx5_1", "mlx5_0", 2));
  EXPECT_FALSE(admits("mlx5_0:2,mlx5_1", "mlx5_0", 1));
  EXPECT_TRUE(admits("mlx5_0:2,mlx5_1", "mlx5_1", 1));
  EXPECT_FALSE(admits("^mlx5_0:2", "mlx5_0", 2));
  EXPECT_TRUE(admits("^mlx5_0:2", "mlx5_0", 1));
}

TEST(RdmaDeviceList, WhatIsNoDeviceIsRefused) {
  for (const char* list : {",", "mlx5_0:", "mlx5_0:x", "mlx5_0:1x", "mlx5_0:-1", "mlx5_0:256", "^,a", ":1", "a,,b"}) {
    const Result<NameList> parsed = parse_device_list(list);
    ASSERT_FALSE(parsed.ok()) << list;
    EXPECT_THAT(parsed.status().message(), HasSubstr(list));
    EXPECT_EQ(parsed.status().code(), Code::InvalidArgument);
  }
}

verbs::Gid gid(int index, verbs::GidType type, std::initializer_list<uint8_t> bytes) {
  verbs::Gid made;
  made.index = index;
  made.type = type;
  std::copy(bytes.begin(), bytes.end(), made.bytes.begin());
  return made;
}
const verbs::Gid kLocal1 = gid(0, verbs::GidType::RoCEv1, {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8});
const verbs::Gid kLocal2 = gid(1, verbs::GidType::RoCEv2, {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8});
const verbs::Gid kIpv4Old = gid(2, verbs::GidType::RoCEv1, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 7});
const verbs::Gid kIpv4 = gid(3, verbs::GidType::RoCEv2, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 7});
const verbs::Gid kGlobal = gid(5, verbs::GidType::RoCEv2, {0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7});

TEST(RdmaGid, RoutableAddressesOfRoceV2ComeFirst) {
  verbs::Port port;
  EXPECT_EQ(choose_gid(port, -1), nullptr);
  const auto chosen = [&](int wanted) {
    const verbs::Gid* const found = choose_gid(port, wanted);
    return found == nullptr ? -1 : found->index;
  };
  port.gids = {kLocal1};
  EXPECT_EQ(chosen(-1), 0);
  port.gids = {kLocal1, kLocal2};
  EXPECT_EQ(chosen(-1), 1);
  port.gids = {kLocal1, kLocal2, kIpv4Old, kGlobal};
  EXPECT_EQ(chosen(-1), 5);
  port.gids = {kLocal1, kLocal2, kIpv4Old, kIpv4, kGlobal};
  EXPECT_EQ(chosen(-1), 3);
  EXPECT_EQ(chosen(2), 2);
  EXPECT_EQ(chosen(4), -1);
}

TEST(RdmaGid, AnAddressIsFoundAgainByItsBytesAndType) {
  verbs::Port port;
  port.gids = {kLocal1, kLocal2, kIpv4Old, kIpv4};
  EXPECT_EQ(find_gid(port, kIpv4)->index, 3);
  for (verbs::Gid& one : port.gids) one.index += 4;
  EXPECT_EQ(find_gid(port, kIpv4)->index, 7);
  port.gids.pop_back();
  EXPECT_EQ(find_gid(port, kIpv4), nullptr) << "the same bytes with another type are another address";
}

RdmaPort ethernet(const char* device, const verbs::Gid& at) {
  RdmaPort port;
  port.device = device;
  port.layer = verbs::LinkLayer::Ethernet;
  port.gid = at;
  return port;
}
RdmaPort infiniband(const char* device, uint8_t subnet) {
  RdmaPort port;
  port.device = device;
  port.layer = verbs::LinkLayer::InfiniBand;
  port.gid = gid(0, verbs::GidType::InfiniBand, {0xfe, 0x80, 0, 0, 0, 0, 0, subnet, 1, 2, 3, 4, 5, 6, 7, 8});
  return port;
}

TEST(RdmaPairs, EachPortOfBothRanksIsUsed) {
  const std::vector<RdmaPort> two = {ethernet("a0", kIpv4), ethernet("a1", kIpv4)};
  const std::vector<RdmaPort> three = {ethernet("b0", kIpv4), ethernet("b1", kIpv4), ethernet("b2", kIpv4)};
  EXPECT_THAT(pair_ports(two, two), ElementsAre(PortPair{0, 0}, PortPair{1, 1}));
  EXPECT_THAT(pair_ports(two, three), ElementsAre(PortPair{0, 0}, PortPair{1, 1}, PortPair{0, 2}));
  EXPECT_THAT(pair_ports(three, two), ElementsAre(PortPair{0, 0}, PortPair{1, 1}, PortPair{2, 0}));
  EXPECT_THAT(pair_ports(two, {}), IsEmpty());
}

TEST(RdmaPairs, OnlyPortsOfOneNetworkGoTogether) {
  const std::vector<RdmaPort> rails = {infiniband("a0", 1), infiniband("a1", 2)};
  const std::vector<RdmaPort> crossed = {infiniband("b0", 2), infiniband("b1", 1)};
  EXPECT_THAT(pair_ports(rails, crossed), ElementsAre(PortPair{0, 1}, PortPair{1, 0}));
  const std::vector<RdmaPort> mixed = {ethernet("c0", kIpv4), infiniband("c1", 2), ethernet("c2", kLocal1)};
  EXPECT_THAT(pair_ports(rails, mixed), ElementsAre(PortPair{1, 1}));
  EXPECT_THAT(pair_ports(std::vector{ethernet("d0", kIpv4)}, std::vector{ethernet("e0", kGlobal)}), IsEmpty());
  EXPECT_THAT(pair_ports(std::vector{ethernet("d0", kIpv4)}, std::vector{ethernet("e0", kIpv4Old)}), IsEmpty());
}

TEST(RdmaPairs, ANetworkThatAllRanksHaveConnectsThem) {
  const std::vector<RdmaPort> both = {infiniband("a0", 1), infiniband("a1", 2)}, second = {infiniband("b0", 2)};
  EXPECT_TRUE(share_a_network(std::vector{both, second, both}));
  EXPECT_FALSE(share_a_network(std::vector{both, second, {infiniband("c0", 1)}})) << "the last two do not meet";
  EXPECT_FALSE(share_a_network(std::vector<std::vector<RdmaPort>>{both, {}}));
}

TEST(RdmaPairs, WhatARankOffersSurvivesTheWayAndNothingElseDoes) {
  const std::vector<RdmaPort> ports = {ethernet("mlx5_0", kIpv4), infiniband("mlx5_1", 3)};
  const Bytes bytes = encode_ports(ports);
  const Result<std::vector<RdmaPort>> back = decode_ports(bytes);
  ASSERT_TRUE(back.ok());
  ASSERT_EQ(back->size(), 2u);
  EXPECT_EQ((*back)[0].device, "mlx5_0");
  EXPECT_EQ((*back)[0].gid.bytes, kIpv4.bytes);
  EXPECT_EQ((*back)[0].gid.type, verbs::GidType::RoCEv2);
  EXPECT_EQ((*back)[1].device, "mlx5_1");
  EXPECT_EQ((*back)[1].layer, verbs::LinkLayer::InfiniBand);
  EXPECT_TRUE(decode_ports({}).ok()) << "a rank without ports";
  for (size_t size = 1; size < bytes.size(); ++size)
    EXPECT_FALSE(decode_ports(std::span(bytes).first(size)).ok()) << size;
  Bytes forged = bytes;
  forged[0] = static_cast<std::byte>(200);  // ports
  EXPECT_FALSE(decode_ports(forged).ok());
  forged = bytes;
  forged[4 + 4 + 6 + 4] = static_cast<std::byte>(9);  // a link layer that there is not
  EXPECT_FALSE(decode_ports(forged).ok());
}

}  // namespace
}  // namespace tutti::test
