// SPDX-License-Identifier: Apache-2.0
// What the tests of topology/ share: files, tables of markdown, and a matrix read by a reader of ten lines of its own.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "topology/draw/draw.h"
#include "topology/formats/formats.h"

namespace tutti::topology {

inline std::string file_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline std::filesystem::path fixture(const std::string& name) {
  return std::filesystem::path(TUTTI_TOPOLOGY_FIXTURES) / name;
}

// Real machines' files beside this checkout; empty: there are none.
inline std::filesystem::path real_machines() {
  for (const char* place : {"/../shared/topologies", "/../../shared/topologies"})
    if (std::filesystem::exists(std::string(TUTTI_SOURCE_DIR) + place + "/README.md"))
      return std::string(TUTTI_SOURCE_DIR) + place;
  return {};
}

inline Graph read_ok(const std::filesystem::path& path) {
  Result<Graph> graph = read_topology_file(path.string());
  EXPECT_TRUE(graph.ok()) << graph.status().message();
  return graph.ok() ? *graph : Graph();
}

inline std::string trimmed(std::string text) {
  text.erase(0, text.find_first_not_of(" \t\r"));
  text.erase(text.find_last_not_of(" \t\r") + 1);
  return text;
}

// The rows of all tables of a markdown text whose first cell is `file`: cells without blanks and back-quotes, and the
// names of the columns.
struct Row {
  std::string heading;  // of the section
  std::map<std::string, std::string> cells;
  const std::string& operator[](const std::string& column) const {
    static const std::string& none = *new std::string;
    const auto found = cells.find(column);
    return found == cells.end() ? none : found->second;
  }
};
inline std::vector<Row> table_rows(const std::string& markdown) {
  std::vector<Row> rows;
  std::vector<std::string> columns;
  std::string heading, line;
  std::istringstream text(markdown);
  while (std::getline(text, line)) {
    if (line.starts_with("#")) heading = line;
    if (!line.starts_with("|")) {
      columns.clear();
      continue;
    }
    std::vector<std::string> cells;
    std::istringstream parts(line.substr(1));
    for (std::string cell; std::getline(parts, cell, '|');) cells.push_back(trimmed(cell));
    if (columns.empty()) {
      columns = cells;
    } else if (cells[0].starts_with("`")) {
      Row row;
      row.heading = heading;
      for (size_t i = 0; i < std::min(cells.size(), columns.size()); ++i) row.cells[columns[i]] = cells[i];
      std::string& name = row.cells[columns[0]];
      std::erase(name, '`');
      rows.push_back(row);
    }
  }
  return rows;
}

inline nlohmann::json summary_of(const Graph& graph) { return nlohmann::json::parse(summary_json(graph)); }

// The cells of a `nvidia-smi topo -m` text by device names, SOC as SYS. NIC columns get the numbers NIC0.. in order.
struct SmiMatrix {
  std::vector<std::string> names;
  std::map<std::pair<std::string, std::string>, std::string> cells;
};
inline SmiMatrix smi_matrix(std::string text) {
  SmiMatrix matrix;
  for (size_t at; (at = text.find("\033[")) != std::string::npos;) text.erase(at, text.find('m', at) - at + 1);
  std::map<std::string, std::string> alias;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream parts(line);
    std::vector<std::string> words{std::istream_iterator<std::string>(parts), {}};
    if (words.empty()) continue;
    if (matrix.names.empty()) {
      if (words[0] != "GPU0") continue;
      int nics = 0;
      for (const std::string& word : words) {
        if (word == "CPU") break;
        alias[word] = word.starts_with("GPU") ? word : "NIC" + std::to_string(nics++);
        matrix.names.push_back(alias[word]);
      }
    } else if (alias.contains(words[0])) {
      for (size_t i = 0; i < matrix.names.size() && i + 1 < words.size(); ++i)
        matrix.cells[{alias[words[0]], matrix.names[i]}] = words[i + 1] == "SOC" ? "SYS" : words[i + 1];
    }
  }
  return matrix;
}

// The graph shows the matrix of the text, cell by cell.
inline void expect_matrix(const Graph& graph, const SmiMatrix& expected) {
  const Paths paths(graph);
  ASSERT_EQ(paths.endpoints().size(), expected.names.size());
  std::map<std::string, NodeId> by_name;
  for (const NodeId id : paths.endpoints()) by_name[graph.node(id).name] = id;
  for (const auto& [pair, cell] : expected.cells) {
    ASSERT_TRUE(by_name.contains(pair.first) && by_name.contains(pair.second)) << pair.first << " " << pair.second;
    EXPECT_EQ(matrix_cell(graph, paths, by_name[pair.first], by_name[pair.second]), cell)
        << pair.first << " " << pair.second;
  }
}

}  // namespace tutti::topology
