// SPDX-License-Identifier: Apache-2.0
// Declares the options to CLI11 and turns what it parsed into Options. CLI11 reports by exceptions; they end here.
#include "perf/options.h"

#include <CLI/CLI.hpp>
#include <cstdlib>

#include "tutti/tutti.h"

namespace tutti::perf {
namespace {

constexpr const char* kAll = "all";

// What is parsed before it is checked and translated.
struct Raw {
  std::string first = "32M", last = "32M", step = "1M", root = "0", op = "sum", type = "float";
  std::string matrix;
  double matrix_scale = 1;
  int average = 1, blocking = 0, registration = 0;
  bool no_pin = false, cpu = false, gpu = false;
};

void declare(CLI::App& app, Options& o, Raw& raw) {
  const auto flag01 = CLI::Range(0, 1);
  app.set_help_flag("-h,--help", "this text");
  app.set_version_flag(
      "--version", std::to_string(TUTTI_MAJOR) + "." + std::to_string(TUTTI_MINOR) + "." + std::to_string(TUTTI_PATCH));
  app.option_defaults()->group("Ranks");
  app.add_flag("--gpu", raw.gpu, "ranks are on GPUs [if the driver and the library have any]");
  app.add_flag("--cpu", raw.cpu, "ranks are on CPUs, also where there are GPUs")->excludes("--gpu");
  app.add_option("--ranks", o.local_ranks,
                 "on GPUs: this many ranks, dealt out to the threads and the devices in turn;\n"
                 "on CPUs: start this many processes here, each pinned to CPUs of its own")
      ->check(CLI::Range(1, 4096));
  app.add_flag("--no-pin", raw.no_pin, "leave the processes of --ranks unpinned");
  app.add_option("-t,--nthreads", o.threads, "threads per process [1]")->check(CLI::Range(1, 4096));
  app.add_option("-g,--ngpus,--nranks", o.ranks_per_thread,
                 "ranks per thread: GPUs, in turn if there are fewer, or CPUs [1]")
      ->check(CLI::Range(1, 4096));
  app.add_option("-p,--parallel_init", o.parallel_init, "0: one thread initialises all ranks, 1: each its own [0]")
      ->check(flag01);

  app.add_option("--library", o.library_path,
                 "measure this library instead, through NCCL's interface: a path or a name for dlopen");

  app.option_defaults()->group("Sizes (bytes, or with suffix K, M, G)");
  app.add_option("-b,--minbytes", raw.first, "smallest size [32M]");
  app.add_option("-e,--maxbytes", raw.last, "largest size [32M]");
  app.add_option("-i,--stepbytes", raw.step, "from size to size: add this [1M]");
  app.add_option("-f,--stepfactor", o.ladder.factor, "from size to size: multiply by this, wins over -i");

  app.option_defaults()->group("Operation");
  app.add_option("-o,--op", raw.op, "sum, prod, max, min, avg, mulsum or all [sum]");
  app.add_option("-d,--datatype", raw.type, "int8 ... double, bfloat16, f8e4m3, f8e5m2 or all [float]");
  app.add_option("-r,--root", raw.root, "root rank or all [0]");
  app.add_option("--spread", o.traffic.spread,
                 "alltoallv: 0 equal shares ... 1 shares grow with the distance [1];\nor NCCL_TESTS_ALLTOALLV_SPREAD")
      ->check(CLI::Range(0.0, 1.0))
      ->envname("NCCL_TESTS_ALLTOALLV_SPREAD");
  app.add_option("--matrix", raw.matrix,
                 "alltoallv: file with a square matrix of bytes, row = sender;\nor NCCL_TESTS_ALLTOALLV_MATRIX_FILE")
      ->envname("NCCL_TESTS_ALLTOALLV_MATRIX_FILE");
  app.add_option("--matrix-scale", raw.matrix_scale,
                 "alltoallv: multiplies the matrix [1]; or NCCL_TESTS_ALLTOALLV_MATRIX_SCALE")
      ->check(CLI::NonNegativeNumber)
      ->envname("NCCL_TESTS_ALLTOALLV_MATRIX_SCALE");

  app.option_defaults()->group("Measurement");
  app.add_option("-n,--iters", o.iterations, "timed iterations [20]")->check(CLI::Range(1, 1 << 30));
  app.add_option("-w,--warmup_iters", o.warmup, "untimed iterations before them [1]")->check(CLI::Range(0, 1 << 30));
  app.add_option("-m,--agg_iters", o.aggregated, "calls in one group per iteration [1]")->check(CLI::Range(1, 1 << 20));
  app.add_option("-N,--run_cycles", o.cycles, "how often the sizes are run through, 0: for ever [1]")
      ->check(CLI::Range(0, 1 << 30));
  app.add_option("-a,--average", raw.average, "time over the ranks: 0 rank 0, 1 average, 2 min, 3 max [1]")
      ->check(CLI::Range(0, 3));
  app.add_option("-z,--blocking", raw.blocking,
                 "0 no, 1 wait and barrier after each call, 2 wait after each call,\n"
                 "3 wait and barrier after each iteration, the barrier not timed [0]")
      ->check(CLI::Range(0, 3));
  app.add_option("-y,--stream_null", o.asked.null_stream,
                 "1: no stream: calls on a CPU block, on a GPU the default stream;\n0: on a stream [GPUs 0, CPUs 1]")
      ->check(flag01);
  app.add_option("-C,--report_cputime", o.cpu_time, "1: report the time to issue the calls [0]")->check(flag01);
  app.add_option("-I,--per_iter_timing", o.per_iteration, "1: time each iteration, more columns [0]")->check(flag01);
  app.add_option("-K,--per_iter_skip", o.per_iteration_skip, "-I: leave the first iterations out of its columns [0]")
      ->check(CLI::NonNegativeNumber);
  app.add_option("-R,--local_register", raw.registration, "0 ordinary memory, 1 registered buffers, 2 windows [0]")
      ->check(CLI::Range(0, 2));
  app.add_option("-u,--unalign", o.unalign, "index of the first element used in the buffers [0]")
      ->check(CLI::Range(0, 4096));
  app.add_option("-c,--check", o.checks, "iterations of the check of all values, 0: none [1]")
      ->check(CLI::NonNegativeNumber);
  app.add_option("-T,--timeout", o.timeout_s, "seconds after which one test of one size is given up, 0: never [0]")
      ->check(CLI::NonNegativeNumber);

  app.option_defaults()->group("Report");
  app.add_option("-J,--output_file", o.json_path, "write a JSON report to this file (an existing one is kept)");
  app.add_option("-S,--report_timestamps", o.timestamps, "1: date and time on each line [0]")->check(flag01);
  app.add_option("-M,--memory", o.memory, "1: report memory per process [0]")->check(flag01);
  app.add_option("--min-bandwidth", o.min_bandwidth,
                 "fail when the average bus bandwidth is 10 % below this;\nor NCCL_TESTS_MIN_BW")
      ->envname("NCCL_TESTS_MIN_BW");

  app.option_defaults()->group("Only on a GPU");
  app.add_option("-G,--cudagraph", o.graphs, "time so many launches of a graph of all iterations, 0: no graph [0]")
      ->check(CLI::NonNegativeNumber);
  app.add_option("-D,--device_implementation", o.asked.device_implementation,
                 "a kernel of the benchmark: there is none")
      ->check(CLI::NonNegativeNumber);
  app.add_option("-V,--device_cta_count", o.asked.device_blocks, "blocks of that kernel (ignored)");
  app.add_option("-x,--cta_policy", o.asked.cta_policy, "block policy (ignored)");
  for (CLI::Option* option : app.get_options()) {
    if (option->get_expected_min() > 0) option->option_text("VALUE");  // CLI11 would list types and ranges here
  }
  app.get_formatter()->column_width(38);
}

Outcome usage(const std::string& message) { return Outcome::failure(message, kExitUsage); }

Outcome read_ladder(const Raw& raw, Ladder* ladder) {
  const struct {
    const char* option;
    const std::string& text;
    uint64_t* value;
  } sizes[] = {{"-b", raw.first, &ladder->first}, {"-e", raw.last, &ladder->last}, {"-i", raw.step, &ladder->step}};
  for (const auto& size : sizes) {
    const auto parsed = parse_size(size.text);
    if (!parsed) return usage(std::string(size.option) + " " + size.text + ": not a size (try 8, 64K, 1.5M, 2G)");
    *size.value = *parsed;
  }
  if (ladder->first > ladder->last) {
    return usage("-b " + raw.first + " is larger than -e " + raw.last + ": nothing to measure");
  }
  if (ladder->first == ladder->last) return {};
  if (ladder->factor > 1 && ladder->first == 0) return usage("-b 0 cannot be multiplied by -f: use -i, or a larger -b");
  if (ladder->factor <= 1 && ladder->step == 0) return usage("-i 0 never reaches -e");
  return {};
}

Outcome read_names(const Collective& collective, const Raw& raw, Options* o) {
  for (const TypeInfo& type : all_types()) {
    if (raw.type == kAll) o->types.push_back(&type);
  }
  if (raw.type != kAll) o->types.push_back(find_type(raw.type));
  if (o->types[0] == nullptr) {
    std::string names;
    for (const TypeInfo& type : all_types()) names += std::string(" ") + type.name;
    return usage("-d " + raw.type + ": no such type; there are" + names + " and all");
  }
  for (const OpInfo& op : all_ops()) {
    if (raw.op == kAll && collective.op_column == OpColumn::Chosen) o->ops.push_back(&op);
  }
  if (o->ops.empty()) o->ops.push_back(find_op(raw.op == kAll ? "sum" : raw.op));
  if (o->ops[0] == nullptr)
    return usage("-o " + raw.op + ": no such operator; there are sum prod max min avg mulsum all");

  if (raw.root == kAll) {
    o->root = kAllRoots;
    return {};
  }
  char* end = nullptr;
  const long root = std::strtol(raw.root.c_str(), &end, 10);
  if (raw.root.empty() || *end != '\0' || root < 0 || root > 1 << 20) {
    return usage("-r " + raw.root + ": not a rank (0, 1, ... or all)");
  }
  o->root = static_cast<int>(root);
  return {};
}

Outcome settle_for_cpus(Options* o) {
  if (o->graphs > 0) o->notes.push_back("-G: CUDA graphs make no sense on a CPU device; ignored");
  o->graphs = 0;
  if (o->null_stream && o->cpu_time) {
    o->notes.push_back("-C: a call without a stream blocks, so the time to issue it is its whole time (see -y 0)");
  }
  if (o->null_stream && o->blocking == Blocking::Wait) {
    o->notes.push_back("-z 2: a call without a stream blocks anyway (see -y 0)");
  }
  return {};
}

Outcome settle_for_gpus(Options* o) {
  if (o->asked.null_stream < 0) o->null_stream = false;
  if (o->graphs > 0 && o->null_stream) return usage("-G: the default stream cannot be captured: use -y 0");
  if (o->graphs > 0 && o->blocking != Blocking::No) return usage("-G: a graph has no waits inside: use -z 0");
  if (o->graphs > 0 && o->per_iteration) return usage("-G: a graph is timed as a whole: use -I 0");
  if (o->local_ranks == 0) return {};
  const std::string ranks = "--ranks " + std::to_string(o->local_ranks);
  if (o->ranks_per_thread != 1) return usage(ranks + " and -g: on GPUs each alone says how many ranks there are");
  if (o->local_ranks % o->threads != 0)
    return usage(ranks + ": does not divide into -t " + std::to_string(o->threads) + " threads");
  o->ranks_per_thread = o->local_ranks / o->threads;
  o->local_ranks = 0;
  return {};
}

Outcome check_rest(Options* o) {
  if (std::getenv("NCCL_TESTS_SPLIT") != nullptr || std::getenv("NCCL_TESTS_SPLIT_MASK") != nullptr) {
    return usage("NCCL_TESTS_SPLIT: several groups at once are not supported; unset it");
  }
  if (o->asked.device_implementation > 0) {
    return usage("-D " + std::to_string(o->asked.device_implementation) +
                 ": the benchmark has no kernel of its own, on a CPU device or on a GPU");
  }
  if (!o->per_iteration && o->per_iteration_skip > 0) return usage("-K needs -I 1");
  if (o->per_iteration && o->per_iteration_skip >= o->iterations) return usage("-K must be smaller than -n");
  const bool json = o->json_path.empty() || o->json_path.ends_with(".json");
  if (!json) return usage("-J " + o->json_path + ": only names that end in .json are known");
  return {};
}

Outcome translate(const Collective& collective, const Raw& raw, Options* o) {
  o->pin = !raw.no_pin;
  o->device = raw.cpu ? DeviceChoice::Cpu : raw.gpu ? DeviceChoice::Gpu : DeviceChoice::Auto;
  o->null_stream = o->asked.null_stream != 0;
  o->average = static_cast<Average>(raw.average);
  o->blocking = static_cast<Blocking>(raw.blocking);
  o->registration = static_cast<Registration>(raw.registration);
  for (const Outcome& outcome : {read_ladder(raw, &o->ladder), read_names(collective, raw, o), check_rest(o)}) {
    if (!outcome.ok()) return outcome;
  }
  if (collective.kind != Kind::AllToAllV || raw.matrix.empty()) return {};
  if (o->ladder.first != o->ladder.last) return usage("--matrix fixes the sizes: give the same -b and -e");
  return read_traffic_matrix(raw.matrix, raw.matrix_scale, &o->traffic);
}

}  // namespace

Outcome settle_options(bool on_gpus, Options* options) {
  options->on_gpus = on_gpus;
  const Outcome settled = on_gpus ? settle_for_gpus(options) : settle_for_cpus(options);
  if (options->asked.device_blocks != 16)
    options->notes.push_back("-V: there is no kernel that it could be for; ignored");
  if (options->asked.cta_policy != 0) options->notes.push_back("-x: there is no block policy to choose; ignored");
  return settled;
}

ParsedOptions parse_options(const Collective& collective, int argc, const char* const* argv) {
  ParsedOptions parsed;
  Raw raw;
  CLI::App app(std::string("Time and check ") + collective.title +
                   ". The options and the report are those of nccl-tests; perf/README.md explains both.",
               collective.program);
  declare(app, parsed.options, raw);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    parsed.stop = true;
    parsed.text = app.help();
    return parsed;
  } catch (const CLI::CallForVersion& version) {
    parsed.stop = true;
    parsed.text = version.what() + std::string("\n");
    return parsed;
  } catch (const CLI::ParseError& error) {
    parsed.outcome = usage(error.what());
    return parsed;
  }
  parsed.outcome = translate(collective, raw, &parsed.options);
  return parsed;
}

}  // namespace tutti::perf
