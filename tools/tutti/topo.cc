// SPDX-License-Identifier: Apache-2.0
// `tutti topo`: shows a topology (of this machine, or of a file in any known format), converts it, explains a path, and
// tells what differs between two. Everything it says is computed in topology/.
#include <fmt/core.h>
#include <unistd.h>

#include <memory>

#include "base/env.h"
#include "tools/tutti/output.h"
#include "topology/detect/detect.h"
#include "topology/draw/draw.h"
#include "topology/formats/formats.h"

namespace tutti::tool {
namespace {

using namespace tutti::topology;

struct Options {
  std::string from, format = "tree", output, colour = "auto";
  bool complete = false, verbose = false;
  std::string gpu_class;   // instead of TUTTI_GPU_CLASS
  std::string one, other;  // path: two devices; diff: two files
};

// What detection could not ask, or learnt on the way, goes to standard error when it is wanted.
Result<Graph> this_machine(const Options& options) {
  DetectOptions detection = DetectOptions::from_environment();
  if (!options.gpu_class.empty()) detection.gpu_class = options.gpu_class;
  Result<Detection> found = detect(detection);
  if (!found.ok()) return found.status();
  if (options.verbose) {
    for (const Note& note : found->notes) fmt::print(stderr, "note: {}: {}\n", note.source, note.text);
    for (const Timing& timing : found->timings) fmt::print(stderr, "time: {}: {:.1f} ms\n", timing.source, timing.ms);
  }
  return std::move(found->graph);
}

Graph load(const Options& options) {
  Result<Graph> graph = options.from.empty() ? this_machine(options) : read_topology_file(options.from);
  if (!graph.ok()) fail(graph.status().message());
  if (options.complete && !options.from.empty()) {
    Result<Graph> live = this_machine(options);
    if (!live.ok()) fail(live.status().message());
    complete(*graph, *live);
  }
  return std::move(*graph);
}

// A table of all pairs is made: a file that asks for more memory than a machine has is refused.
void check_size(const Graph& graph) {
  constexpr size_t kMostEndpoints = 2048;
  const size_t count = graph.of_kind(NodeKind::Gpu).size() + graph.of_kind(NodeKind::Nic).size();
  if (count > kMostEndpoints)
    fail(fmt::format("{} GPUs and NICs; paths are computed for up to {} (--format json, xml and summary have no limit)",
                     count, kMostEndpoints));
}

bool wants_colour(const Options& options) {
  if (options.colour != "auto") return options.colour == "always";
  return options.output.empty() && ::isatty(STDOUT_FILENO) == 1 && !environment_variable("NO_COLOR");
}

// Formats that show no warnings themselves leave them to standard error.
void show_warnings(const Graph& graph) {
  for (const Warning& warning : graph.warnings())
    fmt::print(stderr, "warning: {}{}\n", warning.line > 0 ? fmt::format("line {}: ", warning.line) : "", warning.text);
}

void show(const Options& options) {
  const Graph graph = load(options);
  const std::string& format = options.format;
  if (format != "tree" && format != "summary" && format != "json") show_warnings(graph);
  if (format == "tree" || format == "matrix") check_size(graph);
  if (format == "tree") put(options.output, draw_tree(graph, Paths(graph), wants_colour(options)));
  if (format == "matrix") put(options.output, draw_matrix(graph, Paths(graph)));
  if (format == "json") put(options.output, write_json(graph));
  if (format == "xml") put(options.output, write_nccl_xml(graph));
  if (format == "dot") put(options.output, draw_dot(graph));
  if (format == "svg") put(options.output, draw_svg(graph));
  if (format == "summary") put(options.output, summary_json(graph));
}

void show_path(const Options& options) {
  const Graph graph = load(options);
  const Result<NodeId> one = find_endpoint(graph, options.one), other = find_endpoint(graph, options.other);
  if (!one.ok()) fail(one.status().message());
  if (!other.ok()) fail(other.status().message());
  check_size(graph);
  const Paths paths(graph);
  put(options.output, explain_path(graph, paths, *one, *other));
}

// Like diff: status 0 when equal, 1 when not, 2 when a file cannot be read.
void show_differences(const Options& options) {
  Result<Graph> one = read_topology_file(options.one);
  if (!one.ok()) fail(one.status().message(), 2);
  Result<Graph> other = options.other.empty() ? this_machine(options) : read_topology_file(options.other);
  if (!other.ok()) fail(other.status().message(), 2);
  const auto lines = differences(*one, *other);
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  if (lines.empty()) text = "no difference\n";
  put(options.output, text);
  if (!lines.empty()) throw CLI::RuntimeError(1);
}

}  // namespace

void add_topo(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  CLI::App* topo = app.add_subcommand("topo", "Show what is connected to what: this machine, or a topology file");
  topo->add_option("--from", options->from,
                   "Read this file instead of detecting: NCCL or RCCL topology XML, hwloc XML (1, 2, 3), the text of\n"
                   "`nvidia-smi topo -m`, or JSON of --format json; recognised by content; - is standard input");
  topo->add_option("--format", options->format,
                   "tree: devices at their places; matrix: as nvidia-smi topo -m; json: everything, lossless;\n"
                   "xml: for NCCL_TOPO_FILE; dot: Graphviz; svg: a picture; summary: counts as one JSON object")
      ->check(CLI::IsMember({"tree", "matrix", "json", "xml", "dot", "svg", "summary"}))
      ->capture_default_str();
  topo->add_option(
      "--gpu-class", options->gpu_class,
      "Which PCI functions of this machine count as GPUs: the first digits of their class code, e.g. 0x0302;\n"
      "without it TUTTI_GPU_CLASS, or known GPUs");
  topo->add_option("-o,--output", options->output, "Write to this file instead of standard output");
  topo->add_option("--colour,--color", options->colour, "Colours of the tree: auto is yes on a terminal")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->capture_default_str();
  topo->add_flag("--complete", options->complete,
                 "Fill what the file leaves open (templates) from this machine, by bus id");
  topo->add_flag("-v,--verbose", options->verbose, "Say what detection could not ask, and how long each source took");
  topo->footer(
      "Examples:\n"
      "  tutti topo                                      this machine\n"
      "  tutti topo --from dump.xml --format svg -o machine.svg\n"
      "  tutti topo path GPU0 NIC2 --from dump.xml       why is this pair slow?\n"
      "  tutti topo diff healthy.xml today.xml           what has changed?\n"
      "Devices: GPU0, NIC2, a port (mlx5_0), a bus id; 1:GPU0 on the second host.");

  CLI::App* path = topo->add_subcommand("path", "Explain the path between two devices, hop by hop");
  path->add_option("FROM", options->one, "GPU0, NIC2, mlx5_0, 0000:3b:00.0, 1:GPU0")->required();
  path->add_option("TO", options->other, "The other end")->required();
  path->fallthrough();
  path->callback([options] { show_path(*options); });

  CLI::App* diff = topo->add_subcommand("diff", "Tell what differs between two files (\"there\" is A, \"here\" is B)");
  diff->add_option("A", options->one, "A topology file")->required();
  diff->add_option("B", options->other, "Another; without it this machine");
  diff->fallthrough();
  diff->callback([options] { show_differences(*options); });

  topo->callback([options, topo] {
    if (topo->get_subcommands().empty()) show(*options);
  });
}

}  // namespace tutti::tool
