// SPDX-License-Identifier: Apache-2.0
// device_copy_perf: the floor under collectives on GPUs: how long the driver takes to copy memory of a device, and from
// one device to another, timed as the collectives are: a loop of asynchronous copies on a stream, or launches of a
// graph of them. A copy of B bytes reads B and writes B; the GB/s column counts both.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "perf/cuda.h"
#include "perf/device.h"
#include "perf/sizes.h"

namespace tutti::perf {
namespace {

struct CopyOptions {
  std::string first = "8", last = "1G", json;
  Ladder ladder;
  int iterations = 20, warmup = 2, graphs = 0;
};

struct Copied {
  int from, to;
  uint64_t bytes;
  double seconds;
};

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// One direction: memory of `from` to memory of `to`, on a stream of `to`.
class Way {
 public:
  Way(const Cuda& cuda, Device& from, Device& to) : cuda_(cuda), from_(from), to_(to) {}
  ~Way() {
    if (source_ != nullptr) from_.release(source_);
    if (target_ != nullptr) to_.release(target_);
    if (stream_ != nullptr) to_.end_stream(stream_);
  }
  Outcome prepare(uint64_t bytes) {
    Outcome outcome = from_.allocate(bytes, &source_);
    if (outcome.ok()) outcome = to_.allocate(bytes, &target_);
    if (outcome.ok()) outcome = from_.set(source_, kByte, bytes);
    return outcome.ok() ? to_.make_stream(&stream_) : outcome;
  }
  Outcome time(const CopyOptions& o, uint64_t bytes, double* seconds) {
    Outcome outcome = copies(bytes, o.warmup);
    if (outcome.ok()) outcome = to_.synchronize(stream_);
    if (outcome.ok()) outcome = o.graphs > 0 ? time_graph(o, bytes, seconds) : time_stream(o, bytes, seconds);
    return outcome.ok() ? check(bytes) : outcome;
  }

 private:
  static constexpr std::byte kByte{0x5c};

  Outcome copies(uint64_t bytes, int count) {
    const CurrentDevice current(to_);
    int code = 0;
    for (int i = 0; code == 0 && i < count; ++i)
      code = cuda_.copy(reinterpret_cast<unsigned long long>(target_), reinterpret_cast<unsigned long long>(source_),
                        bytes, stream_);
    return current.outcome().ok() ? cuda_.checked(code, "cuMemcpyAsync", to_.ordinal()) : current.outcome();
  }
  Outcome time_stream(const CopyOptions& o, uint64_t bytes, double* seconds) {
    const auto begin = std::chrono::steady_clock::now();
    Outcome outcome = copies(bytes, o.iterations);
    if (outcome.ok()) outcome = to_.synchronize(stream_);
    *seconds = seconds_since(begin) / o.iterations;
    return outcome;
  }
  Outcome time_graph(const CopyOptions& o, uint64_t bytes, double* seconds) {
    Recording graph(cuda_, {{&to_, stream_}});
    Outcome outcome = graph.begin();
    if (!outcome.ok()) return outcome;
    outcome = copies(bytes, o.iterations);
    const Outcome ended = graph.end();
    if (outcome.ok()) outcome = ended;
    if (outcome.ok()) outcome = graph.launch();
    if (outcome.ok()) outcome = to_.synchronize(stream_);
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; outcome.ok() && i < o.graphs; ++i) outcome = graph.launch();
    if (outcome.ok()) outcome = to_.synchronize(stream_);
    *seconds = seconds_since(begin) / o.graphs / o.iterations;
    return outcome;
  }
  // Both ends of the copy, so that a copy that was not made is no floor.
  Outcome check(uint64_t bytes) {
    std::byte ends[2] = {};
    Outcome outcome = to_.read(target_, &ends[0], 1);
    if (outcome.ok()) outcome = to_.read(target_ + bytes - 1, &ends[1], 1);
    if (outcome.ok() && (ends[0] != kByte || ends[1] != kByte))
      outcome = Outcome::failure("a copy of " + size_text(bytes) + " did not arrive", kExitWrong);
    return outcome;
  }

  const Cuda& cuda_;
  Device& from_;
  Device& to_;
  std::byte *source_ = nullptr, *target_ = nullptr;
  tuttiStream_t stream_ = nullptr;
};

Outcome open_ways(const Cuda& cuda, const std::vector<std::unique_ptr<Device>>& devices,
                  std::vector<std::pair<int, int>>* ways) {
  ways->emplace_back(0, 0);
  if (cuda.devices < 2) return {};
  int can = 0;
  if (cuda.can_access_peer(&can, 1, 0) != 0 || can == 0) return {};
  void* peer = nullptr;
  Outcome outcome = cuda.checked(cuda.retain(&peer, 0), "cuDevicePrimaryCtxRetain", 0);
  const CurrentDevice current(*devices[1]);
  if (outcome.ok()) outcome = current.outcome();
  if (outcome.ok()) outcome = cuda.checked(cuda.enable_peer(peer, 0), "cuCtxEnablePeerAccess", 1);
  if (outcome.ok()) ways->emplace_back(0, 1);
  return outcome;
}

Outcome measure(const CopyOptions& o, std::vector<Copied>* all, std::string* model) {
  const Cuda* cuda = nullptr;
  Outcome outcome = Cuda::load(&cuda);
  if (!outcome.ok()) return outcome;
  std::vector<std::unique_ptr<Device>> devices(static_cast<size_t>(std::min(cuda->devices, 2)));
  for (size_t i = 0; outcome.ok() && i < devices.size(); ++i)
    outcome = make_gpu(*cuda, static_cast<int>(i), &devices[i]);
  if (!outcome.ok()) return outcome;
  *model = devices[0]->model();
  std::vector<std::pair<int, int>> ways;
  outcome = open_ways(*cuda, devices, &ways);
  if (!outcome.ok()) return outcome;
  std::printf("# device_copy_perf: %s, %s\n# %10s  %6s  %10s  %10s\n", model->c_str(),
              o.graphs > 0 ? "in a graph" : "on a stream", "size (B)", "way", "time (us)", "GB/s");
  for (const auto& [from, to] : ways) {
    Device &source = *devices[static_cast<size_t>(from)], &target = *devices[static_cast<size_t>(to)];
    Ladder ladder = o.ladder;
    ladder.last = std::min(ladder.last, std::min(source.free_bytes(), target.free_bytes()) / 10 * 9 / 2);
    Way way(*cuda, source, target);
    outcome = way.prepare(ladder.last);
    for (std::optional<uint64_t> bytes = ladder.first; outcome.ok() && bytes && *bytes <= ladder.last;
         bytes = ladder.next(*bytes)) {
      double seconds = 0;
      outcome = way.time(o, *bytes, &seconds);
      if (!outcome.ok()) break;
      all->push_back({from, to, *bytes, seconds});
      std::printf("%12llu  %2d->%2d  %10.2f  %10.2f\n", static_cast<unsigned long long>(*bytes), from, to,
                  seconds * 1e6, 2 * static_cast<double>(*bytes) / seconds * 1e-9);
      std::fflush(stdout);
    }
    if (!outcome.ok()) return outcome;
  }
  return outcome;
}

Outcome write_json(const CopyOptions& o, const std::vector<Copied>& all, const std::string& model) {
  nlohmann::ordered_json json = {{"program", "device_copy_perf"}, {"gpu", model}, {"graph", o.graphs}, {"results", {}}};
  for (const Copied& one : all)
    json["results"].push_back({{"from", one.from}, {"to", one.to}, {"size", one.bytes}, {"time", one.seconds * 1e6}});
  std::ofstream file(o.json);
  file << json.dump(1) << "\n";
  return file.good() ? Outcome() : Outcome::failure("-J " + o.json + ": cannot be written", kExitUsage);
}

int run(int argc, char** argv) {
  CopyOptions o;
  CLI::App app("Time copies within a GPU, and between two");
  app.add_option("-b,--minbytes", o.first, "smallest size [8]");
  app.add_option("-e,--maxbytes", o.last, "largest size [1G]");
  o.ladder.factor = 2;
  app.add_option("-f,--stepfactor", o.ladder.factor, "from size to size: multiply by this [2]")
      ->check(CLI::Range(2, 1 << 30));
  app.add_option("-n,--iters", o.iterations, "timed copies [20]")->check(CLI::Range(1, 1 << 30));
  app.add_option("-w,--warmup_iters", o.warmup, "untimed copies before them [2]")->check(CLI::NonNegativeNumber);
  app.add_option("-G,--cudagraph", o.graphs, "time so many launches of a graph of all copies [0]")
      ->check(CLI::NonNegativeNumber);
  app.add_option("-J,--output_file", o.json, "write a JSON report to this file");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  Outcome outcome;
  const auto first = parse_size(o.first), last = parse_size(o.last);
  if (!first || !last || *first == 0 || *first > *last)
    outcome = Outcome::failure("-b " + o.first + " -e " + o.last + ": not a range of sizes", kExitUsage);
  if (outcome.ok()) {
    o.ladder.first = *first;
    o.ladder.last = *last;
    std::vector<Copied> all;
    std::string model;
    outcome = measure(o, &all, &model);
    if (outcome.ok() && !o.json.empty()) outcome = write_json(o, all, model);
  }
  if (!outcome.ok()) std::fprintf(stderr, "device_copy_perf: %s\n", outcome.message().c_str());
  return outcome.status();
}

}  // namespace
}  // namespace tutti::perf

int main(int argc, char** argv) { return tutti::perf::run(argc, argv); }
