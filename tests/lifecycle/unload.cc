// SPDX-License-Identifier: Apache-2.0
// A program that loads the library by dlopen, uses it from threads and closes it while threads of the library run and
// while its own threads still have state there: unload PATH/TO/libtutti.so. The library stays mapped by design.
#include <dlfcn.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "tutti/tutti.h"

namespace {

void check(bool right, const char* what) {
  if (right) return;
  std::fprintf(stderr, "unload: %s\n", what);
  std::_Exit(1);
}

template <class Function>
Function* find(void* library, const char* name) {
  void* const found = dlsym(library, name);
  check(found != nullptr, name);
  return reinterpret_cast<Function*>(found);
}

void use(void* library) {
  const auto init_all = find<decltype(tuttiCommInitAll)>(library, "tuttiCommInitAll");
  const auto destroy = find<decltype(tuttiCommDestroy)>(library, "tuttiCommDestroy");
  const auto unique_id = find<decltype(tuttiGetUniqueId)>(library, "tuttiGetUniqueId");
  const auto stream_create = find<decltype(tuttiStreamCreate)>(library, "tuttiStreamCreate");
  std::array<tuttiComm_t, 2> comms{};
  check(init_all(comms.data(), 2, nullptr) == TUTTI_SUCCESS, "cannot make communicators");
  tuttiUniqueId id;
  check(unique_id(&id) == TUTTI_SUCCESS, "cannot make an id");  // its rendezvous waits in a thread
  tuttiStream_t stream = nullptr;
  check(stream_create(&stream) == TUTTI_SUCCESS, "cannot make a stream");  // its worker is never ended
  check(destroy(comms[0]) == TUTTI_SUCCESS, "cannot destroy");
  check(destroy(comms[0]) == TUTTI_INVALID_ARGUMENT, "destroyed twice");  // leaves a text for this thread
}

}  // namespace

int main(int argc, char** argv) {
  check(argc == 2, "usage: unload PATH/TO/libtutti.so");
  for (int i = 0; i < 3; ++i) {
    void* const library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    check(library != nullptr, "dlopen failed");
    std::thread user([library] {
      use(library);
      check(dlclose(library) == 0, "dlclose failed");
    });  // and ends, with what the library keeps for it, after the library was closed
    user.join();
    void* const mapped = dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD);
    check(mapped != nullptr, "the library was unmapped under its threads");
    dlclose(mapped);
  }
  return 0;
}
