// SPDX-License-Identifier: Apache-2.0
// Job: the processes of a run and how they exchange small values that are not measured: the unique id, host names,
// times and counts of wrong values. Three kinds: alone, children of --ranks, members of a launcher's job (torchrun).
#pragma once

#include <cstring>
#include <memory>
#include <vector>

#include "perf/outcome.h"
#include "tutti/tutti.h"

namespace tutti::perf {

class Job {
 public:
  virtual ~Job() = default;
  int process() const { return process_; }
  int processes() const { return processes_; }
  // Collective: `bytes` of every process, in their order, to `all`. One thread at a time.
  virtual Outcome all_gather(const void* mine, size_t bytes, void* all) = 0;
  // A communicator of one rank per process that the job already has; null: none. The job keeps it.
  virtual tuttiComm_t communicator() const { return nullptr; }

  template <class T>
  Outcome all_gather(const std::vector<T>& mine, std::vector<T>* all) {
    all->resize(mine.size() * static_cast<size_t>(processes_));
    return all_gather(mine.data(), mine.size() * sizeof(T), all->data());
  }

 protected:
  int process_ = 0;
  int processes_ = 1;
};

// Looks at the environment: PERF_LOCAL_JOB (set by the launcher), then RANK and WORLD_SIZE, else a job of one process.
Outcome join_job(std::unique_ptr<Job>* job);

}  // namespace tutti::perf
