// SPDX-License-Identifier: Apache-2.0
// Catalog: which algorithms exist for which collective, what they need and what they cost in messages. The planner, the
// executor, the prover, the tools and the parameterised tests all read this one table; to add an algorithm, write its
// struct and add a row. Host only.
//
// Also here: a schedule of any family as one value (AnySchedule), and the layouts of each collective's buffers.
#pragma once

#include <span>
#include <string_view>
#include <variant>
#include <vector>

#include "algo/all_to_all.h"
#include "algo/collective.h"
#include "algo/direct.h"
#include "algo/doubling.h"
#include "algo/forest.h"
#include "algo/hierarchical.h"
#include "algo/layout.h"
#include "algo/packed.h"
#include "algo/ring.h"
#include "algo/rma.h"
#include "algo/torus.h"
#include "algo/tree.h"

namespace tutti {

// A schedule written down step by step (user schedules). It refers to its steps and does not own them.
struct TableSchedule {
  std::span<const Step> table;
  int steps() const { return static_cast<int>(table.size()); }
  Step at(int k) const { return table[k]; }
};

// One schedule of any family. Satisfies the concept itself; a caller that cares for the branch visits `kind` once.
struct AnySchedule {
  std::variant<RingAllReduce, RingReduceScatter, RingAllGather, RingBroadcast, RingReduce, TreeAllReduce, TreeBroadcast,
               TreeReduce, OneShotAllReduce, TwoShotAllReduce, DirectAllGather, DirectReduceScatter, DirectBroadcast,
               DirectReduce, DirectGather, DirectScatter, SendRecvStep, DoublingAllReduce, DoublingAllGather,
               HalvingDoublingAllReduce, DirectAllToAll, PairwiseAllToAll, PullAllReduce, PullAllAllReduce, PullReduce,
               PullAllGather, PullReduceScatter, PullAllToAll, PullBroadcast, PullGather, PullScatter, PullSendRecv,
               PushAllReduce, PushAllGather, PushReduce, PushGather, PushBroadcast, HierarchicalAllReduce,
               HierarchicalAllGather, HierarchicalReduceScatter, HierarchicalBroadcast, HierarchicalReduce,
               HierarchicalAllToAll, BruckAllGather, BruckAllToAll, PatAllGather, PatReduceScatter, TorusAllReduce,
               ForestAllGather, ForestReduceScatter, TableSchedule>
      kind;
  int steps() const {
    return std::visit([](const auto& s) { return s.steps(); }, kind);
  }
  Step at(int k) const {
    return std::visit([k](const auto& s) { return s.at(k); }, kind);
  }
};
static_assert(Schedule<AnySchedule> && Schedule<RingAllReduce>);

inline constexpr unsigned kSimple = 1u << static_cast<int>(Proto::Simple);
inline constexpr unsigned kLL = 1u << static_cast<int>(Proto::LL);
inline constexpr unsigned kRma = 1u << static_cast<int>(Proto::Rma);

// Who calls together, as far as the shape of a schedule depends on it. A number will do where hosts do not matter.
struct Ranks {
  int n = 1;
  const HostMap* hosts = nullptr;        // null: not known, and no row that asks for hosts fits
  const UserSchedule* user = nullptr;    // null: none serves the call
  const ChannelMap* channels = nullptr;  // null: no topology says how channels run

  constexpr Ranks(int count, const HostMap* map = nullptr, const UserSchedule* schedule = nullptr,  // NOLINT
                  const ChannelMap* found = nullptr)
      : n(count), hosts(map), user(schedule), channels(found) {}
};

// What a row asks of the call or the machine (a mask).
enum Needs : unsigned {
  kNothing = 0,
  kFanOut = 1,        // sends over fan-out: pays where peers map the slots (sent_pairs tells the price elsewhere)
  kPowerOfTwo = 2,    // n
  kSingleRound = 4,   // moves runs of blocks of a Strided layout: one channel, one round, adjacent blocks of one length
  kEvenChannels = 8,  // correct with any number of channels, balanced with an even one
  kAllOpen = 16,      // Rma: every rank opens to all, so all know alike whether each buffer can be reached as needed
  kWindows = 32,      // Rma: writes outputs of peers
  kOutOfPlace = 64,   // no input may overlap an output; known only when all have opened
  kHosts = 128,       // several hosts, one of which at least has several ranks
  kEvenHosts = 256,   // as many ranks on each host, in consecutive numbers
  kGrid = 512,        // n is a product of two numbers above 1
  kScratch = 1024,    // n blocks of scratch memory
  kUser = 2048,       // a schedule that the user wrote, proven
  kForest = 4096,     // pays where spanning trees were packed onto a topology (correct anywhere)
};

// Costs are those of the busiest rank. `sent` and `received` are in bytes per byte of the collective's whole buffer:
// the region, or all n blocks together. All functions hold for n >= 1, and where the row asks for hosts with those.
struct CatalogRow {
  Coll coll;
  Algo algo;
  unsigned protocols;  // mask of 1 << Proto, without LL128
  unsigned needs;      // mask of Needs

  int (*parts)(Ranks ranks);              // lanes per channel
  int (*blocks)(Ranks ranks);             // what Tiling::blocks must be
  int (*slots)(Ranks ranks, int slices);  // fewest slots per connection with which no lane waits for itself

  int (*hops)(Ranks ranks);  // messages on the longest chain, at most
  double (*sent)(Ranks ranks);
  double (*sent_pairs)(Ranks ranks);  // the same where fan-out goes pair by pair
  double (*received)(Ranks ranks);

  AnySchedule (*make)(const ScheduleArgs& args);

  // LL128 carries whatever LL does.
  bool has(Proto proto) const { return protocols & (proto == Proto::LL128 ? kLL : 1u << static_cast<int>(proto)); }
  // What these ranks lack; empty: the row is for them.
  std::string_view lacks(Ranks ranks) const;
  bool fits(Ranks ranks) const { return lacks(ranks).empty(); }
};

// Rma: the buffers of a call may turn out not to allow this row.
inline bool can_be_refused(const CatalogRow& row, bool single_copy) {
  return !single_copy || (row.needs & (kWindows | kOutOfPlace)) != 0;
}

// All rows; the order breaks ties in the planner.
std::span<const CatalogRow> catalog();
// The row, or null.
const CatalogRow* find_row(Coll coll, Algo algo);
// The schedule of an existing row (a programmer's error otherwise).
AnySchedule make_schedule(Coll coll, Algo algo, const ScheduleArgs& args);

// Names as written by users; null when there is none.
const Coll* find_coll(std::string_view text);
const Algo* find_algo(std::string_view text);
const Proto* find_proto(std::string_view text);

// `bytes` is what one rank contributes: the region, or one block.
CollLayout coll_layout(Coll coll, int n, int me, int root, uint64_t bytes);

// The V forms, with tables in bytes, indexed by rank, that outlive the result.
struct BlockTable {
  const uint64_t* offsets;
  const uint64_t* lengths;
};
CollLayout all_gather_v_layout(int n, int me, BlockTable output);
CollLayout reduce_scatter_v_layout(int n, int me, BlockTable input);
CollLayout all_to_all_v_layout(int n, BlockTable input, BlockTable output);

}  // namespace tutti
