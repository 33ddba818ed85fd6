// SPDX-License-Identifier: Apache-2.0
#include "plan/traffic.h"

#include <algorithm>
#include <unordered_map>
#include <vector>

namespace tutti {
namespace {

// When something happens, and the messages on the chain that led to it.
struct Moment {
  double us = 0;
  int local_hops = 0, wire_hops = 0;
};
const Moment& later(const Moment& a, const Moment& b) { return b.us > a.us ? b : a; }

struct Load {  // of one rank, in bytes per byte of the whole buffer
  double local_sent = 0, local_received = 0, wire_sent = 0, wire_received = 0;
  int messages = 0;
  double local() const { return std::max(local_sent, local_received); }
};

class Walk {
 public:
  Walk(const CatalogRow& row, Ranks ranks, const HopCosts& costs)
      : row_(row),
        map_(*ranks.hosts),
        costs_(costs),
        n_(ranks.n),
        per_block_(1.0 /
                   (coll_layout(row.coll, n_, 0, 0, 1).input.kind == Layout::Kind::Region ? row.blocks(ranks) : n_)),
        loads_(static_cast<size_t>(n_)),
        host_sent_(static_cast<size_t>(map_.hosts)) {
    const int parts = row.parts(ranks);
    for (int me = 0; me < n_; ++me) {
      for (int part = 0; part < parts; ++part)
        lanes_.push_back({row.make({.me = me,
                                    .n = n_,
                                    .part = part,
                                    .hosts = ranks.hosts,
                                    .user = ranks.user,
                                    .channel_map = ranks.channels}),
                          me});
    }
  }

  Traffic run() {
    bool moved = true;
    while (moved) {
      moved = false;
      for (Lane& lane : lanes_) {
        while (step(lane)) moved = true;
      }
    }
    return summed_up();
  }

 private:
  struct Lane {
    AnySchedule schedule;
    int me;
    int at = 0;
    Moment now = {};
  };

  // In the order in which they were sent; short, since most peers meet once.
  struct Messages {
    std::vector<Moment> sent;
    size_t received = 0;
    bool empty() const { return received == sent.size(); }
  };
  Messages& messages(int sender, int receiver) {
    return between_[static_cast<uint64_t>(sender) << 32 | static_cast<uint64_t>(receiver)];
  }
  bool local(int a, int b) const { return map_.host_of[a] == map_.host_of[b]; }
  double busy_us(int a, int b) const { return local(a, b) ? costs_.local_busy_us : costs_.wire_busy_us; }

  // True: the lane has made a step.
  bool step(Lane& lane) {
    if (lane.at >= lane.schedule.steps()) return false;
    const Step step = lane.schedule.at(lane.at);
    const int from = step.from.size(n_), to = step.to.size(n_), me = lane.me;
    for (int i = 0; i < from; ++i) {
      if (messages(step.from.at(i, me), me).empty()) return false;
    }
    const double bytes = step.blocks * per_block_;
    Load& load = loads_[static_cast<size_t>(me)];
    load.messages += from + to;
    for (int i = 0; i < from; ++i) {
      const int peer = step.from.at(i, me);
      Messages& arrived = messages(peer, me);
      lane.now = later(lane.now, arrived.sent[arrived.received++]);
      lane.now.us += busy_us(me, peer);
      (local(me, peer) ? load.local_received : load.wire_received) += bytes;
    }
    for (int i = 0; i < to; ++i) {
      const int peer = step.to.at(i, me);
      const bool near = local(me, peer);
      lane.now.us += busy_us(me, peer);
      Moment there = lane.now;
      there.us += near ? costs_.local_us : costs_.wire_us;
      ++(near ? there.local_hops : there.wire_hops);
      messages(me, peer).sent.push_back(there);
      (near ? load.local_sent : load.wire_sent) += bytes;
      if (!near) host_sent_[static_cast<size_t>(map_.host_of[me])] += bytes;
    }
    ++lane.at;
    return true;
  }

  Traffic summed_up() const {
    Traffic traffic;
    Moment end;
    for (const Lane& lane : lanes_) end = later(end, lane.now);
    traffic.latency_us = end.us;
    traffic.local_hops = end.local_hops;
    traffic.wire_hops = end.wire_hops;
    const auto wire = [](const Load& load) { return load.wire_sent + load.wire_received; };
    // A byte on the wire costs a rank several times one in memory.
    constexpr double kWireWeight = 4;
    const Load busiest = *std::max_element(loads_.begin(), loads_.end(), [&](const Load& a, const Load& b) {
      return a.local() + kWireWeight * wire(a) < b.local() + kWireWeight * wire(b);
    });
    traffic.local_bytes = busiest.local();
    traffic.wire_sent = busiest.wire_sent;
    traffic.wire_received = busiest.wire_received;
    for (const Load& load : loads_) traffic.messages = std::max(traffic.messages, load.messages);
    traffic.host_sent = *std::max_element(host_sent_.begin(), host_sent_.end());
    return traffic;
  }

  const CatalogRow& row_;
  const HostMap& map_;
  const HopCosts costs_;
  const int n_;
  const double per_block_;
  std::vector<Lane> lanes_;
  std::vector<Load> loads_;
  std::vector<double> host_sent_;
  std::unordered_map<uint64_t, Messages> between_;
};

}  // namespace

Traffic walk(const CatalogRow& row, Ranks ranks, const HopCosts& costs) { return Walk(row, ranks, costs).run(); }

Traffic TrafficBook::of(const CatalogRow& row, Ranks ranks, const HopCosts& costs) {
  const std::lock_guard lock(mutex_);
  const auto known = known_.find({&row, ranks.user});
  if (known != known_.end()) return known->second;
  return known_.emplace(std::pair(&row, ranks.user), walk(row, ranks, costs)).first->second;
}

}  // namespace tutti
