// SPDX-License-Identifier: Apache-2.0
// The copies that a schedule of remote access makes, for copy engines: its steps without the meetings, for which
// streams wait (CudaLauncher::launch_copies). Only where one process has all ranks: nobody else's host knows where the
// buffers of a call are.
#pragma once

#include <cstdint>
#include <vector>

#include "algo/catalog.h"
#include "gpu/cuda.h"
#include "plan/plan.h"

namespace tutti {

struct CudaCopy {
  gpu::CudaAddress to = 0, from = 0;
  uint64_t bytes = 0;
};
struct CudaBuffers {
  const std::byte* input = nullptr;
  std::byte* output = nullptr;
};
// Of rank args.me, in order. The schedule reduces nothing. `buffers` by rank.
std::vector<CudaCopy> copies_of(const Plan& plan, const ScheduleArgs& args, const CollLayout& layout,
                                const std::vector<CudaBuffers>& buffers);

}  // namespace tutti
