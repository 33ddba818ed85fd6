// SPDX-License-Identifier: Apache-2.0
// Configuration from the environment, at one place: env_vars.def is the list, Env the parsed values.
//
// Parsed once per process. A value that does not parse is not ignored: env_status() says which variable, what was read
// and what is allowed, and initialisation returns it. An empty value means the default. An unknown TUTTI_* name is a
// warning.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
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
  using FamilyName = std::string;     // lower case, one of the words the help lists
  using SubsystemList = std::string;  // lower case filters: see filter_admits()
  using ProtocolList = std::string;
  using TransportList = std::string;
  using GidIndex = int;             // -1: auto
  using AutoFlag = int;             // -1: auto
  using GpuDistance = std::string;  // lower case, one of the words the help lists
  using NcclVersion = int;          // as ncclGetVersion reports it: 22707 is 2.27.7
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
// A number of bytes as users write it: "8", "64K", "1GiB"; powers of 1024, in any case. Nothing if it is none.
std::optional<uint64_t> parse_size(std::string_view text);
// Parses with `lookup` in place of getenv (tests). On error `env` holds the defaults for what did not parse.
Status parse_env(const std::function<std::optional<std::string>(const char* name)>& lookup, Env& env);
// What another library's variables say for `name`, when it is not set itself (src/nccl). To be given before the first
// use of env(), from a constructor of the library; it must read nothing but environment_variable().
void set_env_fallback(std::optional<std::string> (*fallback)(const char* name));
// The process's environment, parsed on first use.
const Env& env();
Status env_status();
// Names of TUTTI_* variables that are set but not in the table, sorted.
std::vector<std::string> unknown_env();
// Names of all variables that are set and begin with `prefix`, sorted.
std::vector<std::string> environment_names(std::string_view prefix);
// A variable that is not ours (a launcher's RANK, MASTER_ADDR, ...). Ours are read through env().
std::optional<std::string> environment_variable(const char* name);
// Does a comma list such as "ring,tree", "^tcp", "auto" or "all" admit `name`? Words with ^ exclude; without any other
// word everything else is admitted.
bool filter_admits(std::string_view filter, std::string_view name);

}  // namespace tutti
