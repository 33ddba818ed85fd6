// SPDX-License-Identifier: Apache-2.0
// Thread blocks on a CPU: each CUDA thread is a fiber, all fibers of a grid take turns in one thread of the system, in
// an order drawn from a seed. Defines what src/exec/cuda/threads.h declares, so that the kernels' source runs as it is.
//
// A fiber gives way where a CUDA thread may be overtaken: at barriers, and between two looks at a flag
// (let_others_run). What happens between those happens in one piece; races within it are for tools on a GPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace tutti::cuda {

struct Grid {
  uint32_t blocks = 1;
  int threads = 32;  // of a block; a multiple of a warp
  size_t shared_bytes = 0;
  uint64_t seed = 1;
  // Turns of all fibers after which a grid counts as standing still.
  uint64_t patience = 1'000'000;
  // Called after each turn: the host beside a running kernel. False: the grid is dropped where it is. May be empty.
  std::function<bool(uint64_t turn)> goes_on = {};
};

// Runs `kernel` in every thread of the grid. False: it stood still, or was not to go on; its fibers are dropped where
// they are. Grids of several threads of the system run at the same time.
bool run_grid(const Grid& grid, const std::function<void()>& kernel);

}  // namespace tutti::cuda
