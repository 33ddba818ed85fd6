// SPDX-License-Identifier: Apache-2.0
// What the tests here share: a folder that vanishes, ranks on several "hosts", and which algorithms a rank has run.
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "api/harness.h"

namespace schedules_test {

namespace fs = std::filesystem;

class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "tutti-schedules-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  Folder(const Folder&) = delete;
  ~Folder() { fs::remove_all(path_); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

// Of the calls of one collective, as the flight recorder tells.
inline void collect(const nlohmann::json& node, const std::string& operation, std::set<std::string>& algorithms) {
  if (node.is_object() && node.contains("algorithm") && node.value("operation", "") == operation)
    algorithms.insert(node["algorithm"].get<std::string>());
  if (!node.is_structured()) return;
  for (const auto& child : node) collect(child, operation, algorithms);
}
inline std::set<std::string> algorithms_run(tuttiComm_t comm, const std::string& operation, const std::string& file) {
  EXPECT_OK(tuttiCommDump(comm, file.c_str()));
  std::ifstream dump(file);
  std::set<std::string> algorithms;
  collect(nlohmann::json::parse(dump, nullptr, false), operation, algorithms);
  return algorithms;
}

// Ranks on hosts of these sizes, consecutive; one host: where they are. Each with its communicator.
inline void on_hosts(const std::vector<int>& sizes, const std::function<void(int rank, tuttiComm_t comm)>& body,
                     const api_test::Environment& environment = {}) {
  int n = 0;
  for (const int size : sizes) n += size;
  api_test::in_children(
      n,
      [&](int rank, launcher::Page& page) {
        int host = 0;
        for (int left = rank; left >= sizes[static_cast<size_t>(host)]; ++host)
          left -= sizes[static_cast<size_t>(host)];
        if (sizes.size() > 1) setenv("TUTTI_HOST_ID", ("host" + std::to_string(host)).c_str(), 1);
        tuttiComm_t comm = nullptr;
        ASSERT_OK(tuttiCommInitRank(&comm, n, api_test::shared_id(rank, page), rank));
        body(rank, comm);
        EXPECT_OK(tuttiCommDestroy(comm));
      },
      environment);
}

// A value that tells the rank, the block and the place in it apart; sums over ranks stay exact.
inline double value(int rank, int block, size_t i) { return (rank + 1) * (1 + block * 3 + static_cast<int>(i % 11)); }

// Makes the call `collective` with `count` elements (of the region or of one block) and checks what came.
inline void call_and_check(const std::string& collective, size_t count, int rank, int n, int root, tuttiComm_t comm) {
  const auto blocks = static_cast<size_t>(n);
  std::vector<double> in, out;
  double ranks = 0;
  for (int r = 0; r < n; ++r) ranks += r + 1;
  const auto expect = [&](size_t at, double wanted) {
    ASSERT_EQ(out[at], wanted) << collective << " of " << count << ", rank " << rank << " of " << n << ", element "
                               << at;
  };
  const auto fill = [&](size_t of) {
    for (size_t b = 0; b < of; ++b) {
      for (size_t i = 0; i < count; ++i) in.push_back(value(rank, static_cast<int>(b), i));
    }
  };
  if (collective == "all_reduce" || collective == "reduce") {
    fill(1);
    out.assign(count, -1);
    if (collective == "all_reduce") {
      ASSERT_OK(tuttiAllReduce(in.data(), out.data(), count, TUTTI_FLOAT64, TUTTI_SUM, comm, nullptr));
    } else {
      ASSERT_OK(tuttiReduce(in.data(), out.data(), count, TUTTI_FLOAT64, TUTTI_SUM, root, comm, nullptr));
      if (rank != root) return;
    }
    for (size_t i = 0; i < count; ++i) expect(i, value(0, 0, i) * ranks);
  } else if (collective == "broadcast") {
    fill(1);
    out.assign(count, -1);
    ASSERT_OK(tuttiBroadcast(in.data(), out.data(), count, TUTTI_FLOAT64, root, comm, nullptr));
    for (size_t i = 0; i < count; ++i) expect(i, value(root, 0, i));
  } else if (collective == "all_gather") {
    fill(1);
    out.assign(count * blocks, -1);
    ASSERT_OK(tuttiAllGather(in.data(), out.data(), count, TUTTI_FLOAT64, comm, nullptr));
    for (size_t i = 0; i < out.size(); ++i) expect(i, value(static_cast<int>(i / count), 0, i % count));
  } else if (collective == "reduce_scatter") {
    fill(blocks);
    out.assign(count, -1);
    ASSERT_OK(tuttiReduceScatter(in.data(), out.data(), count, TUTTI_FLOAT64, TUTTI_SUM, comm, nullptr));
    for (size_t i = 0; i < count; ++i) expect(i, value(0, rank, i) * ranks);
  } else {
    ASSERT_EQ(collective, "all_to_all");
    fill(blocks);
    out.assign(count * blocks, -1);
    ASSERT_OK(tuttiAllToAll(in.data(), out.data(), count, TUTTI_FLOAT64, comm, nullptr));
    for (size_t i = 0; i < out.size(); ++i) expect(i, value(static_cast<int>(i / count), rank, i % count));
  }
}

}  // namespace schedules_test
