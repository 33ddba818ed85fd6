// SPDX-License-Identifier: Apache-2.0
// Networks: what a topology graph means for ranks that exchange data. The channel search and the bound read it.
//
// A domain is a set of hosts that one fabric of NVSwitches joins: mostly one host. Each domain has a network of its
// own: devices that hold ranks, what forwards between them (NUMA nodes, PCIe switches, NVSwitches, NICs), and, where
// there are other domains, one vertex that stands for all of these, reached through the NICs: the world. What is
// between the domains is taken to carry whatever the NICs do.
//
// Where this leaves the graph:
// * Only a device with ranks forwards between GPUs; a GPU without ranks is not there.
// * NVSwitches with the same GPUs are one: hardware spreads over them. Links side by side are one.
// * Copies between two GPUs take one way: NVLink (or xGMI) where there is one, unless PCIe is faster. So links slower
//   than PCIe are not there, and a GPU that reaches every other device of the only domain by links has no PCIe.
// * NICs without a PCI function (bridges, virtual interfaces) serve only where there is no other NIC.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "topology/graph.h"

namespace tutti::topology {

struct Arc {
  int32_t from = 0, to = 0;
  double gbps = 0;
  int32_t lanes = 0;  // of NVLink and xGMI; 0: of other links
  LinkKind kind = LinkKind::Pcie;
};

struct Vertex {
  NodeId node = kNone;  // of several NVSwitches: the first; of the world: kNone
  NodeKind kind = NodeKind::Network;
  int32_t ranks = 0;  // on this device
};

struct Network {
  std::vector<Vertex> vertices;  // devices first, in the order of their first ranks
  int32_t devices = 0;
  int32_t ranks = 0;      // of this domain
  int32_t world = -1;     // vertex; -1: there is no other domain
  int32_t outside = 0;    // ranks of the other domains
  std::vector<Arc> arcs;  // the opposite of arc i is i ^ 1
  std::vector<std::vector<int32_t>> out;

  int32_t size() const { return static_cast<int32_t>(vertices.size()); }
  bool is_device(int32_t v) const { return v < devices; }
  bool is_fabric(const Arc& arc) const { return topology::is_fabric(arc.kind); }
  // Ranks behind a vertex: of the world those of the other domains.
  int32_t weight(int32_t v) const { return v == world ? outside : vertices[static_cast<size_t>(v)].ranks; }
  int32_t total() const { return ranks + outside; }
  // The same network with all arcs turned round.
  Network reversed() const;
  // Equal texts: networks that differ in names only, so that one answer serves both.
  std::string signature() const;
};

// One network per domain that holds ranks, in the order of their first ranks. `ranks` is the device (a GPU or a NUMA
// node) of each rank. `nics` chooses the ports of channels across
// domains, as TUTTI_NICS does (base/name_list.h). An error names what is missing: a NIC, or what a restriction
// excluded.
Result<std::vector<Network>> make_networks(const Graph& graph, const std::vector<NodeId>& ranks, std::string_view nics);

}  // namespace tutti::topology
