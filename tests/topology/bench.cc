// SPDX-License-Identifier: Apache-2.0
// How long reading a file and computing all paths takes. Limits that are held: 16 GPUs in 10 ms, 72 GPUs of one NVLink
// domain in 100 ms. And the channel search with its bound: 8 GPUs in 100 ms, 16 GPUs in islands in 2 s, 1,024 hosts of
// 8 GPUs in 5 s.  build/release/bin/topology_bench
#include <benchmark/benchmark.h>

#include <fstream>
#include <iterator>
#include <string>

#include "topology/channels/channels.h"
#include "topology/draw/draw.h"
#include "topology/formats/formats.h"

namespace {

using namespace tutti::topology;

std::string fixture(const char* name) {
  std::ifstream file(std::string(TUTTI_TOPOLOGY_FIXTURES "/") + name, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// 18 trays of 4 GPUs, each with its NIC behind a switch of its own, in one NVLink domain: an NVL72 rack.
std::string rack() {
  std::string text = "<system version=\"1\">\n";
  for (int host = 0; host < 18; ++host)
    for (int cpu = 0; cpu < 2; ++cpu) {
      text +=
          fmt::format("<cpu host_hash=\"0x{:x}\" numaid=\"{}\" affinity=\"ffffffff\" arch=\"arm64\">\n", host + 1, cpu);
      for (int k = 0; k < 2; ++k) {
        const int gpu = cpu * 2 + k;
        text += fmt::format(
            "<pci busid=\"000{0}:01:00.0\" class=\"0x060400\" link_speed=\"64.0 GT/s PCIe\" link_width=\"16\">\n"
            "<pci busid=\"000{0}:06:00.0\" class=\"0x030200\" link_speed=\"64.0 GT/s PCIe\" link_width=\"16\">\n"
            "<gpu dev=\"{0}\" sm=\"103\" rank=\"{1}\" gdr=\"1\"><nvlink target=\"fffffff:ff:ff.0\" count=\"18\" "
            "tclass=\"0x068000\"/>"
            "<c2c bw=\"44712\" count=\"5\"/></gpu>\n</pci>\n"
            "<pci busid=\"000{0}:03:00.0\" class=\"0x020700\" link_speed=\"64.0 GT/s PCIe\" link_width=\"16\">\n"
            "<nic><net name=\"mlx5_{0}\" dev=\"{0}\" speed=\"800000\" port=\"1\" guid=\"0x{1:x}\" maxconn=\"131072\" "
            "gdr=\"1\"/></nic>\n"
            "</pci>\n</pci>\n",
            gpu, host * 4 + gpu);
      }
      text += "</cpu>\n";
    }
  return text + "</system>\n";
}

void parse_and_paths(benchmark::State& state, const std::string& text) {
  for (auto _ : state) {
    const auto graph = read_topology(text, "bench");
    if (!graph.ok()) return state.SkipWithError(graph.status().message().c_str());
    const Paths paths(*graph);
    benchmark::DoNotOptimize(paths.endpoints().size());
    state.counters["gpus"] = static_cast<double>(paths.gpus().size());
    state.counters["nics"] = static_cast<double>(paths.nics().size());
  }
}

void BM_ParseAndPaths8GpusNvSwitch(benchmark::State& state) {
  parse_and_paths(state, fixture("nccl-hgx-nvswitch.xml"));
}
void BM_ParseAndPaths16GpusDeep(benchmark::State& state) { parse_and_paths(state, fixture("rccl-deep-cascade.xml")); }
void BM_ParseAndPaths72GpusOneDomain(benchmark::State& state) { parse_and_paths(state, rack()); }
void BM_Svg16GpusDeep(benchmark::State& state) {
  const auto graph = read_topology(fixture("rccl-deep-cascade.xml"), "bench");
  for (auto _ : state) benchmark::DoNotOptimize(draw_svg(*graph).size());
}

void plan(benchmark::State& state, const std::string& text, Pattern pattern, int32_t hosts = 1) {
  const auto host = read_topology(text, "bench");
  if (!host.ok()) return state.SkipWithError(host.status().message().c_str());
  for (auto _ : state) {
    const Graph graph = repeat_hosts(*host, hosts);
    const auto found = plan_channels(graph, {.ranks = *place_ranks(graph, 0), .pattern = pattern});
    if (!found.ok()) return state.SkipWithError(found.status().message().c_str());
    state.counters["ranks"] = found->ranks;
    state.counters["optimality"] = found->optimality();
  }
}

void BM_Channels8GpusCubeMesh(benchmark::State& state) {
  plan(state, fixture("nccl-cube-mesh.xml"), Pattern::AllReduce);
}
void BM_Channels8GpusNvSwitch(benchmark::State& state) {
  plan(state, fixture("nccl-hgx-nvswitch.xml"), Pattern::AllReduce);
}
void BM_Channels8GpusTwoIslandsAllGather(benchmark::State& state) {
  plan(state, fixture("rccl-two-islands.xml"), Pattern::AllGather);
}
void BM_Channels16GpusIslands(benchmark::State& state) {
  plan(state, fixture("rccl-deep-cascade.xml"), Pattern::AllReduce);
}
void BM_Channels16GpusIslandsAllGather(benchmark::State& state) {
  plan(state, fixture("rccl-deep-cascade.xml"), Pattern::AllGather);
}
void BM_Channels72GpusOneDomain(benchmark::State& state) { plan(state, rack(), Pattern::AllReduce); }
void BM_Channels1024Hosts(benchmark::State& state) {
  plan(state, fixture("nccl-hgx-nvswitch.xml"), Pattern::AllReduce, 1024);
}

BENCHMARK(BM_Channels8GpusCubeMesh)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_Channels8GpusNvSwitch)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_Channels8GpusTwoIslandsAllGather)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_Channels16GpusIslands)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_Channels16GpusIslandsAllGather)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_Channels72GpusOneDomain)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_Channels1024Hosts)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_ParseAndPaths8GpusNvSwitch)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_ParseAndPaths16GpusDeep)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_ParseAndPaths72GpusOneDomain)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_Svg16GpusDeep)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
