// SPDX-License-Identifier: Apache-2.0
// See asymmetric_barrier.h.
#include "base/asymmetric_barrier.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace tutti {
namespace {

bool membarrier(int command) { return ::syscall(SYS_membarrier, command, 0, 0) == 0; }

}  // namespace

void prepare_barriers() {
  if (asymmetric::kernel_runs_barriers.load(std::memory_order_relaxed)) return;
  if (membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED))
    asymmetric::kernel_runs_barriers.store(true, std::memory_order_relaxed);
}

void heavy_barrier() {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!asymmetric::kernel_runs_barriers.load(std::memory_order_relaxed)) return;
  if (membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED)) return;
  // A registration that this process has lost (it was forked).
  (void)membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
  (void)membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
}

}  // namespace tutti
