// SPDX-License-Identifier: Apache-2.0
// A store before a load, ordered between a thread that does so all the time and one that hardly ever does.
//
//   often      store mine; light_barrier(); load theirs
//   rarely     store theirs; heavy_barrier(); load mine
//
// At least one of them sees the other's store. The light half is free: the heavy half has the kernel run a full barrier
// on every core that runs this process (membarrier). Where the kernel refuses, the light half is a full fence.
#pragma once

#include <atomic>

namespace tutti {

namespace asymmetric {
inline std::atomic<bool> kernel_runs_barriers{false};
}

// Before the first use of either half in this process; cheap when repeated. Any thread.
void prepare_barriers();

inline void light_barrier() {
  if (asymmetric::kernel_runs_barriers.load(std::memory_order_relaxed)) [[likely]] {
    std::atomic_signal_fence(std::memory_order_seq_cst);
  } else {
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }
}
void heavy_barrier();

}  // namespace tutti
