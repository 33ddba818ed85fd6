// SPDX-License-Identifier: Apache-2.0
// JobGraph: what is connected to what in this job. One rank per host detects its host while the ranks join, and the
// graphs travel with an exchange that joining makes anyway, so that sharing costs no message of its own.
//
// They are kept as they arrived, the same bytes on every rank, and are read and merged when somebody first asks: a
// short job pays for one detection per host (milliseconds) and nothing else. Detecting on the first question instead
// was rejected: some ranks may ask alone (for a send), and sharing needs all of them.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "net/wire.h"
#include "topology/graph.h"

namespace tutti {

// A graph as bytes for ranks of the same library version; files have formats of their own (topology/formats).
Bytes encode_graph(const topology::Graph& graph);
// Whatever the bytes are, the result is a graph whose parents and links exist, or an error.
Result<topology::Graph> decode_graph(std::span<const std::byte> bytes);

class JobGraph {
 public:
  // Longer ones are not shared.
  static constexpr size_t kMostBytes = 8 << 20;

  // This host's graph, encoded; empty when it cannot be had (the log says why). Made once per process: read from
  // TUTTI_TOPO_FILE, and detected by what starts fast: sysfs, and NVML where it is installed. hwloc, verbs and the CUDA
  // driver are for tools: they cost more and add nothing that a planner reads. A file that cannot be read is an error.
  static Result<const Bytes*> this_host();

  // What the first rank of each host offered, in the order of hosts. Without it, this host is the job.
  void set(std::vector<Bytes> hosts) { hosts_ = std::move(hosts); }
  // The merged graph: read on first use, then kept. Safe from any thread.
  Result<const topology::Graph*> get() const;
  // The merged graph as a file: JSON if the name ends in .json, else NCCL's XML.
  Status write(const std::string& path) const;

 private:
  Result<std::unique_ptr<topology::Graph>> merge() const;

  std::vector<Bytes> hosts_;
  mutable std::mutex mutex_;
  mutable std::optional<Result<std::unique_ptr<topology::Graph>>> merged_;
};

}  // namespace tutti
