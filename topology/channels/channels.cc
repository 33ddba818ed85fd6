// SPDX-License-Identifier: Apache-2.0
// Puts together what the parts find: the same for every domain of a kind, then joined across domains.
#include "topology/channels/channels.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "topology/channels/packing.h"
#include "topology/channels/walks.h"
#include "topology/draw/draw.h"
#include "topology/figures.h"

namespace tutti::topology {
namespace {

size_t at(int32_t index) { return static_cast<size_t>(index); }

constexpr int32_t kMostChannels = 32;
// What one channel carries at most: the fastest channels of NCCL's published answers carry 45 to 50 GB/s; a thread
// block moves no more.
constexpr double kMostChannelGbps = 50;
// Rings or chains below this share of the bound: spanning trees are packed too.
constexpr double kGoodEnough = 0.9;
// Trees are packed for so many devices of a domain at most: a rack of more has uniform switches, where rings are
// enough.
constexpr int32_t kMostPacked = 64;
// Steps of the depth-first search. Measured by topology_bench against 100 ms for 8 GPUs and 2 s for 16.
constexpr int64_t kStepsFew = 60'000, kStepsMany = 400'000;
constexpr int32_t kFew = 8;

// Domains, and what is found once for all that are alike.
struct Domains {
  std::vector<Network> networks;     // by domain
  std::vector<int32_t> class_of;     // by domain
  std::vector<int32_t> first;        // by class: the first domain of it
  std::vector<Routes> routes;        // by class
  std::vector<DomainClass> classes;  // pointing at networks

  const Network& of_class(size_t c) const { return networks[at(first[c])]; }
  std::vector<WalkClass> walk_classes() const {
    std::vector<WalkClass> all;
    for (size_t c = 0; c < first.size(); ++c) all.push_back({&of_class(c), &routes[c]});
    return all;
  }
};

Domains sort_domains(std::vector<Network> networks) {
  Domains domains;
  domains.networks = std::move(networks);
  std::map<std::string, int32_t> known;
  for (size_t d = 0; d < domains.networks.size(); ++d) {
    const auto [found, fresh] =
        known.try_emplace(domains.networks[d].signature(), static_cast<int32_t>(domains.first.size()));
    domains.class_of.push_back(found->second);
    if (fresh) {
      domains.first.push_back(static_cast<int32_t>(d));
      domains.classes.push_back({&domains.networks[d], 0});
      domains.routes.emplace_back(domains.networks[d]);
    }
    ++domains.classes[at(found->second)].domains;
  }
  return domains;
}

class Planner {
 public:
  Planner(const Graph& graph, const ChannelRequest& request, Domains domains)
      : graph_(graph), request_(request), domains_(std::move(domains)) {
    plan_.ranks = static_cast<int32_t>(request.ranks.size());
    plan_.domains = static_cast<int32_t>(domains_.networks.size());
    for (const Network& network : domains_.networks) plan_.devices += network.devices;
    const Network& first = domains_.networks[0];
    const auto after = static_cast<size_t>(request.root + 1) % request.ranks.size();
    next_ = first.world;
    for (int32_t v = 0; v < first.devices; ++v) {
      if (first.vertices[at(v)].node == request.ranks[at(request.root)]) root_ = v;
      if (first.vertices[at(v)].node == request.ranks[after]) next_ = v;
    }
  }

  Result<ChannelPlan> plan() {
    find_bound();
    if (plan_.devices == 1) {
      share_one_device();
    } else {
      find_rings();
      find_trees();
      find_star();
    }
    TUTTI_TRY(restrict_channels());
    rate();
    return std::move(plan_);
  }

 private:
  void tell(std::string_view what) const {
    if (request_.progress) request_.progress(what);
  }
  bool one_domain() const { return plan_.domains == 1; }
  const Network& first() const { return domains_.networks[0]; }
  NodeId node(size_t domain, int32_t v) const { return domains_.networks[domain].vertices[at(v)].node; }

  // --- bound ---

  void find_bound() {
    tell("bound: minimum cuts");
    plan_.bound = bandwidth_bound(domains_.classes, request_.pattern, root_, next_,
                                  local_gbps(graph_.node(node(0, 0))).value);
    const auto domain = static_cast<size_t>(domains_.first[at(plan_.bound.domain_class)]);
    std::string names;
    size_t shown = 0;
    constexpr size_t kMostShown = 8;
    for (const int32_t v : plan_.bound.side) {
      if (++shown > kMostShown) continue;
      names += (names.empty() ? "" : " ");
      names += v == domains_.networks[domain].world ? "(other domains)" : display_name(graph_, node(domain, v));
    }
    if (shown > kMostShown) names += fmt::format(" and {} more", shown - kMostShown);
    plan_.limit = plan_.bound.many_sides
                      ? fmt::format("what leaves {} (and each such group) is {:.1f} GB/s", names, plan_.bound.cut_gbps)
                      : fmt::format("what leaves {} is {:.1f} GB/s", names, plan_.bound.cut_gbps);
  }

  void share_one_device() {
    plan_.rings = {{.devices = {node(0, 0)}, .passages = {}}};
    plan_.trees = {{.devices = {node(0, 0)}, .parents = {-1}, .passages = {}}};
    plan_.ring_gbps = plan_.ranks > 1 ? local_gbps(graph_.node(node(0, 0))).value : 0;
    // A tree that goes up and down carries the same bus bandwidth: all of it is the one memory's.
    plan_.tree_gbps = plan_.ring_gbps;
    if (request_.pattern == Pattern::AllReduce && plan_.ranks > 1)
      plan_.tree_gbps *= 2 / bus_factor(request_.pattern, plan_.ranks);
  }

  // --- rings and chains ---

  WalkLimits limits(std::string_view what, double enough) const {
    WalkLimits limits;
    limits.most = request_.max_channels > 0 ? std::min(request_.max_channels, kMostChannels) : kMostChannels;
    limits.most_unit_gbps = kMostChannelGbps;
    limits.enough_gbps = enough;
    limits.steps = most_devices() <= kFew ? kStepsFew : kStepsMany;
    // A domain sends its half of each of two trees up, and down to two others in one of them; of two domains each is
    // once the root and once the leaf.
    limits.chain_end_uses = plan_.domains == 2 ? 1 : 2;
    if (request_.progress)
      limits.progress = [this, what](double unit, int32_t count, double best) {
        tell(fmt::format("{}: trying {} of {:.1f} GB/s (so far {:.1f} GB/s)", what, count, unit, best));
      };
    return limits;
  }
  int32_t most_devices() const {
    int32_t most = 0;
    for (size_t c = 0; c < domains_.first.size(); ++c) most = std::max(most, domains_.of_class(c).devices);
    return most;
  }
  // Every ring and every chain crosses each cut, so all of them together carry no more than the narrowest.
  double narrowest() const {
    double least = std::numeric_limits<double>::infinity();
    for (const DomainClass& one : domains_.classes) least = std::min(least, narrowest_cut_gbps(*one.network));
    return least;
  }

  void find_rings() {
    const std::vector<WalkClass> classes = domains_.walk_classes();
    const double enough = narrowest();
    WalkSet rings;
    Rails rails = Rails::None;
    if (one_domain()) {
      rings = search_walks(classes, WalkKind::Ring, rails, limits("rings", enough));
    } else {
      rails = Rails::Same;
      rings = search_walks(classes, WalkKind::Ring, rails, limits("rings, in and out by one NIC", enough));
      // Every other domain walks the other way round: for domains of one kind, and an even number of them.
      if (classes.size() == 1 && plan_.domains % 2 == 0) {
        WalkSet other = search_walks(classes, WalkKind::Ring, Rails::Alternate,
                                     limits("rings, in and out by the nearest NICs", enough));
        if (other.count() > 0) other.unit_gbps = std::min(other.unit_gbps, turned_unit(other.walks[0]));
        if (other.total() > rings.total() * (1 + 1e-6)) rings = std::move(other), rails = Rails::Alternate;
      }
    }
    if (rings.count() == 0) rings = plain_ring();
    plan_.ring_gbps = rings.unit_gbps;
    by_rails(&rings);
    for (size_t c = 0; c < rings.count(); ++c) plan_.rings.push_back(ring_across(rings, c, rails));
  }

  // Speed of the same walks the other way round.
  double turned_unit(std::vector<Walk> walks) const {
    for (Walk& walk : walks)
      for (int32_t& id : walk.arcs) id ^= 1;
    return fitting_unit(first(), walks);
  }

  // One ring in the order of the devices, at the speed that is left: where no search had luck.
  WalkSet plain_ring() const {
    WalkSet set;
    set.unit_gbps = std::numeric_limits<double>::infinity();
    for (const WalkClass& one : domains_.walk_classes()) {
      Walk walk;
      const int32_t n = one.network->devices;
      const auto add = [&](const Route& route) {
        walk.arcs.insert(walk.arcs.end(), route.arcs.begin(), route.arcs.end());
        return route.exists();
      };
      bool whole = true;
      for (int32_t v = 0; v < n; ++v) walk.devices.push_back(v);
      for (int32_t v = 0; v + 1 < n; ++v) whole = whole && add(one.routes->between(v, v + 1));
      if (one_domain()) {
        whole = whole && add(one.routes->between(n - 1, 0));
      } else {
        const auto &in = one.routes->exits(0), &out = one.routes->exits(n - 1);
        if (in.empty() || out.empty()) return {};
        const auto same = std::find_if(out.begin(), out.end(), [&](const Exit& exit) { return exit.nic == in[0].nic; });
        const Exit& last = same == out.end() ? out[0] : *same;
        whole = whole && add(in[0].in) && add(last.out);
        walk.nic_in = in[0].nic;
        walk.nic_out = last.nic;
      }
      if (!whole) return {};
      set.unit_gbps = std::min({set.unit_gbps, kMostChannelGbps, fitting_unit(*one.network, {walk})});
      set.walks.push_back({walk});
    }
    return set;
  }

  // Channels of all classes in the order of their NICs, so that one channel has the same place among the NICs of each.
  void by_rails(WalkSet* set) const {
    for (std::vector<Walk>& walks : set->walks)
      std::stable_sort(walks.begin(), walks.end(), [](const Walk& a, const Walk& b) { return a.nic_in < b.nic_in; });
  }

  RingChannel ring_across(const WalkSet& rings, size_t channel, Rails rails) const {
    RingChannel ring;
    for (size_t d = 0; d < domains_.networks.size(); ++d) {
      const Walk& walk = rings.walks[at(domains_.class_of[d])][channel];
      const bool turn = rails == Rails::Alternate && d % 2 == 1;
      std::vector<int32_t> line = walk.devices;
      if (turn) std::reverse(line.begin(), line.end());
      for (const int32_t v : line) ring.devices.push_back(node(d, v));
      if (one_domain()) continue;
      const NodeId in = node(d, walk.nic_in), out = node(d, walk.nic_out);
      ring.passages.push_back(turn ? Passage{out, in} : Passage{in, out});
    }
    return ring;
  }

  // --- trees ---

  void find_trees() {
    const std::vector<WalkClass> classes = domains_.walk_classes();
    if (request_.pattern == Pattern::AllReduce || !one_domain()) {
      WalkSet chains = search_walks(classes, WalkKind::Chain, one_domain() ? Rails::None : Rails::Same,
                                    limits("chains", narrowest()));
      by_rails(&chains);
      add_chains(chains);
    }
    if (!one_domain() || first().devices > kMostPacked) return;
    // Worth it?
    rate();
    if (plan_.optimality() < kGoodEnough) pack_trees();
  }

  void add_chains(const WalkSet& chains) {
    if (one_domain()) {
      plan_.tree_gbps = 2 * chains.unit_gbps;  // up and down
      for (size_t c = 0; c < chains.count(); ++c) {
        TreeChannel tree;
        for (const int32_t v : chains.walks[0][c].devices) {
          tree.parents.push_back(static_cast<int32_t>(tree.devices.size()) - 1);
          tree.devices.push_back(node(0, v));
        }
        plan_.trees.push_back(std::move(tree));
      }
      return;
    }
    plan_.tree_gbps = chains.unit_gbps;  // two trees per chain, of half the data each
    for (size_t c = 0; c < chains.count(); ++c)
      for (const bool second : {false, true}) plan_.trees.push_back(tree_across(chains, c, second));
  }

  // Domains in a binary tree: the parent of domain d. Tree two has the inner domains of tree one as leaves: mirrored,
  // or shifted by one where their number is odd (double binary trees: Sanders, Speck, Traeff).
  int32_t parent_domain(int32_t d, bool second) const {
    const int32_t n = plan_.domains;
    const auto swap = [&](int32_t v) { return n % 2 == 0 ? n - 1 - v : (v + n - 1) % n; };
    const auto swap_back = [&](int32_t v) { return n % 2 == 0 ? n - 1 - v : (v + 1) % n; };
    const int32_t place = second ? swap(d) : d;
    if (place == 0) return -1;
    // In-order numbering: the lowest set bit is the height; a parent is one higher, on the one side or the other.
    const int32_t height = place & -place;
    const int32_t lower = place & ~height, upper = lower | height << 1;
    const int32_t parent = upper < n ? upper : lower;
    return second ? swap_back(parent) : parent;
  }

  TreeChannel tree_across(const WalkSet& chains, size_t channel, bool second) const {
    std::vector<std::vector<int32_t>> children(at(plan_.domains));
    int32_t root = 0;
    for (int32_t d = 0; d < plan_.domains; ++d) {
      const int32_t parent = parent_domain(d, second);
      if (parent < 0)
        root = d;
      else
        children[at(parent)].push_back(d);
    }
    TreeChannel tree;
    tree.passages.resize(at(plan_.domains));
    struct Visit {
      int32_t domain, parent;  // the parent: an index into devices
    };
    std::vector<Visit> stack{{root, -1}};
    while (!stack.empty()) {
      const Visit visit = stack.back();
      stack.pop_back();
      const Walk& chain = chains.walks[at(domains_.class_of[at(visit.domain)])][channel];
      const auto head = static_cast<int32_t>(tree.devices.size());
      for (size_t i = 0; i < chain.devices.size(); ++i) {
        tree.parents.push_back(i == 0 ? visit.parent : static_cast<int32_t>(tree.devices.size()) - 1);
        tree.devices.push_back(node(at(visit.domain), chain.devices[i]));
      }
      const NodeId nic = node(at(visit.domain), chain.nic_in);
      tree.passages[at(visit.domain)] = {nic, nic};
      for (const int32_t child : children[at(visit.domain)]) stack.push_back({child, head});
    }
    return tree;
  }

  void pack_trees() {
    tell("spanning trees");
    const Pattern pattern = request_.pattern;
    const int32_t most = request_.max_channels > 0 ? request_.max_channels : kMostChannels;
    TreeSet set;
    double bus = 0;
    const double rate = plan_.bound.bus_gbps / bus_factor(pattern, plan_.ranks);
    switch (pattern) {
      case Pattern::AllReduce:
        set = pack_two_way_trees(first(), domains_.routes[0], rate, most);
        bus = set.total() * bus_factor(pattern, plan_.ranks);
        if (bus < kGoodEnough * plan_.bound.bus_gbps)
          plan_.trees_limit_gbps = set.limit_gbps * bus_factor(pattern, plan_.ranks);
        break;
      case Pattern::AllGather:
      case Pattern::ReduceScatter: {
        // A share of the data per rank: a tree from the device of each.
        std::vector<int32_t> roots;
        for (const NodeId device : request_.ranks) roots.push_back(vertex_of(device));
        set = pack_rooted(roots, pattern == Pattern::ReduceScatter, rate, most * plan_.ranks);
        bus = set.total() * bus_factor(pattern, plan_.ranks);
        break;
      }
      case Pattern::Broadcast:
      case Pattern::Reduce:
        set = pack_rooted({root_}, pattern == Pattern::Reduce, rate, most);
        bus = set.total();
        break;
      case Pattern::AllToAll:
      case Pattern::Gather:
      case Pattern::Scatter:
      case Pattern::SendRecv:
        return;  // nothing is shared on the way: direct
    }
    if (bus <= plan_.tree_bus_gbps * (1 + 1e-6)) return;
    plan_.packed = true;
    plan_.trees.clear();
    for (const SpanningTree& tree : set.trees) plan_.trees.push_back(in_preorder(tree));
    const bool forest = pattern == Pattern::AllGather || pattern == Pattern::ReduceScatter;
    const int32_t per_channel = forest ? plan_.ranks : 1;
    const auto channels = static_cast<int32_t>(set.trees.size()) / per_channel;
    // As many parts as one channel must have to carry no more than it can.
    const double carried = set.unit_gbps * (forest ? plan_.ranks - 1 : 1);
    const auto wanted = static_cast<int32_t>(std::ceil(carried / kMostChannelGbps - 1e-9));
    const int32_t parts = std::clamp(wanted, 1, std::max(most / channels, 1));
    const std::vector<TreeChannel> once = plan_.trees;
    for (int32_t i = 1; i < parts; ++i) plan_.trees.insert(plan_.trees.end(), once.begin(), once.end());
    plan_.tree_gbps = set.unit_gbps * (pattern == Pattern::AllReduce ? 2 : 1) / parts;
    plan_.forests = forest ? channels * parts : 0;
    packed_bus_ = bus;
  }

  // Of a device of the only domain.
  int32_t vertex_of(NodeId device) const {
    int32_t v = 0;
    while (first().vertices[at(v)].node != device) ++v;
    return v;
  }

  TreeSet pack_rooted(const std::vector<int32_t>& roots, bool inwards, double most_gbps, int32_t most) const {
    if (!inwards) return pack_rooted_trees(first(), domains_.routes[0], roots, most_gbps, most);
    const Network turned = first().reversed();
    return pack_rooted_trees(turned, Routes(turned), roots, most_gbps, most);
  }

  TreeChannel in_preorder(const SpanningTree& tree) const {
    TreeChannel channel;
    const auto visit = [&](auto&& self, int32_t v, int32_t parent) -> void {
      const auto index = static_cast<int32_t>(channel.devices.size());
      channel.devices.push_back(node(0, v));
      channel.parents.push_back(parent);
      for (int32_t w = 0; w < first().devices; ++w)
        if (tree.parent[at(w)] == v) self(self, w, index);
    };
    visit(visit, tree.root, -1);
    return channel;
  }

  // --- star ---

  // Every rank to every other directly: the load of each arc per unit between two ranks.
  void find_star() {
    for (size_t d = 0; d < domains_.networks.size(); ++d)
      for (int32_t v = 0; v < domains_.networks[d].devices; ++v) plan_.star.devices.push_back(node(d, v));
    if (one_domain()) {
      const Route& route = domains_.routes[0].between(0, 1);
      if (route.hops() == 2) {
        const int32_t middle = first().arcs[at(route.arcs[0])].to;
        if (first().vertices[at(middle)].kind == NodeKind::NvSwitch) plan_.star.hub = node(0, middle);
      }
    }
    double rate = std::numeric_limits<double>::infinity();
    for (size_t c = 0; c < domains_.first.size(); ++c) {
      rate = std::min(rate, direct_rate(c, c == 0));
      if (c == 0 && domains_.classes[0].domains > 1) rate = std::min(rate, direct_rate(c, false));
    }
    const bool blocks = bus_factor(request_.pattern, plan_.ranks) != 1;
    plan_.star_bus_gbps = rate * (blocks ? plan_.ranks - 1 : 1);
  }

  // GB/s between each two ranks that exchange anything.
  double direct_rate(size_t c, bool holds_root) const {
    const Network& network = domains_.of_class(c);
    const Routes& routes = domains_.routes[c];
    std::vector<double> load(network.arcs.size(), 0);
    bool cut_off = false;
    const auto add = [&](const Route& route, double share) {
      if (share > 0 && !route.exists()) cut_off = true;
      for (const int32_t id : route.arcs) load[at(id)] += share;
    };
    const auto outside = [&](int32_t v, double out, double in) {
      if (network.world < 0) return;
      std::vector<const Exit*> near;
      for (const Exit& exit : routes.exits(v))
        if (exit.distance == routes.exits(v)[0].distance) near.push_back(&exit);
      if (near.empty()) cut_off = true;
      for (const Exit* exit : near) {
        add(exit->out, out / static_cast<double>(near.size()));
        add(exit->in, in / static_cast<double>(near.size()));
      }
    };
    const Pattern pattern = request_.pattern;
    const bool from_root = pattern == Pattern::Broadcast || pattern == Pattern::Scatter;
    const bool to_root = pattern == Pattern::Reduce || pattern == Pattern::Gather;
    const auto w = [&](int32_t v) { return static_cast<double>(network.vertices[at(v)].ranks); };
    if (pattern == Pattern::SendRecv) {
      if (!holds_root) return std::numeric_limits<double>::infinity();
      if (next_ == network.world)
        outside(root_, 1, 0);
      else if (next_ != root_)
        add(routes.between(root_, next_), 1);
      else
        return local_gbps(graph_.node(node(0, root_))).value;
    } else if (from_root || to_root) {
      for (int32_t v = 0; v < network.devices; ++v) {
        if (!holds_root)
          outside(v, to_root ? w(v) : 0, from_root ? w(v) : 0);
        else if (v != root_)
          add(from_root ? routes.between(root_, v) : routes.between(v, root_), w(v));
      }
      if (holds_root) outside(root_, from_root ? network.outside : 0, to_root ? network.outside : 0);
    } else {
      for (int32_t a = 0; a < network.devices; ++a) {
        for (int32_t b = 0; b < network.devices; ++b)
          if (a != b) add(routes.between(a, b), w(a) * w(b));
        outside(a, w(a) * network.outside, w(a) * network.outside);
      }
    }
    if (cut_off) return 0;
    double rate = std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < load.size(); ++i)
      if (load[i] > 0) rate = std::min(rate, network.arcs[i].gbps / load[i]);
    return rate;
  }

  // --- restrictions, figures ---

  Status restrict_channels() {
    const int32_t least = request_.min_channels, most = request_.max_channels;
    const auto split = [&](auto& channels, int32_t count, double* gbps, std::string_view what) -> Status {
      if (count == 0 || least <= count) return {};
      const int32_t parts = (least + count - 1) / count;
      if (most > 0 && count * parts > most)
        return invalid_usage(
            "no number of channels is left: {} {} were found, in {} parts each they are {}, which at least {} "
            "(TUTTI_MIN_CHANNELS) asks for and at most {} (TUTTI_MAX_CHANNELS) excludes",
            count, what, parts, count * parts, least, most);
      const auto once = channels;
      for (int32_t i = 1; i < parts; ++i) channels.insert(channels.end(), once.begin(), once.end());
      *gbps /= parts;
      return {};
    };
    TUTTI_TRY(split(plan_.rings, static_cast<int32_t>(plan_.rings.size()), &plan_.ring_gbps, "rings"));
    if (plan_.forests == 0)
      return split(plan_.trees, static_cast<int32_t>(plan_.trees.size()), &plan_.tree_gbps, "trees");
    TUTTI_TRY(split(plan_.trees, plan_.forests, &plan_.tree_gbps, "forests (a tree per rank)"));
    plan_.forests = static_cast<int32_t>(plan_.trees.size()) / plan_.ranks;
    return {};
  }

  void rate() {
    const Pattern pattern = request_.pattern;
    const bool direct_only = pattern == Pattern::AllToAll || pattern == Pattern::Gather ||
                             pattern == Pattern::Scatter || pattern == Pattern::SendRecv;
    plan_.ring_bus_gbps = plan_.tree_bus_gbps = 0;
    if (plan_.devices == 1) plan_.star_bus_gbps = plan_.rings_total();
    if (direct_only) return;
    plan_.ring_bus_gbps = plan_.rings_total();
    if (packed_bus_ > 0) plan_.tree_bus_gbps = packed_bus_;
    // Half of what is counted goes up, half comes down; broadcast and reduce use one way of such a tree.
    else if (pattern == Pattern::AllReduce)
      plan_.tree_bus_gbps = plan_.trees_total() / 2 * bus_factor(pattern, plan_.ranks);
    else if (pattern == Pattern::Broadcast || pattern == Pattern::Reduce)
      plan_.tree_bus_gbps = plan_.trees_total() / 2;
  }

  const Graph& graph_;
  const ChannelRequest& request_;
  Domains domains_;
  int32_t root_ = 0;  // vertex of the first domain
  int32_t next_ = 0;  // of the rank after the root: a vertex of the first domain, which may be its world
  double packed_bus_ = 0;
  ChannelPlan plan_;
};

}  // namespace

const char* to_string(ChannelKind kind) {
  constexpr const char* kNames[] = {"rings", "trees", "star"};
  return kNames[static_cast<size_t>(kind)];
}

// Equal: the simpler first.
ChannelKind ChannelPlan::best() const {
  if (ring_bus_gbps >= std::max(tree_bus_gbps, star_bus_gbps) * (1 - 1e-6)) return ChannelKind::Rings;
  return tree_bus_gbps >= star_bus_gbps ? ChannelKind::Trees : ChannelKind::Star;
}

double ChannelPlan::best_bus_gbps() const { return std::max({ring_bus_gbps, tree_bus_gbps, star_bus_gbps}); }

double ChannelPlan::optimality() const {
  if (ranks < 2) return 1;
  return bound.bus_gbps > 0 ? best_bus_gbps() / bound.bus_gbps : 0;
}

Result<ChannelPlan> plan_channels(const Graph& graph, const ChannelRequest& request) {
  if (request.max_channels > 0 && request.min_channels > request.max_channels)
    return invalid_usage(
        "no number of channels is left: at least {} (TUTTI_MIN_CHANNELS), at most {} (TUTTI_MAX_CHANNELS)",
        request.min_channels, request.max_channels);
  const auto ranks = static_cast<int32_t>(request.ranks.size());
  if (ranks > 0 && (request.root < 0 || request.root >= ranks))
    return invalid_argument("root {} is not one of the ranks 0 to {}", request.root, ranks - 1);
  // The root's domain comes first: what is found there is found for it.
  TUTTI_ASSIGN_OR_RETURN(std::vector<Network> networks, make_networks(graph, request.ranks, request.nics));
  const NodeId root_device = request.ranks[at(request.root)];
  const auto holds = std::find_if(networks.begin(), networks.end(), [&](const Network& network) {
    return std::any_of(network.vertices.begin(), network.vertices.begin() + network.devices,
                       [&](const Vertex& vertex) { return vertex.node == root_device; });
  });
  std::rotate(networks.begin(), holds, networks.end());
  TUTTI_ASSIGN_OR_RETURN(ChannelPlan plan, Planner(graph, request, sort_domains(std::move(networks))).plan());
  if (ranks > 1 && plan.bound.bus_gbps <= 0) return invalid_usage("the ranks do not hang together: {}", plan.limit);
  return plan;
}

Result<std::vector<NodeId>> place_ranks(const Graph& graph, int32_t ranks) {
  std::vector<NodeId> devices;
  for (const NodeId gpu : graph.of_kind(NodeKind::Gpu))
    if (graph.node(gpu).gpu.present) devices.push_back(gpu);
  if (devices.empty()) devices = graph.of_kind(NodeKind::Gpu);  // a template: where GPUs are to be found
  if (devices.empty()) devices = graph.of_kind(NodeKind::Cpu);
  if (devices.empty()) return invalid_usage("the topology names no GPU and no NUMA node");
  const auto count = static_cast<int64_t>(devices.size());
  if (ranks <= 0) return devices;
  std::vector<NodeId> placed;
  for (int64_t rank = 0; rank < ranks; ++rank)
    placed.push_back(devices[static_cast<size_t>(ranks <= count ? rank : rank * count / ranks)]);
  return placed;
}

Graph repeat_hosts(const Graph& graph, int32_t times) {
  if (times <= 1) return graph;
  Graph all;
  all.origin = graph.origin;
  all.system_version = graph.system_version;
  std::vector<NodeId> shared(at(graph.size()), kNone);
  for (int32_t copy = 0; copy < times; ++copy) {
    std::vector<NodeId> place(at(graph.size()), kNone);
    const auto add = [&](auto&& self, NodeId id) -> NodeId {
      if (place[at(id)] != kNone) return place[at(id)];
      Node node = graph.node(id);
      const bool network = node.kind == NodeKind::Network;
      if (network && shared[at(id)] != kNone) return place[at(id)] = shared[at(id)];
      if (node.parent != kNone) node.parent = self(self, node.parent);
      if (node.kind == NodeKind::Host) node.name += fmt::format("#{}", copy);
      place[at(id)] = all.add_node(std::move(node));
      if (network) shared[at(id)] = place[at(id)];
      return place[at(id)];
    };
    for (NodeId id = 0; id < graph.size(); ++id) add(add, id);
    for (Link link : graph.links()) {
      link.a = place[at(link.a)];
      link.b = place[at(link.b)];
      all.add_link(link);
    }
  }
  for (const Warning& warning : graph.warnings()) all.warn(warning.line, warning.text);
  return all;
}

}  // namespace tutti::topology
