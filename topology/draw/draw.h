// SPDX-License-Identifier: Apache-2.0
// A graph shown to people and programs: tree, matrix, picture, Graphviz, summary, one path explained, two graphs
// compared.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "topology/graph.h"
#include "topology/paths.h"

namespace tutti::topology {

// Every device at its place, with links and speeds; `colour` adds terminal colours.
std::string draw_tree(const Graph& graph, const Paths& paths, bool colour);
// The layout of `nvidia-smi topo -m`: tabs, affinities, legend.
std::string draw_matrix(const Graph& graph, const Paths& paths);
// A picture in levels: NUMA nodes, PCIe switches, GPUs and NICs, NVSwitches; link width by bandwidth.
std::string draw_svg(const Graph& graph);
// Ways over devices, a row each below the devices of every host: a dot per device, an arc per edge. Edges to another
// host end at the side.
struct Way {
  std::string title;
  std::vector<std::pair<NodeId, NodeId>> edges;
  bool both_ways = false;  // no arrows
};
std::string draw_svg(const Graph& graph, const std::vector<Way>& ways);
std::string draw_dot(const Graph& graph);
// One JSON object: hosts, gpus, nics, nets, numa, nvswitches, pci_depth, warnings: counts of what the source states.
std::string summary_json(const Graph& graph);
// Hop by hop, with the bottleneck, and what else is worth knowing about the pair.
std::string explain_path(const Graph& graph, const Paths& paths, NodeId from, NodeId to);
// What differs, a line each; empty when nothing does. Devices are matched by host, kind and bus id (or name).
std::vector<std::string> differences(const Graph& one, const Graph& other);

// The GPU or NIC a person means: "GPU0", "NIC2", "mlx5_0" (the NIC of that port), a bus id, "1:GPU0" on the second
// host.
Result<NodeId> find_endpoint(const Graph& graph, std::string_view text);

// "GPU0", or "1:GPU0" where there are several hosts.
std::string display_name(const Graph& graph, NodeId id);
// "24 GB/s", "0.5 GB/s", "1250 GB/s".
std::string gbps_text(double gbps);

}  // namespace tutti::topology
