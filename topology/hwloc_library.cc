// SPDX-License-Identifier: Apache-2.0
// See hwloc_library.h.
#include "topology/hwloc_library.h"

#include <memory>
#include <string>

#include "base/dynamic_library.h"

namespace tutti::topology {

#if TUTTI_HAVE_HWLOC
namespace {

Result<std::unique_ptr<HwlocApi>> load(std::string_view path) {
  const auto opened = DynamicLibrary::open(path, {"libhwloc.so.15"});
  if (!opened.ok()) return system_error("hwloc {}", opened.status().message());
  auto api = std::make_unique<HwlocApi>();
  const char* missing = nullptr;
  const auto bind = [&]<class Function>(const char* symbol, Function*& place) {
    if (!opened->bind(symbol, place)) missing = symbol;
  };
#define TUTTI_HWLOC_BIND(member, symbol) bind(#symbol, api->member);
  TUTTI_HWLOC_FUNCTIONS(TUTTI_HWLOC_BIND)
#undef TUTTI_HWLOC_BIND
  if (missing != nullptr) return system_error("{} lacks {}: it is not hwloc 2.1 or newer", opened->name(), missing);
  // Objects are laid out as the header at build time says; hwloc changes that only between major versions.
  if (const unsigned version = api->get_api_version(); version >> 16 != HWLOC_API_VERSION >> 16)
    return system_error("{} has the interface of hwloc {}, this build knows hwloc {}", opened->name(), version >> 16,
                        HWLOC_API_VERSION >> 16);
  return api;
}

}  // namespace

Result<const HwlocApi*> hwloc_library(std::string_view path) { return LoadedApis<HwlocApi>::only().get(path, load); }

#else
Result<const HwlocApi*> hwloc_library(std::string_view) {
  return system_error("this build has no hwloc: it was made without hwloc.h (package libhwloc-dev)");
}
#endif

}  // namespace tutti::topology
