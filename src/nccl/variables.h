// SPDX-License-Identifier: Apache-2.0
// NCCL_* variables: what users of NCCL know, as values of the one environment table (base/env.h), which asks here for
// each TUTTI_* variable that is not set. variables.def is the list.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace tutti::nccl {

// getenv, or a test's.
using Lookup = std::function<std::optional<std::string>(const char* name)>;

// The value of a TUTTI_* variable by what NCCL_* variables say.
std::optional<std::string> translate(const char* tutti_name, const Lookup& lookup);

// What the log tells about them, once per process. `names`: the NCCL_* variables that are set.
struct Notice {
  bool warn = false;
  std::string text;
};
std::vector<Notice> notices(const std::vector<std::string>& names, const Lookup& lookup);

// NCCL_COMM_BLOCKING: 0 or 1.
std::optional<int> default_blocking(const Lookup& lookup);

}  // namespace tutti::nccl
