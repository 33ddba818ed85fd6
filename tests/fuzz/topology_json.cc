// SPDX-License-Identifier: Apache-2.0
// The reader read_json() on any bytes; seeds are the fixtures of all formats, written as JSON.
#include "fuzz/topology.h"

std::vector<tutti::fuzz::Input> tutti::fuzz::seeds() {
  std::vector<Input> seeds;
  for (const Input& input : topology_seeds({"nccl-", "rccl-two", "hwloc-3", "smi-"})) {
    const auto graph = topology::read_topology(text_of(input.data(), input.size()), "fixture");
    require(graph.ok(), "fixtures are readable");
    const std::string text = topology::write_json(*graph);
    seeds.emplace_back(text.begin(), text.end());
  }
  return seeds;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto graph = tutti::topology::read_json(tutti::fuzz::text_of(data, size), "input");
  if (graph.ok()) tutti::fuzz::use_graph(*graph);
  return 0;
}
