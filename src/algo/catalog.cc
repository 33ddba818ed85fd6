// SPDX-License-Identifier: Apache-2.0
// The catalog's rows, and the layouts of the collectives' buffers.
#include "algo/catalog.h"

#include <algorithm>
#include <array>
#include <cassert>

namespace tutti {
namespace {

constexpr unsigned kBoth = kSimple | kLL;

template <class S>
AnySchedule make(const ScheduleArgs& args) {
  return {S{args}};
}

constexpr int one(int) { return 1; }
constexpr int two(int) { return 2; }
constexpr int all(int n) { return n; }
constexpr int members(int n) { return 1 << floor_log2(n); }
constexpr int folded(int n) { return members(n) != n; }

// Slots. A chain or a tree needs one slot. Who sends a step's slices before receiving needs them all; who relays while
// everyone else does too needs one more (a tour of two ranks relays nothing). Runs of half of the blocks go out at once
// in the first halving and in the last doubling.
constexpr int any_slots(int, int) { return 1; }  // also an opening
constexpr int exchange_slots(int n, int slices) { return n == 1 ? 1 : slices; }
constexpr int relay_slots(int n, int slices) { return n == 1 ? 1 : slices + 1; }
constexpr int tour_slots(int n, int slices) { return n > 2 ? slices + 1 : exchange_slots(n, slices); }
constexpr int run_slots(int n, int slices) { return std::max(members(n) / 2, 1) * slices; }
constexpr int halving_slots(int n, int slices) { return std::max(run_slots(n, slices), relay_slots(n, slices)); }

// Hops.
constexpr int one_hop(int n) { return n > 1 ? 1 : 0; }
constexpr int chain(int n) { return n - 1; }
constexpr int twice_chain(int n) { return 2 * (n - 1); }
constexpr int height(int n) { return ceil_log2(n); }
constexpr int twice_height(int n) { return 2 * ceil_log2(n); }
constexpr int two_hops(int n) { return n > 1 ? 2 : 0; }
constexpr int doublings(int n) { return floor_log2(n) + 2 * folded(n); }
constexpr int exchanges(int n) { return n > 2 ? n : n - 1; }  // each has a pair, from three ranks on
constexpr int twice_doublings(int n) { return 2 * floor_log2(n) + 2 * folded(n); }

// Bytes.
constexpr double whole(int n) { return n > 1 ? 1 : 0; }
constexpr double to_each(int n) { return n - 1; }
constexpr double but_one(int n) { return (n - 1.0) / n; }
constexpr double block(int n) { return n > 1 ? 1.0 / n : 0; }
constexpr double twice_but_one(int n) { return 2 * but_one(n); }
constexpr double tree_both_ways(int n) { return n > 1 ? std::min(n / 2.0, 2.0) : 0; }
constexpr double doubling_bytes(int n) { return floor_log2(n) + folded(n); }
constexpr double nothing(int) { return 0; }
constexpr double halving_bytes(int n) { return 2 * but_one(members(n)) + folded(n); }

constexpr CatalogRow kCatalog[] = {
    // collective          algorithm              protocols needs           parts blocks  slots
    //     hops             sent             sent_pairs      received        schedule
    {Coll::AllReduce, Algo::OneShot, kBoth, kFanOut, one, one, exchange_slots,  //
     one_hop, whole, to_each, to_each, make<OneShotAllReduce>},
    {Coll::AllReduce, Algo::TwoShot, kBoth, kFanOut, one, all, relay_slots,  //
     two_hops, whole, twice_but_one, twice_but_one, make<TwoShotAllReduce>},
    {Coll::AllReduce, Algo::Doubling, kBoth, kNothing, one, one, exchange_slots,  //
     doublings, doubling_bytes, doubling_bytes, doubling_bytes, make<DoublingAllReduce>},
    {Coll::AllReduce, Algo::HalvingDoubling, kBoth, kNothing, one, members, halving_slots,  //
     twice_doublings, halving_bytes, halving_bytes, halving_bytes, make<HalvingDoublingAllReduce>},
    {Coll::AllReduce, Algo::Tree, kBoth, kEvenChannels, two, one, any_slots,  //
     twice_height, tree_both_ways, tree_both_ways, tree_both_ways, make<TreeAllReduce>},
    {Coll::AllReduce, Algo::Ring, kBoth, kNothing, one, all, relay_slots,  //
     twice_chain, twice_but_one, twice_but_one, twice_but_one, make<RingAllReduce>},

    {Coll::AllReduce, Algo::Pull, kRma, kFanOut | kAllOpen, one, all, any_slots,  //
     two_hops, nothing, nothing, twice_but_one, make<PullAllReduce>},
    {Coll::AllReduce, Algo::PullAll, kRma, kFanOut | kAllOpen | kOutOfPlace, one, one, any_slots,  //
     one_hop, nothing, nothing, to_each, make<PullAllAllReduce>},
    {Coll::AllReduce, Algo::Push, kRma, kFanOut | kAllOpen | kWindows, one, all, any_slots,  //
     one_hop, but_one, but_one, but_one, make<PushAllReduce>},

    {Coll::Reduce, Algo::Direct, kBoth, kNothing, one, one, any_slots,  //
     one_hop, whole, whole, to_each, make<DirectReduce>},
    {Coll::Reduce, Algo::Tree, kBoth, kEvenChannels, one, one, any_slots,  //
     height, whole, whole, whole, make<TreeReduce>},
    {Coll::Reduce, Algo::Ring, kBoth, kNothing, one, one, any_slots,  //
     chain, whole, whole, whole, make<RingReduce>},
    {Coll::Reduce, Algo::Pull, kRma, kNothing, one, one, any_slots,  //
     one_hop, nothing, nothing, to_each, make<PullReduce>},
    {Coll::Reduce, Algo::Push, kRma, kFanOut | kAllOpen | kWindows, one, all, any_slots,  //
     one_hop, block, block, but_one, make<PushReduce>},

    {Coll::Broadcast, Algo::Direct, kBoth, kFanOut, one, one, any_slots,  //
     one_hop, whole, to_each, whole, make<DirectBroadcast>},
    {Coll::Broadcast, Algo::Tree, kBoth, kEvenChannels, one, one, any_slots,  //
     height, whole, whole, whole, make<TreeBroadcast>},
    {Coll::Broadcast, Algo::Ring, kBoth, kNothing, one, one, any_slots,  //
     chain, whole, whole, whole, make<RingBroadcast>},
    {Coll::Broadcast, Algo::Pull, kRma, kFanOut, one, one, any_slots,  //
     one_hop, nothing, nothing, whole, make<PullBroadcast>},
    {Coll::Broadcast, Algo::Push, kRma, kFanOut | kAllOpen | kWindows, one, all, any_slots,  //
     one_hop, but_one, but_one, block, make<PushBroadcast>},

    {Coll::AllGather, Algo::Direct, kBoth, kFanOut, one, one, exchange_slots,  //
     one_hop, block, but_one, but_one, make<DirectAllGather>},
    {Coll::AllGather, Algo::Doubling, kBoth, kPowerOfTwo | kSingleRound, one, one, run_slots,  //
     height, but_one, but_one, but_one, make<DoublingAllGather>},
    {Coll::AllGather, Algo::Ring, kBoth, kNothing, one, one, tour_slots,  //
     chain, but_one, but_one, but_one, make<RingAllGather>},
    {Coll::AllGather, Algo::Pull, kRma, kFanOut | kAllOpen, one, one, any_slots,  //
     one_hop, nothing, nothing, but_one, make<PullAllGather>},
    {Coll::AllGather, Algo::Push, kRma, kFanOut | kAllOpen | kWindows, one, one, any_slots,  //
     one_hop, but_one, but_one, nothing, make<PushAllGather>},

    {Coll::ReduceScatter, Algo::Direct, kBoth, kNothing, one, one, exchange_slots,  //
     one_hop, but_one, but_one, but_one, make<DirectReduceScatter>},
    {Coll::ReduceScatter, Algo::Ring, kBoth, kNothing, one, one, tour_slots,  //
     chain, but_one, but_one, but_one, make<RingReduceScatter>},
    {Coll::ReduceScatter, Algo::Pull, kRma, kFanOut | kAllOpen, one, one, any_slots,  //
     one_hop, nothing, nothing, but_one, make<PullReduceScatter>},

    {Coll::AllToAll, Algo::Direct, kBoth, kNothing, one, one, exchange_slots,  //
     one_hop, but_one, but_one, but_one, make<DirectAllToAll>},
    {Coll::AllToAll, Algo::Pairwise, kBoth, kNothing, one, one, exchange_slots,  //
     exchanges, but_one, but_one, but_one, make<PairwiseAllToAll>},
    {Coll::AllToAll, Algo::Pull, kRma, kFanOut | kAllOpen | kOutOfPlace, one, one, any_slots,  //
     one_hop, nothing, nothing, but_one, make<PullAllToAll>},
    {Coll::Gather, Algo::Direct, kBoth, kNothing, one, one, any_slots,  //
     one_hop, block, block, but_one, make<DirectGather>},
    {Coll::Gather, Algo::Pull, kRma, kNothing, one, one, any_slots,  //
     one_hop, nothing, nothing, but_one, make<PullGather>},
    {Coll::Gather, Algo::Push, kRma, kFanOut | kAllOpen | kWindows, one, one, any_slots,  //
     one_hop, block, block, nothing, make<PushGather>},
    {Coll::Scatter, Algo::Direct, kBoth, kNothing, one, one, any_slots,  //
     one_hop, but_one, but_one, block, make<DirectScatter>},
    {Coll::Scatter, Algo::Pull, kRma, kFanOut, one, one, any_slots,  //
     one_hop, nothing, nothing, block, make<PullScatter>},
    {Coll::SendRecv, Algo::Direct, kBoth, kNothing, two, one, any_slots,  //
     one_hop, whole, whole, whole, make<SendRecvStep>},
    {Coll::SendRecv, Algo::Pull, kRma, kNothing, two, one, any_slots,  //
     one_hop, nothing, nothing, whole, make<PullSendRecv>},
};

// The enumerator whose name is `text`, as a pointer into a table of all enumerators.
template <class Enum, int kCount>
const Enum* find_name(const std::string_view (&names)[kCount], std::string_view text) {
  static constexpr auto kValues = [] {
    std::array<Enum, kCount> values{};
    for (int i = 0; i < kCount; ++i) values[i] = static_cast<Enum>(i);
    return values;
  }();
  const auto at =
      std::find_if(std::begin(names), std::end(names), [&](std::string_view name) { return same_name(name, text); });
  return at == std::end(names) ? nullptr : &kValues[at - std::begin(names)];
}

}  // namespace

std::span<const CatalogRow> catalog() { return kCatalog; }

const CatalogRow* find_row(Coll coll, Algo algo) {
  for (const CatalogRow& row : kCatalog) {
    if (row.coll == coll && row.algo == algo) return &row;
  }
  return nullptr;
}

AnySchedule make_schedule(Coll coll, Algo algo, const ScheduleArgs& args) {
  const CatalogRow* row = find_row(coll, algo);
  assert(row != nullptr);
  return row->make(args);
}

const Coll* find_coll(std::string_view text) { return find_name<Coll>(kCollNames, text); }
const Algo* find_algo(std::string_view text) { return find_name<Algo>(kAlgoNames, text); }
const Proto* find_proto(std::string_view text) { return find_name<Proto>(kProtoNames, text); }

uint64_t CollLayout::rounds(const Tiling& tiling) const {
  const uint64_t in = input_blocks > 0 ? input.rounds(tiling, input_blocks) : 0;
  const uint64_t out = output_blocks > 0 ? output.rounds(tiling, output_blocks) : 0;
  return std::max(in, out);
}

CollLayout coll_layout(Coll coll, int n, int me, int root, uint64_t bytes) {
  const Layout region = Layout::region(bytes), blocks = Layout::strided(bytes, bytes);
  const bool is_root = me == root;
  switch (coll) {
    case Coll::AllReduce:
    case Coll::SendRecv:
      return {region, region, 1, 1};
    case Coll::Reduce:
      return {region, region, 1, is_root ? 1 : 0};
    case Coll::Broadcast:
      return {region, region, is_root ? 1 : 0, 1};
    case Coll::AllGather:
      return {blocks, blocks, 1, n};
    case Coll::ReduceScatter:
      return {blocks, blocks, n, 1};
    case Coll::AllToAll:
      return {blocks, blocks, n, n};
    case Coll::Gather:
      return {blocks, blocks, 1, is_root ? n : 0};
    case Coll::Scatter:
      return {blocks, blocks, is_root ? n : 0, 1};
  }
  return {};
}

CollLayout all_gather_v_layout(int n, int me, BlockTable output) {
  return {Layout::strided(output.lengths[me], 0), Layout::table(output.offsets, output.lengths), 1, n};
}
CollLayout reduce_scatter_v_layout(int n, int me, BlockTable input) {
  return {Layout::table(input.offsets, input.lengths), Layout::strided(input.lengths[me], 0), n, 1};
}
CollLayout all_to_all_v_layout(int n, BlockTable input, BlockTable output) {
  return {Layout::table(input.offsets, input.lengths), Layout::table(output.offsets, output.lengths), n, n};
}

}  // namespace tutti
