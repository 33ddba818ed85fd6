// SPDX-License-Identifier: Apache-2.0
// Running the programs as a user does, and reading what they print.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdio>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

namespace tutti::perf {

struct Result {
  int status;
  std::string output;  // of both streams
  // Lines that are not comments, split into fields.
  std::vector<std::vector<std::string>> rows() const {
    std::vector<std::vector<std::string>> rows;
    std::istringstream lines(output);
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      std::vector<std::string> fields{std::istream_iterator<std::string>(words), {}};
      if (line.starts_with(" ") && !fields.empty()) rows.push_back(fields);
    }
    return rows;
  }
  bool says(const std::string& text) const { return output.find(text) != std::string::npos; }
};

// The environment of a launcher around these tests must not leak into the programs.
inline Result run(const std::string& command, const std::string& environment = "") {
  const std::string line = "env -u RANK -u WORLD_SIZE -u LOCAL_RANK -u TUTTI_NCCL_CPU " + environment + " " +
                           PERF_PROGRAMS + "/" + command + " 2>&1";
  Result result{-1, ""};
  std::FILE* pipe = ::popen(line.c_str(), "r");
  char buffer[4096];
  for (size_t bytes = 0; (bytes = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) result.output.append(buffer, bytes);
  const int state = ::pclose(pipe);
  result.status = WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
  return result;
}

inline void expect_good(const Result& result, size_t rows) {
  EXPECT_EQ(result.status, 0) << result.output;
  EXPECT_TRUE(result.says("# Out of bounds values : 0 OK")) << result.output;
  EXPECT_TRUE(result.says("# Avg bus bandwidth    : ")) << result.output;
  const auto read = result.rows();
  EXPECT_EQ(read.size(), rows) << result.output;
  for (const auto& fields : read) {
    ASSERT_EQ(fields.size(), 13u) << result.output;
    EXPECT_EQ(fields[8], "0") << result.output;
    EXPECT_TRUE(fields[12] == "0" || fields[12] == "N/A") << result.output;
  }
}

}  // namespace tutti::perf
