// SPDX-License-Identifier: Apache-2.0
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>

#include "tests/fakes/fake_rdma.h"

namespace tutti::fakes {
namespace {

template <class Function>
void bind(void* library, const char* name, Function*& place) {
  place = reinterpret_cast<Function*>(::dlsym(library, name));
  if (place == nullptr) {
    std::fprintf(stderr, "no %s in the look-alike library\n", name);
    std::abort();
  }
}

}  // namespace

FakeRdma fake_rdma(const char* path) {
  void* const library = ::dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    std::fprintf(stderr, "%s\n", ::dlerror());
    std::abort();
  }
  FakeRdma controls;
  bind(library, "fake_rdma_set_port", controls.set_port);
  bind(library, "fake_rdma_move_gid", controls.move_gid);
  bind(library, "fake_rdma_refuse_memory", controls.refuse_memory);
  bind(library, "fake_rdma_gpu_memory", controls.gpu_memory);
  bind(library, "fake_rdma_forget_keys", controls.forget_keys);
  bind(library, "fake_rdma_live_objects", controls.live_objects);
  return controls;
}

}  // namespace tutti::fakes
