// SPDX-License-Identifier: Apache-2.0
// TUTTI_TOPO_FILE and TUTTI_TOPO_DUMP_FILE: what a job believes of its hosts, and what it writes of them.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "api/harness.h"
#include "topology/draw/draw.h"
#include "topology/formats/formats.h"

namespace tutti {
namespace {

using namespace topology;
using namespace api_test;

const std::string kMachine = std::string(TUTTI_TOPOLOGY_FIXTURES) + "/nccl-hgx-nvswitch.xml";

// A folder, gone with the test.
class Folder {
 public:
  Folder() {
    char name[] = "/tmp/tutti-topology-XXXXXX";
    path_ = mkdtemp(name) != nullptr ? name : "";
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

TEST(TopologyFile, IsWhatTheJobBelievesAndRankZeroWritesIt) {
  const auto machine = read_topology_file(kMachine);
  ASSERT_TRUE(machine.ok()) << machine.status().message();
  for (const std::string name : {"dump.json", "dump.xml"}) {
    const Folder folder;
    in_ranks(
        3, [](int, tuttiComm_t comm) { EXPECT_EQ(tuttiBarrier(comm, nullptr), TUTTI_SUCCESS); },
        {{"TUTTI_TOPO_FILE", kMachine}, {"TUTTI_TOPO_DUMP_FILE", folder.file(name)}});
    const auto dumped = read_topology_file(folder.file(name));
    ASSERT_TRUE(dumped.ok()) << dumped.status().message();
    EXPECT_EQ(dumped->of_kind(NodeKind::Gpu).size(), machine->of_kind(NodeKind::Gpu).size()) << name;
    EXPECT_EQ(dumped->of_kind(NodeKind::Nic).size(), machine->of_kind(NodeKind::Nic).size()) << name;
    EXPECT_EQ(differences(*machine, *dumped), std::vector<std::string>()) << name;
  }
}

TEST(TopologyFile, OneHostEachMakesAJobOfSeveral) {
  const Folder folder;
  in_children(
      2,
      [&](int rank, launcher::Page& page) {
        setenv("TUTTI_HOST_ID", rank == 0 ? "one" : "other", 1);
        tuttiComm_t comm = nullptr;
        ASSERT_EQ(tuttiCommInitRank(&comm, 2, shared_id(rank, page), rank), TUTTI_SUCCESS) << last_error();
        EXPECT_EQ(tuttiCommDestroy(comm), TUTTI_SUCCESS);
      },
      {{"TUTTI_TOPO_FILE", kMachine}, {"TUTTI_TOPO_DUMP_FILE", folder.file("job.json")}});
  const auto dumped = read_topology_file(folder.file("job.json"));
  ASSERT_TRUE(dumped.ok()) << dumped.status().message();
  EXPECT_EQ(dumped->of_kind(NodeKind::Host).size(), 2u);
}

TEST(TopologyFile, OneThatCannotBeReadFailsAllRanksAndSaysWhy) {
  const Folder folder;
  std::ofstream(folder.file("cut.xml")) << "<system version=\"1\">\n<cpu numaid=\"0\">\n";
  for (const int ranks : {1, 3}) {
    in_children(
        ranks,
        [&](int rank, launcher::Page& page) {
          tuttiComm_t comm = nullptr;
          EXPECT_NE(tuttiCommInitRank(&comm, ranks, shared_id(rank, page), rank), TUTTI_SUCCESS);
          EXPECT_NE(last_error().find("TUTTI_TOPO_FILE: " + folder.file("cut.xml") + ":"), std::string::npos)
              << last_error();
        },
        {{"TUTTI_TOPO_FILE", folder.file("cut.xml")}});
    in_children(
        ranks,
        [&](int rank, launcher::Page& page) {
          tuttiComm_t comm = nullptr;
          EXPECT_NE(tuttiCommInitRank(&comm, ranks, shared_id(rank, page), rank), TUTTI_SUCCESS);
          EXPECT_NE(last_error().find("TUTTI_TOPO_FILE: open on " + folder.file("none.xml")), std::string::npos)
              << last_error();
        },
        {{"TUTTI_TOPO_FILE", folder.file("none.xml")}});
  }
}

TEST(TopologyFile, ADumpThatCannotBeWrittenIsNoFailure) {
  in_ranks(
      2, [](int, tuttiComm_t comm) { EXPECT_EQ(tuttiBarrier(comm, nullptr), TUTTI_SUCCESS); },
      {{"TUTTI_TOPO_DUMP_FILE", "/nonexistent/dump.xml"}});
}

}  // namespace
}  // namespace tutti
