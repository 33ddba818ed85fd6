// SPDX-License-Identifier: Apache-2.0
// What the fuzz targets of the topology readers share: seeds are the fixtures of tests/topology; a text that is read is
// also drawn, written, and read back.
#pragma once

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "fuzz/target.h"
#include "topology/draw/draw.h"
#include "topology/formats/formats.h"

namespace tutti::fuzz {

// The fixtures whose names begin so.
inline std::vector<Input> topology_seeds(std::initializer_list<const char*> prefixes) {
  std::vector<Input> seeds;
  for (const auto& entry : std::filesystem::directory_iterator(TUTTI_TOPOLOGY_FIXTURES))
    for (const std::string prefix : prefixes)
      if (entry.path().filename().string().starts_with(prefix)) {
        std::ifstream file(entry.path(), std::ios::binary);
        seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
      }
  require(!seeds.empty(), "no seeds: tests/topology/fixtures is empty");
  return seeds;
}

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Whatever a reader lets through is a graph that all consumers bear, and JSON keeps it whole.
inline void use_graph(const topology::Graph& graph) {
  using namespace topology;
  for (NodeId id = 0; id < graph.size(); ++id) require(graph.node(id).parent < graph.size(), "a parent is a node");
  for (const Link& link : graph.links())
    require(link.a >= 0 && link.a < graph.size() && link.b >= 0 && link.b < graph.size() && link.a != link.b,
            "links join two nodes");
  // Bytes that are no UTF-8 become U+FFFD in JSON; everything else comes back as it was.
  const std::string json = write_json(graph);
  const Result<Graph> again = read_json(json, "written");
  require(again.ok(), "written JSON is readable");
  require(*again == graph || json.find("\xef\xbf\xbd") != std::string::npos, "JSON gives the graph back");
  (void)read_nccl_xml(write_nccl_xml(graph), "written");  // bus ids of foreign formats may clash: an error then
  if (graph.size() > 200) return;                         // what follows is quadratic
  const Paths paths(graph);
  for (const NodeId from : paths.endpoints())
    for (const NodeId to : paths.endpoints()) {
      const auto route = paths.route(from, to);
      require(from == to || route.empty() == (paths.best(from, to).type == PathClass::Dis), "a path has a route");
      NodeId at = from;
      for (const Hop& hop : route) {
        require(hop.from == at, "hops follow each other");
        at = hop.to;
      }
      require(route.empty() || at == to, "a route ends at its end");
    }
  (void)draw_tree(graph, paths, true);
  (void)draw_matrix(graph, paths);
  (void)draw_svg(graph);
  (void)draw_dot(graph);
  (void)summary_json(graph);
  require(differences(graph, graph).empty(), "nothing differs from itself");
}

}  // namespace tutti::fuzz
