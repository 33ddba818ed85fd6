// SPDX-License-Identifier: Apache-2.0
// The file of -J. Keys follow nccl-tests' JSON (version 2) where both say the same; numbers and booleans are JSON
// numbers and booleans. The file is rewritten after each line, so that it is valid and complete whenever a run ends.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "perf/outcome.h"
#include "perf/report.h"

namespace tutti::perf {

struct Machine {
  std::string host, cpu_model, kernel;
  int cores = 0;
};
Machine this_machine();

class JsonReport {
 public:
  JsonReport();
  ~JsonReport();
  // Opens options.json_path, or path.0, path.1, ... when it exists: measurements are never overwritten.
  Outcome open(const std::string& path);
  bool is_open() const { return file_ >= 0; }
  const std::string& path() const { return path_; }

  void start(const Collective&, const Options&, const std::vector<std::string>& command, int processes,
             int library_version, const std::vector<RankInfo>&, const Machine&);
  void add(const Options&, const Row&);
  void finish(const Options&, const Totals&);
  std::string dump() const;

 private:
  void write();
  struct Document;
  std::unique_ptr<Document> document_;
  std::string path_;
  int file_ = -1;
};

}  // namespace tutti::perf
