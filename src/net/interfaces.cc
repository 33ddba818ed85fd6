// SPDX-License-Identifier: Apache-2.0
// See interfaces.h.
#include "net/interfaces.h"

#include <ifaddrs.h>
#include <net/if.h>

#include <algorithm>

#include "base/env.h"
#include "base/handle.h"

namespace tutti {
namespace {

// Names that virtual networks of one host give their interfaces.
constexpr std::string_view kVirtualPrefixes[] = {"docker", "br-",   "virbr", "veth",   "vnet",   "cni",
                                                 "cali",   "lxcbr", "lxdbr", "podman", "flannel"};

enum class Kind { Real, Virtual, Loopback };

Kind kind_of(const LocalInterface& interface) {
  if (interface.address.loopback()) return Kind::Loopback;
  const bool is_virtual = std::ranges::any_of(
      kVirtualPrefixes, [&](std::string_view prefix) { return interface.name.starts_with(prefix); });
  return is_virtual ? Kind::Virtual : Kind::Real;
}

}  // namespace

Result<int> parse_family(std::string_view text) {
  if (text == "any" || text.empty()) return AF_UNSPEC;
  if (text == "ipv4") return AF_INET;
  if (text == "ipv6") return AF_INET6;
  return invalid_argument("TUTTI_SOCKET_FAMILY='{}' does not parse: expected any, ipv4 or ipv6", text);
}

std::vector<LocalInterface> choose_interfaces(const std::vector<LocalInterface>& found, const NameList& filter,
                                              int family) {
  struct Candidate {
    int place;
    Kind kind;
    LocalInterface interface;
  };
  std::vector<Candidate> candidates;
  for (const LocalInterface& interface : found) {
    const int place = filter.place_of(interface.name);
    if (place < 0 || interface.address.link_local()) continue;
    if (family != AF_UNSPEC && interface.address.family() != family) continue;
    candidates.push_back({place, kind_of(interface), interface});
  }
  std::ranges::stable_sort(candidates, [](const Candidate& a, const Candidate& b) {
    return a.place != b.place ? a.place < b.place : a.kind < b.kind;
  });
  std::vector<LocalInterface> chosen;
  for (Candidate& candidate : candidates) chosen.push_back(std::move(candidate.interface));
  return chosen;
}

Result<std::vector<LocalInterface>> find_interfaces() {
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return errno_status("getifaddrs", "this host");
  const Handle<ifaddrs, &freeifaddrs> owner(list);
  std::vector<LocalInterface> found;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    const SocketAddress address = SocketAddress::from_raw(entry->ifa_addr);
    if (address.family() == AF_UNSPEC || (entry->ifa_flags & IFF_UP) == 0) continue;
    found.push_back({entry->ifa_name, address.with_port(0)});
  }
  return found;
}

Result<std::vector<LocalInterface>> usable_interfaces() {
  TUTTI_ASSIGN_OR_RETURN(const NameList filter, NameList::parse("TUTTI_SOCKET_IFNAME", env().socket_interface));
  TUTTI_ASSIGN_OR_RETURN(const int family, parse_family(env().socket_family));
  TUTTI_ASSIGN_OR_RETURN(const std::vector<LocalInterface> found, find_interfaces());
  return choose_interfaces(found, filter, family);
}

Result<std::vector<SocketAddress>> local_addresses() {
  TUTTI_ASSIGN_OR_RETURN(const std::vector<LocalInterface> usable, usable_interfaces());
  std::vector<SocketAddress> addresses;
  for (const LocalInterface& interface : usable) {
    if (addresses.size() < kMaxAddresses) addresses.push_back(interface.address);
  }
  if (!addresses.empty()) return addresses;
  TUTTI_ASSIGN_OR_RETURN(const std::vector<LocalInterface> found, find_interfaces());
  std::string names;
  for (const LocalInterface& interface : found) {
    names += fmt::format("{}{} ({})", names.empty() ? "" : ", ", interface.name, interface.address.text());
  }
  return invalid_usage(
      "no network interface is left by TUTTI_SOCKET_IFNAME='{}' and TUTTI_SOCKET_FAMILY='{}'; this host has: {}",
      env().socket_interface, env().socket_family, names.empty() ? "none" : names);
}

}  // namespace tutti
