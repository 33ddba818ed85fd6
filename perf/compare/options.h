// SPDX-License-Identifier: Apache-2.0
//
// The command line that all drivers of the comparison share. Called by each driver's main().
#ifndef TUTTI_PERF_COMPARE_OPTIONS_H_
#define TUTTI_PERF_COMPARE_OPTIONS_H_

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "perf/compare/problem.h"

namespace tutti::compare {

struct Options {
  int ranks = 2;  // drivers that start their own ranks; MPI's launcher decides for itself
  std::vector<Collective> collectives;
  std::vector<size_t> sizes;
  bool rewritten = false;  // the input is written before and the output read after each call
  bool windows = false;    // buffers from the library, registered as windows
  bool pin = true;
  std::vector<std::string> hosts;  // network namespaces that the ranks are spread over; none: this one
  double batch_us = 8e3;
  double budget_us = 80e3;  // time to spend on the timed batches of a cell
  std::string scratch = "/tmp";
  std::vector<std::string> candidates;  // driver_tutti: algorithm/protocol or auto, all measured in each cell
  bool turns = false;  // cells come on standard input, one a line
  std::string kind;    // driver_floor: which floor
};

inline constexpr char kUsage[] =
    "options: --ranks N  --collectives a,b  --sizes 8,1K,64M  --buffers untouched|rewritten  --windows  --pin "
    "even|none  --hosts a,b\n"
    "         --turns: instead of --collectives and --sizes, lines like 'all_reduce 1M' on standard input\n"
    "         --batch-ms X  --budget-ms X  --scratch DIR  --kind lines|memcpy|staged|mapped|tcp (driver_floor)\n"
    "         --candidates auto,ring/ll,... (driver_tutti)\n";

[[noreturn]] inline void usage_error(const std::string& what) {
  std::fprintf(stderr, "%s\n%s", what.c_str(), kUsage);
  std::exit(2);
}

inline std::vector<std::string> split_list(std::string_view text) {
  std::vector<std::string> items;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    if (comma > 0) items.emplace_back(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return items;
}

inline size_t parse_size(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  const std::string_view unit = end;
  double scale = 0;
  if (unit.empty()) scale = 1;
  if (unit == "K" || unit == "k") scale = 1 << 10;
  if (unit == "M" || unit == "m") scale = 1 << 20;
  if (unit == "G" || unit == "g") scale = 1 << 30;
  if (end == text.c_str() || scale == 0 || value <= 0) usage_error("not a size: " + text);
  return static_cast<size_t>(value * scale);
}

inline Collective parse_collective(const std::string& text) {
  for (const CollectiveName& row : kCollectives)
    if (row.name == text) return row.collective;
  usage_error("not a collective: " + text);
}

inline Options parse_options(int argc, char** argv) {
  Options o;
  std::string collectives = "all_reduce", sizes = "8,1K,32K,256K,1M,16M,64M", buffers = "untouched", pin = "even";
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--windows") {
      o.windows = true;
      continue;
    }
    if (name == "--turns") {
      o.turns = true;
      continue;
    }
    if (i + 1 == argc) usage_error("what is " + std::string(name) + "?");
    const char* value = argv[++i];
    if (name == "--ranks")
      o.ranks = std::atoi(value);
    else if (name == "--collectives")
      collectives = value;
    else if (name == "--sizes")
      sizes = value;
    else if (name == "--buffers")
      buffers = value;
    else if (name == "--pin")
      pin = value;
    else if (name == "--hosts")
      o.hosts = split_list(value);
    else if (name == "--batch-ms")
      o.batch_us = std::atof(value) * 1e3;
    else if (name == "--budget-ms")
      o.budget_us = std::atof(value) * 1e3;
    else if (name == "--scratch")
      o.scratch = value;
    else if (name == "--candidates")
      o.candidates = split_list(value);
    else if (name == "--kind")
      o.kind = value;
    else
      usage_error("unknown option " + std::string(name));
  }
  if (o.ranks < 1 || o.ranks > 64) usage_error("--ranks must be 1 to 64");
  if (buffers != "untouched" && buffers != "rewritten") usage_error("--buffers must be untouched or rewritten");
  if (pin != "even" && pin != "none") usage_error("--pin must be even or none");
  o.rewritten = buffers == "rewritten";
  o.pin = pin == "even";
  for (const std::string& item : split_list(collectives)) o.collectives.push_back(parse_collective(item));
  for (const std::string& item : split_list(sizes)) o.sizes.push_back(parse_size(item));
  return o;
}

}  // namespace tutti::compare
#endif  // TUTTI_PERF_COMPARE_OPTIONS_H_
