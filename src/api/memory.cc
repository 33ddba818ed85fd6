// SPDX-License-Identifier: Apache-2.0
// Memory: allocation of what peers can map, registration of the user's own, and windows.
//
// Registration of ordinary memory gains nothing here: the kernel's copies and slots need none. It is legal all the
// same, as programs written for other libraries expect.
#include "api/memory.h"

#include <mutex>
#include <unordered_map>

#include "api/checks.h"
#include "api/entry.h"
#include "api/handles.h"
#include "base/env.h"
#include "base/fork.h"
#include "gpu/cuda_given.h"
#include "group/group.h"
#include "transports/remote/shared_memory.h"

using namespace tutti;

// A window of this rank: what the opaque pointer of the C API points to.
struct tuttiWindow {
  tuttiComm_t comm = nullptr;
  uint32_t number = 0;  // 0: gains nothing
};

namespace {

// Never destroyed. Living registrations and windows.
struct Books {
  std::mutex mutex;
  // By address of their own.
  struct Registration {
    tuttiComm_t comm = nullptr;
    std::unique_ptr<char> handle;
  };
  std::unordered_map<void*, Registration> registrations;
  std::unordered_map<tuttiWindow_t, std::unique_ptr<tuttiWindow>> windows;
};
Books& books() {
  static Books& only = *[] {
    auto* const made = new Books;
    guard_at_fork(made->mutex);
    return made;
  }();
  return only;
}

// Names the function that failed.
Status in_function(const char* function, const Status& status) {
  return status.ok() ? status : Status(status.code(), fmt::format("{}: {}", function, status.message()));
}

Result<void*> allocate_on_cpu(size_t bytes) {
  TUTTI_ASSIGN_OR_RETURN(std::shared_ptr<SharedMemory> made, SharedMemory::create(bytes));
  void* const at = made->base();
  keep_shared_memory(std::move(made));
  return at;
}

Result<void*> allocate_on_gpu(size_t bytes, int ordinal) {
  TUTTI_ASSIGN_OR_RETURN(const gpu::CudaRun* const cuda, gpu::load_cuda(env().cuda_library));
  TUTTI_ASSIGN_OR_RETURN(const gpu::CudaDevicePtr device, gpu::CudaContextOwner::retain(*cuda, ordinal));
  return gpu::give_memory(device, bytes, gpu::Unmappable::Refuse);
}

Status allocate(const char* function, void** ptr, size_t bytes, int device) {
  TUTTI_TRY(check_not_null(function, "ptr", ptr, "the address of a pointer"));
  *ptr = nullptr;
  if (device < TUTTI_DEVICE_CPU)
    return invalid_argument("{}: device is {}: pass a CUDA ordinal from 0 on, or TUTTI_DEVICE_CPU", function, device);
  if (bytes == 0) return {};
  const Result<void*> made = device == TUTTI_DEVICE_CPU ? allocate_on_cpu(bytes) : allocate_on_gpu(bytes, device);
  TUTTI_TRY(in_function(function, made.status()));
  *ptr = *made;
  return {};
}

}  // namespace

namespace tutti {

void forget_memory_of(tuttiComm_t comm) {
  Books& all = books();
  const std::lock_guard lock(all.mutex);
  std::erase_if(all.registrations, [&](const auto& one) { return one.second.comm == comm; });
  std::erase_if(all.windows, [&](const auto& one) { return one.second->comm == comm; });
}

}  // namespace tutti

extern "C" {

tuttiResult_t tuttiMemAlloc(void** ptr, size_t bytes) {
  const char* const function = __func__;
  return entry(function, [&] { return allocate(function, ptr, bytes, TUTTI_DEVICE_CPU); });
}

tuttiResult_t tuttiMemAllocDevice(void** ptr, size_t bytes, int device) {
  const char* const function = __func__;
  return entry(function, [&] { return allocate(function, ptr, bytes, device); });
}

tuttiResult_t tuttiMemFree(void* ptr) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    if (ptr == nullptr || drop_shared_memory(ptr) != nullptr) return {};
    const Result<bool> freed = gpu::take_back_memory(ptr);
    TUTTI_TRY(in_function(function, freed.status()));
    if (!*freed)
      return invalid_argument(
          "{}: ptr is not living memory of tuttiMemAlloc or tuttiMemAllocDevice: pass what they gave, once", function);
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
    auto made = std::make_unique<char>();
    *handle = made.get();
    all.registrations[*handle] = {comm, std::move(made)};
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
    if (found == all.registrations.end() || found->second.comm != comm) {
      return invalid_argument(
          "{}: handle is not a living registration of this communicator: pass what "
          "tuttiCommRegister gave, once",
          function);
    }
    all.registrations.erase(found);
    return {};
  });
}

tuttiResult_t tuttiCommWindowRegister(tuttiComm_t comm, void* ptr, size_t bytes, tuttiWindow_t* window, int flags) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_ASSIGN_OR_RETURN(const std::shared_ptr<Communicator> held, hold_comm(function, comm));
    TUTTI_TRY(check_not_null(function, "window", window, "the address of a tuttiWindow_t"));
    *window = nullptr;
    if (flags != 0) return invalid_argument("{}: flags is {}: 0 is the only value", function, flags);
    if (bytes != 0) TUTTI_TRY(check_memory(function, ptr, bytes));
    // In a group one thread may speak for all ranks, each of which waits for the others.
    SetUp set_up;
    set_up.over = held.get();
    set_up.worker = comm->worker;
    set_up.run = [held, comm, ptr, bytes, window]() -> Status {
      auto made = std::make_unique<tuttiWindow>();
      made->comm = comm;
      TUTTI_ASSIGN_OR_RETURN(made->number, held->register_window(ptr, bytes));
      Books& all = books();
      const std::lock_guard lock(all.mutex);
      *window = made.get();
      all.windows[made.get()] = std::move(made);
      return {};
    };
    set_up.drop = [] {};
    return submit_set_up(std::move(set_up));
  });
}

tuttiResult_t tuttiCommWindowDeregister(tuttiComm_t comm, tuttiWindow_t window) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_ASSIGN_OR_RETURN(const std::shared_ptr<Communicator> held, hold_comm(function, comm));
    Books& all = books();
    uint32_t number = 0;
    {
      const std::lock_guard lock(all.mutex);
      const auto found = all.windows.find(window);
      if (found == all.windows.end() || found->second->comm != comm) {
        return invalid_argument(
            "{}: window is not a living window of this communicator: pass what tuttiCommWindowRegister gave, once",
            function);
      }
      number = found->second->number;
      all.windows.erase(found);
    }
    // Calls that have not been brought to their GPU yet are before this one, too.
    if (comm->worker != nullptr) (void)comm->worker->synchronize().ok();  // failures are the communicator's
    if (number != 0) held->deregister_window(number);
    return {};
  });
}

}  // extern "C"
