// SPDX-License-Identifier: Apache-2.0
// Drawings: every device is there, and in pictures no box lies on another or outside.
#include "topology/draw/draw.h"

#include <gmock/gmock.h>

#include <pugixml.hpp>

#include "files.h"

namespace tutti::topology {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

struct Rect {
  double x, y, width, height;
};

// A picture of n GPUs, each with a NIC, and some NVSwitches.
Graph machine_of(int gpus, int switches) {
  Graph graph;
  const NodeId host = graph.add_node({.kind = NodeKind::Host, .number = 0, .name = "made"});
  std::vector<NodeId> centers;
  for (int i = 0; i < switches; ++i)
    centers.push_back(graph.add_node(
        {.kind = NodeKind::NvSwitch, .parent = host, .number = i, .name = fmt::format("NVSwitch{}", i)}));
  const Direction pcie{16, {48, Source::File}}, nvlink{4, {80, Source::File}};
  for (int i = 0; i < gpus; ++i) {
    NodeId cpu = kNone;
    if (i % 4 == 0)
      cpu = graph.add_node(
          {.kind = NodeKind::Cpu, .parent = host, .number = i / 4, .name = fmt::format("NUMA{}", i / 4)});
    else
      cpu = graph.of_kind(NodeKind::Cpu).back();
    const NodeId gpu =
        graph.add_node({.kind = NodeKind::Gpu, .parent = cpu, .number = i, .name = fmt::format("GPU{}", i)});
    const NodeId nic =
        graph.add_node({.kind = NodeKind::Nic, .parent = cpu, .number = i, .name = fmt::format("NIC{}", i)});
    graph.add_link({.kind = LinkKind::Pcie, .a = cpu, .b = gpu, .forward = pcie, .backward = pcie});
    graph.add_link({.kind = LinkKind::Pcie, .a = cpu, .b = nic, .forward = pcie, .backward = pcie});
    for (const NodeId center : centers)
      graph.add_link({.kind = LinkKind::NvLink, .a = gpu, .b = center, .forward = nvlink, .backward = nvlink});
  }
  return graph;
}

// Boxes have a border width; panels and label patches have not.
void expect_no_overlap(const std::string& svg) {
  pugi::xml_document document;
  ASSERT_TRUE(document.load_string(svg.c_str()));
  const auto root = document.document_element();
  size_t boxes = 0;
  for (const auto& panel : root.children("g")) {
    const double width = panel.child("rect").attribute("width").as_double();
    const double height = panel.child("rect").attribute("height").as_double();
    std::vector<Rect> rects;
    for (const auto& rect : panel.children("rect"))
      if (rect.attribute("stroke-width"))
        rects.push_back({rect.attribute("x").as_double(), rect.attribute("y").as_double(),
                         rect.attribute("width").as_double(), rect.attribute("height").as_double()});
    boxes += rects.size();
    for (size_t i = 0; i < rects.size(); ++i) {
      EXPECT_GE(rects[i].x, 0);
      EXPECT_LE(rects[i].x + rects[i].width, width + 0.01);
      EXPECT_LE(rects[i].y + rects[i].height, height + 0.01);
      for (size_t j = 0; j < i; ++j) {
        const bool apart = rects[i].x + rects[i].width <= rects[j].x || rects[j].x + rects[j].width <= rects[i].x ||
                           rects[i].y + rects[i].height <= rects[j].y || rects[j].y + rects[j].height <= rects[i].y;
        EXPECT_TRUE(apart) << i << " lies on " << j;
      }
    }
  }
  EXPECT_GE(boxes, 1u);
}

TEST(Svg, NoBoxOfAnyFixtureLiesOnAnother) {
  for (const Row& row : table_rows(file_text(fixture("README.md")))) {
    SCOPED_TRACE(row["file"]);
    const Graph graph = read_ok(fixture(row["file"]));
    const std::string svg = draw_svg(graph);
    expect_no_overlap(svg);
    for (const NodeId gpu : graph.of_kind(NodeKind::Gpu)) EXPECT_THAT(svg, HasSubstr(">" + graph.node(gpu).name + "<"));
  }
}

TEST(Svg, NoBoxOfAnySizeLiesOnAnother) {
  for (const int gpus : {0, 1, 2, 3, 8, 16, 72})
    for (const int switches : {0, 1, 2, 4, 6, 12}) {
      SCOPED_TRACE(fmt::format("{} GPUs, {} NVSwitches", gpus, switches));
      const Graph graph = machine_of(gpus, switches);
      if (gpus > 0)
        expect_no_overlap(draw_svg(graph));
      else
        EXPECT_THAT(draw_svg(graph), HasSubstr("<svg"));
    }
}

TEST(Svg, NamesCannotBreakThePicture) {
  Graph graph = machine_of(2, 0);
  graph.node(graph.of_kind(NodeKind::Host)[0]).name = "<script>&\"\x01";
  pugi::xml_document document;
  EXPECT_TRUE(document.load_string(draw_svg(graph).c_str()));
  EXPECT_THAT(draw_svg(graph), Not(HasSubstr("<script>")));
}

TEST(Tree, ShowsEveryDeviceOnceWithItsLink) {
  const Graph graph = read_ok(fixture("nccl-hgx-nvswitch.xml"));
  const std::string tree = draw_tree(graph, Paths(graph), false);
  for (const char* line : {"NUMA1  CPUs 32-63,96-127", "GPU7 sm_90  0000:83:00.0  PCIe 32.0 GT/s x16 48 GB/s",
                           "ports: mlx5_7 400 Gb/s", "nearest NIC7 (PIX)", "GPU0 -> NVSwitch0 x5 103 GB/s"})
    EXPECT_THAT(tree, HasSubstr(line));
  EXPECT_THAT(tree, Not(HasSubstr("\033")));
  EXPECT_THAT(draw_tree(graph, Paths(graph), true), HasSubstr("\033[32mGPU7\033[0m"));
}

TEST(Explain, NamesTheBottleneckAndTheGpuInBetween) {
  const Graph graph = read_ok(fixture("nccl-hgx-nvswitch.xml"));
  const Paths paths(graph);
  const std::string text = explain_path(graph, paths, *find_endpoint(graph, "gpu0"), *find_endpoint(graph, "mlx5_5"));
  EXPECT_THAT(text, HasSubstr("GPU0 to NIC5: PXN, 48 GB/s"));
  EXPECT_THAT(text, HasSubstr("over GPU5; without a GPU in between: SYS, 22 GB/s"));
  EXPECT_THAT(text, HasSubstr("<- bottleneck"));
}

TEST(Explain, DevicesAreFoundByNameBusIdPortAndHost) {
  const Graph graph = read_ok(fixture("nccl-two-hosts-c2c.xml"));
  const NodeId first = *find_endpoint(graph, "GPU0"), second = *find_endpoint(graph, "1:GPU0");
  EXPECT_NE(first, second);
  EXPECT_EQ(*find_endpoint(graph, "0008:06:00.0"), first);
  EXPECT_EQ(graph.node(*find_endpoint(graph, "1:mlx5_bond_0")).kind, NodeKind::Nic);
  EXPECT_THAT(find_endpoint(graph, "GPU99").status().message(), HasSubstr("there are: GPU0"));
  EXPECT_THAT(find_endpoint(graph, "7:GPU0").status().message(), HasSubstr("there is no host 7"));
}

TEST(Differences, OfEqualGraphsAreNone) {
  for (const Row& row : table_rows(file_text(fixture("README.md")))) {
    const Graph graph = read_ok(fixture(row["file"]));
    EXPECT_THAT(differences(graph, graph), IsEmpty()) << row["file"];
  }
}

TEST(Differences, NameWhatHasChanged) {
  const std::string text = file_text(fixture("nccl-hgx-nvswitch.xml"));
  const Graph healthy = read_ok(fixture("nccl-hgx-nvswitch.xml"));
  std::string sick = text;
  const auto change = [&](const std::string& from, const std::string& to) {
    ASSERT_NE(sick.find(from), std::string::npos);
    sick.replace(sick.find(from), from.size(), to);
  };
  change("<nvlink target=\"0000:07:00.0\" count=\"5\"", "<nvlink target=\"0000:07:00.0\" count=\"3\"");
  change("link_speed=\"32.0 GT/s PCIe\" link_width=\"16\">\n        <nic>",
         "link_speed=\"32.0 GT/s PCIe\" link_width=\"8\">\n        <nic>");
  const Result<Graph> today = read_nccl_xml(sick, "today");
  ASSERT_TRUE(today.ok()) << today.status().message();
  std::string all;
  for (const std::string& line : differences(healthy, *today)) all += line + "\n";
  EXPECT_THAT(all, HasSubstr("nvlink GPU0 - NVSwitch0 from GPU0: x5 103 GB/s there, x3 61.8 GB/s here"));
  EXPECT_THAT(all, HasSubstr("nic NIC0 (0000:12:00.0): link width is 16 there, 8 here"));
  EXPECT_EQ(std::count(all.begin(), all.end(), '\n'), 3) << all;  // these two, and the bandwidth of the NIC's link
}

}  // namespace
}  // namespace tutti::topology
