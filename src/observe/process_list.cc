// SPDX-License-Identifier: Apache-2.0
// See process_list.h, and Watch in observed.h.
#include "observe/process_list.h"

#include <pthread.h>

#include <algorithm>
#include <mutex>
#include <vector>

#include "base/ticks.h"
#include "observe/observed.h"
#include "observe/service.h"

namespace tutti {
namespace {

struct List {
  std::mutex coming_and_going;  // held while the service starts or ends; never by the service itself
  std::mutex mutex;             // of `all`; taken inside the other one, or alone
  std::vector<const Observed*> all;
};

// Never destroyed: communicators may be in use while the process ends. A child of fork() has neither the thread nor the
// communicators, and perhaps a locked mutex: it begins with a list of its own.
List*& current() {
  static List* list = [] {
    pthread_atfork(nullptr, nullptr, [] { current() = new List; });
    return new List;
  }();
  return list;
}

}  // namespace

void with_observed(const std::function<void(std::span<const Observed* const>)>& look) {
  List& list = *current();
  const std::lock_guard lock(list.mutex);
  look(list.all);
}

Result<Watch> Watch::begin(Observed& observed) {
  start_tick_clock();
  List& list = *current();
  const std::lock_guard order(list.coming_and_going);
  bool first = false;
  {
    const std::lock_guard lock(list.mutex);
    first = list.all.empty();
    list.all.push_back(&observed);
  }
  if (first) start_service();
  Watch watch;
  watch.observed_ = &observed;
  return watch;
}

Watch::~Watch() {
  if (observed_ == nullptr) return;
  List& list = *current();
  const std::lock_guard order(list.coming_and_going);
  bool last = false;
  {
    const std::lock_guard lock(list.mutex);
    const auto here = std::find(list.all.begin(), list.all.end(), observed_);
    if (here == list.all.end()) return;  // made before a fork
    list.all.erase(here);
    last = list.all.empty();
  }
  if (last) stop_service();
}

}  // namespace tutti
