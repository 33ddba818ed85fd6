// SPDX-License-Identifier: Apache-2.0
// Owners of verbs objects: one each, and member order is the teardown order (queue pairs, then completion queues, then
// regions, then the domain, then the context). The functions come from the table that was loaded.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "verbs/verbs.h"

#if TUTTI_HAVE_VERBS
namespace tutti::verbs {

template <class T, auto Destroy>
struct Destroyer {
  const VerbsApi* api = nullptr;
  void operator()(T* object) const { (void)(api->*Destroy)(object); }
};
template <class T, auto Destroy>
using Owned = std::unique_ptr<T, Destroyer<T, Destroy>>;

using Context = Owned<ibv_context, &VerbsApi::close_device>;
using ProtectionDomain = Owned<ibv_pd, &VerbsApi::dealloc_pd>;
using MemoryRegion = Owned<ibv_mr, &VerbsApi::dereg_mr>;
using CompletionChannel = Owned<ibv_comp_channel, &VerbsApi::destroy_comp_channel>;
using CompletionQueue = Owned<ibv_cq, &VerbsApi::destroy_cq>;
using QueuePair = Owned<ibv_qp, &VerbsApi::destroy_qp>;

struct OpenDevice {
  Context context;
  ibv_device_attr limits{};
  Device device;
};
// As read_devices(), and the devices stay open.
Result<std::vector<OpenDevice>> open_devices(std::string_view path, std::vector<std::string>& notes);

// What a port says now: its state, and its addresses, which may have changed places.
Port read_port(const VerbsApi& api, ibv_context* context, int number);

}  // namespace tutti::verbs
#endif
