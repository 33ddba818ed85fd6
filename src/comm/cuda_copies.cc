// SPDX-License-Identifier: Apache-2.0
#include "comm/cuda_copies.h"

#include <algorithm>

#include "exec/cuda/work.h"

namespace tutti {
namespace {

// A block in one piece.
Tiling whole_blocks(const Plan& plan, const CollLayout& layout) {
  const uint64_t longest = std::max({layout.input.length, layout.output.length, uint64_t{1}});
  return {0, 1, plan.blocks, 1, (longest + kTileAlign - 1) / kTileAlign * kTileAlign};
}

}  // namespace

std::vector<CudaCopy> copies_of(const Plan& plan, const ScheduleArgs& args, const CollLayout& layout,
                                const std::vector<CudaBuffers>& buffers) {
  const AnySchedule schedule = make_schedule(plan.coll, plan.algo, args);
  const Tiling tiling = whole_blocks(plan, layout);
  const auto address = [&](int rank, Buffer buffer, int block) {
    const CudaBuffers& its = buffers[static_cast<size_t>(rank)];
    const bool input = buffer == Buffer::Input;
    const std::byte* const base = input ? its.input : its.output;
    return reinterpret_cast<uintptr_t>(base) +
           (input ? layout.input : layout.output).piece(tiling, block, 1, 0, 0).offset;
  };
  std::vector<CudaCopy> copies;
  for (int k = 0; k < schedule.steps(); ++k) {
    const Step step = schedule.at(k);
    if (step.meets()) continue;
    const uint64_t bytes = cuda::piece_on_wire(layout, tiling, step, {}).bytes;
    const bool pulls = step.from.size(args.n) > 0;
    const gpu::CudaAddress from = pulls ? address(step.from.at(0, args.me), step.from_buffer, step.from_block)
                                        : address(args.me, step.src, step.src_block);
    const auto add = [&](gpu::CudaAddress to) {
      if (bytes > 0 && to != from) copies.push_back({to, from, bytes});
    };
    if (step.dst_block >= 0) add(address(args.me, Buffer::Output, step.dst_block));
    for (int i = 0; i < step.to.size(args.n); ++i) add(address(step.to.at(i, args.me), Buffer::Output, step.to_block));
  }
  return copies;
}

}  // namespace tutti
