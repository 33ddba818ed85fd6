// SPDX-License-Identifier: Apache-2.0
// `tutti doctor`: what would slow down or break a job here, how it was seen, and the remedy. The checks are in doctor/.
#include "tools/tutti/doctor/doctor.h"

#include <fmt/core.h>
#include <unistd.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "base/env.h"
#include "tools/tutti/command.h"

namespace tutti::tool {
namespace {

using doctor::Finding;
using doctor::Severity;

struct Options {
  bool json = false, all = false, list = false;
  topology::DetectOptions detect;
};

constexpr const char* colour_of(Severity severity) {
  switch (severity) {
    case Severity::Good:
      return "\x1b[32m";
    case Severity::Note:
      return "\x1b[36m";
    case Severity::Slow:
      return "\x1b[33m";
    case Severity::Broken:
      return "\x1b[31m";
  }
  return "";
}

void print_json(const std::vector<Finding>& findings) {
  nlohmann::json all = nlohmann::json::array();
  for (const Finding& finding : findings)
    all.push_back({{"check", finding.check},
                   {"severity", doctor::name(finding.severity)},
                   {"what", finding.what},
                   {"seen", finding.seen},
                   {"remedy", finding.remedy}});
  const nlohmann::json report = {{"version", 1}, {"worst", doctor::name(doctor::worst(findings))}, {"findings", all}};
  // Names and file contents need not be UTF-8.
  fmt::print("{}\n", report.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
}

void print_text(const std::vector<Finding>& findings, bool all) {
  const bool colour = ::isatty(STDOUT_FILENO) == 1;
  size_t counts[4] = {};
  for (const Finding& finding : findings) {
    ++counts[static_cast<size_t>(finding.severity)];
    if (finding.severity == Severity::Good && !all) continue;
    fmt::print("{}{:<6}{} {}: {}\n", colour ? colour_of(finding.severity) : "", doctor::name(finding.severity),
               colour ? "\x1b[0m" : "", finding.check, finding.what);
    fmt::print("       seen:   {}\n", finding.seen);
    if (!finding.remedy.empty()) fmt::print("       remedy: {}\n", finding.remedy);
  }
  fmt::print("{} broken, {} slow, {} notes, {} good{}\n", counts[3], counts[2], counts[1], counts[0],
             all || counts[0] == 0 ? "" : " (--all shows them)");
}

void run(const Options& options) {
  if (options.list) {
    for (const doctor::CheckRow& row : doctor::checks()) fmt::print("{:<16} {}\n", row.name, row.help);
    return;
  }
  if (const Status status = env_status(); !status.ok()) fmt::print(stderr, "warning: {}\n", status.message());
  const auto probes = doctor::Probes::read(options.detect);
  if (!probes.ok()) {
    fmt::print(stderr, "error: {}\n", probes.status().message());
    throw CLI::RuntimeError(2);
  }
  const std::vector<Finding> findings = doctor::examine(*probes);
  options.json ? print_json(findings) : print_text(findings, options.all);
  if (doctor::worst(findings) == Severity::Broken) throw CLI::RuntimeError(1);
}

}  // namespace

void add_doctor(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("doctor", "Say what would slow down or break a job on this machine, and what to do");
  command->footer(
      "Exit status: 0 when nothing is broken (slow things may be), 1 when something is, 2 when it could not look.");
  command->add_flag("--json", options->json,
                    "Write one JSON object: worst, and for each finding check, severity, what, seen, remedy");
  command->add_flag("--all", options->all, "Show what is good as well");
  command->add_flag("--list", options->list, "Only list what is looked at");
  command
      ->add_option("--root", options->detect.root,
                   "Read /sys and /proc below this directory, a recorded machine, instead of this one's")
      ->check(CLI::ExistingDirectory);
  command->callback([options] {
    topology::DetectOptions detect = topology::DetectOptions::from_environment();
    detect.root = options->detect.root;
    options->detect = detect;
    run(*options);
  });
}

}  // namespace tutti::tool
