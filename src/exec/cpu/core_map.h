// SPDX-License-Identifier: Apache-2.0
// CoreMap: on which core each rank of this host was when it last called or waited, so that a rank that waits knows
// whether the one it waits for can be running. With more ranks than cores that decides what waiting costs: a peer on
// this very core needs a yield at once, one on another core is only a line away, and a yield to ranks that cannot go on
// either is two switches for nothing.
//
// A hint: ranks move between cores, and a rank that has not called yet is nowhere.
#pragma once

#include <sched.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "base/atomic.h"

namespace tutti {

class CoreMap {
 public:
  CoreMap() = default;
  // One word per rank in memory that the ranks share, written by its rank alone; null: not of this host.
  CoreMap(std::vector<uint64_t*> words, int me) : words_(std::move(words)), me_(static_cast<size_t>(me)) {}

  // Where this thread is. Peers' copies of the line are disturbed only by a move.
  void note_core() {
    const uint64_t core = static_cast<uint64_t>(sched_getcpu()) + 1;  // 0: unknown, as fresh memory is
    if (core == core_) return;
    core_ = core;
    if (words_[me_] != nullptr) store_release(*words_[me_], core);  // pairs with beside_me(); nothing else hangs on it
  }
  // False while it is not known.
  bool beside_me(int rank) const {
    const uint64_t* word = words_[static_cast<size_t>(rank)];
    return word != nullptr && core_ != 0 && load_relaxed(*word) == core_;
  }

 private:
  std::vector<uint64_t*> words_;
  size_t me_ = 0;
  uint64_t core_ = 0;
};

}  // namespace tutti
