// SPDX-License-Identifier: Apache-2.0
// libibverbs, loaded at run time behind one table of functions: the library itself needs no RDMA package to load.
//
// The build needs rdma-core's header (infiniband/verbs.h, package libibverbs-dev) for the structs and for what is
// inline there: posting work and polling completions (ibv_post_send, ibv_post_recv, ibv_poll_cq, ibv_req_notify_cq) go
// through the context's own table and need no symbol. Everything else is called through VerbsApi; calling an ibv_*
// function directly does not link. Without the header, library() says so.
//
// For who builds on it: owners of verbs objects hold the table by reference, it lives as long as the process.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

#if TUTTI_HAVE_VERBS
#include <infiniband/verbs.h>

// ibverbs hides some functions behind macros of the same name.
#undef ibv_get_device_list
#undef ibv_query_port
#undef ibv_reg_mr
#undef ibv_reg_mr_iova
#endif

namespace tutti::verbs {

#if TUTTI_HAVE_VERBS
// VERBS_FUNCTION(member, symbol, required, type). Required are those of rdma-core's first stable interface. What
// query_port fills is the beginning of an ibv_port_attr, under the name that the header has for it.
#define TUTTI_VERBS_FUNCTIONS(FUNCTION)                                                                     \
  FUNCTION(get_device_list, ibv_get_device_list, true, ibv_device**(int*))                                  \
  FUNCTION(free_device_list, ibv_free_device_list, true, void(ibv_device**))                                \
  FUNCTION(get_device_name, ibv_get_device_name, true, const char*(ibv_device*))                            \
  FUNCTION(get_device_guid, ibv_get_device_guid, true, __be64(ibv_device*))                                 \
  FUNCTION(open_device, ibv_open_device, true, ibv_context*(ibv_device*))                                   \
  FUNCTION(close_device, ibv_close_device, true, int(ibv_context*))                                         \
  FUNCTION(query_device, ibv_query_device, true, int(ibv_context*, ibv_device_attr*))                       \
  FUNCTION(query_port, ibv_query_port, true, decltype(ibv_query_port))                                      \
  FUNCTION(query_gid, ibv_query_gid, true, int(ibv_context*, uint8_t, int, ibv_gid*))                       \
  FUNCTION(query_gid_ex, _ibv_query_gid_ex, false,                                                          \
           int(ibv_context*, uint32_t, uint32_t, ibv_gid_entry*, uint32_t, size_t))                         \
  FUNCTION(query_pkey, ibv_query_pkey, true, int(ibv_context*, uint8_t, int, __be16*))                      \
  FUNCTION(get_async_event, ibv_get_async_event, true, int(ibv_context*, ibv_async_event*))                 \
  FUNCTION(ack_async_event, ibv_ack_async_event, true, void(ibv_async_event*))                              \
  FUNCTION(alloc_pd, ibv_alloc_pd, true, ibv_pd*(ibv_context*))                                             \
  FUNCTION(dealloc_pd, ibv_dealloc_pd, true, int(ibv_pd*))                                                  \
  FUNCTION(reg_mr, ibv_reg_mr, true, ibv_mr*(ibv_pd*, void*, size_t, int))                                  \
  FUNCTION(reg_mr_iova2, ibv_reg_mr_iova2, false, ibv_mr*(ibv_pd*, void*, size_t, uint64_t, unsigned))      \
  FUNCTION(reg_dmabuf_mr, ibv_reg_dmabuf_mr, false, ibv_mr*(ibv_pd*, uint64_t, size_t, uint64_t, int, int)) \
  FUNCTION(dereg_mr, ibv_dereg_mr, true, int(ibv_mr*))                                                      \
  FUNCTION(create_comp_channel, ibv_create_comp_channel, true, ibv_comp_channel*(ibv_context*))             \
  FUNCTION(destroy_comp_channel, ibv_destroy_comp_channel, true, int(ibv_comp_channel*))                    \
  FUNCTION(create_cq, ibv_create_cq, true, ibv_cq*(ibv_context*, int, void*, ibv_comp_channel*, int))       \
  FUNCTION(destroy_cq, ibv_destroy_cq, true, int(ibv_cq*))                                                  \
  FUNCTION(get_cq_event, ibv_get_cq_event, true, int(ibv_comp_channel*, ibv_cq**, void**))                  \
  FUNCTION(ack_cq_events, ibv_ack_cq_events, true, void(ibv_cq*, unsigned))                                 \
  FUNCTION(create_srq, ibv_create_srq, true, ibv_srq*(ibv_pd*, ibv_srq_init_attr*))                         \
  FUNCTION(destroy_srq, ibv_destroy_srq, true, int(ibv_srq*))                                               \
  FUNCTION(create_qp, ibv_create_qp, true, ibv_qp*(ibv_pd*, ibv_qp_init_attr*))                             \
  FUNCTION(modify_qp, ibv_modify_qp, true, int(ibv_qp*, ibv_qp_attr*, int))                                 \
  FUNCTION(query_qp, ibv_query_qp, true, int(ibv_qp*, ibv_qp_attr*, int, ibv_qp_init_attr*))                \
  FUNCTION(destroy_qp, ibv_destroy_qp, true, int(ibv_qp*))                                                  \
  FUNCTION(create_ah, ibv_create_ah, true, ibv_ah*(ibv_pd*, ibv_ah_attr*))                                  \
  FUNCTION(destroy_ah, ibv_destroy_ah, true, int(ibv_ah*))                                                  \
  FUNCTION(fork_init, ibv_fork_init, true, int())                                                           \
  FUNCTION(event_type_str, ibv_event_type_str, true, const char*(ibv_event_type))                           \
  FUNCTION(port_state_str, ibv_port_state_str, true, const char*(ibv_port_state))                           \
  FUNCTION(wc_status_str, ibv_wc_status_str, true, const char*(ibv_wc_status))

struct VerbsApi {
#define TUTTI_VERBS_MEMBER(member, symbol, required, ...) \
  using member##_function = __VA_ARGS__;                  \
  member##_function* member = nullptr;
  TUTTI_VERBS_FUNCTIONS(TUTTI_VERBS_MEMBER)
#undef TUTTI_VERBS_MEMBER
};
#else
struct VerbsApi;
#endif

// The table; loaded once per process and path, never unloaded. `path` (TUTTI_VERBS_LIBRARY) replaces libibverbs.so.1.
// Safe from any thread.
Result<const VerbsApi*> library(std::string_view path = {});

enum class LinkLayer : uint8_t { Unknown, InfiniBand, Ethernet };
const char* name(LinkLayer layer);
enum class GidType : uint8_t { InfiniBand, RoCEv1, RoCEv2 };
const char* name(GidType type);

struct Gid {
  int index = 0;
  GidType type = GidType::InfiniBand;
  std::array<uint8_t, 16> bytes{};
  std::string interface;  // of the network device behind it; empty: none or not told

  // An IPv4 address in IPv6 form (::ffff:a.b.c.d): what routed RoCE v2 wants.
  bool ipv4_mapped() const;
  bool link_local() const { return bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80; }
  std::string text() const;
};

struct Port {
  int number = 1;
  bool active = false;
  std::string state;  // as the kernel or library words it
  LinkLayer layer = LinkLayer::Unknown;
  double gbit_per_second = 0;  // 0: not told
  uint32_t lid = 0;
  int active_mtu = 0;  // bytes; 0: not told
  std::vector<Gid> gids;
};

struct Device {
  std::string name;
  uint64_t guid = 0;
  std::string firmware;
  int most_queue_pairs = 0;
  bool atomics = false;
  std::vector<Port> ports;
};

// What verbs itself says about each device: opens each in turn. Devices that cannot be opened are left out and named in
// `notes`, with the reason.
Result<std::vector<Device>> read_devices(std::string_view path, std::vector<std::string>& notes);

// Signalling rate of a port from verbs' encodings: lanes (active_width) times speed (active_speed); 0 if unknown.
double port_gbit_per_second(unsigned active_width, unsigned active_speed);

}  // namespace tutti::verbs
