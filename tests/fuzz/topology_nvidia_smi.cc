// SPDX-License-Identifier: Apache-2.0
// The reader read_nvidia_smi() on any bytes.
#include "fuzz/topology.h"

std::vector<tutti::fuzz::Input> tutti::fuzz::seeds() { return topology_seeds({"smi-"}); }

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto graph = tutti::topology::read_nvidia_smi(tutti::fuzz::text_of(data, size), "input");
  if (graph.ok()) tutti::fuzz::use_graph(*graph);
  return 0;
}
