// SPDX-License-Identifier: Apache-2.0
// Libraries that are loaded when they are there: hwloc, NVML, the CUDA driver, libibverbs.
//
// What was opened is never closed: drivers start threads and register handlers that outlive a dlclose(), and a second
// open costs a look-up. A missing library is an ordinary answer, not a failure: callers make it a note.
#pragma once

#include <dlfcn.h>

#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "base/fork.h"
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

// A library's table of functions, loaded once per path and kept. Threads: any; the lock is held across fork.
template <class Api>
class LoadedApis {
 public:
  using Load = Result<std::unique_ptr<Api>> (*)(std::string_view path);

  // The only one of its kind; never destroyed, since a thread may ask during exit.
  static LoadedApis& only() {
    static LoadedApis& made = *[] {
      auto* const fresh = new LoadedApis;
      guard_at_fork(fresh->mutex_);
      return fresh;
    }();
    return made;
  }
  // A failure to load is remembered as well.
  Result<const Api*> get(std::string_view path, Load load) {
    const std::lock_guard lock(mutex_);
    auto found = by_path_.find(path);
    if (found == by_path_.end()) found = by_path_.emplace(std::string(path), load(path)).first;
    if (!found->second.ok()) return found->second.status();
    return found->second->get();
  }

 private:
  std::mutex mutex_;
  std::map<std::string, Result<std::unique_ptr<Api>>, std::less<>> by_path_;  // guarded by mutex_
};

}  // namespace tutti
