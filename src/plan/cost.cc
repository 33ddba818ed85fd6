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
// unless the profile has timed just this candidate on as many ranks: then it takes what it took.
//
// With m > 1 ranks on a core everything takes m times as long, and an exchange is not a line but a round of context
// switches: the last rank to arrive carries on, so m ranks cost m switches.
//
// Over a network, a rank per host:
//
//   time = hops * exchange + messages * message + (sent / write + received / read, or one slice per hop if longer)
//        + combined / combine + touched / memory
//
// Over a network, several ranks on some hosts: the schedule's steps are walked once with what messages inside hosts and
// between them cost (traffic.h); to that comes the longest of what the busiest rank moves, a slice along the chain of
// messages, and what the busiest host sends through its port.
// Between GPUs: fabric.cc.
#include "plan/cost.h"

#include <algorithm>
#include <cmath>

#include "plan/fabric.h"

namespace tutti {
namespace {

struct LinkCost {
  double exchange_us;  // a dependent exchange
  double message_us;   // per slot and peer
  double write_gbps;   // into a socket, per rank
  double read_gbps;    // out of it
};
// Chosen, 2026-11-22, against what single connections over loopback and veth reach on a 2-core Xeon guest; networks
// between machines have not been measured.
constexpr LinkCost kSockets = {5.0, 3.0, 2.6, 2.6};
// Communicators with ranks on GPUs, over RDMA. Chosen and not measured: between kernels a message passes two polls of a
// CPU and two of a kernel over PCIe; one thread posts about a million writes a second; a port of 200 Gbit/s each way,
// of which slots in memory of the host leave less, because a slice crosses the GPU's link and that memory as well.
constexpr LinkCost kRdma = {6.0, 1.0, 15.0, 15.0};
constexpr LinkCost kRdmaOfGpus = {6.0, 1.0, 25.0, 25.0};
const LinkCost& link_of(const Summary& summary) {
  switch (summary.wire) {
    case Wire::Rdma:
      return kRdma;
    case Wire::RdmaOfGpus:
      return kRdmaOfGpus;
    case Wire::Sockets:
      break;
  }
  return kSockets;
}

// What leaves a host together. Chosen: one port of 100 Gbit/s. It matters where all ranks of a host send at once.
constexpr double kPortGbps = 12.5;
// Where the rate of streams of slots is read off the profile.
constexpr double kStreamBytes = 1 << 20;
constexpr double kMessageUs = 0.05;  // handling of a mapped slot. Chosen: two look-ups and a descriptor
constexpr double kOpeningUs = 0.1;   // remote access: per peer, its opening and leaving. Chosen
// The user's own buffers, in the caches and beyond; on the 2-core Xeon guest of the built-in profile, 2026-11-24.
constexpr double kCachedGbps = 80.0, kMemoryGbps = 20.0;
constexpr double kColdCombineShare = 0.25;  // of the rate of combining, once the buffers exceed the caches; there too

// What the busiest rank (0, the root where there is one) does with its own buffers and with what arrives, in bytes per
// byte of the whole buffer: a one-shot all-reduce reads its input twice and combines n - 1 others, a two-shot reads it
// once and combines a part.
struct Work {
  double touched = 0, combined = 0;
};
Work work_per_byte(const Shape& shape, const CatalogRow& row, const Plan& plan, Ranks ranks) {
  const int n = ranks.n;
  const AnySchedule schedule =
      row.make({.me = 0, .n = n, .hosts = ranks.hosts, .user = ranks.user, .channel_map = ranks.channels});
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

// Who calls, and by which schedule of the user's if it is one.
Ranks ranks_of(const Summary& summary, const Plan& plan) {
  Ranks ranks = summary.ranks();
  ranks.user = plan.user;
  return ranks;
}

struct Bytes {  // of the busiest rank
  double whole, sent, received;
};
Bytes bytes_of(const Summary& summary, const Shape& shape, const CatalogRow& row, Ranks ranks) {
  const double whole = static_cast<double>(shape.bytes) * (writes_blocks(shape.coll) ? ranks.n : 1);
  return {whole, whole * (summary.mapped ? row.sent(ranks) : row.sent_pairs(ranks)), whole * row.received(ranks)};
}

// Steps of rank 0 in its first lane.
double steps_of(const CatalogRow& row, Ranks ranks) {
  return row.make({.me = 0, .n = ranks.n, .hosts = ranks.hosts, .user = ranks.user, .channel_map = ranks.channels})
      .steps();
}

// Hosts with several ranks: messages of both kinds, as they follow each other in the schedule (traffic.h).
double predict_hosts_us(const Summary& summary, const Shape& shape, const CatalogRow& row, const Plan& plan) {
  const LinkCost& link = link_of(summary);
  const Profile& profile = *summary.profile;
  const Ranks ranks = ranks_of(summary, plan);
  const double sharing = summary.ranks_per_core;
  const double whole = static_cast<double>(shape.bytes) * (writes_blocks(shape.coll) ? summary.n : 1);
  const double slice = static_cast<double>(plan.slice_bytes);
  const double near_us = sharing > 1 ? sharing * profile.switch_us : profile.slots(0);
  const HopCosts costs{near_us, link.exchange_us, kMessageUs * sharing, link.message_us / 2 * sharing};
  const Traffic traffic = summary.traffic->of(row, ranks, costs);

  const double per_local = profile.slots(kStreamBytes) / kStreamBytes;  // us per byte
  const double per_wire = 0.5e-3 * (1 / link.write_gbps + 1 / link.read_gbps);
  const double local = traffic.local_bytes * whole, wire = (traffic.wire_sent + traffic.wire_received) * whole;
  const double busy = local * per_local + wire * per_wire;
  // A slice cannot leave before it has arrived.
  const double block = static_cast<double>(shape.bytes) / (writes_blocks(shape.coll) ? 1 : plan.blocks) / plan.channels;
  const double hop = std::min(slice, block);
  const double chain = hop * (traffic.local_hops * per_local + traffic.wire_hops * 2 * per_wire);
  const double port = traffic.host_sent * whole * 1e-3 / kPortGbps;
  const double more = std::max(0.0, (local + wire) / slice - traffic.messages);
  const double handling = more * (wire * link.message_us / 2 + local * kMessageUs) / std::max(local + wire, 1.0);
  const double combined =
      reduces(shape.coll) ? work_per_byte(shape, row, plan, ranks).combined * whole * 1e-3 / profile.combine_gbps : 0;
  return traffic.latency_us + std::max(std::max(busy, chain) * sharing, port) + (combined + handling) * sharing;
}

double predict_network_us(const Summary& summary, const Shape& shape, const CatalogRow& row, const Plan& plan) {
  const LinkCost& link = link_of(summary);
  const Ranks ranks = ranks_of(summary, plan);
  const Bytes bytes = bytes_of(summary, shape, row, ranks);
  const double per_slice = static_cast<double>(plan.slice_bytes);
  const double least = steps_of(row, ranks);
  const double messages = std::max(least, std::ceil((bytes.sent + bytes.received) / per_slice));
  // A slice cannot leave before it has arrived: a chain of hops takes at least the time of one slice each.
  const double block = static_cast<double>(shape.bytes) / (writes_blocks(shape.coll) ? 1 : plan.blocks) / plan.channels;
  const double chain = row.hops(ranks) * std::min(per_slice, block) * (1 / link.write_gbps + 1 / link.read_gbps);
  const double through = std::max(bytes.sent / link.write_gbps + bytes.received / link.read_gbps, chain);
  // A short call's own work hides behind its messages; a long one's is between them.
  const Work work = work_per_byte(shape, row, plan, ranks);
  const double own = bytes.whole * (work.combined / summary.profile->combine_gbps + work.touched / kMemoryGbps);
  return row.hops(ranks) * link.exchange_us + messages * link.message_us * summary.ranks_per_core +
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
  // Timed with the planner's own channels and slices, and of blocks of known sizes.
  const bool as_timed = plan.user == nullptr && !shape.ragged && summary.slice_bytes == 0 &&
                        summary.min_channels == 0 && summary.max_channels == 0;
  if (summary.fabric != nullptr) {
    const GpuProfile& gpu = summary.profile->gpu;
    const bool same = !gpu.gpu.empty() && gpu.gpu == summary.fabric->gpu;
    return predict_fabric_us(*summary.fabric, summary.ranks(), shape, row, plan, same ? &gpu : nullptr, as_timed);
  }
  const Ranks ranks = ranks_of(summary, plan);
  if (!summary.mapped && ranks.hosts != nullptr && ranks.hosts->hierarchical() && ranks.n <= TrafficBook::kMostRanks)
    return predict_hosts_us(summary, shape, row, plan);
  if (!summary.mapped) return predict_network_us(summary, shape, row, plan);
  const int n = summary.n;
  const Profile& profile = *summary.profile;
  const Bytes bytes = bytes_of(summary, shape, row, ranks);
  const Timed* timed =
      as_timed ? profile.find(row.coll, row.algo, plan.proto, n, summary.ranks_per_core, summary.windows) : nullptr;
  if (timed != nullptr) return (*timed)(bytes.whole);
  const double sharing = summary.ranks_per_core;
  const double slice = static_cast<double>(plan.slice_bytes);
  const double block = static_cast<double>(shape.bytes) / (writes_blocks(shape.coll) ? 1 : plan.blocks) / plan.channels;
  const int hops = row.hops(ranks);

  const bool cold = 2 * bytes.whole * sharing > static_cast<double>(summary.cache_bytes);
  const Work work = work_per_byte(shape, row, plan, ranks);
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
    const double least = steps_of(row, ranks);
    // One rank only copies: a GPU slice by slice, a CPU at once (AloneRun), but past the caches under Simple alone.
    const double carried = n > 1 ? bytes.sent + bytes.received : bytes.whole;
    handling = std::max(least, std::ceil(carried / slice)) * kMessageUs;
  }
  if (sharing > 1) exchange = hops * (plan.proto == Proto::Rma ? 2 : 1) * sharing * profile.switch_us;
  return exchange + (moving + own + handling) * sharing;
}

}  // namespace tutti
