// SPDX-License-Identifier: Apache-2.0
// `tutti trace`: the dumps of all ranks as one picture for Perfetto or chrome://tracing, and who comes late.
#include <fmt/core.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <set>

#include "tools/tutti/command.h"
#include "tools/tutti/dumps.h"

namespace tutti::tool {
namespace {

struct Options {
  std::vector<std::string> files;
  std::string output;
  double threshold_us = 10;
};

[[noreturn]] void fail(const std::string& text) {
  fmt::print(stderr, "tutti trace: {}\n", text);
  throw CLI::RuntimeError(1);
}

std::string one_of(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

void print_clocks(const Timeline& timeline) {
  if (timeline.clocks().size() < 2) return;
  fmt::print("clocks\n");
  for (const auto& [boot, clock] : timeline.clocks()) {
    fmt::print("  {:<24} {}", one_of(clock.hosts), clock.how);
    if (clock.uncertainty_seconds > 0) fmt::print(", within {:.1f} us", clock.uncertainty_seconds * 1e6);
    fmt::print("\n");
  }
}

void print_report(const CommunicatorReport& report, double threshold_us) {
  fmt::print("{} ({} ranks): {} collectives of which every rank's record is there\n", report.communicator, report.ranks,
             report.compared);
  if (!report.missing.empty()) {
    std::string ranks;
    for (const int rank : report.missing) ranks += fmt::format(" {}", rank);
    fmt::print("  no dump of rank{}\n", ranks);
  }
  if (report.compared > 0) {
    fmt::print("  came last by more than {:g} us, and the others waited that long\n", threshold_us);
    fmt::print("  {:>6} {:>8} {:>8} {:>12} {:>12} {:>12}\n", "rank", "times", "of all", "mean us", "longest us",
               "total ms");
    for (const Punctuality& one : report.by_rank) {
      const double mean = one.late > 0 ? one.total / static_cast<double>(one.late) : 0;
      fmt::print("  {:>6} {:>8} {:>7.1f}% {:>12.1f} {:>12.1f} {:>12.3f}\n", one.rank, one.late,
                 100.0 * static_cast<double>(one.late) / static_cast<double>(report.compared), mean * 1e6,
                 one.longest * 1e6, one.total * 1e3);
    }
  }
  for (const std::string& what : report.unfinished) fmt::print("  not ended: {}\n", what);
}

void run(const Options& options) {
  std::vector<DumpedRank> ranks;
  std::set<std::pair<std::string, int>> seen;
  for (const std::string& file : options.files) {
    std::ifstream stream(file, std::ios::binary);
    if (!stream) fail(fmt::format("cannot read {}", file));
    const std::string text(std::istreambuf_iterator<char>(stream), {});
    auto parsed = parse_dump(text, file);
    if (!parsed.ok()) fail(parsed.status().message());
    for (DumpedRank& rank : *parsed) {
      if (!seen.emplace(rank.id, rank.rank).second)
        fail(fmt::format("{} holds rank {} of {}, which another file holds already: give one dump per rank", file,
                         rank.rank, rank.communicator));
      ranks.push_back(std::move(rank));
    }
  }
  const Timeline timeline(std::move(ranks));
  if (!options.output.empty()) {
    std::ofstream out(options.output, std::ios::binary);
    out << chrome_trace(timeline);
    out.close();
    if (!out) fail(fmt::format("cannot write {}", options.output));
    fmt::print("{}: open it in https://ui.perfetto.dev or chrome://tracing\n", options.output);
  }
  print_clocks(timeline);
  for (const CommunicatorReport& report : find_stragglers(timeline, options.threshold_us * 1e-6))
    print_report(report, options.threshold_us);
}

}  // namespace

void add_trace(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("trace", "Merge the dumps of ranks into one trace, and name those who come late");
  const auto options = std::make_shared<Options>();
  command->add_option("files", options->files, "Dumps (TUTTI_DUMP_FILE, tuttiCommDump), one per rank")->required();
  command->add_option("-o,--output", options->output, "Write a Chrome trace here, for Perfetto");
  command->add_option("--threshold", options->threshold_us, "Microseconds by which the last is late [10]");
  command->callback([options] { run(*options); });
}

}  // namespace tutti::tool
