// SPDX-License-Identifier: Apache-2.0
// The hosts' graphs: as bytes and back, merged, and shared by the ranks of a communicator.
#include "comm/job_graph.h"

#include <gtest/gtest.h>

#include <thread>

#include "comm/communicator.h"
#include "topology/detect/detect.h"
#include "tutti/tutti.h"

namespace tutti {
namespace {

using namespace topology;

// A value of its own in every field, so that a forgotten or swapped one shows.
Graph full_graph(const std::string& host) {
  Graph graph;
  graph.origin = "test";
  graph.system_version = 2;
  Node node;
  node.kind = NodeKind::Host;
  node.name = host;
  const NodeId top = graph.add_node(node);
  node = {};
  node.kind = NodeKind::Gpu;
  node.parent = top;
  node.number = 3;
  node.name = "GPU3";
  node.pci = {"0000:3b:00.0", 0x030200, 0x10de, 0x2330, 0x10df, 0x16c1, "32.0 GT/s PCIe", 16, "pci0000:3a"};
  node.cpu.package = 1;
  node.cpu.cpus = *CpuSet::from_list("0-3,70");
  node.cpu.arch = "x86_64";
  node.cpu.vendor = "GenuineIntel";
  node.cpu.family = 6;
  node.cpu.model = 143;
  node.cpu.memory_bytes = 1ull << 40;
  node.gpu.present = true;
  node.gpu.model = "H100";
  node.gpu.uuid = "GPU-1";
  node.gpu.sm = 90;
  node.gpu.gcn = "gfx942";
  node.gpu.arch = 4;
  node.gpu.rank = 5;
  node.gpu.gdr = 1;
  node.gpu.memory_bytes = 80ull << 30;
  node.port = {1, 400000, 1.5, "0x1", 128, 1, 0};
  node.nvswitch = {true, "domain/1"};
  node.attributes = {{"rail", "1"}, {"empty", ""}};
  const NodeId gpu = graph.add_node(node);
  node = {};
  node.kind = NodeKind::Network;
  node.name = "Ethernet";
  const NodeId network = graph.add_node(node);
  graph.add_link({LinkKind::Network,
                  gpu,
                  network,
                  {4, {12.5, Source::Sysfs}},
                  {2, {6.25, Source::Table}},
                  {0.5, Source::Assumed}});
  graph.warn(7, "a width of 0");
  return graph;
}

TEST(JobGraph, BytesAndBackIsTheSameGraph) {
  const Graph graph = full_graph("a");
  const auto back = decode_graph(encode_graph(graph));
  ASSERT_TRUE(back.ok()) << back.status().message();
  EXPECT_EQ(*back, graph);
  EXPECT_EQ(back->origin, "test");
  EXPECT_EQ(back->system_version, 2);
  ASSERT_EQ(back->warnings().size(), 1u);
  EXPECT_EQ(back->warnings()[0].line, 7);
}

TEST(JobGraph, DamagedBytesAreRefusedAndNeverFollowed) {
  const Bytes bytes = encode_graph(full_graph("a"));
  for (size_t size = 0; size < bytes.size(); ++size)
    EXPECT_FALSE(decode_graph(std::span(bytes).first(size)).ok()) << size;
  int refused = 0;
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (const uint8_t flip : {0x80, 0xff, 0x01}) {
      Bytes damaged = bytes;
      damaged[at] ^= static_cast<std::byte>(flip);
      const auto read = decode_graph(damaged);  // a changed letter of a name is still a graph; it must be a sound one
      refused += read.ok() ? 0 : 1;
      if (!read.ok()) continue;
      for (NodeId id = 0; id < read->size(); ++id) EXPECT_LT(read->node(id).parent, id);
      for (const Link& link : read->links())
        EXPECT_TRUE(link.a >= 0 && link.a < read->size() && link.b >= 0 && link.b < read->size());
    }
  }
  EXPECT_GT(refused, 100);
}

TEST(JobGraph, HostsAreMergedOverTheNetworkTheyShare) {
  JobGraph job;
  job.set({encode_graph(full_graph("a")), encode_graph(full_graph("b"))});
  const auto graph = job.get();
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  EXPECT_EQ((*graph)->of_kind(NodeKind::Host).size(), 2u);
  EXPECT_EQ((*graph)->of_kind(NodeKind::Network).size(), 1u);
  EXPECT_EQ(*job.get(), *graph) << "read once";
}

TEST(JobGraph, AHostThatWasNotDetectedIsNamed) {
  JobGraph job;
  job.set({encode_graph(full_graph("a")), {}});
  EXPECT_NE(job.get().status().message().find("host 1 of the job was not detected"), std::string::npos);
}

TEST(JobGraph, ThisHostsGraphIsTheDetectedOne) {
  const auto graph = decode_graph(**JobGraph::this_host());
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  EXPECT_EQ(graph->of_kind(NodeKind::Host).size(), 1u);
  EXPECT_GE(graph->of_kind(NodeKind::Cpu).size(), 1u);
  EXPECT_EQ(*JobGraph::this_host(), *JobGraph::this_host()) << "detected once";
}

TEST(JobGraph, ARankAloneDetectsWhenItIsAsked) {
  const JobGraph job;
  const auto graph = job.get();
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  EXPECT_EQ(**graph, *decode_graph(**JobGraph::this_host()));
}

TEST(JobGraph, AllRanksOfACommunicatorHaveIt) {
  constexpr int kRanks = 4;
  tuttiUniqueId public_id;
  ASSERT_EQ(tuttiGetUniqueId(&public_id), TUTTI_SUCCESS);
  const auto id = decode_unique_id(std::span<const char, kUniqueIdBytes>(public_id.internal, kUniqueIdBytes));
  ASSERT_TRUE(id.ok()) << id.status().message();
  std::vector<std::unique_ptr<Communicator>> comms(kRanks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kRanks; ++rank)
    threads.emplace_back([&, rank] {
      auto joined = Communicator::join(JoinOptions::with(*id, kRanks, rank), {});
      EXPECT_TRUE(joined.ok()) << joined.status().message();
      if (joined.ok()) comms[static_cast<size_t>(rank)] = std::move(*joined);
    });
  for (std::thread& thread : threads) thread.join();
  const Graph expected = *decode_graph(**JobGraph::this_host());
  for (const auto& comm : comms) {
    ASSERT_NE(comm, nullptr);
    const auto graph = comm->job_graph().get();
    ASSERT_TRUE(graph.ok()) << graph.status().message();
    EXPECT_EQ(**graph, expected);
  }
}

}  // namespace
}  // namespace tutti
