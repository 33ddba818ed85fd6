// SPDX-License-Identifier: Apache-2.0
// Paths between all GPUs and NICs of a graph: class, bottleneck, latency, hops. The planner and the tools read them.
//
// For a pair the widest path wins, then the one of fewer hops, then the nearer class. GPUs do not forward, with two
// exceptions that are computed on top and say through which GPU they go: NVB (GPU to GPU over a peer that has NVLinks
// to both) and PXN (GPU to NIC over a peer that is near the NIC). A direct NVLink always wins over PCIe: hardware takes
// it. The network is for pairs that have no path without it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "topology/graph.h"

namespace tutti::topology {

// What a path passes at worst, as NCCL names it; the order is from near to far.
enum class PathClass : uint8_t {
  Loc,  // the device itself
  Nvl,  // NVLink or xGMI, direct or through NVSwitches
  Nvb,  // NVLink through one other GPU
  C2C,  // the link of a GPU to its CPU on one module
  Pix,  // one PCIe switch at most
  Pxb,  // several PCIe switches
  Pxn,  // NVLink to a peer GPU that is near the NIC
  Phb,  // a CPU of one NUMA node
  Sys,  // between NUMA nodes
  Net,  // the network
  Dis,  // no path
};
const char* to_string(PathClass type);

struct Path {
  PathClass type = PathClass::Dis;
  double gbps = 0;  // GB/s of the narrowest link, from the first end to the second; over all ways
  double latency_us = 0;
  int32_t hops = 0;
  int32_t ways = 1;      // NVSwitches used side by side, whose bandwidths add up
  int32_t nvlinks = 0;   // bonded links of a NVL path
  NodeId relay = kNone;  // of NVB and PXN: the GPU in between
};

struct Hop {
  LinkId link;
  NodeId from, to;
};

class Paths {
 public:
  // Keeps a reference to the graph, which must stay as it is. Needs endpoints()^2 * 80 bytes.
  explicit Paths(const Graph& graph);

  // GPUs, then NICs, each in the order of the graph.
  const std::vector<NodeId>& endpoints() const { return endpoints_; }
  const std::vector<NodeId>& gpus() const { return gpus_; }
  const std::vector<NodeId>& nics() const { return nics_; }
  bool is_endpoint(NodeId id) const { return index(id) >= 0; }

  // The best path, and the best one without a GPU in between (equal when the best has none). Both ends are endpoints.
  const Path& best(NodeId from, NodeId to) const { return table_[at(from, to)].best; }
  const Path& direct(NodeId from, NodeId to) const { return table_[at(from, to)].direct; }
  // The best path over PCIe and CPUs alone: what nvidia-smi would print without NVLinks.
  const Path& pcie(NodeId from, NodeId to) const { return table_[at(from, to)].pcie; }

  // The links of the best path, in order. Of several ways side by side: the widest.
  std::vector<Hop> route(NodeId from, NodeId to) const;
  // The place of the bottleneck: index into route().
  size_t bottleneck(const std::vector<Hop>& route) const;

  // The NICs nearest to a GPU by class, then bandwidth: all that are equally near, in the order of the graph.
  std::vector<NodeId> nearest_nics(NodeId gpu) const;
  // The CPUs on which a process for this device should run: those of its NUMA node.
  CpuSet affinity(NodeId device) const;

 private:
  struct Pair {
    Path best, direct, pcie;
  };
  struct Search;
  struct Scope;

  int32_t index(NodeId id) const { return index_[static_cast<size_t>(id)]; }
  size_t at(NodeId from, NodeId to) const {
    return static_cast<size_t>(index(from)) * endpoints_.size() + static_cast<size_t>(index(to));
  }
  void search_from(NodeId source, Search* search);
  void fill_from(NodeId source, Scope scope, Path Pair::*kept, Search* search);
  Path fabric(NodeId from, NodeId to, std::vector<Hop>* hops) const;
  void add_relays();
  std::vector<Hop> plain_route(NodeId from, NodeId to) const;

  const Graph& graph_;
  std::vector<NodeId> gpus_, nics_, endpoints_;
  std::vector<int32_t> index_;  // of a node among the endpoints; -1
  std::vector<Pair> table_;
};

// What `nvidia-smi topo -m` shows for a pair: X, NV#, PIX, PXB, PHB, NODE, SYS; XGMI and NET beyond its words. NODE
// only where the source knows the host bridges.
std::string matrix_cell(const Graph& graph, const Paths& paths, NodeId from, NodeId to);

}  // namespace tutti::topology
