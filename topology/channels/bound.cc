// SPDX-License-Identifier: Apache-2.0
// Domains hang together by the world alone, a star. So a cut of all vertices is a cut in each domain, and the worst
// ratio is found domain by domain (all-gather and the rest), or by adding up (the partitions of all-reduce).
#include "topology/channels/bound.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>

#include "topology/channels/flow.h"

namespace tutti::topology {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();
constexpr double kClose = 1e-6;  // relative: capacities are whole kB/s
size_t at(int32_t index) { return static_cast<size_t>(index); }

// The devices, and the world where there is one: all that hold ranks.
std::vector<int32_t> holders(const Network& network) {
  std::vector<int32_t> all(at(network.devices));
  std::iota(all.begin(), all.end(), 0);
  if (network.world >= 0) all.push_back(network.world);
  return all;
}

std::vector<int32_t> side_of(const Network& network, const Flow& flow) {
  std::vector<int32_t> side;
  for (const int32_t v : holders(network))
    if (flow.source_side(v)) side.push_back(v);
  return side;
}

// Each rank has x to send to `sink`: the largest x, by Newton's method on the cuts (Dinkelbach): a cut that x overloads
// gives a smaller x, until none is overloaded. Lowers `least` and remembers the cut.
void lower_to_feasible(const Network& network, int32_t sink, double* least, Bound* bound) {
  Flow flow(network, 1);
  const int32_t source = network.size();
  std::vector<std::pair<int32_t, int32_t>> supply;  // vertex, arc
  int32_t ranks = 0;
  for (const int32_t v : holders(network)) {
    if (v == sink) continue;
    supply.emplace_back(v, flow.add_arc(source, v, 0));
    ranks += network.weight(v);
  }
  if (ranks == 0) return;
  // A first x: what the links of the sink could carry at most.
  double x = *least;
  if (x == kInfinite) {
    double in = 0;
    for (const int32_t arc : network.out[at(sink)]) in += network.arcs[at(arc ^ 1)].gbps;
    x = in / ranks;
    *least = x;
    *bound = {.side = {}, .cut_gbps = in};
    for (const auto& [v, arc] : supply) bound->side.push_back(v);
  }
  while (x > 0) {
    for (const auto& [v, arc] : supply) flow.set(arc, x * network.weight(v));
    const double value = flow.run(source, sink);
    if (value >= x * ranks * (1 - kClose)) return;
    double weight = 0, outside = 0;
    for (const auto& [v, arc] : supply) {
      if (flow.source_side(v))
        weight += network.weight(v);
      else
        outside += network.weight(v);
    }
    if (weight == 0) return;
    const double cut = std::max(value - x * outside, 0.0);
    const double next = cut / weight;
    if (next >= x * (1 - kClose)) return;
    x = *least = next;
    *bound = {.side = side_of(network, flow), .cut_gbps = cut};
  }
}

// All-gather: every rank's block reaches every other. x = worst cut / ranks inside.
double spread(const Network& network, double least, Bound* bound) {
  for (const int32_t sink : holders(network)) lower_to_feasible(network, sink, &least, bound);
  return least;
}

double max_flow(const Network& network, Flow* flow, int32_t from, int32_t to, Bound* bound) {
  const double value = flow->run(from, to);
  *bound = {.side = side_of(network, *flow), .cut_gbps = value};
  return value;
}

// --- all-reduce: partitions ---

struct Partition {
  std::vector<std::vector<int32_t>> groups;
  std::vector<double> cuts;  // what leaves each group
  double sum() const { return std::accumulate(cuts.begin(), cuts.end(), 0.0); }
};

// What leaves a group of devices towards any other holder.
double leaving(const Network& network, const std::vector<int32_t>& group) {
  Flow flow(network, 2);
  const int32_t source = network.size(), sink = source + 1;
  std::vector<char> inside(at(network.size()), 0);
  for (const int32_t v : group) inside[at(v)] = 1;
  bool any = false;
  for (const int32_t v : holders(network)) {
    if (inside[at(v)]) {
      flow.add_arc(source, v, Flow::kUnlimited);
    } else {
      flow.add_arc(v, sink, Flow::kUnlimited);
      any = true;
    }
  }
  return any ? flow.run(source, sink) : 0;
}

// The partition with the least sum of (what leaves a group - price), by the greedy algorithm for submodular functions
// (Dilworth truncation): device by device, the least value that a group ending with it allows; groups that meet merge.
Partition cheapest_partition(const Network& network, double price) {
  const int32_t n = network.devices;
  std::vector<double> value(at(n), 0);
  std::vector<int32_t> group(at(n));
  for (int32_t j = 0; j < n; ++j) {
    Flow flow(network, 1);
    const int32_t sink = network.size();
    double gained = 0;
    for (int32_t v = 0; v < j; ++v) {
      if (value[at(v)] > 0) flow.add_arc(j, v, value[at(v)]), gained += value[at(v)];
      if (value[at(v)] < 0) flow.add_arc(v, sink, -value[at(v)]);
    }
    for (int32_t v = j + 1; v < n; ++v) flow.add_arc(v, sink, Flow::kUnlimited);
    if (network.world >= 0) flow.add_arc(network.world, sink, Flow::kUnlimited);
    // What leaves the group, less the values of its other members: the constant `gained` makes these costs positive.
    value[at(j)] = flow.run(j, sink) - gained - price;
    group[at(j)] = j;
    for (int32_t v = 0; v < j; ++v)
      if (flow.source_side(v)) {
        const int32_t old = group[at(v)];
        for (int32_t w = 0; w <= j; ++w)
          if (group[at(w)] == old) group[at(w)] = j;
      }
  }
  Partition partition;
  for (int32_t g = 0; g < n; ++g) {
    std::vector<int32_t> members;
    for (int32_t v = 0; v < n; ++v)
      if (group[at(v)] == g) members.push_back(v);
    if (members.empty()) continue;
    partition.cuts.push_back(leaving(network, members));
    partition.groups.push_back(std::move(members));
  }
  return partition;
}

// Each byte crosses between k groups at least 2 (k - 1) times: the rate is at most what leaves all groups / 2 (k - 1).
// The worst partition, by Newton's method from the finest.
double partition_rate(const std::vector<DomainClass>& classes, const std::function<Network(const Network&)>& view,
                      Bound* bound) {
  std::vector<Network> networks;
  for (const DomainClass& one : classes) networks.push_back(view(*one.network));
  double rate = kInfinite;
  for (bool first = true;; first = false) {
    double sum = 0;
    int64_t groups = 0;
    size_t narrow = 0;
    std::vector<Partition> partitions;
    for (size_t c = 0; c < classes.size(); ++c) {
      Partition partition;
      if (first) {
        for (int32_t v = 0; v < networks[c].devices; ++v) {
          partition.groups.push_back({v});
          partition.cuts.push_back(leaving(networks[c], {v}));
        }
      } else {
        partition = cheapest_partition(networks[c], 2 * rate);
      }
      sum += classes[c].domains * partition.sum();
      groups += int64_t{classes[c].domains} * static_cast<int64_t>(partition.groups.size());
      partitions.push_back(std::move(partition));
      if (partitions[c].cuts[0] < partitions[narrow].cuts[0]) narrow = c;
    }
    if (groups < 2) return rate;
    const double next = sum / (2.0 * static_cast<double>(groups - 1));
    if (next >= rate * (1 - kClose)) return rate;
    rate = next;
    *bound = {.domain_class = static_cast<int32_t>(narrow),
              .side = partitions[narrow].groups[0],
              .cut_gbps = partitions[narrow].cuts[0],
              .many_sides = true};
  }
}

// Each byte has to come into and to leave every group of ranks.
double narrowest_cut(const Network& network, Bound* bound) {
  const std::vector<int32_t> all = holders(network);
  Flow flow(network, 0);
  double least = kInfinite;
  for (size_t i = 1; i < all.size(); ++i)
    for (const auto& [from, to] : {std::pair(all[0], all[i]), std::pair(all[i], all[0])}) {
      Bound cut;
      const double value = max_flow(network, &flow, from, to, &cut);
      if (value >= least * (1 - kClose)) continue;
      least = value;
      *bound = cut;
    }
  return least;
}

// --- all-to-all: cuts along devices and what holds them ---

// Every set of devices where they are few; else single ones, all but one, and those below each vertex that forwards.
std::vector<std::vector<int32_t>> groups_to_try(const Network& network) {
  constexpr int32_t kFew = 9;
  std::vector<std::vector<int32_t>> sets;
  const int32_t n = network.devices;
  if (n <= kFew) {
    const uint32_t end = (1u << n) - (network.world >= 0 ? 0 : 1);
    for (uint32_t mask = 1; mask < end; ++mask) {
      std::vector<int32_t> set;
      for (int32_t v = 0; v < n; ++v)
        if (mask & (1u << v)) set.push_back(v);
      sets.push_back(std::move(set));
    }
    return sets;
  }
  for (int32_t v = 0; v < n; ++v) {
    sets.push_back({v});
    std::vector<int32_t> rest;
    for (int32_t w = 0; w < n; ++w)
      if (w != v) rest.push_back(w);
    sets.push_back(std::move(rest));
  }
  for (int32_t v = n; v < network.size(); ++v) {
    std::vector<int32_t> set;
    for (const int32_t arc : network.out[at(v)])
      if (network.is_device(network.arcs[at(arc)].to)) set.push_back(network.arcs[at(arc)].to);
    std::sort(set.begin(), set.end());
    if (!set.empty() && static_cast<int32_t>(set.size()) < n) sets.push_back(std::move(set));
  }
  if (network.world >= 0) sets.push_back(holders(network)), sets.back().pop_back();
  return sets;
}

double exchange(const Network& network, Bound* bound) {
  const Network turned = network.reversed();
  double least = kInfinite;
  for (const std::vector<int32_t>& set : groups_to_try(network)) {
    double inside = 0;
    for (const int32_t v : set) inside += network.weight(v);
    const double pairs = inside * (network.total() - inside);
    if (pairs <= 0) continue;
    const double cut = std::min(leaving(network, set), leaving(turned, set));
    if (cut / pairs >= least * (1 - kClose)) continue;
    least = cut / pairs;
    *bound = {.side = set, .cut_gbps = cut};
  }
  return least;
}

// The least value over the classes; `find` sees the class's network and whether it holds the root.
template <class Find>
double least_of(const std::vector<DomainClass>& classes, Bound* bound, Find&& find) {
  double least = kInfinite;
  for (size_t c = 0; c < classes.size(); ++c) {
    Bound found;
    const double value = find(*classes[c].network, c == 0, &found);
    if (value >= least) continue;
    least = value;
    *bound = found;
    bound->domain_class = static_cast<int32_t>(c);
  }
  return least;
}

// From the root to every other holder, unsplit (broadcast) or a block each (scatter).
double from_root(const Network& network, int32_t source, bool blocks, Bound* bound) {
  double least = kInfinite;
  if (blocks) {
    lower_to_feasible(network.reversed(), source, &least, bound);
    return least;
  }
  Flow flow(network, 0);
  for (const int32_t sink : holders(network)) {
    if (sink == source) continue;
    Bound cut;
    const double value = max_flow(network, &flow, source, sink, &cut);
    if (value >= least * (1 - kClose)) continue;
    least = value;
    *bound = cut;
  }
  return least;
}

Bound reduce_and_spread(const std::vector<DomainClass>& classes, int32_t ranks) {
  Bound bound, cut;
  double rate = partition_rate(
      classes, [](const Network& network) { return network; }, &bound);
  const double back = partition_rate(
      classes, [](const Network& network) { return network.reversed(); }, &cut);
  if (back < rate * (1 - kClose)) rate = back, bound = cut;
  const double narrow =
      least_of(classes, &cut, [](const Network& network, bool, Bound* found) { return narrowest_cut(network, found); });
  if (narrow < rate * (1 - kClose)) rate = narrow, bound = cut;
  bound.bus_gbps = rate * bus_factor(Pattern::AllReduce, ranks);
  return bound;
}

}  // namespace

double narrowest_cut_gbps(const Network& network) {
  Bound cut;
  return narrowest_cut(network, &cut);
}

double bus_factor(Pattern pattern, int32_t ranks) {
  const double n = std::max(ranks, 1);
  switch (pattern) {
    case Pattern::AllReduce:
      return 2 * (n - 1) / n;
    case Pattern::AllGather:
    case Pattern::ReduceScatter:
    case Pattern::AllToAll:
    case Pattern::Gather:
    case Pattern::Scatter:
      return (n - 1) / n;
    case Pattern::Reduce:
    case Pattern::Broadcast:
    case Pattern::SendRecv:
      return 1;
  }
  return 1;
}

Bound bandwidth_bound(const std::vector<DomainClass>& classes, Pattern pattern, int32_t root, int32_t next,
                      double local_gbps) {
  const Network& first = *classes[0].network;
  const int32_t ranks = first.total();
  if (first.devices == 1 && first.world < 0)  // ranks of one device only
    return {.bus_gbps = ranks > 1 ? local_gbps : 0, .side = {0}, .cut_gbps = local_gbps};
  const auto turned_if = [](const Network& network, bool turn) { return turn ? network.reversed() : network; };
  Bound bound;
  double rate = 0;
  switch (pattern) {
    case Pattern::AllReduce:
      return reduce_and_spread(classes, ranks);
    case Pattern::AllGather:
    case Pattern::ReduceScatter:
      rate = (ranks - 1) * least_of(classes, &bound, [&](const Network& network, bool, Bound* found) {
               return spread(turned_if(network, pattern == Pattern::ReduceScatter), kInfinite, found);
             });
      break;
    case Pattern::Broadcast:
    case Pattern::Reduce:
    case Pattern::Gather:
    case Pattern::Scatter: {
      const bool blocks = pattern == Pattern::Gather || pattern == Pattern::Scatter;
      const bool inwards = pattern == Pattern::Reduce || pattern == Pattern::Gather;
      const auto from = [&](const std::vector<DomainClass>& some, Bound* found, auto&& source) {
        return least_of(some, found, [&](const Network& network, bool holds, Bound* cut) {
          return from_root(turned_if(network, inwards), source(network, holds), blocks, cut);
        });
      };
      rate = from(classes, &bound, [&](const Network& network, bool holds) { return holds ? root : network.world; });
      // The class that holds the root may have other domains too, which the root reaches from outside.
      Bound other;
      if (classes[0].domains > 1) {
        const double rest = from({classes[0]}, &other, [](const Network& network, bool) { return network.world; });
        if (rest < rate * (1 - kClose)) rate = rest, bound = other;
      }
      if (blocks) rate *= ranks - 1;
      break;
    }
    case Pattern::AllToAll:
      rate = (ranks - 1) * least_of(classes, &bound, [](const Network& network, bool, Bound* found) {
               return exchange(network, found);
             });
      break;
    case Pattern::SendRecv: {
      if (next == root) return {.bus_gbps = local_gbps, .side = {root}, .cut_gbps = local_gbps};
      Flow flow(first, 0);
      rate = max_flow(first, &flow, root, next, &bound);
      break;
    }
  }
  bound.bus_gbps = rate;
  return bound;
}

}  // namespace tutti::topology
