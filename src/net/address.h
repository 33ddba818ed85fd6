// SPDX-License-Identifier: Apache-2.0
// SocketAddress: an IPv4 or IPv6 address with a port, as text, as bytes of a message, and as the kernel wants it.
//
// Which of this host's addresses to use is interfaces.h's matter.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "net/wire.h"

namespace tutti {

class SocketAddress {
 public:
  SocketAddress() = default;  // no address: family() is AF_UNSPEC

  // From accept, getsockname, getifaddrs. No address if the family is neither IPv4 nor IPv6.
  static SocketAddress from_raw(const sockaddr* raw);
  static SocketAddress ipv4(const in_addr& address, uint16_t port);
  static SocketAddress ipv6(const in6_addr& address, uint16_t port);
  static SocketAddress any_ipv4(uint16_t port) { return ipv4(in_addr{INADDR_ANY}, port); }
  static SocketAddress any_ipv6(uint16_t port) { return ipv6(in6addr_any, port); }
  // "192.0.2.1:29500" or "[2001:db8::1]:29500": numbers only, asks no name service.
  static Result<SocketAddress> parse(std::string_view text);

  int family() const { return storage_.any.sa_family; }
  uint16_t port() const;
  SocketAddress with_port(uint16_t port) const;
  bool loopback() const;
  bool link_local() const;  // IPv6 fe80::/10: means nothing on another host
  std::string text() const;

  const sockaddr* raw() const { return &storage_.any; }
  socklen_t size() const { return family() == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in); }
  bool operator==(const SocketAddress& other) const;

  // 1 byte family (4 or 6), 4 or 16 bytes address, 2 bytes port.
  void encode(ByteWriter& writer) const;
  static SocketAddress decode(ByteReader& reader);  // fails the reader on an unknown family

 private:
  union {
    sockaddr_in6 v6;  // first, being the largest: {} zeroes all of it
    sockaddr_in v4;
    sockaddr any;
  } storage_{};
};

// Addresses of a name ("node7", "192.0.2.1", "::1"), with this port. Blocks on the name service.
Result<std::vector<SocketAddress>> resolve(const std::string& host, uint16_t port);

// A list in a message: 1 byte count, at most kMaxAddresses.
inline constexpr size_t kMaxAddresses = 16;
void encode_addresses(ByteWriter& writer, const std::vector<SocketAddress>& addresses);
std::vector<SocketAddress> decode_addresses(ByteReader& reader);

std::string text_of(const std::vector<SocketAddress>& addresses);

}  // namespace tutti
