// SPDX-License-Identifier: Apache-2.0
#include "exec/cuda/placed_plan.h"

#include <algorithm>
#include <bit>

#include "exec/cuda/step_table.h"

namespace tutti::cuda {
namespace {

Result<CudaBlock> place_block(PlacedPlan& placed, const ScheduleArgs& args, Use use, DeviceStore& store,
                              CudaEnds& ends) {
  const Plan& plan = placed.plan;
  const AnySchedule schedule = make_schedule(plan.coll, plan.algo, args);
  TUTTI_TRY(ends.provide(schedule, args.me, args.channel, use, placed.proto));
  const StepTable table(schedule, args.n);
  placed.shared_bytes = std::max(placed.shared_bytes, shared_bytes(table.most_from, table.most_to));
  if (placed.shared_bytes > kMostSharedBytes)
    return invalid_usage("{} of {} ranks in one step of {}/{} is more than a CUDA kernel can do: restrict TUTTI_ALGO",
                         table.most_from + table.most_to, args.n, name(plan.coll), name(plan.algo));
  CudaBlock block;
  block.tiling = {args.channel, plan.channels, plan.blocks, plan.slices, plan.slice_bytes};
  block.cut = {plan.slice_bytes, plan.slots};
  TUTTI_ASSIGN_OR_RETURN(const int* const peers, store.place(std::span<const int>(table.peers)));
  const std::vector<Step> steps = table.steps_with_peers_at(peers);
  TUTTI_ASSIGN_OR_RETURN(block.steps, store.place(std::span<const Step>(steps)));
  block.step_count = static_cast<int>(steps.size());
  block.most_from = table.most_from;
  block.most_to = table.most_to;
  block.send = ends.send(args.me, args.channel, use);
  block.receive = ends.receive(args.me, args.channel, use);
  if (placed.proto == KernelProto::Remote) {
    const unsigned needs = find_row(plan.coll, plan.algo)->needs;
    block.needs_windows = (needs & kWindows) != 0;
    block.needs_out_of_place = (needs & kOutOfPlace) != 0;
  }
  if (!placed.stepped) return block;
  const Cursor beginning;
  TUTTI_ASSIGN_OR_RETURN(block.cursor, store.place(std::span(&beginning, 1)));
  placed.walked.push_back({schedule, block.tiling, block.cut, use});
  return block;
}

PlacedPlan begin(const Plan& plan, size_t n, bool stepped) {
  PlacedPlan placed;
  placed.plan = plan;
  placed.proto = kernel_proto(plan.proto);
  placed.block_count = static_cast<uint32_t>(plan.channels * plan.parts);
  placed.ranks.resize(n);
  placed.stepped = stepped;
  return placed;
}

}  // namespace

Result<std::byte*> ScratchMemory::of(int rank, uint64_t bytes) {
  if (bytes == 0) return nullptr;
  Held& held = held_[static_cast<size_t>(rank)];
  if (held.bytes < bytes) {
    const uint64_t wanted = std::bit_ceil(bytes);
    TUTTI_ASSIGN_OR_RETURN(held.at, stores_[static_cast<size_t>(rank)]->take(wanted));
    held.bytes = wanted;
  }
  return held.at;
}

Result<PlacedPlan> place_collective(const Plan& plan, ScheduleArgs args, const std::vector<DeviceStore*>& stores,
                                    CudaEnds& ends, ScratchMemory& scratch, bool stepped) {
  PlacedPlan placed = begin(plan, stores.size(), stepped);
  for (args.me = 0; args.me < args.n; ++args.me) {
    if (stores[static_cast<size_t>(args.me)] == nullptr) continue;  // another process'
    DeviceStore& store = *stores[static_cast<size_t>(args.me)];
    std::vector<CudaBlock> blocks;
    for (args.channel = 0; args.channel < plan.channels; ++args.channel) {
      for (args.part = 0; args.part < plan.parts; ++args.part) {
        TUTTI_ASSIGN_OR_RETURN(const CudaBlock block, place_block(placed, args, Use::Collective, store, ends));
        blocks.push_back(block);
      }
    }
    PlacedPlan::OfRank& rank = placed.ranks[static_cast<size_t>(args.me)];
    TUTTI_ASSIGN_OR_RETURN(rank.blocks, store.place(std::span<const CudaBlock>(blocks)));
    TUTTI_ASSIGN_OR_RETURN(rank.scratch, scratch.of(args.me, plan.scratch_bytes));
  }
  return placed;
}

Result<PlacedPlan> place_message(const Plan& plan, ScheduleArgs args, const std::vector<DeviceStore*>& stores,
                                 CudaEnds& ends, bool stepped) {
  PlacedPlan placed = begin(plan, stores.size(), stepped);
  placed.block_count = static_cast<uint32_t>(plan.channels);
  DeviceStore& store = *stores[static_cast<size_t>(args.me)];
  std::vector<CudaBlock> blocks;
  for (args.channel = 0; args.channel < plan.channels; ++args.channel) {
    TUTTI_ASSIGN_OR_RETURN(const CudaBlock block, place_block(placed, args, Use::PointToPoint, store, ends));
    blocks.push_back(block);
  }
  TUTTI_ASSIGN_OR_RETURN(placed.ranks[static_cast<size_t>(args.me)].blocks,
                         store.place(std::span<const CudaBlock>(blocks)));
  return placed;
}

}  // namespace tutti::cuda
