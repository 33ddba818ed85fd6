// SPDX-License-Identifier: Apache-2.0
// Which interfaces are used, in which order, from tables.
#include "net/interfaces.h"

#include <gtest/gtest.h>

namespace tutti {
namespace {

LocalInterface make(const char* name, const char* address) { return {name, *SocketAddress::parse(address)}; }

const std::vector<LocalInterface> kHost{
    make("lo", "127.0.0.1:0"),     make("docker0", "172.17.0.1:0"), make("eth0", "192.0.2.7:0"),
    make("ib0", "198.51.100.7:0"), make("eth10", "192.0.2.8:0"),    make("br-1234", "172.18.0.1:0"),
    make("lo", "[::1]:0"),         make("eth0", "[2001:db8::7]:0"), make("eth0", "[fe80::7]:0"),
};

std::string chosen(const char* names, int family = AF_UNSPEC) {
  const auto filter = NameList::parse("TUTTI_SOCKET_IFNAME", names);
  EXPECT_TRUE(filter.ok()) << filter.status().message();
  std::string text;
  for (const LocalInterface& interface : choose_interfaces(kHost, *filter, family)) {
    text += fmt::format("{}{}{}", text.empty() ? "" : " ", interface.name,
                        interface.address.family() == AF_INET6 ? "/6" : "");
  }
  return text;
}

TEST(Interfaces, RealOnesFirstThenBridgesThenTheLoopback) {
  EXPECT_EQ(chosen(""), "eth0 ib0 eth10 eth0/6 docker0 br-1234 lo lo/6");
}

TEST(Interfaces, PrefixesInTheirOrder) {
  EXPECT_EQ(chosen("ib,eth"), "ib0 eth0 eth10 eth0/6");
  EXPECT_EQ(chosen("lo"), "lo lo/6");
  EXPECT_EQ(chosen("docker"), "docker0");
  EXPECT_EQ(chosen("en"), "");
}

TEST(Interfaces, ExactNames) {
  EXPECT_EQ(chosen("=eth1"), "");
  EXPECT_EQ(chosen("=eth0,ib0"), "eth0 eth0/6 ib0");  // the mark holds for all that follows
}

TEST(Interfaces, Exclusions) {
  EXPECT_EQ(chosen("^docker,br-"), "eth0 ib0 eth10 eth0/6 lo lo/6");
  EXPECT_EQ(chosen("^=eth0"), "ib0 eth10 docker0 br-1234 lo lo/6");
  EXPECT_EQ(chosen("eth,^=eth10"), "eth0 eth0/6");
}

TEST(Interfaces, Families) {
  EXPECT_EQ(chosen("", AF_INET), "eth0 ib0 eth10 docker0 br-1234 lo");
  EXPECT_EQ(chosen("", AF_INET6), "eth0/6 lo/6");
  EXPECT_EQ(*parse_family("any"), AF_UNSPEC);
  EXPECT_EQ(*parse_family("ipv4"), AF_INET);
  EXPECT_EQ(*parse_family("ipv6"), AF_INET6);
  EXPECT_NE(parse_family("ipx").status().message().find("TUTTI_SOCKET_FAMILY='ipx'"), std::string::npos);
}

TEST(Interfaces, ListsThatDoNotParse) {
  for (const char* text : {",", "eth,,lo", "^", "=", "^=", "==eth", "eth 0", "e^h"}) {
    EXPECT_EQ(NameList::parse("TUTTI_SOCKET_IFNAME", text).status().code(), Code::InvalidArgument) << text;
  }
}

TEST(Interfaces, ThisHostHasOne) {
  const auto addresses = local_addresses();
  ASSERT_TRUE(addresses.ok()) << addresses.status().message();
  EXPECT_FALSE(addresses->empty());
}

}  // namespace
}  // namespace tutti
