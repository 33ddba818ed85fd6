// SPDX-License-Identifier: Apache-2.0
// See rdma_ports.h.
#include "transports/rdma/rdma_ports.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "base/env.h"

namespace tutti {
namespace {

constexpr size_t kMostName = 64;  // of a device

int rank_of(const verbs::Gid& gid) {
  if (gid.type != verbs::GidType::RoCEv2) return 3;
  return gid.ipv4_mapped() ? 0 : gid.link_local() ? 2 : 1;
}

}  // namespace

std::string network_of(const RdmaPort& port) {
  if (port.layer == verbs::LinkLayer::InfiniBand) {
    const auto* subnet = reinterpret_cast<const char*>(port.gid.bytes.data());
    return "ib " + std::string(subnet, 8);
  }
  return fmt::format("{} {}", verbs::name(port.gid.type), port.gid.ipv4_mapped() ? "ipv4" : "ipv6");
}

Result<RdmaSettings> RdmaSettings::from_environment() {
  const Env& set = env();
  const struct {
    const char* name;
    int64_t value, most;
  } limits[] = {{"TUTTI_RDMA_TRAFFIC_CLASS", set.rdma_traffic_class, 255},
                {"TUTTI_RDMA_SERVICE_LEVEL", set.rdma_service_level, 15},
                {"TUTTI_RDMA_TIMEOUT", set.rdma_timeout, 31},
                {"TUTTI_RDMA_RETRY_COUNT", set.rdma_retry_count, 7},
                {"TUTTI_RDMA_QUEUE_PAIRS", set.rdma_queue_pairs, 8}};
  for (const auto& limit : limits)
    if (limit.value > limit.most)
      return invalid_argument("{}={}: at most {} is allowed", limit.name, limit.value, limit.most);
  TUTTI_TRY(parse_device_list(set.rdma_devices));
  return RdmaSettings{.verbs_library = set.verbs_library,
                      .devices = set.rdma_devices,
                      .nics = set.nics,
                      .gid_index = set.rdma_gid_index,
                      .traffic_class = static_cast<int>(set.rdma_traffic_class),
                      .service_level = static_cast<int>(set.rdma_service_level),
                      .timeout = static_cast<int>(set.rdma_timeout),
                      .retry_count = static_cast<int>(set.rdma_retry_count),
                      .queue_pairs = static_cast<int>(std::max<int64_t>(set.rdma_queue_pairs, 1))};
}

Result<NameList> parse_device_list(std::string_view text) {
  return NameList::parse("TUTTI_RDMA_HCA", text, NameList::Ports::Yes);
}

const verbs::Gid* choose_gid(const verbs::Port& port, int wanted) {
  const verbs::Gid* best = nullptr;
  for (const verbs::Gid& gid : port.gids) {
    if (wanted >= 0) {
      if (gid.index == wanted) return &gid;
    } else if (best == nullptr || rank_of(gid) < rank_of(*best)) {
      best = &gid;
    }
  }
  return best;
}

const verbs::Gid* find_gid(const verbs::Port& port, const verbs::Gid& gid) {
  const auto found = std::find_if(port.gids.begin(), port.gids.end(), [&](const verbs::Gid& one) {
    return one.bytes == gid.bytes && one.type == gid.type;
  });
  return found == port.gids.end() ? nullptr : &*found;
}

Bytes encode_ports(std::span<const RdmaPort> ports) {
  ByteWriter writer;
  writer.number(static_cast<uint32_t>(ports.size()));
  for (const RdmaPort& port : ports) {
    writer.sized(port.device);
    writer.number(static_cast<uint32_t>(port.number));
    writer.number(static_cast<uint8_t>(port.layer));
    writer.number(static_cast<uint8_t>(port.gid.type));
    writer.raw(port.gid.bytes);
  }
  return writer.take();
}

Result<std::vector<RdmaPort>> decode_ports(std::span<const std::byte> bytes) {
  std::vector<RdmaPort> ports;
  if (bytes.empty()) return ports;
  ByteReader reader(bytes);
  const auto count = reader.number<uint32_t>();
  if (count > kMostPorts) reader.fail();
  for (uint32_t i = 0; i < count && reader.ok(); ++i) {
    RdmaPort port;
    port.device = reader.text(kMostName);
    port.number = static_cast<int>(reader.number<uint32_t>());
    const auto layer = reader.number<uint8_t>(), type = reader.number<uint8_t>();
    if (layer > static_cast<uint8_t>(verbs::LinkLayer::Ethernet)) reader.fail();
    if (type > static_cast<uint8_t>(verbs::GidType::RoCEv2)) reader.fail();
    port.layer = static_cast<verbs::LinkLayer>(layer);
    port.gid.type = static_cast<verbs::GidType>(type);
    reader.raw(port.gid.bytes);
    ports.push_back(std::move(port));
  }
  if (!reader.finished()) return error(Code::InternalError, "a rank's RDMA ports are malformed");
  return ports;
}

std::vector<PortPair> pair_ports(std::span<const RdmaPort> lower, std::span<const RdmaPort> higher) {
  std::map<std::string, std::pair<std::vector<int>, std::vector<int>>> networks;
  for (size_t i = 0; i < lower.size(); ++i) networks[network_of(lower[i])].first.push_back(static_cast<int>(i));
  for (size_t i = 0; i < higher.size(); ++i) networks[network_of(higher[i])].second.push_back(static_cast<int>(i));
  std::vector<PortPair> pairs;
  for (const auto& [network, ends] : networks) {
    const auto& [low, high] = ends;
    if (low.empty() || high.empty()) continue;
    for (size_t i = 0; i < std::max(low.size(), high.size()); ++i)
      pairs.push_back({low[i % low.size()], high[i % high.size()]});
  }
  return pairs;
}

bool share_a_network(std::span<const std::vector<RdmaPort>> ranks) {
  std::set<std::string> common;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    std::set<std::string> mine;
    for (const RdmaPort& port : ranks[rank]) mine.insert(network_of(port));
    if (rank == 0)
      common = std::move(mine);
    else
      std::erase_if(common, [&](const std::string& one) { return !mine.contains(one); });
  }
  return !common.empty();
}

}  // namespace tutti
