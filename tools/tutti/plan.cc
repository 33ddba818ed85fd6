// SPDX-License-Identifier: Apache-2.0
// `tutti plan`: what the planner would do on a topology, and why: channels, bound, the choice by size with everything
// that lost. The search is topology/channels, the choice src/plan; here are options and errors. Its subcommands
// have files of their own.
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <set>

#include "algo/catalog.h"
#include "base/env.h"
#include "exec/sim/verify.h"
#include "plan/cost.h"
#include "plan/fabric.h"
#include "tools/tutti/output.h"
#include "tools/tutti/plan_report.h"
#include "topology/detect/detect.h"
#include "topology/formats/formats.h"

namespace tutti::tool {
namespace {

using namespace tutti::topology;

struct Options {
  std::string topology, op = "all_reduce", bytes = "8:1G", format = "text", output;
  std::string algorithms, protocols, nics;
  int ranks = 0, hosts = 1, root = 0, min_channels = -1, max_channels = -1;
  bool json = false, brief = false, progress = false;
};

template <class T>
T take(Result<T> result) {
  if (!result.ok()) fail(result.status().message());
  return std::move(*result);
}

// A search that takes long says what it tries: on a terminal on one line, else (--progress) a line each.
class Progress {
 public:
  explicit Progress(bool wanted) : terminal_(::isatty(STDERR_FILENO) == 1), wanted_(wanted || terminal_) {}
  ~Progress() {
    if (shown_ && terminal_) fmt::print(stderr, "\r\033[K");
  }
  void operator()(std::string_view what) {
    const auto now = Clock::now();
    if (!wanted_ || now < next_) return;
    next_ = now + kInterval;
    shown_ = true;
    if (terminal_)
      fmt::print(stderr, "\r\033[K{}", what);
    else
      fmt::print(stderr, "{}\n", what);
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr auto kPatience = std::chrono::milliseconds(300), kInterval = std::chrono::milliseconds(100);
  bool terminal_, wanted_, shown_ = false;
  Clock::time_point next_ = Clock::now() + kPatience;
};

// MIN, MIN:MAX or MIN:MAX:FACTOR.
std::vector<uint64_t> parse_sizes(const std::string& text) {
  std::vector<std::string> parts;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(':', at), text.size());
    parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  const auto first = parse_size(parts[0]);
  const auto last = parts.size() > 1 ? parse_size(parts[1]) : first;
  const auto factor = parts.size() > 2 ? parse_size(parts[2]) : std::optional<uint64_t>(2);
  if (!first || !last || !factor || parts.size() > 3 || *first == 0 || *factor < 2 || *last < *first)
    fail(
        fmt::format("--bytes {}: not MIN, MIN:MAX or MIN:MAX:FACTOR; sizes are numbers above 0 with K, M, G or T "
                    "behind, MAX at least MIN, FACTOR at least 2: 8:1G",
                    text));
  std::vector<uint64_t> sizes;
  for (uint64_t size = *first;; size *= *factor) {
    sizes.push_back(size);
    if (size > *last / *factor) return sizes;
  }
}

Coll parse_coll(const std::string& text) {
  if (const Coll* coll = find_coll(text)) return *coll;
  std::string known;
  for (const std::string_view one : kCollNames) known += (known.empty() ? "" : ", ") + std::string(one);
  fail(fmt::format("--op {}: not known; use one of {}", text, known));
}

Graph load(const Options& options) {
  Graph graph;
  if (options.topology.empty()) {
    graph = take(detect(DetectOptions::from_environment())).graph;
  } else {
    graph = take(read_topology_file(options.topology));
  }
  return repeat_hosts(graph, options.hosts);
}

size_t cpus_of(const Graph& graph) {
  size_t cpus = 0;
  for (const NodeId cpu : graph.of_kind(NodeKind::Cpu)) cpus += graph.node(cpu).cpu.cpus.count();
  return std::max<size_t>(cpus, 1);
}

bool on_gpus(const Graph& graph, const std::vector<NodeId>& ranks) {
  return graph.node(ranks[0]).kind == NodeKind::Gpu;
}

// Ranks: as asked for, else one per GPU, or per CPU of a machine without GPUs.
std::vector<NodeId> place(const Options& options, const Graph& graph) {
  std::vector<NodeId> ranks = take(place_ranks(graph, options.ranks));
  if (options.ranks == 0 && !on_gpus(graph, ranks))
    ranks = take(place_ranks(graph, static_cast<int32_t>(std::min<size_t>(cpus_of(graph), 1 << 16))));
  return ranks;
}

ChannelPlan find_channels(const Options& options, const Graph& graph, const std::vector<NodeId>& ranks, Coll coll) {
  static_assert(static_cast<int>(Pattern::AllReduce) == static_cast<int>(Coll::AllReduce) &&
                static_cast<int>(Pattern::Broadcast) == static_cast<int>(Coll::Broadcast) &&
                static_cast<int>(Pattern::AllGather) == static_cast<int>(Coll::AllGather) &&
                static_cast<int>(Pattern::SendRecv) == static_cast<int>(Coll::SendRecv));
  Progress progress(options.progress);
  return take(plan_channels(graph, {.ranks = ranks,
                                    .pattern = static_cast<Pattern>(coll),
                                    .root = options.root,
                                    .nics = options.nics,
                                    .min_channels = options.min_channels,
                                    .max_channels = options.max_channels,
                                    .progress = [&](std::string_view what) { progress(what); }}));
}

Profile profile_for(const Graph& graph) {
  if (!env().profile.empty()) return take(read_profile(env().profile));
  const std::vector<NodeId> cpus = graph.of_kind(NodeKind::Cpu);
  return built_in_profile(cpus.empty() ? "" : graph.node(cpus[0]).cpu.vendor);
}

// What a profile knows GPUs by.
void name_gpus(const Graph& graph, const std::vector<NodeId>& ranks, Fabric& fabric) {
  std::set<NodeId> devices(ranks.begin(), ranks.end());
  const std::string& first = graph.node(ranks.front()).gpu.model;
  const auto same = [&](NodeId id) { return graph.node(id).gpu.model == first; };
  if (std::all_of(devices.begin(), devices.end(), same)) fabric.gpu = first;
  fabric.gpus = static_cast<int>(devices.size());
}

// Lines of LL128 are seen whole (proto/lines.h), as far as a topology says it.
bool sees_whole_lines(const Graph& graph, const std::vector<NodeId>& ranks) {
  const auto has_nvlink = [&](NodeId id) {
    const auto& links = graph.links_of(id);
    return std::any_of(links.begin(), links.end(),
                       [&](topology::LinkId link) { return graph.link(link).kind == topology::LinkKind::NvLink; });
  };
  const std::set<NodeId> devices(ranks.begin(), ranks.end());
  return std::all_of(devices.begin(), devices.end(), has_nvlink);
}

void choose(const Options& options, PlanReport* report) {
  const Profile profile = profile_for(report->graph);
  Fabric fabric = make_fabric(report->graph, report->channels);
  name_gpus(report->graph, report->ranks, fabric);
  Summary summary;
  summary.n = report->channels.ranks;
  summary.hosts = report->channels.domains;
  summary.mapped = summary.hosts == 1;
  if (!summary.mapped) {
    std::vector<int> host_of;
    for (const NodeId rank : report->ranks) host_of.push_back(report->graph.host_of(rank));
    summary.places = std::make_shared<const HostTable>(host_of);
  }
  summary.schedules = take(read_proven_schedules(env().schedules));
  summary.profile = &profile;
  summary.algorithms = options.algorithms;
  summary.protocols = options.protocols;
  summary.min_channels = options.min_channels;
  summary.max_channels = options.max_channels;
  summary.slice_bytes = env().slice_bytes;
  if (on_gpus(report->graph, report->ranks)) {
    summary.fabric = &fabric;
    summary.ll128_slots = summary.mapped && sees_whole_lines(report->graph, report->ranks) ? UINT64_MAX : 0;
    summary.channels = make_channel_table(report->channels, report->ranks, report->coll, options.root);
    report->costs =
        !fabric.gpu.empty() && profile.gpu.gpu == fabric.gpu
            ? fmt::format("the profile \"{}\", ranks on {} of {}; bandwidths of the channels", profile.name,
                          profile.gpu.gpus, fabric.gpu)
            : fmt::format("the tuning model that NCCL publishes ({}), no measurement; bandwidths of the channels",
                          to_string(fabric.inside));
  } else {
    summary.single_copy = summary.mapped;
    summary.ranks_per_core =
        static_cast<int>((static_cast<size_t>(summary.n) + cpus_of(report->graph) - 1) / cpus_of(report->graph));
    report->costs = fmt::format("the profile \"{}\"", profile.name);
  }
  const auto n = static_cast<uint64_t>(summary.n);
  for (const uint64_t bytes : parse_sizes(options.bytes)) {
    // The planner counts one block of what is cut into blocks.
    const Shape shape{
        .coll = report->coll, .bytes = writes_blocks(report->coll) ? (bytes + n - 1) / n : bytes, .root = options.root};
    report->sizes.push_back({bytes, take(plan_candidates(summary, shape))});
  }
}

void show(Options options) {
  // What the command line leaves open, the environment says.
  if (const Status status = env_status(); !status.ok()) fail(status.message());
  if (options.algorithms.empty()) options.algorithms = env().algorithm;
  if (options.protocols.empty()) options.protocols = env().protocol;
  if (options.nics.empty()) options.nics = env().nics;
  if (options.min_channels < 0) options.min_channels = static_cast<int>(std::min<int64_t>(env().min_channels, 1 << 20));
  if (options.max_channels < 0) options.max_channels = static_cast<int>(std::min<int64_t>(env().max_channels, 1 << 20));
  PlanReport report;
  report.coll = parse_coll(options.op);
  parse_sizes(options.bytes);  // before anything that takes time
  report.graph = load(options);
  for (const Warning& warning : report.graph.warnings())
    fmt::print(stderr, "warning: {}{}\n", warning.line > 0 ? fmt::format("line {}: ", warning.line) : "", warning.text);
  report.ranks = place(options, report.graph);
  report.channels = find_channels(options, report.graph, report.ranks, report.coll);
  if (options.format == "svg") return put(options.output, draw_svg(report.graph, plan_ways(report)));
  choose(options, &report);
  put(options.output, options.json || options.format == "json" ? plan_json(report) : plan_text(report, !options.brief));
}

}  // namespace

void add_plan(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  CLI::App* plan = app.add_subcommand("plan", "Show what the planner would do on a topology, and why");
  plan->add_option(
      "--topology", options->topology,
      "Plan for this file: any that `tutti topo --from` reads, - is standard input; without it this machine");
  plan->add_option("--op", options->op, "The collective: all_reduce, broadcast, all_gather, ...")
      ->capture_default_str();
  plan->add_option("--ranks", options->ranks,
                   "Number of ranks, on GPUs in the order of the file; more than GPUs: they share them evenly;\n"
                   "without it one per GPU, or one per CPU of a machine without GPUs")
      ->check(CLI::Range(1, 1 << 20));
  plan->add_option("--hosts", options->hosts, "So many hosts like those of the topology, joined by their NICs")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  plan->add_option("--root", options->root, "Rank that is the root of broadcast, reduce, gather and scatter")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  plan->add_option(
          "--bytes", options->bytes,
          "Sizes of the whole buffer: MIN, MIN:MAX or MIN:MAX:FACTOR, with K, M, G or T behind (powers of 1024)")
      ->capture_default_str();
  CLI::Option* json = plan->add_flag("--json", options->json, "The same as --format json");
  plan->add_option("--format", options->format,
                   "text; json: docs/planner.md has the members; svg: rings and trees below the topology's picture")
      ->check(CLI::IsMember({"text", "json", "svg"}))
      ->excludes(json)
      ->capture_default_str();
  plan->add_flag("--brief", options->brief, "Text: only the choice of each size, not what lost");
  plan->add_flag("--progress", options->progress, "Say on standard error what is being tried, also without a terminal");
  plan->add_option("-o,--output", options->output, "Write to this file instead of standard output");
  plan->add_option("--algo", options->algorithms, "Restrict algorithms; without it TUTTI_ALGO");
  plan->add_option("--proto", options->protocols, "Restrict protocols; without it TUTTI_PROTO");
  plan->add_option("--nics", options->nics,
                   "Ports for channels between hosts: prefixes of names, =NAME, ^NAME; without it TUTTI_NICS");
  plan->add_option("--min-channels", options->min_channels, "Least number of channels; without it TUTTI_MIN_CHANNELS")
      ->check(CLI::Range(0, 1 << 20));
  plan->add_option("--max-channels", options->max_channels, "Most channels; without it TUTTI_MAX_CHANNELS")
      ->check(CLI::Range(0, 1 << 20));
  plan->footer(
      "Examples:\n"
      "  tutti plan                                              all_reduce on this machine\n"
      "  tutti plan --topology dump.xml --op all_gather --bytes 1M:1G:4\n"
      "  tutti plan --topology dump.xml --hosts 4 --json\n"
      "  tutti plan --topology dump.xml --format svg -o plan.svg\n"
      "Bandwidths are in GB/s, 10^9 bytes per second.");
  add_plan_picture(*plan);
  add_plan_verify(*plan);
  plan->callback([options, plan] {
    if (plan->get_subcommands().empty()) show(*options);
  });
}

}  // namespace tutti::tool
