// SPDX-License-Identifier: Apache-2.0
// Which of this host's addresses the ranks use: TUTTI_SOCKET_IFNAME and TUTTI_SOCKET_FAMILY over getifaddrs(3).
//
// Default order: real interfaces, then bridges of containers and virtual machines (their address often exists on every
// host, so it reaches the wrong one), the loopback last: a single host without any network works.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/name_list.h"
#include "base/status.h"
#include "net/address.h"

namespace tutti {

struct LocalInterface {
  std::string name;
  SocketAddress address;  // port 0
};

// AF_UNSPEC for "any".
Result<int> parse_family(std::string_view text);

// Pure: what of `found` to use, best first. IPv6 link-local addresses are never used.
std::vector<LocalInterface> choose_interfaces(const std::vector<LocalInterface>& found, const NameList& filter,
                                              int family);

// The interfaces that are up and have an address, in the kernel's order.
Result<std::vector<LocalInterface>> find_interfaces();

// Of these, what TUTTI_SOCKET_IFNAME and TUTTI_SOCKET_FAMILY leave, best first; nothing left is no error here.
Result<std::vector<LocalInterface>> usable_interfaces();

// The addresses (port 0) by which other ranks reach this process, best first, at most kMaxAddresses. Reads the
// environment table.
Result<std::vector<SocketAddress>> local_addresses();

}  // namespace tutti
