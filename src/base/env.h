// SPDX-License-Identifier: Apache-2.0
// Configuration from the environment, at one place: env_vars.def is the list, Env the parsed values.
//
// Parsed once per process. A value that does not parse is not ignored: env_status() says which variable, what was read
// and what is allowed, and initialisation returns it. An unknown TUTTI_* name is a warning.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/status.h"

namespace tutti {

struct Env {
  using Text = std::string;
  using Flag = bool;
  using Count = int64_t;
  using Size = uint64_t;     // bytes
  using Duration = int64_t;  // milliseconds, -1: never
  using LogLevelName = LogLevel;
#define TUTTI_ENV(field, name, type, fallback, help) type field{};
#include "base/env_vars.def"
#undef TUTTI_ENV
};

struct EnvVariable {
  const char* name;
  const char* type;
  const char* fallback;
  const char* help;
};

// The table, for `tutti env` and docs/environment.md.
const std::vector<EnvVariable>& env_variables();
// Parses with `lookup` in place of getenv (tests). On error `env` holds the defaults for what did not parse.
Status parse_env(const std::function<std::optional<std::string>(const char* name)>& lookup, Env& env);
// The process's environment, parsed on first use.
const Env& env();
Status env_status();
// Names of TUTTI_* variables that are set but not in the table.
std::vector<std::string> unknown_env();

}  // namespace tutti
