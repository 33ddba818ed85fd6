// SPDX-License-Identifier: Apache-2.0
// See verbs.h.
#include "verbs/verbs.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>

#include "base/dynamic_library.h"
#include "verbs/objects.h"

namespace tutti::verbs {

const char* name(LinkLayer layer) {
  switch (layer) {
    case LinkLayer::Unknown:
      return "unknown";
    case LinkLayer::InfiniBand:
      return "InfiniBand";
    case LinkLayer::Ethernet:
      return "Ethernet";
  }
  return "unknown";
}

const char* name(GidType type) {
  switch (type) {
    case GidType::InfiniBand:
      return "IB";
    case GidType::RoCEv1:
      return "RoCE v1";
    case GidType::RoCEv2:
      return "RoCE v2";
  }
  return "IB";
}

bool Gid::ipv4_mapped() const {
  for (int i = 0; i < 10; ++i)
    if (bytes[static_cast<size_t>(i)] != 0) return false;
  return bytes[10] == 0xff && bytes[11] == 0xff;
}

std::string Gid::text() const {
  if (ipv4_mapped()) return fmt::format("::ffff:{}.{}.{}.{}", bytes[12], bytes[13], bytes[14], bytes[15]);
  std::string text;
  for (size_t i = 0; i < 16; i += 2) text += fmt::format("{}{:04x}", i == 0 ? "" : ":", bytes[i] << 8 | bytes[i + 1]);
  return text;
}

double port_gbit_per_second(unsigned active_width, unsigned active_speed) {
  // InfiniBand specification, PortInfo: LinkWidthActive and LinkSpeedActive(Ext), one bit each.
  struct Row {
    unsigned code;
    double value;
  };
  constexpr Row kLanes[] = {{1, 1}, {2, 4}, {4, 8}, {8, 12}, {16, 2}};
  constexpr Row kSpeeds[] = {{1, 2.5},       {2, 5},   {4, 10},    {8, 10},   {16, 14.0625},
                             {32, 25.78125}, {64, 50}, {128, 100}, {256, 200}};
  double lanes = 0, speed = 0;
  for (const Row& row : kLanes)
    if (row.code == active_width) lanes = row.value;
  for (const Row& row : kSpeeds)
    if (row.code == active_speed) speed = row.value;
  // Ports are sold by round figures: 4 x 25.78 is "100 Gb/s", 4 x 14.06 is "56".
  if (active_speed == 16) speed = 14;
  if (active_speed == 32) speed = 25;
  return lanes * speed;
}

#if TUTTI_HAVE_VERBS
namespace {

// Symbols of the first stable interface; the plain name may be an older one.
constexpr const char* kVersion = "IBVERBS_1.1";

Result<std::unique_ptr<VerbsApi>> load(std::string_view path) {
  const auto opened = DynamicLibrary::open(path, {"libibverbs.so.1", "libibverbs.so"});
  if (!opened.ok()) return system_error("libibverbs {}", opened.status().message());
  auto api = std::make_unique<VerbsApi>();
  const char* missing = nullptr;
#define TUTTI_VERBS_BIND(member, symbol, required, ...) \
  if (!opened->bind(#symbol, api->member, kVersion) && (required)) missing = #symbol;
  TUTTI_VERBS_FUNCTIONS(TUTTI_VERBS_BIND)
#undef TUTTI_VERBS_BIND
  if (missing != nullptr) return system_error("{} lacks {}: it is too old or not libibverbs", opened->name(), missing);
  (void)api->fork_init();  // rings and doorbells of the provider survive a fork; fails where it is too late or needless
  return api;
}

// The type of a GID of an Ethernet port, which the old interface does not tell: asked of rdma-core 32 and later, else
// read where the kernel shows it. Entry by entry: the kernel refuses a call for the table with room for 2048 or more,
// whose bytes a 16-bit length cannot hold, and tables of that length there are.
GidType read_gid_type(const VerbsApi& api, ibv_context* context, int port, int index) {
  ibv_gid_entry entry{};
  if (api.query_gid_ex != nullptr && api.query_gid_ex(context, static_cast<uint32_t>(port),
                                                      static_cast<uint32_t>(index), &entry, 0, sizeof entry) == 0) {
    return entry.gid_type == IBV_GID_TYPE_ROCE_V2   ? GidType::RoCEv2
           : entry.gid_type == IBV_GID_TYPE_ROCE_V1 ? GidType::RoCEv1
                                                    : GidType::InfiniBand;
  }
  std::ifstream file(fmt::format("{}/ports/{}/gid_attrs/types/{}", context->device->ibdev_path, port, index));
  std::string type;
  return std::getline(file, type) && type == "RoCE v2" ? GidType::RoCEv2 : GidType::RoCEv1;
}

}  // namespace

Port read_port(const VerbsApi& api, ibv_context* context, int number) {
  Port port;
  port.number = number;
  ibv_port_attr attributes;
  std::memset(&attributes, 0, sizeof attributes);  // the library fills what its version knows
  const auto query = [&]<class Attributes>(int (*call)(ibv_context*, uint8_t, Attributes*)) {
    return call(context, static_cast<uint8_t>(number), reinterpret_cast<Attributes*>(&attributes));
  };
  if (query(api.query_port) != 0) return port;
  port.active = attributes.state == IBV_PORT_ACTIVE;
  port.state = api.port_state_str(attributes.state);
  port.layer = attributes.link_layer == IBV_LINK_LAYER_INFINIBAND ? LinkLayer::InfiniBand
               : attributes.link_layer == IBV_LINK_LAYER_ETHERNET ? LinkLayer::Ethernet
                                                                  : LinkLayer::Unknown;
  port.gbit_per_second = port_gbit_per_second(attributes.active_width, attributes.active_speed);
  port.lid = attributes.lid;
  port.active_mtu = attributes.active_mtu > 0 ? 128 << attributes.active_mtu : 0;
  for (int index = 0; index < attributes.gid_tbl_len; ++index) {
    ibv_gid raw{};
    if (api.query_gid(context, static_cast<uint8_t>(number), index, &raw) != 0) break;
    Gid gid;
    gid.index = index;
    std::memcpy(gid.bytes.data(), raw.raw, gid.bytes.size());
    if (gid.bytes == std::array<uint8_t, 16>{}) continue;
    if (port.layer == LinkLayer::Ethernet) gid.type = read_gid_type(api, context, number, index);
    port.gids.push_back(std::move(gid));
  }
  return port;
}

Result<const VerbsApi*> library(std::string_view path) { return LoadedApis<VerbsApi>::only().get(path, load); }

Result<std::vector<OpenDevice>> open_devices(std::string_view path, std::vector<std::string>& notes) {
  TUTTI_ASSIGN_OR_RETURN(const VerbsApi* api, library(path));
  int count = 0;
  errno = 0;
  ibv_device** list = api->get_device_list(&count);
  std::vector<OpenDevice> found;
  if (list == nullptr) {
    if (errno == ENOSYS) return found;  // the kernel has no RDMA at all
    return errno_status("ibv_get_device_list", "this host");
  }
  for (int i = 0; i < count; ++i) {
    OpenDevice open;
    Device& device = open.device;
    device.name = api->get_device_name(list[i]);
    device.guid = __builtin_bswap64(static_cast<uint64_t>(api->get_device_guid(list[i])));
    open.context = Context(api->open_device(list[i]), {api});
    if (open.context == nullptr) {
      notes.push_back(fmt::format("{}: {}; is /dev/infiniband visible to this process?", device.name,
                                  errno_status("ibv_open_device", device.name).message()));
      continue;
    }
    if (api->query_device(open.context.get(), &open.limits) == 0) {
      device.firmware = open.limits.fw_ver;
      device.most_queue_pairs = open.limits.max_qp;
      device.atomics = open.limits.atomic_cap != IBV_ATOMIC_NONE;
      for (int port = 1; port <= open.limits.phys_port_cnt; ++port)
        device.ports.push_back(read_port(*api, open.context.get(), port));
    } else {
      notes.push_back(fmt::format("{}: ibv_query_device failed", device.name));
    }
    found.push_back(std::move(open));
  }
  api->free_device_list(list);
  return found;
}

Result<std::vector<Device>> read_devices(std::string_view path, std::vector<std::string>& notes) {
  TUTTI_ASSIGN_OR_RETURN(std::vector<OpenDevice> opened, open_devices(path, notes));
  std::vector<Device> devices;
  for (OpenDevice& one : opened) devices.push_back(std::move(one.device));
  return devices;
}

#else  // no header at build time

Result<const VerbsApi*> library(std::string_view) {
  return system_error("this build has no RDMA: it was made without infiniband/verbs.h (package libibverbs-dev)");
}
Result<std::vector<Device>> read_devices(std::string_view path, std::vector<std::string>&) {
  TUTTI_TRY(library(path));
  return std::vector<Device>{};
}
#endif

}  // namespace tutti::verbs
