// SPDX-License-Identifier: Apache-2.0
// How a command of the tool ends: with its text where it is wanted, or with an error and a status.
#pragma once

#include <fmt/core.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "tools/tutti/command.h"

namespace tutti::tool {

[[noreturn]] inline void fail(const std::string& message, int status = 1) {
  fmt::print(stderr, "error: {}\n", message);
  throw CLI::RuntimeError(status);
}

// "" and "-": standard output.
inline void put(const std::string& path, const std::string& text) {
  if (path.empty() || path == "-") {
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
      fail("cannot write to standard output");
    return;
  }
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) fail(fmt::format("cannot write {}: is its folder there, and writable?", path));
}

}  // namespace tutti::tool
