// SPDX-License-Identifier: Apache-2.0
#include "comm/cuda_sizes.h"

#include <algorithm>

#include "base/env.h"
#include "exec/cuda/device_store.h"
#include "proto/lines.h"

namespace tutti {
namespace {

// Memory of connections: all slots of a rank to the others together, and the least for one.
constexpr uint64_t kSlotsOfRank = 4 << 20, kLeastSlots = 64 << 10, kMostSlots = 1 << 20;
constexpr uint64_t kLineSlots = 16, kLine128Slots = 8;

// Multiprocessors that the application's kernels shall have beside a call's: half of them. More channels than these
// fill no link.
constexpr int kMostChannels = 16;

// Arenas, at most, which bounds the channels: of a rank, with its guests, in its GPU's memory; of all in the host's.
constexpr uint64_t kMostArena = 144 << 20, kMostHostArena = 256 << 20;

}  // namespace

cuda::PeerArena CudaSizes::arena(int ends, int channels) const {
  return {ends, channels, simple_bytes, line_slots * ll_slot_bytes(kLLPayloadBytes),
          line128_slots * ll128_slot_bytes(kLL128PayloadBytes)};
}

CudaSizes CudaSizes::of(const CudaSeats& seats) {
  constexpr int kParts = 2;  // of a channel, at most (a tree's ways)
  CudaSizes sizes;
  const int blocks = seats.fewest_multiprocessors() / 2 / seats.most_ranks_on_a_gpu();
  sizes.most_channels = std::clamp(blocks / kParts, 1, kMostChannels);
  sizes.most_message_blocks =
      static_cast<uint32_t>(std::max(seats.fewest_multiprocessors() / 2, 2 * sizes.most_channels));
  const auto ranks = static_cast<uint64_t>(seats.largest_island());
  const uint64_t bytes = env().buffer_bytes > 0 ? static_cast<uint64_t>(env().buffer_bytes)
                                                : std::clamp(kSlotsOfRank / ranks, kLeastSlots, kMostSlots);
  sizes.simple_bytes = (bytes + cuda::DeviceStore::kAlign - 1) / cuda::DeviceStore::kAlign * cuda::DeviceStore::kAlign;
  // Lines are waited for one by one, and no transport carries them.
  sizes.line_slots = seats.stepped() || seats.bridged() ? 0 : kLineSlots;
  sizes.line128_slots = seats.whole_lines() ? kLine128Slots : 0;
  if (!seats.several_in_an_island() && seats.all_direct()) return sizes;
  for (const CudaSeats::Island& island : seats.islands()) {
    const cuda::PeerMap map = seats.peer_map(island);
    const auto bound = [&](int ends, uint64_t room) {
      if (ends == 0) return;
      const auto fit = static_cast<int>(std::min<uint64_t>(room / sizes.arena(ends, 1).bytes(), kMostChannels));
      sizes.most_channels = std::clamp(fit, 1, sizes.most_channels);
    };
    bound(map.most_ends(), kMostArena);
    bound(map.ends(map.host()), kMostHostArena);
  }
  return sizes;
}

void bound_by_gpus(const CudaSeats& seats, Wire wire, Summary& summary) {
  const CudaSizes sizes = CudaSizes::of(seats);
  summary.mapped = false;  // no lines, no fan-outs, nobody's buffers
  summary.ll_slots = 0;
  summary.wire = wire;
  summary.slot_capacity = std::min(summary.slot_capacity, sizes.simple_bytes);
  summary.most_channels = std::min(summary.most_channels, sizes.most_channels);
}

}  // namespace tutti
