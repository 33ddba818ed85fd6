// SPDX-License-Identifier: Apache-2.0
#include "gpus.h"

#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <set>
#include <vector>

namespace conformance::gpus {
namespace {

using Context = void*;
struct Driver {
  int (*init)(unsigned) = nullptr;
  int (*retain)(Context*, int) = nullptr;
  int (*push)(Context) = nullptr;
  int (*pop)(Context*) = nullptr;
  int (*managed)(unsigned long long*, size_t, unsigned) = nullptr;
  int (*allocate)(unsigned long long*, size_t) = nullptr;
  int (*copy)(unsigned long long, unsigned long long, size_t) = nullptr;
  int (*free)(unsigned long long) = nullptr;
  int (*stream)(void**, unsigned, int) = nullptr;
  int (*destroy)(void*) = nullptr;
  int (*synchronize)(void*) = nullptr;
  std::vector<Context> contexts;
  std::mutex given_mutex;  // ranks are threads
  std::set<void*> given;   // by the library
};
std::string library_path;
int device_count = 0;
bool with_cpus = false;

template <class Function>
void bind(void* library, const char* symbol, Function& function) {
  function = reinterpret_cast<Function>(dlsym(library, symbol));
  if (function != nullptr) return;
  std::fprintf(stderr, "%s lacks %s\n", library_path.c_str(), symbol);
  std::exit(2);
}

// Loaded in the process of a world, not before: a driver does not survive fork().
Driver& driver() {
  static Driver& only = *[] {
    auto* const made = new Driver;
    void* const library = dlopen(library_path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      std::fprintf(stderr, "%s\n", dlerror());
      std::exit(2);
    }
    bind(library, "cuInit", made->init);
    bind(library, "cuDevicePrimaryCtxRetain", made->retain);
    bind(library, "cuCtxPushCurrent_v2", made->push);
    bind(library, "cuCtxPopCurrent_v2", made->pop);
    bind(library, "cuMemAllocManaged", made->managed);
    bind(library, "cuMemAlloc_v2", made->allocate);
    bind(library, "cuMemcpy", made->copy);
    bind(library, "cuMemFree_v2", made->free);
    bind(library, "cuStreamCreateWithPriority", made->stream);
    bind(library, "cuStreamDestroy_v2", made->destroy);
    bind(library, "cuStreamSynchronize", made->synchronize);
    made->contexts.resize(static_cast<size_t>(device_count));
    if (made->init(0) != 0) std::exit(2);
    for (int device = 0; device < device_count; ++device) {
      if (made->retain(&made->contexts[static_cast<size_t>(device)], device) != 0) std::exit(2);
    }
    return made;
  }();
  return only;
}

template <class Call>
int in_context(int rank, Call call) {
  Driver& cuda = driver();
  if (const int code = cuda.push(cuda.contexts[static_cast<size_t>(device_of(rank))]); code != 0) return code;
  const int code = call(cuda);
  Context popped = nullptr;
  cuda.pop(&popped);
  return code;
}

bool was_given(void* memory) {
  const std::lock_guard lock(driver().given_mutex);
  return driver().given.erase(memory) > 0;
}

}  // namespace

void use(const std::string& library, int devices, bool mixed) {
  with_cpus = mixed;
  library_path = library;
  device_count = devices;
  setenv("TUTTI_CUDA_LIBRARY", library.c_str(), 1);
}
bool used() { return device_count > 0; }
bool fake() { return library_path.find("fake_cuda") != std::string::npos; }
bool used_by(int rank) { return used() && !(with_cpus && rank % 3 == 1); }
int device_of(int rank) { return used_by(rank) ? rank % device_count : TUTTI_DEVICE_CPU; }

void* allocate(int rank, size_t bytes) {
  constexpr unsigned kGlobal = 1;
  unsigned long long at = 0;
  const int code = in_context(rank, [&](Driver& cuda) { return cuda.managed(&at, bytes, kGlobal); });
  return code == 0 ? reinterpret_cast<void*>(at) : nullptr;
}
void* allocate_on_gpu(int rank, size_t bytes) {
  void* memory = nullptr;
  if (rank % 2 == 1 && tuttiMemAllocDevice(&memory, bytes, device_of(rank)) == TUTTI_SUCCESS) {
    const std::lock_guard lock(driver().given_mutex);
    driver().given.insert(memory);
    return memory;
  }
  unsigned long long at = 0;
  const int code = in_context(rank, [&](Driver& cuda) { return cuda.allocate(&at, bytes); });
  return code == 0 ? reinterpret_cast<void*>(at) : nullptr;
}
std::string copy(int rank, void* to, const void* from, size_t bytes) {
  const auto address = [](const void* at) { return static_cast<unsigned long long>(reinterpret_cast<uintptr_t>(at)); };
  const int code = in_context(rank, [&](Driver& cuda) { return cuda.copy(address(to), address(from), bytes); });
  return code == 0 ? "" : "cuMemcpy returned " + std::to_string(code);
}
void release(int rank, void* memory) {
  if (was_given(memory)) {
    (void)tuttiMemFree(memory);
    return;
  }
  in_context(rank, [&](Driver& cuda) { return cuda.free(reinterpret_cast<unsigned long long>(memory)); });
}
tuttiStream_t make_stream(int rank) {
  constexpr unsigned kNonBlocking = 1;
  void* stream = nullptr;
  in_context(rank, [&](Driver& cuda) { return cuda.stream(&stream, kNonBlocking, 0); });
  return static_cast<tuttiStream_t>(stream);
}
void destroy_stream(int rank, tuttiStream_t stream) {
  in_context(rank, [&](Driver& cuda) { return cuda.destroy(stream); });
}
std::string synchronize(int rank, tuttiStream_t stream) {
  const int code = in_context(rank, [&](Driver& cuda) { return cuda.synchronize(stream); });
  return code == 0 ? "" : "cuStreamSynchronize returned " + std::to_string(code);
}

}  // namespace conformance::gpus
