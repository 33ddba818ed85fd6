// SPDX-License-Identifier: Apache-2.0
// Ports of RDMA devices: which of them a rank uses, what it tells the others about them, and which of two ranks' ports
// go together. Pure: no device is touched here (rdma_devices.h does).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/name_list.h"
#include "base/status.h"
#include "net/wire.h"
#include "verbs/verbs.h"

namespace tutti {

// TUTTI_RDMA_* (src/base/env_vars.def).
struct RdmaSettings {
  std::string verbs_library;
  std::string devices;    // parse_device_list()
  std::string nics;       // TUTTI_NICS, or what the configuration says: parse_nic_list()
  int gid_index = -1;     // -1: by address and type
  int traffic_class = 0;  // of the network layer; RoCE: DSCP and ECN bits
  int service_level = 0;  // of the link layer
  int timeout = 18;       // for an acknowledgement: 4.096 us * 2^timeout
  int retry_count = 7;    // after as many time-outs a queue pair fails
  int queue_pairs = 1;    // between two ports, for each connection

  static Result<RdmaSettings> from_environment();
};

// TUTTI_RDMA_HCA: which devices and ports. NCCL_IB_HCA is written the same way.
Result<NameList> parse_device_list(std::string_view text);

// One port, as its rank offers it to the others.
struct RdmaPort {
  std::string device;
  int number = 1;
  verbs::LinkLayer layer = verbs::LinkLayer::Unknown;
  verbs::Gid gid;  // the one to be reached at

  std::string text() const { return fmt::format("{} port {}", device, number); }
};

// The address to be reached at: `wanted` by its index; else of RoCE v2, IPv4 before global before link-local addresses;
// else the first. Null: none.
const verbs::Gid* choose_gid(const verbs::Port& port, int wanted);
// The same address again, wherever it is now: by bytes and type. Null: the port has it no longer.
const verbs::Gid* find_gid(const verbs::Port& port, const verbs::Gid& gid);

// What a rank says about its ports at initialisation. At most kMostPorts.
inline constexpr size_t kMostPorts = 16;
Bytes encode_ports(std::span<const RdmaPort> ports);
// Nothing of it is believed before it is checked.
Result<std::vector<RdmaPort>> decode_ports(std::span<const std::byte> bytes);

struct PortPair {
  int lower = 0, higher = 0;  // index of a port of the lower rank, of the higher rank
  bool operator==(const PortPair&) const = default;
};
// Ports that can reach each other, in turn, until each port of both ranks is used once: both of one InfiniBand subnet,
// or both Ethernet with addresses of one type and family. The same on both ranks; empty: there is no way between them.
std::vector<PortPair> pair_ports(std::span<const RdmaPort> lower, std::span<const RdmaPort> higher);

// Ports with equal texts reach each other.
std::string network_of(const RdmaPort& port);
// All of them reach each other, because they have a network in common.
bool share_a_network(std::span<const std::vector<RdmaPort>> ranks);

}  // namespace tutti
