// SPDX-License-Identifier: Apache-2.0
// Libraries that are loaded when they are there: hwloc, NVML, the CUDA driver, libibverbs.
//
// What was opened is never closed: drivers start threads and register handlers that outlive a dlclose(), and a second
// open costs a look-up. A missing library is an ordinary answer, not a failure: callers make it a note.
#pragma once

#include <dlfcn.h>

#include <initializer_list>
#include <string>
#include <string_view>

#include "base/status.h"

namespace tutti {

class DynamicLibrary {
 public:
  DynamicLibrary() = default;

  // The first of `names` that loads; a name is a soname or a path. `chosen`, if not empty, replaces them.
  static Result<DynamicLibrary> open(std::string_view chosen, std::initializer_list<const char*> names) {
    DynamicLibrary library;
    std::string failures;
    const std::string only(chosen);
    const auto attempt = [&](const char* name) {
      library.handle_ = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
      library.name_ = name;
      if (library.handle_ != nullptr) return true;
      const char* why = ::dlerror();
      failures += fmt::format("{}{}", failures.empty() ? "" : "; ", why != nullptr ? why : name);
      return false;
    };
    if (!only.empty()) {
      if (attempt(only.c_str())) return library;
    } else {
      for (const char* name : names)
        if (attempt(name)) return library;
    }
    return system_error("cannot be loaded: {}", failures);
  }

  // The function of that name, by its type; null if the library lacks it. `version` is tried first where symbols are
  // versioned (a library may keep an old binary interface under the plain name).
  template <class Function>
  bool bind(const char* name, Function*& place, const char* version = nullptr) const {
    void* found = version != nullptr ? ::dlvsym(handle_, name, version) : nullptr;
    if (found == nullptr) found = ::dlsym(handle_, name);
    place = reinterpret_cast<Function*>(found);
    return found != nullptr;
  }
  const std::string& name() const { return name_; }

 private:
  void* handle_ = nullptr;
  std::string name_;
};

}  // namespace tutti
