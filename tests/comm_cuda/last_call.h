// SPDX-License-Identifier: Apache-2.0
// What a communicator wrote down of its last call.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

#include "tutti/tutti.h"

namespace tutti {

// '"protocol": "NAME"'
inline std::string last_protocol(tuttiComm_t comm) {
  const std::string path = testing::TempDir() + "protocol-" + std::to_string(getpid()) + ".json";
  EXPECT_EQ(tuttiCommDump(comm, path.c_str()), TUTTI_SUCCESS) << tuttiGetLastError(nullptr);
  std::ifstream file(path);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::remove(path.c_str());
  const size_t at = text.rfind("\"protocol\"");
  return at == std::string::npos ? "" : text.substr(at, text.find_first_of(",}", at) - at);
}

}  // namespace tutti
