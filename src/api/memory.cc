// SPDX-License-Identifier: Apache-2.0
// Memory: allocation for buffers that peers can reach, and registration of the user's own.
//
// tuttiMemAlloc gives page-aligned shared anonymous memory, populated at once, so that what runs out runs out here and
// not in the middle of a collective. Collectives over such windows come with their own issue; until then registration
// is legal and gains nothing, as its documentation says.
#include <sys/mman.h>

#include <cerrno>
#include <mutex>
#include <unordered_map>

#include "api/checks.h"
#include "api/entry.h"
#include "api/handles.h"
#include "base/fork.h"

using namespace tutti;

namespace {

// Never destroyed. Sizes of allocations by address, and living registrations.
struct Books {
  std::mutex mutex;
  std::unordered_map<void*, size_t> allocations;
  std::unordered_map<void*, tuttiComm_t> registrations;
};
Books& books() {
  static Books& only = *[] {
    auto* const made = new Books;
    guard_at_fork(made->mutex);
    return made;
  }();
  return only;
}

}  // namespace

extern "C" {

tuttiResult_t tuttiMemAlloc(void** ptr, size_t bytes) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_TRY(check_not_null(function, "ptr", ptr, "the address of a pointer"));
    *ptr = nullptr;
    if (bytes == 0) return {};
    void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (mapped == MAP_FAILED) {
      return system_error("{}: cannot allocate {} bytes: {}; free memory, or ask for less", function, bytes,
                          errno_status("mmap", "shared memory").message());
    }
    Books& all = books();
    const std::lock_guard lock(all.mutex);
    all.allocations[mapped] = bytes;
    *ptr = mapped;
    return {};
  });
}

tuttiResult_t tuttiMemFree(void* ptr) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    if (ptr == nullptr) return {};
    Books& all = books();
    const std::lock_guard lock(all.mutex);
    const auto found = all.allocations.find(ptr);
    if (found == all.allocations.end())
      return invalid_argument("{}: ptr is not living memory of tuttiMemAlloc: pass what it gave, once", function);
    munmap(ptr, found->second);
    all.allocations.erase(found);
    return {};
  });
}

tuttiResult_t tuttiCommRegister(tuttiComm_t comm, void* ptr, size_t bytes, void** handle) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_TRY(check_comm(function, comm));
    TUTTI_TRY(check_not_null(function, "handle", handle, "the address of a pointer"));
    TUTTI_TRY(check_memory(function, ptr, bytes));
    Books& all = books();
    const std::lock_guard lock(all.mutex);
    void* made = new char;  // an address of its own
    all.registrations[made] = comm;
    *handle = made;
    return {};
  });
}

tuttiResult_t tuttiCommDeregister(tuttiComm_t comm, void* handle) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_TRY(check_comm(function, comm));
    Books& all = books();
    const std::lock_guard lock(all.mutex);
    const auto found = all.registrations.find(handle);
    if (found == all.registrations.end() || found->second != comm) {
      return invalid_argument(
          "{}: handle is not a living registration of this communicator: pass what "
          "tuttiCommRegister gave, once",
          function);
    }
    delete static_cast<char*>(found->first);
    all.registrations.erase(found);
    return {};
  });
}

tuttiResult_t tuttiCommWindowRegister(tuttiComm_t comm, void*, size_t, tuttiWindow_t*, int) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_TRY(check_comm(function, comm));
    return invalid_usage("{}: windows are not available in this version: use tuttiCommRegister", function);
  });
}

tuttiResult_t tuttiCommWindowDeregister(tuttiComm_t comm, tuttiWindow_t) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_TRY(check_comm(function, comm));
    return invalid_usage("{}: windows are not available in this version", function);
  });
}

}  // extern "C"
