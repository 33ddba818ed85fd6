// SPDX-License-Identifier: Apache-2.0
// What rank 0 prints: the header, one line per size and the footer, column by column as nccl-tests prints them, because
// scripts that read its logs must read ours. Formats only; see json_report.h for the file of -J.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "perf/collectives.h"
#include "perf/options.h"
#include "perf/statistics.h"

namespace tutti::perf {

// One side (out of place or in place) of one line.
struct Measurement {
  double seconds = 0;
  Bandwidth bandwidth;
  std::optional<uint64_t> wrong;             // nothing: not checked
  std::optional<IterationStats> iterations;  // -I, in seconds
  std::vector<double> iteration_seconds;
};

struct Row {
  uint64_t bytes = 0, count = 0;
  const TypeInfo* type = nullptr;
  std::string op{};
  int root = -1;
  std::string time_of_day{};                              // -S
  std::optional<Measurement> out_of_place{}, in_place{};  // nothing: this side does not exist for the collective
};

// One line of the list of ranks. Plain data: it travels between processes as bytes.
struct RankInfo {
  int rank = 0, pid = 0;
  char host[64] = {};
  int device = 0;       // CUDA ordinal; 0 on a CPU
  char place[64] = {};  // "cpu 0-3,8": CPUs the process may run on; a GPU's address on the PCI bus
  char model[96] = {};
};

struct Totals {
  uint64_t wrong = 0;
  double busbw = 0;  // average over all measured sides
  bool too_slow = false;
};

std::string fixed_width(double value, int width);  // as many decimals (2, 1, 0) as fit, else an exponent
std::string header_text(const Collective&, const Options&, int processes, int library_version,
                        const std::vector<RankInfo>&);
std::string columns_text(const Options&);
std::string row_text(const Options&, const Row&);
std::string footer_text(const Collective&, const Options&, const Totals&);
std::string now_text();  // "2026-01-31 13:05:59"

}  // namespace tutti::perf
