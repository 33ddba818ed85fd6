// SPDX-License-Identifier: Apache-2.0
// Topology files: recognise by content, read, write. Each format has its own file beside this one.
//
// Readers take the whole text and a name for messages, and trust nothing: text that is truncated, malformed or
// contradicts itself is an error "NAME:LINE: what is wrong and why"; values that make no sense but leave the rest of
// the machine readable become warnings of the graph. No reader reads another file or the network.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/status.h"
#include "topology/graph.h"

namespace tutti::topology {

enum class Format : uint8_t { NcclXml, HwlocXml, NvidiaSmi, Json };

Result<Graph> read_nccl_xml(std::string_view text, std::string_view name);
Result<Graph> read_hwloc_xml(std::string_view text, std::string_view name);  // versions 1, 2 and 3
Result<Graph> read_nvidia_smi(std::string_view text, std::string_view name);
Result<Graph> read_json(std::string_view text, std::string_view name);

// What NCCL (NCCL_TOPO_FILE) accepts. What its format has no place for is left out: networks, latencies of links.
std::string write_nccl_xml(const Graph& graph);
// Everything; docs/topology.md has the schema.
std::string write_json(const Graph& graph);
inline constexpr int kJsonVersion = 1;

// Which format a text is in; an error says what its beginning looks like.
Result<Format> recognise(std::string_view text, std::string_view name);
Result<Graph> read_topology(std::string_view text, std::string_view name);
// "-" is standard input. Files above kMostBytes are refused.
Result<Graph> read_topology_file(const std::string& path);
inline constexpr size_t kMostBytes = size_t{64} << 20;

// A file gives what it knows; the live machine gives the rest. `live` is what detection found: devices of a template
// (PCI functions without kind, GPUs and NICs without attributes, figures that were assumed) are completed by what sits
// there at the same bus id. What the file states stays. Devices of `live` that the file lacks are not added.
void complete(Graph& file, const Graph& live);

}  // namespace tutti::topology
