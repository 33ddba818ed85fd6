// SPDX-License-Identifier: Apache-2.0
// See library.h.
#include "perf/library.h"

#include <dlfcn.h>

namespace tutti::perf {

const Library& Library::own() {
  static const Library& only = *[] {
    auto* const made = new Library;
#define PERF_TAKE(function, symbol) made->function = &::tutti##function;
    PERF_NEEDED_FUNCTIONS(PERF_TAKE)
    PERF_OPTIONAL_FUNCTIONS(PERF_TAKE)
#undef PERF_TAKE
    return made;
  }();
  return only;
}

Outcome Library::open(const std::string& path, std::unique_ptr<const Library>* library) {
  void* const handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return Outcome::failure("--library " + path + ": " + ::dlerror(), kExitUsage);
  auto made = std::make_unique<Library>();
  made->path_ = path;
  const char* missing = nullptr;
  const auto take = [&]<class Function>(const char* symbol, Function*& place) {
    place = reinterpret_cast<Function*>(::dlsym(handle, symbol));
    return place != nullptr;
  };
#define PERF_TAKE(function, symbol) \
  if (!take(#symbol, made->function) && missing == nullptr) missing = #symbol;
  PERF_NEEDED_FUNCTIONS(PERF_TAKE)
#undef PERF_TAKE
  if (missing != nullptr) {
    return Outcome::failure(
        "--library " + path + ": exports no " + missing + ", so it is no library of NCCL's interface", kExitUsage);
  }
#define PERF_TAKE(function, symbol) take(#symbol, made->function);
  PERF_OPTIONAL_FUNCTIONS(PERF_TAKE)
#undef PERF_TAKE
  *library = std::move(made);
  return {};
}

tuttiResult_t Library::join(tuttiComm_t* comm, int n, const tuttiUniqueId& id, int rank, int device) const {
  if (!is_own()) return CommInitRank(comm, n, id, rank);
  tuttiConfig_t config = TUTTI_CONFIG_INITIALIZER;
  config.device = device;
  return tuttiCommInitRankConfig(comm, n, id, rank, &config);
}

Outcome Library::checked(tuttiResult_t result, const char* function, tuttiComm_t comm) const {
  if (result == TUTTI_SUCCESS) return {};
  const char* last = GetLastError != nullptr ? GetLastError(comm) : nullptr;
  std::string message = name(function) + ": " + GetErrorString(result);
  if (last != nullptr && *last != '\0') message += std::string(": ") + last;
  return Outcome::failure(std::move(message));
}

}  // namespace tutti::perf
