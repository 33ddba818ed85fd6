// SPDX-License-Identifier: Apache-2.0
#include "topology/channels/walks.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace tutti::topology {
namespace {

size_t at(int32_t index) { return static_cast<size_t>(index); }

constexpr double kClose = 1e-6;
constexpr int32_t kMostUnits = 1 << 20;
constexpr int64_t kShareOfOneTry = 24;  // of all steps
constexpr size_t kMostNested = 1024;    // devices of all walks: the depth of the recursion. Larger fabrics are uniform.

// Depth first, over all walks of one network at one speed.
class Search {
 public:
  Search(const WalkClass& where, WalkKind kind, Rails rails, int32_t chain_end_uses, double unit, int64_t* steps)
      : network_(*where.network),
        routes_(*where.routes),
        kind_(kind),
        rails_(rails),
        end_uses_(kind == WalkKind::Chain ? chain_end_uses : 1),
        steps_(steps) {
    for (const Arc& arc : network_.arcs)
      free_.push_back(static_cast<int32_t>(std::min<double>(arc.gbps / unit * (1 + kClose), kMostUnits)));
  }

  // As many walks as the links of the narrowest device could carry.
  int32_t most() const {
    int32_t most = kMostUnits;
    for (int32_t device = 0; device < network_.devices; ++device)
      most = std::min({most, free_around(device, false), free_around(device, true)});
    if (network_.world >= 0)
      most = std::min(
          {most, free_around(network_.world, false) / end_uses_, free_around(network_.world, true) / end_uses_});
    return most;
  }

  bool find(int32_t count) {
    wanted_ = static_cast<size_t>(count);
    done_.clear();
    nested_ = wanted_ * at(network_.devices) <= kMostNested;
    if (nested_) return next_walk();
    while (done_.size() < wanted_)
      if (!next_walk()) return false;
    return true;
  }
  std::vector<Walk> take() { return std::move(done_); }

 private:
  int32_t free_around(int32_t v, bool inwards) const {
    int32_t sum = 0;
    for (const int32_t id : network_.out[at(v)]) sum = std::min(sum + free_[at(inwards ? id ^ 1 : id)], kMostUnits);
    return sum;
  }

  bool fits(const Route& route, int32_t uses) const {
    return route.exists() &&
           std::all_of(route.arcs.begin(), route.arcs.end(), [&](int32_t id) { return free_[at(id)] >= uses; });
  }
  int32_t room(const Route& route) const {
    int32_t least = kMostUnits;
    for (const int32_t id : route.arcs) least = std::min(least, free_[at(id)]);
    return least;
  }
  void use(const Route& route, int32_t uses) {
    for (const int32_t id : route.arcs) {
      free_[at(id)] -= uses;
      walk_.arcs.insert(walk_.arcs.end(), static_cast<size_t>(uses), id);
    }
  }
  void give_back(const Route& route, int32_t uses) {
    for (const int32_t id : route.arcs) free_[at(id)] += uses;
    walk_.arcs.resize(walk_.arcs.size() - route.arcs.size() * static_cast<size_t>(uses));
  }

  // One edge of a walk: a chain's goes both ways.
  bool edge_fits(int32_t from, int32_t to) const {
    return fits(routes_.between(from, to), 1) && (kind_ == WalkKind::Ring || fits(routes_.between(to, from), 1));
  }
  template <class Then>
  bool with(const Route& route, int32_t uses, Then&& then) {
    if (!fits(route, uses)) return false;
    use(route, uses);
    if (then()) return true;
    give_back(route, uses);
    return false;
  }
  template <class Then>
  bool with_edge(int32_t from, int32_t to, Then&& then) {
    return with(routes_.between(from, to), 1,
                [&] { return kind_ == WalkKind::Ring ? then() : with(routes_.between(to, from), 1, then); });
  }

  bool next_walk() {
    if (done_.size() == wanted_) return true;
    const auto left = static_cast<int32_t>(wanted_ - done_.size());
    for (int32_t device = 0; device < network_.devices; ++device)
      if (free_around(device, false) < left || free_around(device, true) < left) return false;
    walk_ = {};
    seen_.assign(at(network_.devices), 0);
    // What has just fitted often fits again the other way round: links have two directions.
    if (kind_ == WalkKind::Ring && rails_ != Rails::Alternate && done_.size() % 2 == 1 && follow_back(done_.back()))
      return true;
    return rails_ == Rails::None ? start_inside() : start_outside();
  }

  bool finish() {
    const Walk saved = walk_;
    const std::vector<char> seen = seen_;
    done_.push_back(walk_);
    if (!nested_ || next_walk()) return true;
    done_.pop_back();
    walk_ = saved;
    seen_ = seen;
    return false;
  }

  bool follow_back(const Walk& before) {
    const std::vector<int32_t> line(before.devices.rbegin(), before.devices.rend());
    const auto step = [&](auto&& self, size_t i) -> bool {
      walk_.devices.push_back(line[i]);
      const bool last = i + 1 == line.size();
      const bool found =
          last ? close() : with(routes_.between(line[i], line[i + 1]), 1, [&] { return self(self, i + 1); });
      if (!found) walk_.devices.pop_back();
      return found;
    };
    if (rails_ == Rails::None) return step(step, 0);
    return enter(line[0], before.nic_out, [&] { return step(step, 0); });
  }

  bool start_inside() {
    const int32_t n = network_.devices;
    // A ring passes every device: any start will do. Chains begin at each in turn: ends have less to carry.
    const int32_t starts = kind_ == WalkKind::Ring ? 1 : n;
    for (int32_t i = 0; i < starts; ++i) {
      const int32_t start = kind_ == WalkKind::Ring ? 0 : (static_cast<int32_t>(done_.size()) + i) % n;
      if (go_on(start)) return true;
      if (*steps_ <= 0) return false;
    }
    return false;
  }

  template <class Then>
  bool enter(int32_t device, int32_t nic, Then&& then) {
    for (const Exit& exit : routes_.exits(device)) {
      if (exit.nic != nic) continue;
      walk_.nic_in = nic;
      if (kind_ == WalkKind::Ring) return with(exit.in, 1, then);
      walk_.nic_out = nic;
      return with(exit.in, end_uses_, [&] { return with(exit.out, end_uses_, then); });
    }
    return false;
  }

  // NICs with most room first, in turn: so they are shared fairly. Of each, the devices that are near it.
  bool start_outside() {
    std::vector<std::pair<int32_t, int32_t>> order;
    for (size_t i = 0; i < routes_.nics().size(); ++i) {
      const int32_t nic = routes_.nics()[i];
      int32_t room = 0;
      for (const int32_t id : network_.out[at(nic)])
        if (network_.arcs[at(id)].to == network_.world) room = std::min(free_[at(id)], free_[at(id ^ 1)]);
      if (room > 0) order.emplace_back(-room, nic);
    }
    std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    for (const bool nearest : {true, false})
      for (const auto& [room, nic] : order) {
        std::vector<std::pair<int32_t, int32_t>> devices;
        for (int32_t device = 0; device < network_.devices; ++device)
          if (routes_.is_nearest(device, nic) == nearest) devices.emplace_back(-free_around(device, false), device);
        std::stable_sort(devices.begin(), devices.end(),
                         [](const auto& a, const auto& b) { return a.first < b.first; });
        for (const auto& [free, device] : devices) {
          if (enter(device, nic, [&, start = device] { return go_on(start); })) return true;
          if (*steps_ <= 0) return false;
        }
      }
    return false;
  }

  bool go_on(int32_t device) {
    seen_[at(device)] = 1;
    walk_.devices.push_back(device);
    const bool found = static_cast<int32_t>(walk_.devices.size()) == network_.devices ? close() : extend(device);
    if (found) return true;
    walk_.devices.pop_back();
    seen_[at(device)] = 0;
    return false;
  }

  bool extend(int32_t from) {
    if (--*steps_ <= 0) return false;
    struct Choice {
      int32_t hops, room, turn, to;
    };
    const int32_t n = network_.devices;
    std::vector<Choice> choices;
    for (int32_t i = 1; i < n; ++i) {
      const int32_t to = (from + i) % n;
      if (seen_[at(to)] || !edge_fits(from, to)) continue;
      const Route& route = routes_.between(from, to);
      choices.push_back({route.hops(), -room(route), i, to});
    }
    std::sort(choices.begin(), choices.end(), [](const Choice& a, const Choice& b) {
      return std::tie(a.hops, a.room, a.turn) < std::tie(b.hops, b.room, b.turn);
    });
    for (const Choice& choice : choices) {
      if (with_edge(from, choice.to, [&] { return go_on(choice.to); })) return true;
      if (*steps_ <= 0) return false;
    }
    return false;
  }

  bool close() {
    if (kind_ == WalkKind::Chain) return finish();
    const int32_t first = walk_.devices.front(), last = walk_.devices.back();
    if (rails_ == Rails::None) return with(routes_.between(last, first), 1, [&] { return finish(); });
    return rails_ == Rails::Same ? leave_same(first, last) : leave_near(last);
  }

  // By the NIC it came in by: from the last device, if that NIC is as near to it as any; else over the first device,
  // which is near it; else the long way.
  bool leave_same(int32_t first, int32_t last) {
    walk_.nic_out = walk_.nic_in;
    const Exit *own = exit_by(last, walk_.nic_in), *near = exit_by(first, walk_.nic_in);
    const auto leave = [&](const Exit* exit) { return with(exit->out, 1, [&] { return finish(); }); };
    const bool relay = last != first && own != nullptr && near != nullptr && near->distance < own->distance &&
                       network_.is_fabric(network_.arcs[at(routes_.between(last, first).arcs[0])]);
    if (relay && with(routes_.between(last, first), 1, [&] { return leave(near); })) return true;
    return own != nullptr && leave(own);
  }
  bool leave_near(int32_t last) {
    for (const Exit& exit : routes_.exits(last)) {
      walk_.nic_out = exit.nic;
      if (with(exit.out, 1, [&] { return finish(); })) return true;
      if (*steps_ <= 0) return false;
    }
    return false;
  }
  const Exit* exit_by(int32_t device, int32_t nic) const {
    for (const Exit& exit : routes_.exits(device))
      if (exit.nic == nic) return &exit;
    return nullptr;
  }

  const Network& network_;
  const Routes& routes_;
  WalkKind kind_;
  Rails rails_;
  int32_t end_uses_;  // of the way to the world
  int64_t* steps_;
  std::vector<int32_t> free_;  // walks that each arc still carries
  std::vector<char> seen_;
  Walk walk_;
  std::vector<Walk> done_;
  size_t wanted_ = 0;
  bool nested_ = true;  // a walk that fails may change those before it; each is a recursion inside the last
};

// Speeds worth trying: a lane of each kind of NVLink, and each link whole or shared by up to four walks.
std::vector<double> speeds(const std::vector<WalkClass>& classes, double most) {
  constexpr int32_t kMostShares = 4;
  std::set<double, std::greater<>> all;
  const auto add = [&](double speed) {
    if (speed <= 0) return;
    // A link faster than a walk may be: in equal parts.
    const double parts = std::ceil(speed / most * (1 - kClose));
    all.insert(std::round(speed / std::max(parts, 1.0) * 1e9) / 1e9);
  };
  for (const WalkClass& one : classes)
    for (const Arc& arc : one.network->arcs) {
      if (arc.lanes > 0) add(arc.gbps / arc.lanes);
      for (int32_t share = 1; share <= kMostShares; ++share) add(arc.gbps / share);
    }
  return {all.begin(), all.end()};
}

}  // namespace

double fitting_unit(const Network& network, const std::vector<Walk>& walks) {
  std::vector<int32_t> uses(network.arcs.size(), 0);
  for (const Walk& walk : walks)
    for (const int32_t id : walk.arcs) ++uses[at(id)];
  double unit = 1e30;
  for (size_t i = 0; i < uses.size(); ++i)
    if (uses[i] > 0) unit = std::min(unit, network.arcs[i].gbps / uses[i]);
  return unit;
}

WalkSet search_walks(const std::vector<WalkClass>& classes, WalkKind kind, Rails rails, const WalkLimits& limits) {
  struct Speed {
    double unit;
    int32_t count;
    double total() const { return unit * count; }
  };
  std::vector<Speed> tries;
  for (const double unit : speeds(classes, limits.most_unit_gbps)) {
    int32_t count = limits.most;
    int64_t none = 0;
    for (const WalkClass& one : classes)
      count = std::min(count, Search(one, kind, rails, limits.chain_end_uses, unit, &none).most());
    if (count > 0) tries.push_back({unit, count});
  }
  std::stable_sort(tries.begin(), tries.end(), [](const Speed& a, const Speed& b) { return a.total() > b.total(); });
  // Walks of one speed in every class; nothing when the steps that are left do not find them.
  int64_t left = limits.steps;
  const auto attempt = [&](double unit, int32_t count, double best) -> WalkSet {
    if (limits.progress) limits.progress(unit, count, best);
    WalkSet found;
    found.unit_gbps = limits.most_unit_gbps;
    for (const WalkClass& one : classes) {
      // No try may eat up what the others need.
      int64_t steps = limits.steps / kShareOfOneTry + 1;
      const int64_t before = steps;
      Search search(one, kind, rails, limits.chain_end_uses, unit, &steps);
      const bool success = search.find(count);
      left -= before - steps;
      if (!success) return {};
      found.walks.push_back(search.take());
      found.unit_gbps = std::min(found.unit_gbps, fitting_unit(*one.network, found.walks.back()));
    }
    return found;
  };
  WalkSet best;
  for (const Speed& speed : tries) {
    for (int32_t count = speed.count; count > 0 && left > 0; --count) {
      if (speed.unit * count > limits.enough_gbps * (1 + 2 * kClose)) continue;  // a cut forbids it
      if (speed.unit * count <= best.total() * (1 + kClose)) break;
      WalkSet found = attempt(speed.unit, count, best.total());
      if (found.total() > best.total()) best = std::move(found);
    }
  }
  // Rather one slow walk than none.
  for (const Speed& speed : tries)
    if (best.count() == 0) best = attempt(speed.unit, 1, 0);
  return best;
}

}  // namespace tutti::topology
