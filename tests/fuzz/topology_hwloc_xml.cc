// SPDX-License-Identifier: Apache-2.0
// The reader read_hwloc_xml() on any bytes.
#include "fuzz/topology.h"

std::vector<tutti::fuzz::Input> tutti::fuzz::seeds() { return topology_seeds({"hwloc-"}); }

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto graph = tutti::topology::read_hwloc_xml(tutti::fuzz::text_of(data, size), "input");
  if (graph.ok()) tutti::fuzz::use_graph(*graph);
  return 0;
}
