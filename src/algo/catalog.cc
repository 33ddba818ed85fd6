// SPDX-License-Identifier: Apache-2.0
// The catalog's rows, and the layouts of the collectives' buffers.
#include "algo/catalog.h"

#include <algorithm>
#include <array>
#include <cassert>

#include "algo/user_schedule.h"

namespace tutti {
namespace {

constexpr unsigned kBoth = kSimple | kLL;

template <class S>
AnySchedule make(const ScheduleArgs& args) {
  return {S{args}};
}

constexpr int one(Ranks) { return 1; }
constexpr int two(Ranks) { return 2; }
constexpr int all(Ranks r) { return r.n; }
constexpr int members(Ranks r) { return 1 << floor_log2(r.n); }
constexpr int folded(Ranks r) { return members(r) != r.n; }

// Hosts. A communicator of one has none that matter.
constexpr int hosts(Ranks r) { return r.n == 1 ? 1 : r.hosts->hosts; }
constexpr int columns(Ranks r) { return r.n == 1 ? 1 : r.hosts->columns; }
constexpr int column_blocks(Ranks r) { return hosts(r) * columns(r); }
constexpr int largest(Ranks r) { return r.n == 1 ? 1 : r.hosts->largest; }
// Blocks that one column carries of one host, at most.
constexpr int carried(Ranks r) { return (largest(r) + columns(r) - 1) / columns(r); }

// Slots. A chain or a tree needs one slot. Who sends a step's slices before receiving needs them all; who relays while
// everyone else does too needs one more (a tour of two ranks relays nothing). Runs of half of the blocks go out at once
// in the first halving and in the last doubling.
constexpr int any_slots(Ranks, int) { return 1; }  // also an opening
constexpr int exchange_slots(Ranks r, int slices) { return r.n == 1 ? 1 : slices; }
constexpr int relay_slots(Ranks r, int slices) { return r.n == 1 ? 1 : slices + 1; }
constexpr int tour_slots(Ranks r, int slices) { return r.n > 2 ? slices + 1 : exchange_slots(r, slices); }
constexpr int run_slots(Ranks r, int slices) { return std::max(members(r) / 2, 1) * slices; }
constexpr int half_slots(Ranks r, int slices) { return std::max(r.n / 2, 1) * slices; }
constexpr int halving_slots(Ranks r, int slices) { return std::max(run_slots(r, slices), relay_slots(r, slices)); }
// The longest run of a Bruck all-gather: 2^j, or what is left to double.
constexpr int doubled_slots(Ranks r, int slices) {
  int most = 1;
  for (int have = 1; have < r.n; have *= 2) most = std::max(most, std::min(have, r.n - have));
  return most * slices;
}
// Chunks of the first ring in tours of the first ring's length, and blocks in the second one.
constexpr int chunk_slots(Ranks r, int slices) {
  const Torus torus = Torus::of(r.n, r.hosts);
  const auto tour = [slices](int ranks, int chunk) { return chunk * slices + (ranks > 2); };
  return std::max({tour(torus.rows, torus.columns), tour(torus.columns, torus.rows), relay_slots(r, slices)});
}
constexpr int host_tour_slots(Ranks r, int slices) { return r.n == 1 ? 1 : carried(r) * slices + 1; }
constexpr bool in_forests(Ranks r) { return r.channels != nullptr && r.channels->forests.count > 0; }
constexpr int forest_slots(Ranks r, int slices) {
  return in_forests(r) ? r.channels->forest_slots * slices : tour_slots(r, slices);
}
constexpr int rail_slots(Ranks r, int slices) { return std::max(hosts(r), columns(r)) * slices; }

// Hops.
constexpr int one_hop(Ranks r) { return r.n > 1 ? 1 : 0; }
constexpr int chain(Ranks r) { return r.n - 1; }
constexpr int twice_chain(Ranks r) { return 2 * (r.n - 1); }
constexpr int height(Ranks r) { return ceil_log2(r.n); }
constexpr bool on_trees(Ranks r) { return r.channels != nullptr && r.channels->trees.count > 0; }
constexpr int tree_height(Ranks r) { return on_trees(r) ? r.channels->trees.depth : height(r); }
constexpr int twice_height(Ranks r) { return 2 * tree_height(r); }
constexpr int forest_height(Ranks r) { return in_forests(r) ? r.channels->forests.depth : chain(r); }
constexpr int two_hops(Ranks r) { return r.n > 1 ? 2 : 0; }
constexpr int doublings(Ranks r) { return floor_log2(r.n) + 2 * folded(r); }
constexpr int exchanges(Ranks r) { return r.n > 2 ? r.n : r.n - 1; }  // each has a pair, from three ranks on
constexpr int twice_doublings(Ranks r) { return 2 * floor_log2(r.n) + 2 * folded(r); }
constexpr int torus_hops(Ranks r) {
  const Torus torus = Torus::of(r.n, r.hosts);
  return 2 * (torus.rows + torus.columns - 2);
}
// Between hosts once around or twice, and inside a host where one has several ranks.
constexpr int inside(Ranks r) { return largest(r) > 1 ? 1 : 0; }
constexpr int host_tours(Ranks r) { return 2 * (hosts(r) - 1) + 2 * inside(r); }
constexpr int block_by_block(Ranks r) { return r.n > 1 ? r.n : 0; }  // no chain has more messages than steps
constexpr int led_chain(Ranks r) { return hosts(r) - 1 + floor_log2(largest(r)); }
constexpr int two_exchanges(Ranks r) { return (hosts(r) > 1) + inside(r); }

// Bytes.
constexpr double whole(Ranks r) { return r.n > 1 ? 1 : 0; }
constexpr double to_each(Ranks r) { return r.n - 1; }
constexpr double but_one(Ranks r) { return (r.n - 1.0) / r.n; }
constexpr double block(Ranks r) { return r.n > 1 ? 1.0 / r.n : 0; }
constexpr double twice_but_one(Ranks r) { return 2 * but_one(r); }
// Messages of the busiest rank over all trees that were found: to its children, and (`up`) to its parent.
int most_tree_messages(const SpanningTrees& trees, bool up) {
  int most = 0;
  for (int rank = 0; rank < trees.n; ++rank) {
    int messages = 0;
    for (int tree = 0; tree < trees.count; ++tree)
      messages += trees.below(tree, rank).count + (up && trees.parent_of(tree, rank) >= 0);
    most = std::max(most, messages);
  }
  return most;
}
double tree_down(Ranks r) {
  return on_trees(r) ? static_cast<double>(most_tree_messages(r.channels->trees, false)) / r.channels->trees.count
                     : whole(r);
}
double tree_both_ways(Ranks r) {
  if (on_trees(r)) return static_cast<double>(most_tree_messages(r.channels->trees, true)) / r.channels->trees.count;
  return r.n > 1 ? std::min(r.n / 2.0, 2.0) : 0;
}
// A block for each tree of a forest.
double forest_down(Ranks r) {
  return in_forests(r) ? static_cast<double>(most_tree_messages(r.channels->forests, false)) / r.channels->forests.count
                       : but_one(r);
}
constexpr double doubling_bytes(Ranks r) { return floor_log2(r.n) + folded(r); }
constexpr double nothing(Ranks) { return 0; }
constexpr double halving_bytes(Ranks r) { return 2 * but_one(members(r)) + folded(r); }
// Offsets of receivers by the bits that are set in them.
constexpr double bruck_bytes(Ranks r) {
  int moved = 0;
  for (int i = 1; i < r.n; ++i) moved += __builtin_popcount(static_cast<unsigned>(i));
  return static_cast<double>(moved) / r.n;
}
// What its owners give, pass on around the hosts and hand out; who owns no column gives and gets everything.
constexpr double column_both_ways(Ranks r) {
  if (r.n == 1) return 0;
  const double m = columns(r);
  return (m - 1 + largest(r) - 1 + 2 * (hosts(r) - 1.0) / hosts(r)) / m;
}
// An owner of the largest column: all it carries to the next host, but that host's own, and to its team.
double column_out(Ranks r);
constexpr double rail_bytes(Ranks r) {
  return r.n == 1 ? 0 : (columns(r) - 1.0) / columns(r) + (hosts(r) - 1.0) / hosts(r);
}
// A leader has the next one and up to two below it.
constexpr double led_high(Ranks r) { return r.n == 1 ? 0 : (hosts(r) > 1) + std::min(largest(r) - 1, 2); }
constexpr double led_low(Ranks r) { return r.n == 1 ? 0 : 1; }

double column_out(Ranks r) {
  if (r.n == 1) return 0;
  const HostMap& map = *r.hosts;
  // Blocks of a host that a column carries: of the ranks at places column, column + columns, ...
  const auto share = [&](int host, int column) { return (map.size(host) - column + map.columns - 1) / map.columns; };
  int most = 0;
  for (int column = 0; column < map.columns; ++column) {
    int all = 0;
    for (int host = 0; host < map.hosts; ++host) all += share(host, column);
    for (int host = 0; host < map.hosts; ++host) {
      const int carries = all - share(host, column);
      const int onward = map.hosts > 1 ? all - share(map.next(host), column) : 0;
      // My own block goes to the team as well; the rest of my host's have gone there without me.
      most = std::max(most, (carries + 1) * (map.size(host) - 1) + onward);
    }
  }
  return static_cast<double>(most) / r.n;
}

// User schedules: counted in their tables.
AnySchedule make_user(const ScheduleArgs& args) {
  return {TableSchedule{args.user->steps[static_cast<size_t>(args.me)]}};
}
int user_blocks(Ranks r) { return r.user->blocks; }
int user_slots(Ranks r, int slices) { return r.user->slots * slices; }
int user_hops(Ranks r) {
  size_t most = 0;
  for (const std::vector<Step>& steps : r.user->steps) most = std::max(most, steps.size());
  return static_cast<int>(most);
}
template <Peers Step::*kSide>
double user_bytes(Ranks r) {
  const bool region = coll_layout(r.user->coll, r.n, 0, 0, 0).input.kind == Layout::Kind::Region;
  int most = 0;
  for (const std::vector<Step>& steps : r.user->steps) {
    int blocks = 0;
    for (const Step& step : steps) blocks += step.blocks * (step.*kSide).size(r.n);
    most = std::max(most, blocks);
  }
  return static_cast<double>(most) / (region ? r.user->blocks : r.n);
}
constexpr CatalogRow user_row(Coll coll) {
  return {coll,
          Algo::User,
          kBoth,
          kUser,
          one,
          user_blocks,
          user_slots,
          user_hops,
          user_bytes<&Step::to>,
          user_bytes<&Step::to>,
          user_bytes<&Step::from>,
          make_user};
}

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
    {Coll::AllReduce, Algo::Torus, kBoth, kGrid | kEvenChannels, one, all, chunk_slots,  //
     torus_hops, twice_but_one, twice_but_one, twice_but_one, make<TorusAllReduce>},
    {Coll::AllReduce, Algo::Hierarchical, kBoth, kHosts, one, column_blocks, host_tour_slots,  //
     host_tours, column_both_ways, column_both_ways, column_both_ways, make<HierarchicalAllReduce>},

    {Coll::AllReduce, Algo::Pull, kRma, kFanOut | kAllOpen, one, all, any_slots,  //
     two_hops, nothing, nothing, twice_but_one, make<PullAllReduce>},
    {Coll::AllReduce, Algo::PullAll, kRma, kFanOut | kAllOpen | kOutOfPlace, one, one, any_slots,  //
     one_hop, nothing, nothing, to_each, make<PullAllAllReduce>},
    {Coll::AllReduce, Algo::Push, kRma, kFanOut | kAllOpen | kWindows, one, all, any_slots,  //
     one_hop, but_one, but_one, but_one, make<PushAllReduce>},

    {Coll::Reduce, Algo::Direct, kBoth, kNothing, one, one, any_slots,  //
     one_hop, whole, whole, to_each, make<DirectReduce>},
    {Coll::Reduce, Algo::Tree, kBoth, kEvenChannels, one, one, any_slots,  //
     tree_height, whole, whole, tree_down, make<TreeReduce>},
    {Coll::Reduce, Algo::Ring, kBoth, kNothing, one, one, any_slots,  //
     chain, whole, whole, whole, make<RingReduce>},
    {Coll::Reduce, Algo::Hierarchical, kBoth, kHosts, one, one, any_slots,  //
     led_chain, led_low, led_low, led_high, make<HierarchicalReduce>},
    {Coll::Reduce, Algo::Pull, kRma, kNothing, one, one, any_slots,  //
     one_hop, nothing, nothing, to_each, make<PullReduce>},
    {Coll::Reduce, Algo::Push, kRma, kFanOut | kAllOpen | kWindows, one, all, any_slots,  //
     one_hop, block, block, but_one, make<PushReduce>},

    {Coll::Broadcast, Algo::Direct, kBoth, kFanOut, one, one, any_slots,  //
     one_hop, whole, to_each, whole, make<DirectBroadcast>},
    {Coll::Broadcast, Algo::Tree, kBoth, kEvenChannels, one, one, any_slots,  //
     tree_height, tree_down, tree_down, whole, make<TreeBroadcast>},
    {Coll::Broadcast, Algo::Ring, kBoth, kNothing, one, one, any_slots,  //
     chain, whole, whole, whole, make<RingBroadcast>},
    {Coll::Broadcast, Algo::Hierarchical, kBoth, kHosts, one, one, any_slots,  //
     led_chain, led_high, led_high, led_low, make<HierarchicalBroadcast>},
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
    {Coll::AllGather, Algo::Forest, kBoth, kForest, one, one, forest_slots,  //
     forest_height, forest_down, forest_down, but_one, make<ForestAllGather>},
    {Coll::AllGather, Algo::Pat, kBoth, kSingleRound, one, one, half_slots,  //
     height, but_one, but_one, but_one, make<PatAllGather>},
    {Coll::AllGather, Algo::Bruck, kBoth, kSingleRound, one, one, doubled_slots,  //
     height, but_one, but_one, but_one, make<BruckAllGather>},
    {Coll::AllGather, Algo::Hierarchical, kBoth, kHosts, one, one, host_tour_slots,  //
     block_by_block, column_out, column_out, but_one, make<HierarchicalAllGather>},
    {Coll::AllGather, Algo::Pull, kRma, kFanOut | kAllOpen, one, one, any_slots,  //
     one_hop, nothing, nothing, but_one, make<PullAllGather>},
    {Coll::AllGather, Algo::Push, kRma, kFanOut | kAllOpen | kWindows, one, one, any_slots,  //
     one_hop, but_one, but_one, nothing, make<PushAllGather>},

    {Coll::ReduceScatter, Algo::Direct, kBoth, kNothing, one, one, exchange_slots,  //
     one_hop, but_one, but_one, but_one, make<DirectReduceScatter>},
    {Coll::ReduceScatter, Algo::Ring, kBoth, kNothing, one, one, tour_slots,  //
     chain, but_one, but_one, but_one, make<RingReduceScatter>},
    {Coll::ReduceScatter, Algo::Forest, kBoth, kForest, one, one, forest_slots,  //
     forest_height, but_one, but_one, forest_down, make<ForestReduceScatter>},
    {Coll::ReduceScatter, Algo::Pat, kBoth, kSingleRound | kScratch, one, one, half_slots,  //
     height, but_one, but_one, but_one, make<PatReduceScatter>},
    {Coll::ReduceScatter, Algo::Hierarchical, kBoth, kHosts, one, one, host_tour_slots,  //
     block_by_block, but_one, but_one, column_out, make<HierarchicalReduceScatter>},
    {Coll::ReduceScatter, Algo::Pull, kRma, kFanOut | kAllOpen, one, one, any_slots,  //
     one_hop, nothing, nothing, but_one, make<PullReduceScatter>},

    {Coll::AllToAll, Algo::Direct, kBoth, kNothing, one, one, exchange_slots,  //
     one_hop, but_one, but_one, but_one, make<DirectAllToAll>},
    {Coll::AllToAll, Algo::Pairwise, kBoth, kNothing, one, one, exchange_slots,  //
     exchanges, but_one, but_one, but_one, make<PairwiseAllToAll>},
    {Coll::AllToAll, Algo::Bruck, kBoth, kSingleRound | kScratch, one, one, half_slots,  //
     height, bruck_bytes, bruck_bytes, bruck_bytes, make<BruckAllToAll>},
    {Coll::AllToAll, Algo::Hierarchical, kBoth, kHosts | kEvenHosts | kSingleRound, one, one, rail_slots,  //
     two_exchanges, rail_bytes, rail_bytes, rail_bytes, make<HierarchicalAllToAll>},
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

    user_row(Coll::AllReduce),
    user_row(Coll::Reduce),
    user_row(Coll::Broadcast),
    user_row(Coll::AllGather),
    user_row(Coll::ReduceScatter),
    user_row(Coll::AllToAll),
    user_row(Coll::Gather),
    user_row(Coll::Scatter),
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

std::string_view CatalogRow::lacks(Ranks ranks) const {
  if ((needs & kUser) && ranks.user == nullptr) return "no schedule of TUTTI_SCHEDULES serves this call";
  if (ranks.n == 1) return {};
  if ((needs & kPowerOfTwo) && (ranks.n & (ranks.n - 1)) != 0) return "needs a power of two of ranks";
  if ((needs & kGrid) && square_side(ranks.n) == 1) return "needs a number of ranks that makes a grid";
  if ((needs & kHosts) && (ranks.hosts == nullptr || !ranks.hosts->hierarchical()))
    return "needs several hosts, and one with several ranks that share memory";
  if ((needs & kEvenHosts) && !ranks.hosts->even()) return "needs as many ranks on each host, in consecutive numbers";
  return {};
}

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
