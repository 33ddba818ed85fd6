// SPDX-License-Identifier: Apache-2.0
// Real machines' files, when the checkout has them beside it (../shared/topologies): counts and links as the README
// there states them, matrices cell by cell, round trips, and that NCCL's and hwloc's view of a machine agrees with
// nvidia-smi's.
#include <algorithm>
#include <set>

#include "files.h"

namespace tutti::topology {
namespace {

class RealMachines : public ::testing::Test {
 protected:
  void SetUp() override {
    if (real_machines().empty()) GTEST_SKIP() << "no ../shared/topologies beside this checkout: the fixtures stand for it";
    rows_ = table_rows(file_text(real_machines() / "README.md"));
    ASSERT_GT(rows_.size(), 60u);
  }
  // Rows of the tables that have this column; their files are in `place`.
  std::vector<Row> with(const std::string& column) const {
    std::vector<Row> found;
    std::copy_if(rows_.begin(), rows_.end(), std::back_inserter(found),
                 [&](const Row& row) { return !row[column].empty(); });
    return found;
  }
  std::vector<Row> rows_;
};

std::vector<std::string> split(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  for (size_t at = 0;;) {
    const size_t end = text.find(separator, at);
    parts.push_back(trimmed(text.substr(at, end - at)));
    if (end == std::string::npos) return parts;
    at = end + separator.size();
  }
}

// "nvlink 4+4+5+5", "xgmi 1+2+4 (x8 GPUs); xgmi 1+1+1+4 (x8 GPUs)", "none": what GPUs have, with how many of them.
std::map<std::string, int> stated_links(const std::string& text, int gpus) {
  std::map<std::string, int> counts;
  for (const std::string& part : split(text, ";")) {
    std::string kind = part.substr(0, part.find(" ("));
    int number = gpus;
    if (const size_t at = part.find("(x"); at != std::string::npos) number = std::stoi(part.substr(at + 2));
    if (kind.starts_with("none x")) number = std::stoi(kind.substr(6)), kind = "none";
    if (const size_t space = kind.find(' '); space != std::string::npos) {
      auto lanes = split(kind.substr(space + 1), "+");
      std::sort(lanes.begin(), lanes.end());
      kind = kind.substr(0, space);
      for (const std::string& lane : lanes) kind += " " + lane;
    }
    counts[kind] += number;
  }
  return counts;
}

std::map<std::string, int> links_of_gpus(const Graph& graph) {
  std::map<std::string, int> counts;
  for (const NodeId gpu : graph.of_kind(NodeKind::Gpu)) {
    if (!graph.node(gpu).gpu.present) continue;
    std::vector<std::string> lanes;
    std::string kind = "none";
    for (const LinkId id : graph.links_of(gpu)) {
      const Link& link = graph.link(id);
      if (link.kind != LinkKind::NvLink && link.kind != LinkKind::Xgmi) continue;
      kind = link.kind == LinkKind::NvLink ? "nvlink" : "xgmi";
      lanes.push_back(std::to_string(link.from(gpu).lanes));
    }
    std::sort(lanes.begin(), lanes.end());
    for (const std::string& lane : lanes) kind += " " + lane;
    ++counts[kind];
  }
  return counts;
}

TEST_F(RealMachines, NcclFilesHaveTheCountsOfTheTable) {
  const auto rows = with("links per GPU");
  ASSERT_GE(rows.size(), 47u);
  for (const Row& row : rows) {
    SCOPED_TRACE(row["file"]);
    const Graph graph = read_ok(real_machines() / "nccl-xml" / row["file"]);
    const nlohmann::json summary = summary_of(graph);
    const int gpus = std::stoi(row["GPUs"]);
    EXPECT_EQ(summary["gpus"], gpus);
    if (const size_t at = row["GPUs"].find('('); at != std::string::npos) {  // "0 (8 GPU-class pci)": a template
      EXPECT_EQ(static_cast<int>(graph.of_kind(NodeKind::Gpu).size()), std::stoi(row["GPUs"].substr(at + 1)));
    }
    EXPECT_EQ(summary["nets"], std::stoi(row["NICs"]));
    EXPECT_EQ(summary["nics"], std::stoi(split(row["NICs"], "/").at(1)));
    std::vector<std::string> numa;
    std::set<NodeId> hosts;
    for (const NodeId cpu : graph.of_kind(NodeKind::Cpu)) {
      numa.push_back(std::to_string(graph.node(cpu).number));
      hosts.insert(graph.host_of(cpu));
    }
    EXPECT_EQ(numa, split(row["NUMA (file order)"], ","));
    EXPECT_EQ(summary["numa"], numa.size());
    EXPECT_EQ(summary["hosts"], hosts.size());
    EXPECT_EQ(summary["pci_depth"], std::stoi(split(row["elements / pci depth"], "/").at(1)));
    const bool dangling = std::any_of(graph.warnings().begin(), graph.warnings().end(), [](const Warning& warning) {
      return warning.text.find("not in this file") != std::string::npos ||
             warning.text.find("links to itself") != std::string::npos;
    });
    if (row["links per GPU"] != "-" && !dangling) {
      EXPECT_EQ(links_of_gpus(graph), stated_links(row["links per GPU"], gpus));
    }
  }
}

TEST_F(RealMachines, HwlocFilesHaveTheCountsOfTheTable) {
  const auto rows = with("hwloc XML version");
  ASSERT_GE(rows.size(), 9u);
  for (const Row& row : rows) {
    SCOPED_TRACE(row["file"]);
    const Graph graph = read_ok(real_machines() / "hwloc-xml" / row["file"]);
    const nlohmann::json summary = summary_of(graph);
    EXPECT_EQ(summary["gpus"], std::stoi(row["GPU-class PCI (excl. VGA 0300)"]));
    EXPECT_EQ(summary["nics"], std::stoi(row["network PCI"]));
    EXPECT_EQ(summary["numa"], std::stoi(row["NUMANode objects"]));
    const auto has = [&](LinkKind kind) {
      return std::any_of(graph.links().begin(), graph.links().end(),
                         [&](const Link& link) { return link.kind == kind; });
    };
    EXPECT_EQ(has(LinkKind::NvLink), row["distances"].find("NVLinkBandwidth") != std::string::npos);
    EXPECT_EQ(has(LinkKind::Xgmi), row["distances"].find("XGMIBandwidth") != std::string::npos);
  }
}

TEST_F(RealMachines, NvidiaSmiTextsShowTheirOwnMatrixAgain) {
  size_t read = 0;
  for (const auto& entry : std::filesystem::directory_iterator(real_machines() / "nvidia-smi")) {
    const std::string name = entry.path().filename();
    SCOPED_TRACE(name);
    const std::string text = file_text(entry.path());
    const Result<Graph> graph = read_topology(text, name);
    if (name.find("damaged") != std::string::npos) {
      ASSERT_FALSE(graph.ok());
      EXPECT_NE(graph.status().message().find(name + ":4:"), std::string::npos) << graph.status().message();
      continue;
    }
    ASSERT_TRUE(graph.ok()) << graph.status().message();
    const SmiMatrix matrix = smi_matrix(text);
    ASSERT_FALSE(matrix.names.empty());
    expect_matrix(*graph, matrix);
    ++read;
  }
  EXPECT_GE(read, 25u);
}

TEST_F(RealMachines, EveryFileThatReadsComesBackEqual) {
  size_t read = 0;
  for (const char* place : {"nccl-xml", "hwloc-xml", "nvidia-smi"})
    for (const auto& entry : std::filesystem::directory_iterator(real_machines() / place)) {
      SCOPED_TRACE(entry.path().filename());
      const Result<Graph> graph = read_topology_file(entry.path().string());
      if (!graph.ok()) continue;  // graph files and the damaged paste: tested above
      ++read;
      const Result<Graph> json = read_json(write_json(*graph), "json");
      ASSERT_TRUE(json.ok()) << json.status().message();
      EXPECT_EQ(*json, *graph);
      const Result<Graph> xml = read_nccl_xml(write_nccl_xml(*graph), "xml");
      ASSERT_TRUE(xml.ok()) << xml.status().message();
      if (std::string(place) == "nccl-xml") {
        EXPECT_EQ(*xml, *graph);
      }
    }
  EXPECT_GE(read, 47u + 9 + 25);
}

TEST_F(RealMachines, MalformedAndForeignFilesFailWithLineAndReason) {
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(real_machines() / "malformed")) {
    ++files;
    const Result<Graph> graph = read_topology_file(entry.path().string());
    ASSERT_FALSE(graph.ok()) << entry.path();
    EXPECT_NE(graph.status().message().find("not well-formed XML"), std::string::npos) << graph.status().message();
  }
  EXPECT_GE(files, 1u);
  for (const auto& entry : std::filesystem::directory_iterator(real_machines() / "nccl-xml")) {
    if (entry.path().filename().string().find(".graph.xml") == std::string::npos) continue;
    EXPECT_NE(read_topology_file(entry.path().string()).status().message().find("is a NCCL graph file"),
              std::string::npos);
  }
}

// GPU rows, each sorted, all sorted: equal whatever the order in which the two sources number the GPUs.
std::vector<std::vector<std::string>> classes(const Graph& graph, bool nvlink_only) {
  const Paths paths(graph);
  std::vector<std::vector<std::string>> rows;
  for (const NodeId from : paths.gpus()) {
    std::vector<std::string> row;
    for (const NodeId to : paths.gpus()) {
      std::string cell = matrix_cell(graph, paths, from, to);
      if (cell == "NODE") cell = "PHB";  // NCCL has one word for both
      if (nvlink_only && !cell.starts_with("NV") && cell != "X") cell = "-";
      row.push_back(cell);
    }
    std::sort(row.begin(), row.end());
    rows.push_back(row);
  }
  std::sort(rows.begin(), rows.end());
  return rows;
}

TEST_F(RealMachines, NcclAndHwlocAgreeWithNvidiaSmiAboutTheSameKindOfMachine) {
  const struct {
    const char *machine, *matrix;
  } kSame[] = {
      {"nccl-xml/perlmutter-4xa100-nv4.xml", "nvidia-smi/perlmutter-4xa100-nv4.txt"},
      {"nccl-xml/vastai-hgx-h200.xml", "nvidia-smi/hgx-h200-8nic.txt"},
      {"nccl-xml/oci-bm-gpu-h100-8.xml", "nvidia-smi/8x-nv18-spaces.txt"},
      {"nccl-xml/vastai-hgx-b200.xml", "nvidia-smi/hgx-b200-no-nic.txt"},
      {"nccl-xml/oci-bm-gpu4-8-a100-40gb.xml", "nvidia-smi/hgx-a100-1nic-nps4-spaces.txt"},
      {"nccl-xml/8x-v100-cube-mesh.xml", "nvidia-smi/8x-v100-sxm2-1nic-spaces.txt"},
      {"nccl-xml/8x-rtx4000ada-pcie.xml", "nvidia-smi/8x-rtx3090-node-sys.txt"},
  };
  for (const auto& [machine, matrix] : kSame) {
    SCOPED_TRACE(machine);
    EXPECT_EQ(classes(read_ok(real_machines() / machine), false), classes(read_ok(real_machines() / matrix), false));
  }
}

}  // namespace
}  // namespace tutti::topology
