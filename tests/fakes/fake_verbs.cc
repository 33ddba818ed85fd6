// SPDX-License-Identifier: Apache-2.0
// A look-alike of libibverbs: an InfiniBand device at 400 Gb/s, a RoCE device of two ports (one down), and a device
// that does not open. Functions that detection does not need fail, so that a test cannot mistake it for more.
#include <cerrno>
#include <cstring>

#include "verbs/verbs.h"

using tutti::verbs::VerbsApi;

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

struct FakePort {
  ibv_port_state state;
  uint8_t layer, width, speed;
  ibv_mtu mtu;
  uint16_t lid;
};
struct FakeGid {
  uint32_t port, index;
  ibv_gid_type type;
  uint8_t bytes[16];
};
struct FakeDevice {
  ibv_device device;
  const char* name;
  uint64_t guid;
  bool opens;
  int ports;
  FakePort port[2];
  int gids;
  FakeGid gid[4];
};

FakeDevice devices[] = {
    {{},
     "mlx5_0",
     0x0c42a10300abcd00,
     true,
     1,
     {{IBV_PORT_ACTIVE, IBV_LINK_LAYER_INFINIBAND, 2, 128, IBV_MTU_4096, 17}, {}},
     1,
     {{1, 0, IBV_GID_TYPE_IB, {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x0c, 0x42, 0xa1, 3, 0, 0xab, 0xcd, 0}}}},
    {{},
     "mlx5_1",
     0x0c42a10300abcd10,
     true,
     2,
     {{IBV_PORT_ACTIVE, IBV_LINK_LAYER_ETHERNET, 2, 32, IBV_MTU_1024, 0},
      {IBV_PORT_DOWN, IBV_LINK_LAYER_ETHERNET, 2, 32, IBV_MTU_1024, 0}},
     3,
     {{1, 0, IBV_GID_TYPE_ROCE_V1, {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}},
      {1, 1, IBV_GID_TYPE_ROCE_V2, {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}},
      {1, 3, IBV_GID_TYPE_ROCE_V2, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 7}}}},
    {{}, "mlx5_2", 0x0c42a10300abcd20, false, 1, {}, 0, {}},
};
struct Opened {
  ibv_context context;  // first, so that both have one address
  FakeDevice* fake;
};
int opened = 0;

FakeDevice* fake_of(ibv_device* device) {
  for (FakeDevice& fake : devices)
    if (&fake.device == device) return &fake;
  return nullptr;
}
FakeDevice* fake_of(ibv_context* context) { return reinterpret_cast<Opened*>(context)->fake; }

}  // namespace

EXPORT ibv_device** ibv_get_device_list(int* count) {
  *count = 3;
  return new ibv_device* [4] { &devices[0].device, &devices[1].device, &devices[2].device, nullptr };
}
EXPORT void ibv_free_device_list(ibv_device** list) { delete[] list; }
EXPORT const char* ibv_get_device_name(ibv_device* device) { return fake_of(device)->name; }
EXPORT __be64 ibv_get_device_guid(ibv_device* device) { return __builtin_bswap64(fake_of(device)->guid); }
EXPORT ibv_context* ibv_open_device(ibv_device* device) {
  FakeDevice* fake = fake_of(device);
  if (!fake->opens) {
    errno = EACCES;
    return nullptr;
  }
  ++opened;
  auto* made = new Opened{{}, fake};
  made->context.device = device;
  return &made->context;
}
EXPORT int ibv_close_device(ibv_context* context) {
  delete reinterpret_cast<Opened*>(context);
  --opened;
  return 0;
}
// For the tests: how many contexts are open.
EXPORT int fake_verbs_open_contexts() { return opened; }
EXPORT int ibv_query_device(ibv_context* context, ibv_device_attr* attributes) {
  *attributes = {};
  std::strcpy(attributes->fw_ver, "28.39.1002");
  attributes->max_qp = 131072;
  attributes->atomic_cap = IBV_ATOMIC_HCA;
  attributes->phys_port_cnt = static_cast<uint8_t>(fake_of(context)->ports);
  return 0;
}
EXPORT int ibv_query_port(ibv_context* context, uint8_t number, _compat_ibv_port_attr* compatible) {
  auto* attributes = reinterpret_cast<ibv_port_attr*>(compatible);  // which begins with it
  const FakePort& port = fake_of(context)->port[number - 1];
  attributes->state = port.state;
  attributes->link_layer = port.layer;
  attributes->active_width = port.width;
  attributes->active_speed = port.speed;
  attributes->active_mtu = port.mtu;
  attributes->lid = port.lid;
  attributes->gid_tbl_len = 8;
  return 0;
}
EXPORT int ibv_query_gid(ibv_context* context, uint8_t port, int index, ibv_gid* gid) {
  *gid = {};
  const FakeDevice* fake = fake_of(context);
  for (int i = 0; i < fake->gids; ++i)
    if (fake->gid[i].port == port && fake->gid[i].index == static_cast<uint32_t>(index))
      std::memcpy(gid->raw, fake->gid[i].bytes, 16);
  return 0;
}
EXPORT int _ibv_query_gid_ex(ibv_context* context, uint32_t port, uint32_t index, ibv_gid_entry* entry, uint32_t,
                             size_t) {
  const FakeDevice* fake = fake_of(context);
  for (int i = 0; i < fake->gids; ++i) {
    if (fake->gid[i].port != port || fake->gid[i].index != index) continue;
    *entry = {};
    entry->gid_index = index;
    entry->port_num = port;
    entry->gid_type = static_cast<uint32_t>(fake->gid[i].type);
    std::memcpy(entry->gid.raw, fake->gid[i].bytes, 16);
    return 0;
  }
  return ENODATA;
}
EXPORT const char* ibv_port_state_str(ibv_port_state state) {
  return state == IBV_PORT_ACTIVE ? "PORT_ACTIVE" : "PORT_DOWN";
}
EXPORT const char* ibv_event_type_str(ibv_event_type) { return "event"; }
EXPORT const char* ibv_wc_status_str(ibv_wc_status) { return "status"; }

EXPORT int ibv_query_pkey(ibv_context*, uint8_t, int, __be16*) { return EINVAL; }
EXPORT int ibv_get_async_event(ibv_context*, ibv_async_event*) { return -1; }
EXPORT void ibv_ack_async_event(ibv_async_event*) {}
EXPORT ibv_pd* ibv_alloc_pd(ibv_context*) { return nullptr; }
EXPORT int ibv_dealloc_pd(ibv_pd*) { return EINVAL; }
EXPORT ibv_mr* ibv_reg_mr(ibv_pd*, void*, size_t, int) { return nullptr; }
EXPORT int ibv_dereg_mr(ibv_mr*) { return EINVAL; }
EXPORT ibv_comp_channel* ibv_create_comp_channel(ibv_context*) { return nullptr; }
EXPORT int ibv_destroy_comp_channel(ibv_comp_channel*) { return EINVAL; }
EXPORT ibv_cq* ibv_create_cq(ibv_context*, int, void*, ibv_comp_channel*, int) { return nullptr; }
EXPORT int ibv_destroy_cq(ibv_cq*) { return EINVAL; }
EXPORT int ibv_get_cq_event(ibv_comp_channel*, ibv_cq**, void**) { return -1; }
EXPORT void ibv_ack_cq_events(ibv_cq*, unsigned) {}
EXPORT ibv_srq* ibv_create_srq(ibv_pd*, ibv_srq_init_attr*) { return nullptr; }
EXPORT int ibv_destroy_srq(ibv_srq*) { return EINVAL; }
EXPORT ibv_qp* ibv_create_qp(ibv_pd*, ibv_qp_init_attr*) { return nullptr; }
EXPORT int ibv_modify_qp(ibv_qp*, ibv_qp_attr*, int) { return EINVAL; }
EXPORT int ibv_query_qp(ibv_qp*, ibv_qp_attr*, int, ibv_qp_init_attr*) { return EINVAL; }
EXPORT int ibv_destroy_qp(ibv_qp*) { return EINVAL; }
EXPORT ibv_ah* ibv_create_ah(ibv_pd*, ibv_ah_attr*) { return nullptr; }
EXPORT int ibv_destroy_ah(ibv_ah*) { return EINVAL; }
EXPORT int ibv_fork_init() { return 0; }
