// SPDX-License-Identifier: Apache-2.0
// Addresses as text and as bytes.
#include "net/address.h"

#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cstdlib>

#include "net/socket.h"

namespace tutti {
namespace {

TEST(SocketAddress, TextRoundTrip) {
  for (const char* text : {"192.0.2.1:0", "127.0.0.1:65535", "[::1]:29500", "[2001:db8::5]:1", "[::]:7"}) {
    const auto address = SocketAddress::parse(text);
    ASSERT_TRUE(address.ok()) << address.status().message();
    EXPECT_EQ(address->text(), text);
  }
}

TEST(SocketAddress, WhatDoesNotParseIsQuoted) {
  for (const char* text : {"", ":", "1.2.3.4", "1.2.3.4:", "1.2.3:5", "1.2.3.4:65536", "1.2.3.4:5x", "::1:5", "[::1]",
                           "[]:5", "[::1:5", "node:5", "1.2.3.4:-1", "[1.2.3.4]:5"}) {
    const auto address = SocketAddress::parse(text);
    EXPECT_EQ(address.status().code(), Code::InvalidArgument) << text;
    EXPECT_TRUE(address.status().message().starts_with(fmt::format("'{}' is not an address", text)));
  }
}

TEST(SocketAddress, KindsAndPorts) {
  EXPECT_TRUE(SocketAddress::parse("127.9.9.9:1")->loopback());
  EXPECT_TRUE(SocketAddress::parse("[::1]:1")->loopback());
  EXPECT_FALSE(SocketAddress::parse("192.0.2.1:1")->loopback());
  EXPECT_TRUE(SocketAddress::parse("[fe80::1]:1")->link_local());
  EXPECT_EQ(SocketAddress::parse("[fe80::1]:1")->with_port(9).port(), 9);
  EXPECT_NE(*SocketAddress::parse("192.0.2.1:1"), *SocketAddress::parse("192.0.2.1:2"));
  EXPECT_NE(*SocketAddress::parse("192.0.2.1:1"), *SocketAddress::parse("[::1]:1"));
}

TEST(SocketAddress, IPv4CallersOfADualStackListenerLookLikeIPv4) {
  const auto mapped = SocketAddress::parse("[::ffff:192.0.2.1]:5");
  EXPECT_EQ(SocketAddress::from_raw(mapped->raw()).text(), "192.0.2.1:5");
}

TEST(SocketAddress, ListsRoundTripAndEveryTruncationFails) {
  const std::vector<SocketAddress> list{*SocketAddress::parse("192.0.2.1:5"), *SocketAddress::parse("[2001:db8::1]:6")};
  ByteWriter writer;
  encode_addresses(writer, list);
  for (size_t size = 0; size <= writer.size(); ++size) {
    ByteReader reader(std::span(writer.bytes()).first(size));
    const auto decoded = decode_addresses(reader);
    EXPECT_EQ(reader.finished(), size == writer.size());
    if (reader.finished()) {
      EXPECT_EQ(decoded, list);
    }
  }
  EXPECT_EQ(text_of(list), "192.0.2.1:5, [2001:db8::1]:6");
}

TEST(SocketAddress, TooLongListsFail) {
  Bytes bytes(1000, std::byte{4});
  bytes[0] = std::byte{kMaxAddresses + 1};
  ByteReader reader(bytes);
  EXPECT_TRUE(decode_addresses(reader).empty());
  EXPECT_FALSE(reader.ok());
}

TEST(Resolve, NumbersResolveAndNonsenseIsNamed) {
  const auto address = resolve("127.0.0.1", 5);
  ASSERT_TRUE(address.ok());
  EXPECT_EQ(address->at(0).text(), "127.0.0.1:5");
  EXPECT_NE(resolve("no.such.host.invalid", 5).status().message().find("'no.such.host.invalid' does not resolve"),
            std::string::npos);
}

TEST(Listen, ATakenPortIsNamed) {
  const auto first = listen_tcp(SocketAddress::any_ipv4(0));
  const uint16_t port = address_of_socket(first->get())->port();
  const Status second = listen_tcp(SocketAddress::any_ipv4(port)).status();
  EXPECT_TRUE(second.message().starts_with(fmt::format("bind on 0.0.0.0:{}: Address already in use", port)))
      << second.message();
}

std::string congestion_control(int fd) {
  std::array<char, 32> name{};
  socklen_t size = name.size() - 1;
  EXPECT_EQ(::getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), &size), 0);
  return name.data();
}

// BBR paces; whatever else the administrator has chosen stays.
TEST(Congestion, IsTheKernelsUnlessThatPaces) {
  const UniqueFd untouched(::socket(AF_INET, SOCK_STREAM, 0));
  const std::string kernels = congestion_control(untouched.get());
  const auto listener = listen_tcp(SocketAddress::ipv4(in_addr{htonl(INADDR_LOOPBACK)}, 0));
  ASSERT_TRUE(listener.ok()) << listener.status().message();
  const auto caller = begin_connect(*address_of_socket(listener->get()));
  ASSERT_TRUE(caller.ok()) << caller.status().message();
  pollfd arrival{listener->get(), POLLIN, 0};
  ASSERT_EQ(::poll(&arrival, 1, -1), 1);
  SocketAddress from;
  const auto accepted = accept_tcp(listener->get(), from);
  ASSERT_TRUE(accepted.ok() && *accepted);
  for (const int fd : {listener->get(), caller->get(), accepted->get()}) {
    const std::string chosen = congestion_control(fd);
    if (kernels.starts_with("bbr")) {
      EXPECT_TRUE(chosen == "cubic" || chosen == "reno") << chosen;
    } else {
      EXPECT_EQ(chosen, kernels);
    }
  }
}

TEST(Congestion, OneThatTheKernelDoesNotHaveIsNamed) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");  // a process that has not read its environment yet
  ::setenv("TUTTI_SOCKET_CONGESTION", "telepathy", 1);
  EXPECT_EXIT(
      {
        std::fputs(listen_tcp(SocketAddress::any_ipv4(0)).status().message().c_str(), stderr);
        std::exit(0);
      },
      testing::ExitedWithCode(0), "TUTTI_SOCKET_CONGESTION='telepathy' is not to be had: No such file or directory");
  ::unsetenv("TUTTI_SOCKET_CONGESTION");
}

}  // namespace
}  // namespace tutti
