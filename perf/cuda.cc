// SPDX-License-Identifier: Apache-2.0
// See cuda.h.
#include "perf/cuda.h"

#include <dlfcn.h>

#include <cstdlib>
#include <string>

namespace tutti::perf {
namespace {

struct Loaded {
  Cuda cuda;
  Outcome outcome;
};

Outcome load_driver(Cuda* cuda) {
  const char* const asked = std::getenv("TUTTI_CUDA_LIBRARY");
  const std::string path = asked != nullptr && *asked != '\0' ? asked : "libcuda.so.1";
  void* const library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return Outcome::failure(std::string("no CUDA driver: ") + ::dlerror(), kExitUsage);
  const char* missing = nullptr;
  const auto take = [&]<class Function>(const char* symbol, Function*& place) {
    place = reinterpret_cast<Function*>(::dlsym(library, symbol));
    if (place == nullptr) missing = symbol;
  };
  take("cuMemGetInfo_v2", cuda->free_memory);
  missing = nullptr;
#define PERF_CUDA_TAKE(member, symbol, parameters) take(#symbol, cuda->member);
  PERF_CUDA_FUNCTIONS(PERF_CUDA_TAKE)
#undef PERF_CUDA_TAKE
  if (missing != nullptr)
    return Outcome::failure(path + " lacks " + missing + ": it is too old (CUDA 12.0 is needed) or no CUDA driver",
                            kExitUsage);
  const auto refused = [](const Outcome& outcome) { return Outcome::failure(outcome.message(), kExitUsage); };
  if (const Outcome started = cuda->checked(cuda->init(0), "cuInit", -1); !started.ok()) return refused(started);
  const Outcome counted = cuda->checked(cuda->count(&cuda->devices), "cuDeviceGetCount", -1);
  if (!counted.ok()) return refused(counted);
  if (cuda->devices > 0) return {};
  return Outcome::failure("the CUDA driver has no devices: look at nvidia-smi and CUDA_VISIBLE_DEVICES", kExitUsage);
}

}  // namespace

Outcome Cuda::load(const Cuda** cuda) {
  static const Loaded& only = *[] {
    auto* const made = new Loaded;
    made->outcome = load_driver(&made->cuda);
    return made;
  }();
  *cuda = &only.cuda;
  return only.outcome;
}

Outcome Cuda::checked(int code, const char* call, int device) const {
  if (code == 0) return {};
  const char *name = nullptr, *text = nullptr;
  if (error_name(code, &name) != 0 || name == nullptr) name = "an unknown error";
  if (error_text(code, &text) != 0 || text == nullptr) text = "no description";
  const std::string where = device < 0 ? std::string() : " on CUDA device " + std::to_string(device);
  return Outcome::failure(call + where + ": " + name + " (" + std::to_string(code) + "), " + text);
}

}  // namespace tutti::perf
