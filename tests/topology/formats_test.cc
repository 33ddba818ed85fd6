// SPDX-License-Identifier: Apache-2.0
// Readers and writers on the fixtures: counts, matrices, what is written reads back equal, errors name line and reason.
#include "topology/formats/formats.h"

#include <gmock/gmock.h>

#include "files.h"

namespace tutti::topology {
namespace {

using ::testing::HasSubstr;

class Fixture : public ::testing::TestWithParam<Row> {};

TEST_P(Fixture, HasTheCountsOfItsTable) {
  const Row& row = GetParam();
  const nlohmann::json summary = summary_of(read_ok(fixture(row["file"])));
  for (const auto& [column, member] : {std::pair("hosts", "hosts"),
                                       {"gpus", "gpus"},
                                       {"nics", "nics"},
                                       {"nets", "nets"},
                                       {"numa", "numa"},
                                       {"nvswitches", "nvswitches"},
                                       {"pci depth", "pci_depth"}})
    EXPECT_EQ(std::to_string(summary[member].get<int>()), row[column]) << column;
  EXPECT_EQ(std::to_string(summary["warnings"].size()), row["warnings"]) << summary["warnings"].dump(1);
}

TEST_P(Fixture, ComesBackEqualFromJson) {
  const Graph graph = read_ok(fixture(GetParam()["file"]));
  const Result<Graph> again = read_json(write_json(graph), "written");
  ASSERT_TRUE(again.ok()) << again.status().message();
  EXPECT_EQ(*again, graph);
  EXPECT_EQ(again->warnings().size(), graph.warnings().size());
}

TEST_P(Fixture, OfNcclComesBackEqualFromXmlAndOthersKeepTheirDevices) {
  const Graph graph = read_ok(fixture(GetParam()["file"]));
  const Result<Graph> again = read_nccl_xml(write_nccl_xml(graph), "written");
  ASSERT_TRUE(again.ok()) << again.status().message();
  if (graph.origin == "NCCL topology XML") {
    EXPECT_EQ(*again, graph) << write_nccl_xml(graph);
  }
  const nlohmann::json before = summary_of(graph), after = summary_of(*again);
  for (const char* member : {"hosts", "gpus", "nics", "nets"}) EXPECT_EQ(before[member], after[member]) << member;
}

TEST_P(Fixture, CutOffAnywhereIsAnErrorOrASmallerMachineNeverAHang) {
  const std::string text = file_text(fixture(GetParam()["file"]));
  const size_t step = std::max<size_t>(1, text.size() / 97);
  for (size_t size = 0; size < text.size(); size += step) {
    const Result<Graph> graph = read_topology(text.substr(0, size), "cut");
    if (!graph.ok()) {
      EXPECT_THAT(graph.status().message(), HasSubstr("cut:")) << size;
    }
    const bool closed = text.find_last_not_of(" \r\n") < size;  // only blanks are cut off
    if (text[0] == '<') {
      EXPECT_EQ(graph.ok(), closed) << size;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(, Fixture, ::testing::ValuesIn(table_rows(file_text(fixture("README.md")))),
                         [](const auto& info) {
                           std::string name = info.param["file"];
                           std::replace_if(
                               name.begin(), name.end(), [](char c) { return c == '-' || c == '.'; }, '_');
                           return name;
                         });

TEST(Fixtures, AreAllInTheTable) {
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(TUTTI_TOPOLOGY_FIXTURES))
    files += entry.path().filename() != "README.md";
  EXPECT_EQ(files, table_rows(file_text(fixture("README.md"))).size());
}

TEST(NvidiaSmi, ShowsTheMatrixThatItRead) {
  for (const char* name : {"smi-hgx-nics.txt", "smi-old-soc.txt", "smi-ansi-pairs.txt"}) {
    SCOPED_TRACE(name);
    const SmiMatrix matrix = smi_matrix(file_text(fixture(name)));
    ASSERT_GE(matrix.names.size(), 4u);
    ASSERT_EQ(matrix.cells.size(), matrix.names.size() * matrix.names.size());
    expect_matrix(read_ok(fixture(name)), matrix);
  }
}

TEST(NvidiaSmi, OurOwnMatrixIsReadable) {
  for (const char* name : {"smi-hgx-nics.txt", "nccl-hgx-nvswitch.xml", "nccl-cube-mesh.xml", "hwloc-3.xml"}) {
    SCOPED_TRACE(name);
    const Graph graph = read_ok(fixture(name));
    const std::string text = draw_matrix(graph, Paths(graph));
    const Result<Graph> again = read_topology(text, "matrix");
    ASSERT_TRUE(again.ok()) << again.status().message() << "\n" << text;
    expect_matrix(*again, smi_matrix(text));
  }
}

TEST(NvidiaSmi, NamesAffinitiesAndNicsAreKept) {
  const Graph graph = read_ok(fixture("smi-hgx-nics.txt"));
  const auto ports = graph.of_kind(NodeKind::Port);
  ASSERT_EQ(ports.size(), 4u);
  EXPECT_EQ(graph.node(ports[0]).name, "mlx5_3");
  const auto gpus = graph.of_kind(NodeKind::Gpu);
  EXPECT_EQ(graph.node(graph.cpu_of(gpus[7])).cpu.cpus.list(), "48-95,144-191");
  EXPECT_EQ(graph.node(graph.cpu_of(gpus[7])).number, 1);
}

TEST(NvidiaSmi, DamagedTextIsAnErrorWithItsLine) {
  const auto message = [](const std::string& text) { return read_nvidia_smi(text, "smi").status().message(); };
  EXPECT_THAT(message("\tGPU0\tGPU1\tCPU Affinity\nGPU0\t X \tPXBNODE\t0\nGPU1\tPXB\t X \t0\n"),
              HasSubstr("smi:2: \"PXBNODE\" in the row of GPU0, column GPU1"));
  EXPECT_THAT(message("\tGPU0\tGPU1\tCPU Affinity\nGPU0\t X \tPIX\t0\n"), HasSubstr("GPU1 has a column but no row"));
  EXPECT_THAT(message("\tGPU0\tGPU1\nGPU0\t X \tPIX\nGPU1\tSYS\t X \n"), HasSubstr("smi:2: the matrix contradicts"));
  EXPECT_THAT(message("\tGPU0\tGPU1\nGPU0\tPIX\tPIX\nGPU1\tPIX\t X \n"), HasSubstr("X stands for"));
  EXPECT_THAT(message("\tGPU0\tGPU0\n"), HasSubstr("smi:1: GPU0 has two columns"));
  EXPECT_THAT(message("\tGPU0\tGPU1\nGPU0\t X \tPIX\nGPU0\t X \tPIX\n"), HasSubstr("smi:3: GPU0 has a second row"));
  EXPECT_THAT(message("no matrix at all"), HasSubstr("no header"));
}

std::string nccl_message(const std::string& text) { return read_nccl_xml(text, "file").status().message(); }

TEST(NcclXml, ContradictionsAreErrorsWithTheirLine) {
  EXPECT_THAT(
      nccl_message("<system>\n<cpu numaid='0'>\n<pci busid='0000:01:00.0'/>\n<pci busid='01:00.0'/></cpu></system>"),
      HasSubstr("file:4: bus id 0000:01:00.0 appears twice"));
  EXPECT_THAT(nccl_message("<system><cpu numaid='0'/>\n<cpu numaid='0'/></system>"),
              HasSubstr("file:2: NUMA node 0 appears twice"));
  EXPECT_THAT(nccl_message("<system><cpu numaid='0'><pci busid='1:0.0'><gpu dev='0'/>\n<nic/></pci></cpu></system>"),
              HasSubstr("is both a GPU and a NIC"));
  EXPECT_THAT(nccl_message("<system><cpu numaid='0'>\n<pci busid='1:0.0'><gpu dev='0'/></pci>\n<pci busid='2:0.0'><gpu "
                           "dev='0'/></pci></cpu></system>"),
              HasSubstr("file:3: GPU dev 0 appears twice on one host (first on line 2)"));
}

TEST(NcclXml, MalformedTextIsAnErrorWithItsLine) {
  EXPECT_THAT(nccl_message("<system>\n<cpu numaid='0'>\n</system>"), HasSubstr("file:3: not well-formed XML"));
  EXPECT_THAT(nccl_message("<system>\n<cpu numaid='0'>"), HasSubstr("file:2: not well-formed XML"));
  EXPECT_THAT(nccl_message("<system>\n<cpu numaid='zero'/></system>"), HasSubstr("file:2: <cpu> numaid=\"zero\""));
  EXPECT_THAT(nccl_message("<system>\n<cpu numaid='0' affinity='xyz'/></system>"), HasSubstr("file:2: <cpu> affinity"));
  EXPECT_THAT(nccl_message("<system><cpu numaid='0'><pci/></cpu></system>"), HasSubstr("<pci> has no busid"));
  EXPECT_THAT(nccl_message("<system></system>"), HasSubstr("has no <cpu>"));
  EXPECT_THAT(nccl_message("<graphs version='1'/>"), HasSubstr("is a NCCL graph file"));
  EXPECT_THAT(nccl_message("<other/>"), HasSubstr("is <system>, not <other>"));
}

TEST(NcclXml, HostileDepthAndNumbersAreErrors) {
  std::string deep = "<system><cpu numaid='0'>";
  for (int i = 0; i < 100000; ++i) deep += "<pci busid='1'>";
  for (int i = 0; i < 100000; ++i) deep += "</pci>";
  EXPECT_THAT(nccl_message(deep + "</cpu></system>"), HasSubstr("nested deeper"));
  EXPECT_THAT(nccl_message("<system><cpu numaid='99999999999'/></system>"), HasSubstr("is not an integer"));
}

TEST(NcclXml, NonsenseIsFlaggedWithItsLineAndSurvived) {
  const Graph graph = read_ok(fixture("nccl-partial-nonsense.xml"));
  std::string all;
  for (const Warning& warning : graph.warnings()) all += fmt::format("{}: {}\n", warning.line, warning.text);
  for (const char* text : {"3: PCIe width 99", "10: PCIe width 0", "5: GPU0 links to 0000:ca:00.0, which is not",
                           "6: GPU0 links to itself", "502 NVLinks", "GPU0 has 4 links to GPU1, which has 2 back"})
    EXPECT_THAT(all, HasSubstr(text));
  const auto gpus = graph.of_kind(NodeKind::Gpu);
  const auto link = graph.link_between(LinkKind::NvLink, gpus[0], gpus[1]);
  ASSERT_TRUE(link);
  EXPECT_EQ(graph.link(*link).from(gpus[0]).gbps.value, 48);  // sm 86: 12 GB/s each
  EXPECT_EQ(graph.link(*link).from(gpus[1]).gbps.value, 24);
}

TEST(NcclXml, HostsOfOneFileShareAnNvLinkDomainAndANetwork) {
  const Graph graph = read_ok(fixture("nccl-two-hosts-c2c.xml"));
  const auto switches = graph.of_kind(NodeKind::NvSwitch);
  ASSERT_EQ(switches.size(), 1u);
  EXPECT_EQ(graph.node(switches[0]).parent, kNone);
  EXPECT_EQ(graph.links_of(switches[0]).size(), 8u);
  EXPECT_EQ(graph.links_of(graph.of_kind(NodeKind::Network).at(0)).size(), 2u);
}

TEST(NcclXml, AttributesOfNetsThatAreUnknownAreKept) {
  const Graph graph = read_ok(fixture("nccl-partial-nonsense.xml"));
  const Node& port = graph.node(graph.of_kind(NodeKind::Port).at(0));
  EXPECT_EQ(port.attribute("rail"), "3");
  EXPECT_EQ(port.port.guid, "0xREDACTED");
  EXPECT_THAT(write_nccl_xml(graph), HasSubstr("rail=\"3\""));
}

TEST(Hwloc, AllThreeVersionsAreTheSameMachine) {
  Graph one = read_ok(fixture("hwloc-1.xml")), two = read_ok(fixture("hwloc-2.xml"));
  EXPECT_EQ(one, two);
  const Graph three = read_ok(fixture("hwloc-3.xml"));
  EXPECT_EQ(three.nodes(), two.nodes());
}

TEST(Hwloc, NvLinkBandwidthsBecomeLinksThroughSwitches) {
  const Graph graph = read_ok(fixture("hwloc-3.xml"));
  const Paths paths(graph);
  const auto gpus = paths.gpus();
  ASSERT_EQ(gpus.size(), 4u);
  EXPECT_EQ(paths.best(gpus[0], gpus[1]).type, PathClass::Nvl);
  EXPECT_EQ(paths.best(gpus[0], gpus[1]).gbps, 75);
  EXPECT_EQ(paths.best(gpus[0], gpus[3]).type, PathClass::Nvl);  // over the trunk between the two switches
  EXPECT_EQ(paths.best(gpus[0], gpus[3]).hops, 3);
  EXPECT_EQ(matrix_cell(graph, paths, gpus[0], gpus[3]), "NV3");
}

TEST(Hwloc, DamagedFilesAreErrorsWithTheirLine) {
  const auto message = [](const std::string& text) { return read_hwloc_xml(text, "hw").status().message(); };
  const std::string text = file_text(fixture("hwloc-3.xml"));
  const auto changed = [&](const std::string& from, const std::string& to) {
    std::string copy = text;
    EXPECT_NE(copy.find(from), std::string::npos) << from;
    copy.replace(copy.find(from), from.size(), to);
    return copy;
  };
  EXPECT_THAT(message(changed("topology version=\"3.0\"", "topology version=\"7\"")),
              HasSubstr("hw:3: hwloc XML version"));
  EXPECT_THAT(message(changed("nbobjs=\"6\"", "nbobjs=\"5\"")),
              HasSubstr("over 5 objects has 6 indexes and 36 values"));
  EXPECT_THAT(message(changed("nbobjs=\"6\"", "nbobjs=\"100000000\"")), HasSubstr("objects"));
  EXPECT_THAT(message(changed("75000", "-1")), HasSubstr("is not a count of MB/s"));
  EXPECT_THAT(message(changed("0302 [10de", "junk [10de")), HasSubstr("does not begin with a class"));
  EXPECT_THAT(message("<topology version=\"2.0\"/>"), HasSubstr("no object of type Machine"));
}

TEST(Json, ErrorsNameThePlace) {
  const auto message = [](const std::string& text) { return read_json(text, "j").status().message(); };
  EXPECT_THAT(message("{\n\"tutti_topology\": 1,\n oops"), HasSubstr("j:3: not well-formed JSON"));
  EXPECT_THAT(message("{}"), HasSubstr("no \"tutti_topology\" member"));
  EXPECT_THAT(message(R"({"tutti_topology": 9, "nodes": [], "links": []})"), HasSubstr("version 9"));
  EXPECT_THAT(message(R"({"tutti_topology": 1, "nodes": [{"kind": "moon"}], "links": []})"),
              HasSubstr("nodes[0].kind"));
  EXPECT_THAT(message(R"({"tutti_topology": 1, "nodes": [{"kind": "gpu", "parent": 0}], "links": []})"),
              HasSubstr("form a ring"));
  EXPECT_THAT(
      message(R"({"tutti_topology": 1, "nodes": [{"kind": "gpu"}], "links": [{"kind": "pcie", "a": 0, "b": 5}]})"),
      HasSubstr("links[0]: there is no node 5"));
  for (const char* nodes : {R"([{"kind": "port"}])", R"([{"kind": "numa"}, {"kind": "port", "parent": 0}])"})
    EXPECT_THAT(message(std::string(R"({"tutti_topology": 1, "nodes": )") + nodes + R"(, "links": []})"),
                HasSubstr("a port belongs to a nic"));
  EXPECT_THAT(message(R"({"tutti_topology": 1, "nodes": [{"kind": "gpu", "number": 1e400}], "links": []})"),
              HasSubstr("j: "));
}

TEST(Json, AOneWayLinkStaysOneWay) {
  const Result<Graph> graph = read_nccl_xml(
      "<system><cpu numaid='0'><pci busid='01:00.0'><gpu dev='0' sm='80'><nvlink target='02:00.0' "
      "count='4'/></gpu></pci>"
      "<pci busid='02:00.0'><gpu dev='1' sm='80'/></pci></cpu></system>",
      "one way");
  ASSERT_TRUE(graph.ok()) << graph.status().message();
  const Result<Graph> again = read_json(write_json(*graph), "written");
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(*again, *graph);
  EXPECT_EQ(again->links().back().backward, Direction());
}

TEST(Json, ALatencyWithoutSourceIsKept) {
  Graph graph = read_ok(fixture("nccl-template-bare.xml"));
  graph.link(0).latency_us = {0.25, Source::None};
  const Result<Graph> again = read_json(write_json(graph), "written");
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(*again, graph);
}

TEST(Recognise, GoesByContentAndSaysWhatItFound) {
  EXPECT_EQ(*recognise("\xef\xbb\xbf<!-- licence --> <system version='1'/>", "f"), Format::NcclXml);
  EXPECT_EQ(*recognise("<?xml version='1.0'?><!DOCTYPE topology SYSTEM 'hwloc.dtd'><topology>", "f"), Format::HwlocXml);
  EXPECT_EQ(*recognise("$ nvidia-smi topo -m\n\tGPU0\tCPU Affinity", "f"), Format::NvidiaSmi);
  EXPECT_EQ(*recognise(" {\"tutti_topology\": 1}", "f"), Format::Json);
  EXPECT_THAT(recognise("", "f").status().message(), HasSubstr("f: the file is empty"));
  EXPECT_THAT(recognise("<html></html>", "f").status().message(), HasSubstr("<html> is the root neither"));
  EXPECT_THAT(recognise("hello", "f").status().message(), HasSubstr("it begins with \"hello\""));
}

TEST(ReadFile, MissingFileIsAnErrorWithItsName) {
  EXPECT_THAT(read_topology_file("/nonexistent/x.xml").status().message(), HasSubstr("/nonexistent/x.xml"));
}

TEST(Complete, ATemplateIsFilledFromTheLiveMachineByBusId) {
  Graph file = read_ok(fixture("nccl-template-bare.xml"));
  Graph live;
  const NodeId host = live.add_node({.kind = NodeKind::Host, .name = "live"});
  const NodeId cpu = live.add_node({.kind = NodeKind::Cpu, .parent = host, .number = 0, .name = "NUMA0"});
  live.node(cpu).cpu.cpus = *CpuSet::from_list("0-7");
  const auto gpu = [&](const char* bus_id, int number) {
    Node node{.kind = NodeKind::Gpu, .parent = cpu, .number = number, .name = fmt::format("GPU{}", number)};
    node.pci.bus_id = bus_id;
    node.gpu.present = true;
    node.gpu.sm = 90;
    const NodeId id = live.add_node(std::move(node));
    live.add_link({.kind = LinkKind::Pcie,
                   .a = cpu,
                   .b = id,
                   .forward = {16, {48, Source::Sysfs}},
                   .backward = {16, {48, Source::Sysfs}}});
    return id;
  };
  const NodeId first = gpu("0000:21:00.0", 4), second = gpu("0000:30:00.0", 5);
  const NodeId center = live.add_node({.kind = NodeKind::NvSwitch, .parent = host, .name = "NVSwitch0"});
  for (const NodeId id : {first, second})
    live.add_link({.kind = LinkKind::NvLink,
                   .a = id,
                   .b = center,
                   .forward = {18, {370, Source::Nvml}},
                   .backward = {18, {370, Source::Nvml}}});
  complete(file, live);
  const auto gpus = file.of_kind(NodeKind::Gpu);
  ASSERT_EQ(gpus.size(), 2u);
  EXPECT_EQ(file.node(gpus[0]).name, "GPU4");
  EXPECT_EQ(file.node(gpus[0]).gpu.sm, 90);
  EXPECT_EQ(file.node(file.node(gpus[0]).parent).kind, NodeKind::PciSwitch);              // the file's place stays
  EXPECT_EQ(file.link(*file.uplink(gpus[1])).forward.gbps, (Figure{48, Source::Sysfs}));  // the file had none
  EXPECT_EQ(file.node(file.cpu_of(gpus[0])).cpu.cpus.list(), "0-7");
  EXPECT_EQ(Paths(file).best(gpus[0], gpus[1]).type, PathClass::Nvl);
  EXPECT_FALSE(file.warnings().empty());  // 0000:22:00.0 and 0000:90:00.0 are not there
}

}  // namespace
}  // namespace tutti::topology
