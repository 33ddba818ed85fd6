// SPDX-License-Identifier: Apache-2.0
// detect(): the graph of this machine, from every source it has. A source that is missing is a note, never a failure.
//
//   hwloc        packages, NUMA nodes, caches, cpusets; PCI where sysfs shows none       hwloc_source.h
//   sysfs        PCI tree with link speed and width; processors without hwloc            pci.h, cpu.h
//   NVML, CUDA   GPUs, NVLinks and their far ends, peer access, MIG                      src/gpu
//   RDMA         devices, ports, GIDs, from sysfs and verbs                              rdma.h, src/verbs
//   interfaces   ordinary network interfaces                                             net.h
//
// assemble() (assemble.h) makes one graph of what they say.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "topology/graph.h"

namespace tutti::topology {

struct Note {
  std::string source;  // "hwloc", "sysfs", "nvml", "cuda", "verbs", "net", "machine"
  std::string text;
};

// cuInit() costs tenths of a second per GPU, and a process that called it must not fork and use CUDA in the child.
enum class AskCuda : uint8_t { Never, WithoutNvml, Always };

struct DetectOptions {
  // A recorded tree instead of this machine; drivers and hwloc are then asked only if their library is named.
  std::string root{};
  // Which PCI functions count as GPUs: the first digits of the class code, "0x0302" or "0x03"; "": known GPUs only.
  std::string gpu_class{};
  bool hwloc = true, nvml = true, verbs = true;
  AskCuda cuda = AskCuda::WithoutNvml;
  // Libraries instead of the usual ones; "" : the usual.
  std::string hwloc_library{}, nvml_library{}, cuda_library{}, verbs_library{};

  // gpu_class and the libraries from the environment table.
  static DetectOptions from_environment();
};

struct Timing {
  std::string source;
  double ms = 0;
};

struct Detection {
  Graph graph;
  std::vector<Note> notes;
  std::vector<Timing> timings;
};

// Fails only for options that do not parse.
Result<Detection> detect(const DetectOptions& options = DetectOptions::from_environment());

}  // namespace tutti::topology
