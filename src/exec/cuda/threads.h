// SPDX-License-Identifier: Apache-2.0
// The threads of a block, under names of ours: the only place where kernels meet CUDA's built-ins.
//
// A compiler other than nvcc sees declarations only. The tests define them with a fiber for each thread
// (tests/fakes/cuda_threads.cc), so that the same kernels run on a CPU; the library itself has no such code.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/atomic.h"

#if defined(__CUDACC__)
#define TUTTI_DEVICE __device__ inline
#define TUTTI_OUTLINE __device__ __noinline__ inline
#else
#define TUTTI_DEVICE inline
#define TUTTI_OUTLINE inline
#endif

namespace tutti::cuda {

#if defined(__CUDACC__)

TUTTI_DEVICE int thread_index() { return static_cast<int>(threadIdx.x); }
TUTTI_DEVICE int thread_count() { return static_cast<int>(blockDim.x); }
TUTTI_DEVICE uint32_t block_index() { return blockIdx.x; }
// All threads of the block have arrived, and see what each wrote before.
TUTTI_DEVICE void block_barrier() { __syncthreads(); }
// The same; and whether `mine` was true in all of them.
TUTTI_DEVICE bool block_all(bool mine) { return __syncthreads_and(mine) != 0; }
TUTTI_DEVICE bool warp_any(bool mine) { return __any_sync(0xffffffff, mine) != 0; }
// The launch's dynamic shared memory.
TUTTI_DEVICE std::byte* block_memory() {
  extern __shared__ __align__(16) std::byte memory[];
  return memory;
}
// Between two looks at what another block has to write.
TUTTI_DEVICE void let_others_run() {}
// One instruction of the warp for each line of LL128 (proto/lines.h). `flag_holder`: my half of the pair has the flag.
TUTTI_DEVICE WordPair load_line_part(const WordPair& from, bool /*flag_holder*/) { return load_pair(from); }
TUTTI_DEVICE void store_line_part(WordPair& to, const WordPair& part, bool writes, bool /*flag_holder*/) {
  __syncwarp();
  if (writes) store_pair(to, part);
}

#else

int thread_index();
int thread_count();
uint32_t block_index();
void block_barrier();
bool block_all(bool mine);
bool warp_any(bool mine);
std::byte* block_memory();
void let_others_run();

// Fibers have no instruction of the whole warp: the flag is read before, and written after, every other word of the
// line, that of its own pair among them.
TUTTI_DEVICE WordPair load_line_part(const WordPair& from, bool flag_holder) {
  const uint64_t flag = flag_holder ? load_acquire(from.word[1]) : 0;
  warp_any(false);
  const WordPair part = load_pair(from);
  return {{part.word[0], flag_holder ? flag : part.word[1]}};
}
TUTTI_DEVICE void store_line_part(WordPair& to, const WordPair& part, bool writes, bool flag_holder) {
  if (writes && !flag_holder) store_pair(to, part);
  warp_any(false);
  if (writes && flag_holder) store_pair(to, part);
}

#endif

}  // namespace tutti::cuda
