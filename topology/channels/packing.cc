// SPDX-License-Identifier: Apache-2.0
#include "topology/channels/packing.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tutti::topology {
namespace {

constexpr double kInfinite = std::numeric_limits<double>::infinity();
// How steeply prices grow: a link filled to its share costs e^steepness times an idle one. None is best everywhere (of
// 4, 6, 8, 12, 20, 30 and 50 on the machines of docs/planner.md): all of these are tried.
constexpr double kSteepness[] = {4, 6, 12, 20};
constexpr int32_t kRepairs = 3;  // rounds in which each tree is put back at the others' prices
// A packing below this share of what cuts allow is worth negotiating.
constexpr double kGoodEnough = 0.9;
// Rounds of negotiating one number of trees, and how many parts the widest links are cut into. Chosen by the machines
// of docs/planner.md: their negotiations succeed within 20 rounds.
constexpr int32_t kNegotiations = 40, kMostParts = 16;
constexpr int32_t kMostNegotiated = 32;  // devices
constexpr size_t kOffersInTurn = 12;     // beyond, the rest is halved
// Steps of the method behind two_way_trees_limit() and how much each raises a full link's price: within 1 % of the
// optimum on these machines.
constexpr int32_t kLimitSteps = 3000;
constexpr double kLimitRise = 0.03;
size_t at(int32_t index) { return static_cast<size_t>(index); }

using Costs = std::vector<std::vector<double>>;  // of an edge from one device to another

// Prim's tree from device 0; empty when the devices do not hang together.
SpanningTree cheapest_tree(const Costs& cost) {
  const size_t n = cost.size();
  SpanningTree tree{.root = 0, .parent = std::vector<int32_t>(n, -1)};
  std::vector<double> best(n, kInfinite);
  std::vector<char> in(n, 0);
  best[0] = 0;
  for (size_t count = 0; count < n; ++count) {
    size_t next = n;
    for (size_t v = 0; v < n; ++v)
      if (!in[v] && best[v] < kInfinite && (next == n || best[v] < best[next])) next = v;
    if (next == n) return {};
    in[next] = 1;
    for (size_t v = 0; v < n; ++v)
      if (!in[v] && cost[next][v] < best[v]) best[v] = cost[next][v], tree.parent[v] = static_cast<int32_t>(next);
  }
  return tree;
}

// Chu, Liu and Edmonds: the cheapest tree away from `root`. Cycles are contracted and opened again at their cheapest
// entry. Empty when a device is not reached.
std::vector<int32_t> cheapest_rooted(const Costs& cost, int32_t root) {
  const auto n = static_cast<int32_t>(cost.size());
  std::vector<int32_t> parent(at(n), -1);
  for (int32_t v = 0; v < n; ++v) {
    if (v == root) continue;
    for (int32_t u = 0; u < n; ++u)
      if (u != v && cost[at(u)][at(v)] < kInfinite &&
          (parent[at(v)] < 0 || cost[at(u)][at(v)] < cost[at(parent[at(v)])][at(v)]))
        parent[at(v)] = u;
    if (parent[at(v)] < 0) return {};
  }
  // A cycle among the cheapest entries?
  std::vector<int32_t> mark(at(n), -1), cycle;
  for (int32_t start = 0; start < n && cycle.empty(); ++start) {
    int32_t v = start;
    while (v >= 0 && mark[at(v)] < 0) mark[at(v)] = start, v = parent[at(v)];
    if (v < 0 || mark[at(v)] != start) continue;
    for (int32_t w = v;;) {
      cycle.push_back(w);
      w = parent[at(w)];
      if (w == v) break;
    }
  }
  if (cycle.empty()) return parent;
  std::vector<char> inside(at(n), 0);
  for (const int32_t v : cycle) inside[at(v)] = 1;
  std::vector<int32_t> outer;  // the other vertices; the cycle comes after them
  for (int32_t v = 0; v < n; ++v)
    if (!inside[at(v)]) outer.push_back(v);
  const size_t hub = outer.size();
  Costs small(hub + 1, std::vector<double>(hub + 1, kInfinite));
  std::vector<int32_t> entry(hub, -1), leave(hub, -1);
  int32_t small_root = 0;
  for (size_t i = 0; i < hub; ++i) {
    if (outer[i] == root) small_root = static_cast<int32_t>(i);
    for (size_t j = 0; j < hub; ++j)
      if (i != j) small[i][j] = cost[at(outer[i])][at(outer[j])];
    for (const int32_t v : cycle) {
      const double in = cost[at(outer[i])][at(v)] - cost[at(parent[at(v)])][at(v)], out = cost[at(v)][at(outer[i])];
      if (in < small[i][hub]) small[i][hub] = in, entry[i] = v;
      if (out < small[hub][i]) small[hub][i] = out, leave[i] = v;
    }
  }
  const std::vector<int32_t> solved = cheapest_rooted(small, small_root);
  if (solved.empty()) return {};
  for (size_t i = 0; i < hub; ++i) {
    const int32_t up = solved[i];
    if (up < 0) continue;
    parent[at(outer[i])] = at(up) == hub ? leave[i] : outer[at(up)];
  }
  const auto from = at(solved[hub]);
  parent[at(entry[from])] = outer[from];
  return parent;
}

class Packing {
 public:
  Packing(const Network& network, const Routes& routes, bool two_way)
      : network_(network), routes_(routes), two_way_(two_way) {}

  // `count` trees of equal speed; roots in turn. `share`: trees / most_gbps, what a full link of 1 GB/s would carry.
  TreeSet pack(size_t count, const std::vector<int32_t>& roots, double share, double steepness) {
    load_.assign(network_.arcs.size(), 0);
    share_ = share;
    steepness_ = steepness;
    TreeSet set;
    for (size_t i = 0; i < count; ++i) {
      set.trees.push_back(cheapest(roots.empty() ? -1 : roots[i % roots.size()], prices()));
      if (set.trees.back().parent.empty()) return {};
      charge(set.trees.back(), 1);
    }
    double worst = congestion();
    for (int32_t round = 0; round < kRepairs; ++round) {
      const std::vector<SpanningTree> before = set.trees;
      for (SpanningTree& tree : set.trees) {
        charge(tree, -1);
        tree = cheapest(roots.empty() ? -1 : tree.root, prices());
        charge(tree, 1);
      }
      const double now = congestion();
      if (now >= worst) {
        set.trees = before;
        break;
      }
      worst = now;
    }
    set.unit_gbps = worst > 0 ? 1 / worst : 0;
    return set;
  }

  // `count` two-way trees of this speed, or nothing.
  TreeSet negotiate(size_t count, double unit_gbps) {
    const size_t arcs = network_.arcs.size();
    std::vector<double> most(arcs), history(arcs, 0);
    for (size_t i = 0; i < arcs; ++i) most[i] = std::floor(network_.arcs[i].gbps / unit_gbps + 1e-6);
    load_.assign(arcs, 0);
    TreeSet set{.unit_gbps = unit_gbps, .trees = std::vector<SpanningTree>(count)};
    double urgency = 0.5;
    for (int32_t round = 0; round < kNegotiations; ++round, urgency *= 1.3) {
      for (SpanningTree& tree : set.trees) {
        if (round > 0) charge(tree, -1);
        std::vector<double> price(arcs, kInfinite);
        for (size_t i = 0; i < arcs; ++i)
          if (most[i] > 0)
            price[i] = (1 / most[i] + history[i]) * (1 + urgency * std::max(load_[i] + 1 - most[i], 0.0));
        tree = cheapest(-1, price);
        if (tree.parent.empty()) return {};
        charge(tree, 1);
      }
      bool fits = true;
      for (size_t i = 0; i < arcs; ++i) {
        if (load_[i] <= most[i]) continue;
        fits = false;
        history[i] += (load_[i] - most[i]) / most[i] / most[i];
      }
      if (fits) return set;
    }
    return {};
  }

  double two_way_limit() {
    std::vector<double> price(network_.arcs.size(), kInfinite);
    for (size_t i = 0; i < price.size(); ++i)
      if (network_.arcs[i].gbps > 0) price[i] = 1 / network_.arcs[i].gbps;
    double least = kInfinite;
    for (int32_t step = 0; step < kLimitSteps; ++step) {
      const SpanningTree tree = cheapest(-1, price);
      if (tree.parent.empty()) return 0;
      load_.assign(price.size(), 0);
      charge(tree, 1);
      double worth = 0, cost = 0, narrowest = kInfinite;
      for (size_t i = 0; i < price.size(); ++i) {
        if (network_.arcs[i].gbps <= 0) continue;
        worth += price[i] * network_.arcs[i].gbps;
        cost += price[i] * load_[i];
        if (load_[i] > 0) narrowest = std::min(narrowest, network_.arcs[i].gbps / load_[i]);
      }
      least = std::min(least, worth / cost);
      for (size_t i = 0; i < price.size(); ++i)
        if (load_[i] > 0) price[i] *= 1 + kLimitRise * narrowest * load_[i] / network_.arcs[i].gbps;
    }
    return least;
  }

 private:
  std::vector<double> prices() const {
    std::vector<double> price(network_.arcs.size());
    for (size_t i = 0; i < price.size(); ++i) {
      const double gbps = network_.arcs[i].gbps;
      price[i] = gbps > 0 ? std::exp(steepness_ * std::min(load_[i] / (gbps * share_), 50.0)) / gbps : kInfinite;
    }
    return price;
  }
  SpanningTree cheapest(int32_t root, const std::vector<double>& price) const {
    const auto n = at(network_.devices);
    Costs cost(n, std::vector<double>(n, kInfinite));
    for (size_t a = 0; a < n; ++a)
      for (size_t b = 0; b < n; ++b)
        if (a != b) cost[a][b] = way(price, static_cast<int32_t>(a), static_cast<int32_t>(b));
    if (!two_way_) return {.root = root, .parent = cheapest_rooted(cost, root)};
    for (size_t a = 0; a < n; ++a)
      for (size_t b = a + 1; b < n; ++b) cost[a][b] = cost[b][a] = cost[a][b] + cost[b][a];
    return cheapest_tree(cost);
  }
  double way(const std::vector<double>& price, int32_t from, int32_t to) const {
    const Route& route = routes_.between(from, to);
    if (!route.exists()) return kInfinite;
    double sum = 0;
    for (const int32_t id : route.arcs) sum += price[at(id)];
    return sum;
  }
  void charge(const SpanningTree& tree, int32_t uses) {
    for (size_t v = 0; v < tree.parent.size(); ++v) {
      if (tree.parent[v] < 0) continue;
      const auto child = static_cast<int32_t>(v);
      for (const int32_t id : routes_.between(tree.parent[v], child).arcs) load_[at(id)] += uses;
      if (!two_way_) continue;
      for (const int32_t id : routes_.between(child, tree.parent[v]).arcs) load_[at(id)] += uses;
    }
  }
  double congestion() const {
    double worst = 0;
    for (size_t i = 0; i < load_.size(); ++i)
      if (load_[i] > 0) worst = std::max(worst, load_[i] / network_.arcs[i].gbps);
    return worst;
  }

  const Network& network_;
  const Routes& routes_;
  bool two_way_;
  double share_ = 1, steepness_ = 1;
  std::vector<double> load_;
};

TreeSet best_of(Packing packing, const std::vector<int32_t>& roots, double most_gbps, int32_t most_trees) {
  TreeSet best;
  const auto group = static_cast<int32_t>(std::max<size_t>(roots.size(), 1));
  for (const int32_t times : {1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32}) {
    const int32_t count = times * group;
    if (count > std::max(most_trees, group)) break;
    for (const double steepness : kSteepness) {
      TreeSet set = packing.pack(at(count), roots, count / most_gbps, steepness);
      if (set.total() > best.total() * (1 + 1e-6)) best = std::move(set);
      if (best.total() >= most_gbps * (1 - 1e-3)) return best;
    }
  }
  return best;
}

// Numbers of trees whose speed is a link's in whole parts, the largest sum first.
struct Offer {
  double unit_gbps;
  int32_t count;
  double total() const { return unit_gbps * count; }
};
std::vector<Offer> offers(const Network& network, double above, double most_gbps, int32_t most_trees) {
  std::vector<Offer> found;
  std::vector<double> speeds;
  for (const Arc& arc : network.arcs)
    if (arc.gbps > 0) speeds.push_back(arc.gbps);
  std::sort(speeds.begin(), speeds.end());
  speeds.erase(std::unique(speeds.begin(), speeds.end()), speeds.end());
  for (const double speed : speeds)
    for (int32_t parts = 1; parts <= kMostParts; ++parts) {
      const double unit = speed / parts;
      const auto most = static_cast<int32_t>(std::min(most_gbps / unit + 1e-6, static_cast<double>(most_trees)));
      for (int32_t count = most; count > 0 && unit * count > above * (1 + 1e-6); --count)
        found.push_back({unit, count});
    }
  std::stable_sort(found.begin(), found.end(), [](const Offer& a, const Offer& b) { return a.total() > b.total(); });
  const auto same = [](const Offer& a, const Offer& b) { return a.count == b.count && a.unit_gbps == b.unit_gbps; };
  found.erase(std::unique(found.begin(), found.end(), same), found.end());
  return found;
}

}  // namespace

TreeSet pack_two_way_trees(const Network& network, const Routes& routes, double most_gbps, int32_t most_trees) {
  if (network.devices < 2 || most_gbps <= 0) return {};
  TreeSet best = best_of(Packing(network, routes, true), {}, most_gbps, most_trees);
  if (best.total() >= kGoodEnough * most_gbps || network.devices > kMostNegotiated) return best;
  Packing packing(network, routes, true);
  best.limit_gbps = packing.two_way_limit();
  const auto try_offer = [&](const Offer& offer) {
    TreeSet set = packing.negotiate(at(offer.count), offer.unit_gbps);
    if (set.trees.empty()) return false;
    set.limit_gbps = best.limit_gbps;
    if (set.total() > best.total()) best = std::move(set);
    return true;
  };
  const std::vector<Offer> all = offers(network, best.total(), best.limit_gbps, most_trees);
  const size_t first = std::min(all.size(), kOffersInTurn);
  for (size_t i = 0; i < first; ++i)
    if (try_offer(all[i])) return best;
  // The less they carry in sum, the likelier they fit.
  for (size_t low = first, high = all.size(); low < high;) {
    const size_t middle = low + (high - low) / 2;
    if (try_offer(all[middle]))
      high = middle;
    else
      low = middle + 1;
  }
  return best;
}

TreeSet pack_rooted_trees(const Network& network, const Routes& routes, const std::vector<int32_t>& roots,
                          double most_gbps, int32_t most_trees) {
  if (network.devices < 2 || most_gbps <= 0 || roots.empty()) return {};
  return best_of(Packing(network, routes, false), roots, most_gbps, most_trees);
}

}  // namespace tutti::topology
