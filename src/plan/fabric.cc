// SPDX-License-Identifier: Apache-2.0
// time = launch + hops inside a domain * latency + hops across * latency + bytes / bandwidth
//
// bytes are what the busiest rank sends; the bandwidth is that of the channels the algorithm runs on: rings for rings,
// trees for trees and forests, the star for whatever sends to peers directly.
#include "plan/fabric.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <iterator>
#include <map>
#include <utility>

#include "plan/cost.h"
#include "proto/lines.h"

namespace tutti {
namespace {

// Microseconds per hop and protocol, and for the launch of a collective of that protocol. From the tuning model that
// NCCL publishes (src/graph/tuning.cc, 2.27: base and hardware latencies of rings on NVLink, PCI and NET; of LL128,
// which is for NVLink, those of PCI and NET are 2.8's), as no GPU has been measured yet; `tutti tune` on a GPU replaces
// them there (GpuProfile), but for hops across hosts.
struct LinkCost {
  LinkClass link;
  double ll, ll128, simple;
};
constexpr LinkCost kHops[] = {
    {LinkClass::NvLink, 0.6, 1.9, 3.4},
    {LinkClass::Pcie, 1.0, 2.5, 5.7},
    {LinkClass::Network, 2.7, 4.0, 14.0},
};
constexpr double kLaunchLL = 6.6, kLaunchSimple = 8.4;
// LL128's own launch, and its hops where LL and Simple have been measured: half way between these. Chosen, not measured
// (NCCL's model has a launch of 14 us, which is more than Simple's; here the two kernels of lines begin alike).
constexpr double half_way(double ll, double simple) { return (ll + simple) / 2; }
// Remote access meets by lines alone: an opening there and a leaving back, each of which costs what a hop of LL does.
// Chosen, not measured.
constexpr double kLinesOfMeeting = 2;
// Copy engines: the events by which streams meet, and each copy. Kernels reach a part of what copies do, and take
// multiprocessors for it. Chosen, not measured.
constexpr double kLaunchCopies = 10, kEachCopy = 2, kKernelShare = 0.8;
// Half of what LL moves are flags (16 bytes carry 8), and a sixteenth of what LL128 does.
constexpr double kShareLL = 0.5;
constexpr double kShareLL128 = static_cast<double>(kLL128LineData) / static_cast<double>(kLL128LineBytes);

double hop_us(LinkClass link, Proto proto) {
  const auto of_link = [link](const LinkCost& one) { return one.link == link; };
  const LinkCost* const row = std::find_if(std::begin(kHops), std::end(kHops), of_link);
  switch (proto) {
    case Proto::LL:
      return row->ll;
    case Proto::LL128:
      return row->ll128;
    case Proto::Simple:
      return row->simple;
    case Proto::Rma:
      break;
  }
  return row->ll * kLinesOfMeeting;
}

// A launch and a hop inside a domain.
GpuProfile::Latency latency_inside(const Fabric& fabric, Proto proto, const GpuProfile* measured) {
  if (measured != nullptr && proto == Proto::Rma)
    return {measured->simple.launch_us, measured->ll.hop_us * kLinesOfMeeting};
  if (measured != nullptr && proto == Proto::LL128)
    return {half_way(measured->ll.launch_us, measured->simple.launch_us),
            half_way(measured->ll.hop_us, measured->simple.hop_us)};
  if (measured != nullptr) return proto == Proto::LL ? measured->ll : measured->simple;
  const double launch = proto == Proto::LL      ? kLaunchLL
                        : proto == Proto::LL128 ? half_way(kLaunchLL, kLaunchSimple)
                                                : kLaunchSimple;
  return {launch, hop_us(fabric.inside, proto)};
}

// Of the bandwidth, what is left for data.
double share_of(Proto proto, const GpuProfile* measured) {
  if (proto == Proto::LL128) return kShareLL128;
  if (proto != Proto::LL) return 1;
  return measured != nullptr ? measured->share_ll : kShareLL;
}

// Hops on the longest chain: inside domains, and across.
struct Hops {
  double inside, across;
};
Hops hops_of(const Fabric& fabric, Ranks ranks, const CatalogRow& row) {
  const double all = row.hops(ranks);
  if (fabric.domains < 2) return {all, 0};
  const double each = std::ceil(static_cast<double>(fabric.ranks) / fabric.domains);
  if (row.algo == Algo::Ring) {
    const double across = all * fabric.domains / fabric.ranks;
    return {all - across, across};
  }
  const double ways = row.coll == Coll::AllReduce ? 2 : 1;
  if (row.algo == Algo::Tree) {
    const double across = ways * std::bit_width(static_cast<unsigned>(fabric.domains - 1));
    return {ranks.channels != nullptr ? std::max(all - across, 0.0) : ways * (each - 1), across};
  }
  if (row.algo == Algo::Hierarchical) {  // host after host
    const double across = std::min(all, ways * (fabric.domains - 1));
    return {all - across, across};
  }
  // Directly: any hop may be one across.
  return {0, all};
}

}  // namespace

double fabric_gbps(const Fabric& fabric, Algo algo) {
  // What a hierarchy sends between hosts leaves by the ports that rings leave by, and is no more.
  if (algo == Algo::Ring || algo == Algo::Hierarchical) return fabric.ring_gbps;
  if (algo == Algo::Forest) return fabric.forests > 0 ? fabric.tree_gbps : 0;
  return algo == Algo::Tree ? fabric.tree_gbps : fabric.star_gbps;
}

const char* to_string(LinkClass link) {
  constexpr const char* kNames[] = {"NVLink or xGMI", "PCIe", "network"};
  return kNames[static_cast<size_t>(link)];
}

Fabric make_fabric(const topology::Graph& graph, const topology::ChannelPlan& channels) {
  Fabric fabric{.ranks = channels.ranks,
                .domains = channels.domains,
                .ring_gbps = channels.ring_bus_gbps,
                .tree_gbps = channels.tree_bus_gbps,
                .star_gbps = channels.star_bus_gbps,
                .rings = std::max(static_cast<int>(channels.rings.size()), 1),
                .trees = std::max(static_cast<int>(channels.trees.size()), 1),
                .forests = channels.forests};
  // A ring is as slow to answer as its slowest neighbours.
  for (const topology::NodeId device : channels.star.devices) {
    const auto& links = graph.links_of(device);
    const bool fast = std::any_of(links.begin(), links.end(),
                                  [&](topology::LinkId id) { return topology::is_fabric(graph.link(id).kind); });
    if (!fast) fabric.inside = LinkClass::Pcie;
  }
  return fabric;
}

int fabric_channels(const Fabric& fabric, Algo algo) {
  // Whatever sends directly uses as many channels as rings do: as many thread blocks fill the same links.
  if (algo == Algo::Forest) return std::max(fabric.forests, 1);
  return algo == Algo::Tree ? fabric.trees : fabric.rings;
}

std::shared_ptr<const ChannelTable> make_channel_table(const topology::ChannelPlan& channels,
                                                       const std::vector<topology::NodeId>& ranks, Coll coll,
                                                       int root) {
  const int n = static_cast<int>(ranks.size());
  std::map<topology::NodeId, std::vector<int>> on;
  for (int rank = 0; rank < n; ++rank) on[ranks[static_cast<size_t>(rank)]].push_back(rank);
  ChannelTable::Shapes shapes;
  for (const topology::RingChannel& ring : channels.rings) {
    std::vector<int>& order = shapes.rings.emplace_back();
    for (const topology::NodeId device : ring.devices) order.insert(order.end(), on[device].begin(), on[device].end());
  }
  // The first rank of a device hangs below the first of the parent's, the others below it, one after the other.
  for (const topology::TreeChannel& tree : channels.trees) {
    ChannelTable::Parents parents(ranks.size(), -1);
    for (size_t i = 0; i < tree.devices.size(); ++i) {
      int above = tree.parents[i] < 0 ? -1 : on[tree.devices[static_cast<size_t>(tree.parents[i])]].front();
      for (const int rank : on[tree.devices[i]]) parents[static_cast<size_t>(rank)] = std::exchange(above, rank);
    }
    if (channels.forests > 0) hang_from(static_cast<int>(shapes.forests.size()) % n, parents);
    if (rooted(coll)) hang_from(root, parents);
    (channels.forests > 0 ? shapes.forests : shapes.trees).push_back(std::move(parents));
  }
  shapes.towards_roots = coll == Coll::ReduceScatter;
  shapes.root = rooted(coll) ? root : -1;
  return std::make_shared<const ChannelTable>(n, shapes);
}

double predict_fabric_us(const Fabric& fabric, Ranks ranks, const Shape& shape, const CatalogRow& row, const Plan& plan,
                         const GpuProfile* measured, bool as_timed) {
  const int n = fabric.ranks;
  const double whole = static_cast<double>(shape.bytes) * (writes_blocks(shape.coll) ? n : 1);
  if (measured != nullptr && as_timed && measured->gpus == fabric.gpus) {
    const Timed* const timed = measured->find(row.coll, row.algo, plan.proto, n);
    if (timed != nullptr) return (*timed)(whole);
  }
  const GpuProfile::Latency inside = latency_inside(fabric, plan.proto, measured);
  if (n < 2) return inside.launch_us;
  const Hops hops = hops_of(fabric, ranks, row);
  const double latency =
      inside.launch_us + hops.inside * inside.hop_us + hops.across * hop_us(LinkClass::Network, plan.proto);
  // The bandwidth of trees and hierarchies already counts both ways and all children; the others are charged with what
  // a rank moves.
  const double ring = row.coll == Coll::AllReduce ? 2.0 * (n - 1) / n : writes_blocks(row.coll) ? (n - 1.0) / n : 1.0;
  const bool by_channels = row.algo == Algo::Tree || row.algo == Algo::Forest || row.algo == Algo::Hierarchical;
  const double moved = whole * (by_channels ? ring : std::max(row.sent_pairs(ranks), row.received(ranks)));
  const double gbps =
      plan.proto == Proto::Rma ? fabric.remote_gbps : fabric_gbps(fabric, row.algo) * share_of(plan.proto, measured);
  if (gbps <= 0) return latency;  // no candidate (planner.cc)
  return latency + moved / gbps * 1e-3;
}

double predict_copies_us(const Fabric& fabric, Ranks ranks, const Shape& shape, const CatalogRow& row) {
  const int n = fabric.ranks;
  const double whole = static_cast<double>(shape.bytes) * (writes_blocks(shape.coll) ? n : 1);
  const double moved = whole * std::max(row.sent_pairs(ranks), row.received(ranks));
  return kLaunchCopies + kEachCopy * n + moved / (fabric.remote_gbps / kKernelShare) * 1e-3;
}

}  // namespace tutti
