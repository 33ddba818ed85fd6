// SPDX-License-Identifier: Apache-2.0
// Channels: the ways by which ranks on a topology exchange data: rings, trees and stars, as much bandwidth as the links
// give, and how far that is from the bound. The planner's cost model and `tutti plan` read it. Pure and deterministic:
// one graph and one request have one answer, on every rank.
//
// Networks: network.h. Bounds: bound.h. The search: walks.h, packing.h. docs/planner.md explains all of it.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "topology/channels/bound.h"
#include "topology/graph.h"

namespace tutti::topology {

struct ChannelRequest {
  std::vector<NodeId> ranks;  // the device of each rank: a GPU, or a NUMA node; several ranks may share one
  Pattern pattern = Pattern::AllReduce;
  int32_t root = 0;  // rank, where the pattern has one
  // Restrictions. Any that leaves nothing is an error that lists what it excluded.
  std::string nics = {};                                // TUTTI_NICS: base/name_list.h
  int32_t min_channels = 0, max_channels = 0;           // 0: free
  std::function<void(std::string_view)> progress = {};  // a line about what is being tried
};

// The NICs by which a channel enters and leaves one domain (of a tree: one NIC, twice).
struct Passage {
  NodeId in = kNone, out = kNone;
};

struct RingChannel {
  std::vector<NodeId> devices;    // a circle
  std::vector<Passage> passages;  // by domain; none where there is one domain
};

struct TreeChannel {
  std::vector<NodeId> devices;   // parents before their children
  std::vector<int32_t> parents;  // index into devices; -1: the root
  std::vector<Passage> passages;
};

// Every device sends to every other directly.
struct Star {
  NodeId hub = kNone;  // the NVSwitch in the middle, if it is one
  std::vector<NodeId> devices;
};

enum class ChannelKind : uint8_t { Rings, Trees, Star };
const char* to_string(ChannelKind kind);

struct ChannelPlan {
  int32_t ranks = 0, devices = 0, domains = 0;

  // Channels of a kind share the data equally: each carries the same.
  std::vector<RingChannel> rings;
  double ring_gbps = 0;  // of each ring
  std::vector<TreeChannel> trees;
  double tree_gbps = 0;  // of each tree; all-reduce counts the way up and the way down (as NCCL does)
  bool packed = false;   // the trees are packed spanning trees: no chains
  // Trees that are packed for all-gather or reduce-scatter come in forests: one tree per rank, rank 0's first, then the
  // next forest. 0: each tree is for the data of all.
  int32_t forests = 0;
  // All-reduce, where packed trees are below 0.9 of the bound: what any trees, with one way between two devices, carry
  // at most (bus bandwidth); 0: not asked.
  double trees_limit_gbps = 0;
  Star star;

  // Bus bandwidth of each kind for the pattern asked for; 0: it does not serve this pattern.
  double ring_bus_gbps = 0, tree_bus_gbps = 0, star_bus_gbps = 0;
  Bound bound;
  std::string limit;  // the cut that the bound comes from, in words

  double rings_total() const { return ring_gbps * static_cast<double>(rings.size()); }
  double trees_total() const { return tree_gbps * static_cast<double>(trees.size()); }
  ChannelKind best() const;
  double best_bus_gbps() const;
  // Of the bound; 1 where there is nothing to carry.
  double optimality() const;
};

Result<ChannelPlan> plan_channels(const Graph& graph, const ChannelRequest& request);

// Devices for so many ranks: GPUs in the order of the graph, or NUMA nodes where there is no GPU; 0 ranks: one each.
// More ranks than devices: they share devices evenly, neighbours together.
Result<std::vector<NodeId>> place_ranks(const Graph& graph, int32_t ranks);
// So many times the hosts of a graph, side by side; networks are shared.
Graph repeat_hosts(const Graph& graph, int32_t times);

}  // namespace tutti::topology
