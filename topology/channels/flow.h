// SPDX-License-Identifier: Apache-2.0
// Maximum flow and minimum cut over a network with further arcs, by Boost.Graph. Capacities are whole numbers inside
// (kB/s), so that results do not depend on the order of sums.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "topology/channels/network.h"

namespace tutti::topology {

class Flow {
 public:
  // The vertices and arcs of the network, and `extra` more vertices after them.
  Flow(const Network& network, int32_t extra);
  ~Flow();

  static constexpr double kUnlimited = 1e9;  // GB/s

  int32_t add_arc(int32_t from, int32_t to, double gbps);
  void set(int32_t arc, double gbps);
  // GB/s from source to sink; what an earlier run used is free again.
  double run(int32_t source, int32_t sink);
  // After run(): is the vertex on the source's side of the minimum cut nearest to the source?
  bool source_side(int32_t vertex) const { return side_[static_cast<size_t>(vertex)] != 0; }

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  std::vector<char> side_;
};

}  // namespace tutti::topology
