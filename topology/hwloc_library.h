// SPDX-License-Identifier: Apache-2.0
// hwloc, loaded when it is there: the functions that detection uses, and the comparison of our reader of its XML with the
// library, behind one table.
//
// Its header is needed to build (package libhwloc-dev), for the layout of objects; the layout belongs to the soname
// libhwloc.so.15, that is hwloc 2. Inline helpers of the header call functions that are not linked: use the table.
#pragma once

#include <string_view>

#include "base/status.h"

#if TUTTI_HAVE_HWLOC
#include <hwloc.h>
#endif

namespace tutti::topology {

#if TUTTI_HAVE_HWLOC
// HWLOC_FUNCTION(member, symbol)
#define TUTTI_HWLOC_FUNCTIONS(FUNCTION)                               \
  FUNCTION(get_api_version, hwloc_get_api_version)                    \
  FUNCTION(topology_init, hwloc_topology_init)                        \
  FUNCTION(topology_destroy, hwloc_topology_destroy)                  \
  FUNCTION(topology_set_flags, hwloc_topology_set_flags)              \
  FUNCTION(topology_set_components, hwloc_topology_set_components)    \
  FUNCTION(topology_set_xmlbuffer, hwloc_topology_set_xmlbuffer)      \
  FUNCTION(set_io_types_filter, hwloc_topology_set_io_types_filter)   \
  FUNCTION(topology_load, hwloc_topology_load)                        \
  FUNCTION(get_type_depth, hwloc_get_type_depth)                      \
  FUNCTION(get_nbobjs_by_depth, hwloc_get_nbobjs_by_depth)            \
  FUNCTION(get_obj_by_depth, hwloc_get_obj_by_depth)                  \
  FUNCTION(get_allowed_cpuset, hwloc_topology_get_allowed_cpuset)     \
  FUNCTION(bitmap_next, hwloc_bitmap_next)

struct HwlocApi {
#define TUTTI_HWLOC_MEMBER(member, symbol) decltype(&::symbol) member = nullptr;
  TUTTI_HWLOC_FUNCTIONS(TUTTI_HWLOC_MEMBER)
#undef TUTTI_HWLOC_MEMBER
};
#else
struct HwlocApi;
#endif

// The table; loaded once per process and path, never unloaded. `path` (TUTTI_HWLOC_LIBRARY) replaces libhwloc.so.15.
// Without the library, or without its header at build time, the error says so. Safe from any thread.
Result<const HwlocApi*> hwloc_library(std::string_view path = {});

}  // namespace tutti::topology
