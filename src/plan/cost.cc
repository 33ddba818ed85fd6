// SPDX-License-Identifier: Apache-2.0
// The cost model:
//
//   time = hops * exchange                       dependent exchanges, each a line (or a packet) across
//        + messages * message                    handling of a slot
//        + (sent / write + received / read) * m  bytes through slots, or one slice per hop if that is longer; m ranks
//                                                share a core
//        + touched / memory * m                  the user's buffers, when they do not stay in the caches
//
// With m > 1 ranks on a core an exchange is not a line but a round of context switches: the last rank to arrive carries
// on, so m ranks cost m switches.
#include "plan/cost.h"

#include <algorithm>
#include <cmath>

namespace tutti {
namespace {

struct LinkCost {
  double exchange_us;  // a dependent exchange
  double message_us;   // per slot and peer
  double write_gbps;   // into a slot or a socket, per rank
  double read_gbps;    // out of it
};

// Constants chosen for a 2-core Xeon (AVX-512, 2 MiB L2 per core), from rates measured there with two processes: slots
// are written at 21 GB/s and read at 26 GB/s, a line takes 0.15 us, a switch to another rank 0.7 us; the rest is set so
// that the crossovers of AllReduce come out as measured. Not fitted per machine: that needs a tool (`tutti tune`).
constexpr LinkCost kMappedLL = {0.14, 0.02, 12.0, 12.0};
constexpr LinkCost kMappedSimple = {0.8, 0.05, 21.0, 26.0};
constexpr LinkCost kTcp = {5.0, 3.0, 2.6, 2.6};
constexpr double kSwitchUs = 0.75;     // sched_yield to another rank of the core
constexpr double kCombineGbps = 60.0;  // one more source in a reduction
constexpr double kCachedGbps = 80.0;   // user buffers that stay in the L2
constexpr double kMemoryGbps = 20.0;   // user buffers that do not

// How often a rank reads or writes a byte of its own buffers, per byte of the whole buffer: a one-shot all-reduce reads
// its input twice, a two-shot once. Taken from the schedule of rank 0, the root where there is one.
double touched_per_byte(const Shape& shape, const CatalogRow& row, const Plan& plan, int n) {
  const AnySchedule schedule = row.make({0, n, 0, 0, 0});
  const int blocks = writes_blocks(shape.coll) ? n : plan.blocks;
  double touched = 0;
  for (int k = 0; k < schedule.steps(); ++k) {
    const Step step = schedule.at(k);
    touched += step.blocks * ((step.src != Buffer::None) + (step.dst_block >= 0));
  }
  return touched / blocks;
}

}  // namespace

double predict_us(const Summary& summary, const Shape& shape, const CatalogRow& row, const Plan& plan) {
  const int n = summary.n;
  const LinkCost& link = !summary.mapped ? kTcp : plan.proto == Proto::LL ? kMappedLL : kMappedSimple;
  const double whole = static_cast<double>(shape.bytes) * (writes_blocks(shape.coll) ? n : 1);
  const double sent = whole * (summary.mapped ? row.sent(n) : row.sent_pairs(n));
  const double received = whole * row.received(n);
  const double sharing = summary.ranks_per_core;

  // Slots handled: one per peer and slice.
  const double per_slice = static_cast<double>(plan.slice_bytes);
  const double least = static_cast<double>(make_schedule(shape.coll, row.algo, {0, n, 0, 0, 0}).steps());
  const double messages = std::max(least, std::ceil((sent + received) / per_slice));

  const double exchange = summary.ranks_per_core > 1 ? sharing * kSwitchUs : link.exchange_us;
  const double combined = reduces(shape.coll) ? received : 0;
  const double footprint = 2 * whole * sharing;
  const double memory = footprint > static_cast<double>(summary.cache_bytes) ? kMemoryGbps : kCachedGbps;
  // A slice cannot leave before it has arrived: a chain of hops takes at least the time of one slice each.
  const double block = static_cast<double>(shape.bytes) / (writes_blocks(shape.coll) ? 1 : plan.blocks) / plan.channels;
  const double chain = row.hops(n) * std::min(per_slice, block) * (1 / link.write_gbps + 1 / link.read_gbps);
  const double through_slots = std::max(sent / link.write_gbps + received / link.read_gbps, chain);
  const double bytes_us =
      (through_slots + combined / kCombineGbps + whole * touched_per_byte(shape, row, plan, n) / memory) * 1e-3;
  return row.hops(n) * exchange + messages * link.message_us * sharing + bytes_us * sharing;
}

}  // namespace tutti
