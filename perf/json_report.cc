// SPDX-License-Identifier: Apache-2.0
// See json_report.h.
#include "perf/json_report.h"

#include <fcntl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

extern char** environ;

namespace tutti::perf {

using Json = nlohmann::ordered_json;

struct JsonReport::Document {
  Json json;
};

JsonReport::JsonReport() : document_(std::make_unique<Document>()) {}
JsonReport::~JsonReport() {
  if (file_ >= 0) ::close(file_);
}

Machine this_machine() {
  Machine machine;
  utsname names{};
  ::uname(&names);
  machine.host = names.nodename;
  machine.kernel = std::string(names.sysname) + " " + names.release + " " + names.machine;
  machine.cores = static_cast<int>(std::thread::hardware_concurrency());
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; machine.cpu_model.empty() && std::getline(cpuinfo, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) machine.cpu_model = line.substr(colon + 2);
  }
  if (machine.cpu_model.empty()) machine.cpu_model = names.machine;
  return machine;
}

Outcome JsonReport::open(const std::string& path) {
  path_ = path;
  for (int attempt = 0; attempt < 10000; ++attempt) {
    file_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (file_ >= 0) return {};
    if (errno != EEXIST) break;
    path_ = path + "." + std::to_string(attempt);
  }
  return Outcome::failure("-J " + path_ + ": " + std::strerror(errno), kExitUsage);
}

namespace {

Json config_json(const Options& o) {
  Json config = {{"nthreads", o.threads},
                 {"ngpus", o.ranks_per_thread},
                 {"minimum_bytes", o.ladder.first},
                 {"maximum_bytes", o.ladder.last}};
  if (o.ladder.factor > 1) config["step_factor"] = o.ladder.factor;
  if (o.ladder.factor <= 1) config["step_bytes"] = o.ladder.step;
  config.update({{"warmup_iters", o.warmup},
                 {"iterations", o.iterations},
                 {"aggregated_iterations", o.aggregated},
                 {"run_cycles", o.cycles},
                 {"validation", o.checks},
                 {"graph", o.graphs},
                 {"device_kind", o.on_gpus ? "gpu" : "cpu"},
                 {"blocking_collectives", static_cast<int>(o.blocking)},
                 {"stream_null", o.null_stream},
                 {"per_iter_timing", o.per_iteration},
                 {"per_iter_skip", o.per_iteration_skip},
                 {"parallel_init", o.parallel_init},
                 {"report_cputime", o.cpu_time},
                 {"average", static_cast<int>(o.average)},
                 {"local_register", static_cast<int>(o.registration)},
                 {"unalign", o.unalign},
                 {"pinned", !o.on_gpus && o.local_ranks > 0 && o.pin},
                 {"notes", o.notes}});
  return config;
}

Json side_json(const Options& o, const std::optional<Measurement>& side) {
  if (!side) return nullptr;
  return {{o.cpu_time ? "cpu_time" : "time", side->seconds * 1e6},
          {"alg_bw", side->bandwidth.alg},
          {"bus_bw", side->bandwidth.bus},
          {"nwrong", side->wrong ? Json(*side->wrong) : Json(nullptr)}};
}

Json iterations_json(const Options& o, const Measurement& side) {
  const IterationStats& s = *side.iterations;
  std::vector<double> times;
  for (const double seconds : side.iteration_seconds) times.push_back(seconds * 1e6);
  return {{"skipped_iterations", o.per_iteration_skip},
          {"min_us", s.min * 1e6},
          {"max_us", s.max * 1e6},
          {"avg_us", s.mean * 1e6},
          {"p50_us", s.p50 * 1e6},
          {"p95_us", s.p95 * 1e6},
          {"p99_us", s.p99 * 1e6},
          {"stdev_us", s.deviation * 1e6},
          {"cv_pct", s.variation_percent()},
          {"times_us", times}};
}

// The library's own variables and no others: an environment may hold secrets.
Json environment_json() {
  Json list = Json::array();
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string text(*variable);
    if (text.starts_with("TUTTI_") && text.find("SECRET") == std::string::npos) list.push_back(text);
  }
  return list;
}

}  // namespace

void JsonReport::start(const Collective& collective, const Options& o, const std::vector<std::string>& command,
                       int processes, int library_version, const std::vector<RankInfo>& ranks, const Machine& machine) {
  Json devices = Json::array();
  for (const RankInfo& r : ranks) {
    devices.push_back({{"rank", r.rank},
                       {"group", 0},
                       {"pid", r.pid},
                       {"hostname", r.host},
                       {"device", r.device},
                       {"device_hex", r.place},
                       {"device_info", r.model}});
  }
  Json config = config_json(o);
  config["processes"] = processes;
  config["devices"] = devices;
  document_->json = {{"version", 2},
                     {"start_time", now_text()},
                     {"program", collective.program},
                     {"args", command},
                     {"env", environment_json()},
                     {o.library_path.empty() ? "tutti_version" : "nccl_version", library_version},
                     {"machine",
                      {{"host", machine.host},
                       {"cpu_model", machine.cpu_model},
                       {"cores", machine.cores},
                       {"kernel", machine.kernel}}},
                     {"config", config},
                     {"results", Json::array()}};
  write();
}

void JsonReport::add(const Options& o, const Row& row) {
  Json line = {{"size", row.bytes},
               {"count", row.count},
               {"type", row.type->name},
               {"redop", row.op},
               {"root", row.root},
               {"out_of_place", side_json(o, row.out_of_place)},
               {"in_place", side_json(o, row.in_place)}};
  const auto add_iterations = [&](const char* key, const std::optional<Measurement>& side) {
    if (side && side->iterations) line[key] = iterations_json(o, *side);
  };
  add_iterations("out_of_place_per_iter", row.out_of_place);
  add_iterations("in_place_per_iter", row.in_place);
  if (o.timestamps) line["timestamp"] = row.time_of_day;
  line["actual_iterations"] = o.iterations;
  document_->json["results"].push_back(std::move(line));
  write();
}

void JsonReport::finish(const Options& o, const Totals& totals) {
  const Json okay = o.min_bandwidth < 0 ? Json("unchecked") : Json(!totals.too_slow);
  document_->json["out_of_bounds"] = {{"count", totals.wrong}, {"okay", totals.wrong == 0}};
  document_->json["average_bus_bandwidth"] = {{"bandwidth", totals.busbw}, {"okay", okay}};
  document_->json["end_time"] = now_text();
  write();
}

std::string JsonReport::dump() const { return document_->json.dump(1) + "\n"; }

void JsonReport::write() {
  if (file_ < 0) return;
  const std::string text = dump();
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t written = ::pwrite(file_, text.data() + done, text.size() - done, static_cast<off_t>(done));
    if (written <= 0) return;
    done += static_cast<size_t>(written);
  }
  [[maybe_unused]] const int cut = ::ftruncate(file_, static_cast<off_t>(text.size()));
}

}  // namespace tutti::perf
