// SPDX-License-Identifier: Apache-2.0
// What would slow down or break a job on this machine, and what to do about it.
//
// A check reads the machine through Probes and returns findings, the good ones too: a user wants to know that something
// was looked at. Tests hand it recorded trees and look-alike drivers. The table of checks is in doctor_checks.cc.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "topology/detect/assemble.h"
#include "topology/detect/system_root.h"

namespace tutti::doctor {

enum class Severity : uint8_t {
  Good,
  Note,    // worth knowing
  Slow,    // jobs run, below what the machine could do
  Broken,  // jobs fail, or cannot use what is there
};
const char* name(Severity severity);

struct Finding {
  std::string check;  // the row of the table
  Severity severity = Severity::Good;
  std::string what;    // one line
  std::string seen;    // where and how: the file and its content, the call and its answer
  std::string remedy;  // "" for good findings
};

struct Limit {
  uint64_t soft = 0, hard = 0;  // UINT64_MAX: unlimited
};
struct Space {
  uint64_t total = 0, free = 0;  // bytes
};

// What the machine says, read once; and what has to be tried.
struct Probes {
  topology::SystemRoot root;
  topology::Sources sources;             // processors, PCI, RDMA, interfaces, GPUs
  std::optional<Status> nvml;            // of opening NVML; nothing: not asked
  std::optional<Status> cuda;            // of asking the CUDA driver; nothing: not asked
  std::string driver_version;            // as NVML states it
  std::optional<Status> verbs;           // of loading libibverbs and opening the devices; nothing: not asked
  std::vector<std::string> verbs_notes;  // devices that did not open
  Limit locked_memory, open_files;
  std::optional<Space> shared_memory;  // of /dev/shm
  Status memory_object;                // of making and sealing one
  Status copy_from_peer;               // of reading another process's memory

  // Reads `options.root` ("": this machine). What has to be tried (limits, memory, copies) is tried on this machine.
  static Result<Probes> read(const topology::DetectOptions& options);
};

// All checks in order of the table.
std::vector<Finding> examine(const Probes& probes);
// The worst of them.
Severity worst(const std::vector<Finding>& findings);

// For `tutti doctor --list` and docs: what is looked at.
struct CheckRow {
  const char* name;
  const char* help;
  std::vector<Finding> (*look)(const Probes&);
};
const std::vector<CheckRow>& checks();

}  // namespace tutti::doctor
