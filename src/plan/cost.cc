// SPDX-License-Identifier: Apache-2.0
// The cost model.
//
// Over mapped memory, from the curves of the profile (profile.h), C being that of the protocol:
//
//   time = hops * C(bytes of a hop)              one slice per hop or less: hops follow each other
//        | C(all bytes) + (hops - 1) * C(slice)  more: slices follow each other through the hops
//        + combined / combine                    one more source of a reduction
//        + touched / memory                      the user's own buffers
//        + handling of slots, one per peer and slice
//
// With m > 1 ranks on a core everything takes m times as long, and an exchange is not a line but a round of context
// switches: the last rank to arrive carries on, so m ranks cost m switches.
//
// Over a network:
//
//   time = hops * exchange + messages * message + (sent / write + received / read, or one slice per hop if longer)
//        + combined / combine + touched / memory
#include "plan/cost.h"

#include <algorithm>
#include <cmath>

namespace tutti {
namespace {

struct LinkCost {
  double exchange_us;  // a dependent exchange
  double message_us;   // per slot and peer
  double write_gbps;   // into a socket, per rank
  double read_gbps;    // out of it
};
// Chosen from what single connections over loopback and veth reach on a 2-core Xeon.
constexpr LinkCost kTcp = {5.0, 3.0, 2.6, 2.6};

constexpr double kMessageUs = 0.05;  // handling of a mapped slot: two look-ups and a descriptor
constexpr double kOpeningUs = 0.1;   // remote access: per peer, its opening and leaving
// The user's own buffers, in the caches and beyond; on the 2-core Xeon of the built-in profile.
constexpr double kCachedGbps = 80.0, kMemoryGbps = 20.0;
constexpr double kColdCombineShare = 0.25;  // of the rate of combining, once the buffers exceed the caches

// What the busiest rank (0, the root where there is one) does with its own buffers and with what arrives, in bytes per
// byte of the whole buffer: a one-shot all-reduce reads its input twice and combines n - 1 others, a two-shot reads it
// once and combines a part.
struct Work {
  double touched = 0, combined = 0;
};
Work work_per_byte(const Shape& shape, const CatalogRow& row, const Plan& plan, int n) {
  const AnySchedule schedule = row.make({0, n, 0, 0, 0});
  const double blocks = writes_blocks(shape.coll) ? n : plan.blocks;
  Work work;
  for (int k = 0; k < schedule.steps(); ++k) {
    const Step step = schedule.at(k);
    if (step.meets()) continue;
    work.touched += step.blocks * ((step.src != Buffer::None) + (step.dst_block >= 0)) / blocks;
    if (step.reduce) work.combined += step.blocks * step.from.size(n) / blocks;
  }
  return work;
}

struct Bytes {  // of the busiest rank
  double whole, sent, received;
};
Bytes bytes_of(const Summary& summary, const Shape& shape, const CatalogRow& row) {
  const int n = summary.n;
  const double whole = static_cast<double>(shape.bytes) * (writes_blocks(shape.coll) ? n : 1);
  return {whole, whole * (summary.mapped ? row.sent(n) : row.sent_pairs(n)), whole * row.received(n)};
}

double predict_network_us(const Summary& summary, const Shape& shape, const CatalogRow& row, const Plan& plan) {
  const int n = summary.n;
  const Bytes bytes = bytes_of(summary, shape, row);
  const double per_slice = static_cast<double>(plan.slice_bytes);
  const double least = static_cast<double>(make_schedule(shape.coll, row.algo, {0, n, 0, 0, 0}).steps());
  const double messages = std::max(least, std::ceil((bytes.sent + bytes.received) / per_slice));
  // A slice cannot leave before it has arrived: a chain of hops takes at least the time of one slice each.
  const double block = static_cast<double>(shape.bytes) / (writes_blocks(shape.coll) ? 1 : plan.blocks) / plan.channels;
  const double chain = row.hops(n) * std::min(per_slice, block) * (1 / kTcp.write_gbps + 1 / kTcp.read_gbps);
  const double through = std::max(bytes.sent / kTcp.write_gbps + bytes.received / kTcp.read_gbps, chain);
  // A short call's own work hides behind its messages; a long one's is between them.
  const Work work = work_per_byte(shape, row, plan, n);
  const double own = bytes.whole * (work.combined / summary.profile->combine_gbps + work.touched / kMemoryGbps);
  return row.hops(n) * kTcp.exchange_us + messages * kTcp.message_us * summary.ranks_per_core +
         (through + own) * 1e-3 * summary.ranks_per_core;
}

// Hops that follow each other, of which each brings `per_hop` bytes, or slices that stream through them.
double through(const Curve& curve, double total, double block, double slice, int hops) {
  if (hops == 0 || total <= 0) return curve(0) * hops;
  if (block <= slice) return hops * curve(std::max(total / hops, block));
  return curve(total) + (hops - 1) * curve(slice);
}

}  // namespace

double predict_us(const Summary& summary, const Shape& shape, const CatalogRow& row, const Plan& plan) {
  if (!summary.mapped) return predict_network_us(summary, shape, row, plan);
  const int n = summary.n;
  const Profile& profile = *summary.profile;
  const Bytes bytes = bytes_of(summary, shape, row);
  const double sharing = summary.ranks_per_core;
  const double slice = static_cast<double>(plan.slice_bytes);
  const double block = static_cast<double>(shape.bytes) / (writes_blocks(shape.coll) ? 1 : plan.blocks) / plan.channels;
  const int hops = row.hops(n);

  const bool cold = 2 * bytes.whole * sharing > static_cast<double>(summary.cache_bytes);
  const Work work = work_per_byte(shape, row, plan, n);
  const double combine_gbps = profile.combine_gbps * (cold ? kColdCombineShare : 1);
  const double own =
      bytes.whole * 1e-3 * (work.combined / combine_gbps + work.touched / (cold ? kMemoryGbps : kCachedGbps));
  double exchange = 0, moving = 0, handling = 0;
  if (plan.proto == Proto::Rma) {
    const Curve& reading = summary.windows && (row.needs & kAllOpen) ? profile.pull : profile.kernel;
    exchange = hops * reading(0);
    // What a peer has only just written, between two hops of one call, is brought as slowly as slots are.
    if (bytes.received > 0) {
      moving = reading(bytes.received / hops);
      if (hops > 1)
        moving += (hops - 1) * std::max(reading(bytes.received / hops), profile.slots(bytes.received / hops));
    }
    if (bytes.sent > 0) moving += profile.push(bytes.sent) - (bytes.received > 0 ? profile.push(0) : 0);
    moving = std::max(moving - exchange, 0.0);
    handling = 2 * (n - 1) * kOpeningUs * hops;
  } else {
    const Curve& curve = plan.proto == Proto::LL ? profile.ll : profile.slots;
    exchange = hops * curve(0);
    moving = std::max(through(curve, std::max(bytes.sent, bytes.received), block, slice, hops) - exchange, 0.0);
    const double least = static_cast<double>(make_schedule(shape.coll, row.algo, {0, n, 0, 0, 0}).steps());
    handling = std::max(least, std::ceil((bytes.sent + bytes.received) / slice)) * kMessageUs;
  }
  if (sharing > 1) exchange = hops * (plan.proto == Proto::Rma ? 2 : 1) * sharing * profile.switch_us;
  return exchange + (moving + own + handling) * sharing;
}

}  // namespace tutti
