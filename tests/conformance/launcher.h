// SPDX-License-Identifier: Apache-2.0
// Launcher: runs a body in forked processes and watches them, so that nothing hangs and every end is explained.
//
// Fork first: the launching process never calls the library. What children share is one page of anonymous memory: the
// unique id, what each rank is doing, and counters for testing barriers.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "tutti/tutti.h"

namespace launcher {

constexpr int kMaxMembers = 64;

struct Page {
  struct alignas(64) Member {
    std::atomic<uint64_t> at{0};       // moves whenever the member gets on: 1 + the number of the case it is in
    std::atomic<uint64_t> entered{0};  // barriers entered
  };
  Member member[kMaxMembers];
  std::atomic<int> id_ready{0};
  tuttiUniqueId id{};

  void publish(const tuttiUniqueId& made) {
    id = made;
    id_ready.store(1, std::memory_order_release);
  }
  // Waits for the id, as long as the launcher lets us.
  tuttiUniqueId await() const;
};

struct Outcome {
  bool ok = false;
  bool stalled = false;  // killed because nothing moved
  int failed = -1;       // first process that ended badly
  std::string text;      // how: "process 1 was killed by signal 11"
};

// A page that the processes of the next run() share; released with it.
class SharedPage {
 public:
  SharedPage();
  ~SharedPage();
  SharedPage(const SharedPage&) = delete;
  SharedPage& operator=(const SharedPage&) = delete;
  Page* operator->() const { return page_; }
  Page& operator*() const { return *page_; }

 private:
  Page* page_;
};

// Forks `processes` children that run body(index) and exit with its value. Returns when all have ended; kills all when
// one ends badly (after `grace_seconds`, so that the others can say why) or when no member of the page moves for
// `stall_seconds`. `on_stall` runs before the killing.
Outcome run(int processes, Page& page, double stall_seconds, const std::function<int(int index)>& body,
            const std::function<void()>& on_stall = {}, double grace_seconds = 3);

}  // namespace launcher
