// SPDX-License-Identifier: Apache-2.0
// Traffic: what a schedule sends inside hosts and between them, found by walking the steps of all ranks. Input of the
// cost model where a job spans hosts with several ranks each; there the same algorithm may be cheap or dear, depending
// on which ranks share a host.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "algo/catalog.h"

namespace tutti {

// What one message costs before its first byte, by kind of link.
struct HopCosts {
  double local_us = 0, wire_us = 0;            // until the peer sees it
  double local_busy_us = 0, wire_busy_us = 0;  // of the sender and of the receiver
};

struct Traffic {
  double latency_us = 0;              // of messages without bytes, everyone starting together
  int local_hops = 0, wire_hops = 0;  // on the chain that took so long
  int messages = 0;                   // of the busiest rank, sent and received
  // Of the busiest rank, in bytes per byte of the whole buffer.
  double local_bytes = 0, wire_sent = 0, wire_received = 0;
  double host_sent = 0;  // bytes that leave the busiest host, per byte of the whole buffer
};

// `ranks.hosts` is known. The root of a rooted collective is rank 0.
Traffic walk(const CatalogRow& row, Ranks ranks, const HopCosts& costs);

// Walks each row once. Shared by the copies of a Summary; any thread.
class TrafficBook {
 public:
  // Beyond so many ranks walking takes longer than a plan may: everybody with everybody are 130,000 steps here.
  static constexpr int kMostRanks = 256;

  Traffic of(const CatalogRow& row, Ranks ranks, const HopCosts& costs);

 private:
  std::mutex mutex_;
  std::map<std::pair<const CatalogRow*, const UserSchedule*>, Traffic> known_;
};

}  // namespace tutti
