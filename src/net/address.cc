// SPDX-License-Identifier: Apache-2.0
// See address.h.
#include "net/address.h"

#include <arpa/inet.h>
#include <netdb.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace tutti {

SocketAddress SocketAddress::from_raw(const sockaddr* raw) {
  SocketAddress address;
  if (raw == nullptr) return address;
  if (raw->sa_family == AF_INET) std::memcpy(&address.storage_.v4, raw, sizeof(sockaddr_in));
  if (raw->sa_family == AF_INET6) {
    std::memcpy(&address.storage_.v6, raw, sizeof(sockaddr_in6));
    address.storage_.v6.sin6_flowinfo = 0;
    // A dual-stack listener sees IPv4 callers as ::ffff:a.b.c.d; messages show them as people write them.
    const in6_addr& v6 = address.storage_.v6.sin6_addr;
    if (IN6_IS_ADDR_V4MAPPED(&v6)) {
      in_addr v4;
      std::memcpy(&v4, v6.s6_addr + 12, sizeof v4);
      return ipv4(v4, address.port());
    }
  }
  return address;
}

SocketAddress SocketAddress::ipv4(const in_addr& address, uint16_t port) {
  SocketAddress result;
  result.storage_.v4.sin_family = AF_INET;
  result.storage_.v4.sin_addr = address;
  result.storage_.v4.sin_port = htons(port);
  return result;
}

SocketAddress SocketAddress::ipv6(const in6_addr& address, uint16_t port) {
  SocketAddress result;
  result.storage_.v6.sin6_family = AF_INET6;
  result.storage_.v6.sin6_addr = address;
  result.storage_.v6.sin6_port = htons(port);
  return result;
}

Result<SocketAddress> SocketAddress::parse(std::string_view text) {
  const Status bad = invalid_argument("'{}' is not an address: expected 192.0.2.1:PORT or [2001:db8::1]:PORT", text);
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return bad;
  std::string_view host = text.substr(0, colon);
  const std::string_view digits = text.substr(colon + 1);
  uint16_t port = 0;
  const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (failure != std::errc() || end != digits.data() + digits.size() || digits.empty()) return bad;
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    in6_addr v6;
    if (inet_pton(AF_INET6, std::string(host.substr(1, host.size() - 2)).c_str(), &v6) != 1) return bad;
    return ipv6(v6, port);
  }
  in_addr v4;
  if (inet_pton(AF_INET, std::string(host).c_str(), &v4) != 1) return bad;
  return ipv4(v4, port);
}

uint16_t SocketAddress::port() const {
  return ntohs(family() == AF_INET6 ? storage_.v6.sin6_port : storage_.v4.sin_port);
}

SocketAddress SocketAddress::with_port(uint16_t port) const {
  SocketAddress result = *this;
  (family() == AF_INET6 ? result.storage_.v6.sin6_port : result.storage_.v4.sin_port) = htons(port);
  return result;
}

bool SocketAddress::loopback() const {
  if (family() == AF_INET6) return IN6_IS_ADDR_LOOPBACK(&storage_.v6.sin6_addr);
  return family() == AF_INET && ntohl(storage_.v4.sin_addr.s_addr) >> 24 == 127;
}

bool SocketAddress::link_local() const { return family() == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&storage_.v6.sin6_addr); }

std::string SocketAddress::text() const {
  char buffer[INET6_ADDRSTRLEN];
  if (family() == AF_INET) {
    inet_ntop(AF_INET, &storage_.v4.sin_addr, buffer, sizeof buffer);
    return fmt::format("{}:{}", buffer, port());
  }
  if (family() == AF_INET6) {
    inet_ntop(AF_INET6, &storage_.v6.sin6_addr, buffer, sizeof buffer);
    return fmt::format("[{}]:{}", buffer, port());
  }
  return "no address";
}

bool SocketAddress::operator==(const SocketAddress& other) const {
  if (family() != other.family() || port() != other.port()) return false;
  if (family() == AF_INET) return storage_.v4.sin_addr.s_addr == other.storage_.v4.sin_addr.s_addr;
  return std::memcmp(&storage_.v6.sin6_addr, &other.storage_.v6.sin6_addr, sizeof(in6_addr)) == 0;
}

void SocketAddress::encode(ByteWriter& writer) const {
  if (family() == AF_INET6) {
    writer.number<uint8_t>(6);
    writer.raw(std::as_bytes(std::span(storage_.v6.sin6_addr.s6_addr)));
  } else {
    writer.number<uint8_t>(4);
    writer.raw(std::as_bytes(std::span(&storage_.v4.sin_addr, 1)));
  }
  writer.number(port());
}

SocketAddress SocketAddress::decode(ByteReader& reader) {
  const auto kind = reader.number<uint8_t>();
  if (kind != 4 && kind != 6) reader.fail();
  const auto bytes = reader.raw(kind == 6 ? sizeof(in6_addr) : sizeof(in_addr));
  const auto port = reader.number<uint16_t>();
  if (!reader.ok()) return {};
  if (kind == 4) {
    in_addr v4;
    std::memcpy(&v4, bytes.data(), sizeof v4);
    return ipv4(v4, port);
  }
  in6_addr v6;
  std::memcpy(&v6, bytes.data(), sizeof v6);
  return ipv6(v6, port);
}

Result<std::vector<SocketAddress>> resolve(const std::string& host, uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  const int failure = getaddrinfo(host.c_str(), nullptr, &hints, &list);
  if (failure != 0) {
    return system_error(
        "the host name '{}' does not resolve: {}; give a name that every rank can resolve, or an address", host,
        gai_strerror(failure));
  }
  std::vector<SocketAddress> addresses;
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    const SocketAddress address = SocketAddress::from_raw(entry->ai_addr).with_port(port);
    if (address.family() == AF_UNSPEC || std::ranges::find(addresses, address) != addresses.end()) continue;
    addresses.push_back(address);
  }
  freeaddrinfo(list);
  if (addresses.empty()) return system_error("the host name '{}' has neither an IPv4 nor an IPv6 address", host);
  return addresses;
}

void encode_addresses(ByteWriter& writer, const std::vector<SocketAddress>& addresses) {
  const size_t count = std::min(addresses.size(), kMaxAddresses);
  writer.number(static_cast<uint8_t>(count));
  for (size_t i = 0; i < count; ++i) addresses[i].encode(writer);
}

std::vector<SocketAddress> decode_addresses(ByteReader& reader) {
  const auto count = reader.number<uint8_t>();
  if (count > kMaxAddresses) reader.fail();
  std::vector<SocketAddress> addresses;
  for (size_t i = 0; i < count && reader.ok(); ++i) addresses.push_back(SocketAddress::decode(reader));
  return addresses;
}

std::string text_of(const std::vector<SocketAddress>& addresses) {
  std::string text;
  for (const SocketAddress& address : addresses) text += (text.empty() ? "" : ", ") + address.text();
  return text;
}

}  // namespace tutti
