// SPDX-License-Identifier: Apache-2.0
// Text formats of the report. The widths are those of nccl-tests 2.19.
#include "perf/report.h"

#include <cstdarg>
#include <cstdio>
#include <ctime>

namespace tutti::perf {
namespace {

__attribute__((format(printf, 1, 2))) std::string text(const char* format, ...) {
  char buffer[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(buffer, sizeof buffer, format, arguments);
  va_end(arguments);
  return buffer;
}

// The five columns that name a size, then one side twice.
std::string column_line(const char* const (&name)[5], const std::vector<const char*>& side, const char* stamp) {
  std::string line = text("# %10s  %12s  %8s  %6s  %6s", name[0], name[1], name[2], name[3], name[4]);
  for (int sides = 0; sides < 2; ++sides) {
    for (size_t i = 0; i < side.size(); ++i) {
      const bool wide = i == 0 || i > 3;  // the time and the columns of -I
      line += text(wide ? "  %7s" : "  %6s", side[i]);
    }
  }
  return line + text(" %*s\n", *stamp != '\0' ? 19 : 0, stamp);
}

std::string side_text(const Options& options, const std::optional<Measurement>& side) {
  const Measurement m = side.value_or(Measurement{});  // zeros rather than words: parsers read numbers here
  std::string line = "  " + fixed_width(m.seconds * 1e6, 7) + "  " + fixed_width(m.bandwidth.alg, 6) + "  " +
                     fixed_width(m.bandwidth.bus, 6);
  line += m.wrong ? text("  %6g", static_cast<double>(*m.wrong)) : std::string("     N/A");
  if (!options.per_iteration) return line;
  const IterationStats s = m.iterations.value_or(IterationStats{});
  return line + "  " + fixed_width(s.min * 1e6, 7) + "  " + fixed_width(s.max * 1e6, 7) + "  " +
         fixed_width(s.p99 * 1e6, 7) + "  " + fixed_width(s.variation_percent(), 7);
}

constexpr const char* kBlockingText[] = {
    "",
    "# Blocking Enabled: wait and barrier after each inner iteration (-m) \n",
    "# Blocking Enabled: wait after each inner iteration (-m), no barrier \n",
    "# Blocking Enabled: wait and barrier after each outer iteration (-n); time excludes barrier \n",
};

}  // namespace

std::string fixed_width(double value, int width) {
  for (int decimals = 2; decimals >= 0; --decimals) {
    const std::string attempt = text("%*.*f", width, decimals, value);
    if (attempt.size() <= static_cast<size_t>(width)) return attempt;
  }
  return text("%*.*e", width, width >= 7 ? 1 : 0, value);
}

std::string now_text() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char buffer[32];
  std::strftime(buffer, sizeof buffer, "%Y-%m-%d %H:%M:%S", &local);
  return buffer;
}

std::string header_text(const Collective& collective, const Options& o, int processes, int library_version,
                        const std::vector<RankInfo>& ranks) {
  const bool by_factor = o.ladder.factor > 1;
  std::string header = text("# tutti perf version %d.%d.%d tutti-headers=%d tutti-library=%d\n", TUTTI_MAJOR,
                            TUTTI_MINOR, TUTTI_PATCH, TUTTI_VERSION_CODE, library_version);
  if (!o.library_path.empty())
    header += text("# library: %s, NCCL's interface, version %d\n", o.library_path.c_str(), library_version);
  header += text("# Collective test starting: %s\n", collective.program);
  header += text(
      "# nThread %d nGpus %d minBytes %llu maxBytes %llu step: %llu(%s) warmup iters: %d iters: %d agg iters: %d "
      "validation: %d graph: %d unalign: %d\n",
      o.threads, o.ranks_per_thread, static_cast<unsigned long long>(o.ladder.first),
      static_cast<unsigned long long>(o.ladder.last),
      static_cast<unsigned long long>(by_factor ? o.ladder.factor : o.ladder.step), by_factor ? "factor" : "bytes",
      o.warmup, o.iterations, o.aggregated, o.checks, o.graphs, o.unalign);
  header += kBlockingText[static_cast<int>(o.blocking)];
  if (o.per_iteration) header += "# Per-Iteration Report: host clock; i_* uses max over ranks\n";
  if (o.parallel_init) header += "# Parallel Init Enabled: each thread initialises its own ranks\n";
  for (const std::string& note : o.notes) header += "# note: " + note + "\n";
  header += text("#\n# Using devices (%d processes)\n", processes);
  for (const RankInfo& r : ranks) {
    header += text("#  Rank %2d Group %2d Pid %6d on %10s device %2d [%s] %s\n", r.rank, 0, r.pid, r.host, r.device,
                   r.place, r.model);
  }
  return header;
}

std::string columns_text(const Options& o) {
  std::vector<const char*> names = {o.cpu_time ? "cputime" : "time", "algbw", "busbw", "#wrong"};
  std::vector<const char*> units = {"(us)", "(GB/s)", "(GB/s)", ""};
  if (o.per_iteration) {
    names.insert(names.end(), {"i_min", "i_max", "i_p99", "i_cv%"});
    units.insert(units.end(), {"(us)", "(us)", "(us)", "(%)"});
  }
  const char* sides = o.per_iteration ? "              out-of-place (+ per-iteration)                                "
                                        "in-place (+ per-iteration)\n"
                                      : "           out-of-place                       in-place          \n";
  return text("#\n# %10s  %12s  %8s  %6s  %6s%s", "", "", "", "", "", sides) +
         column_line({"size", "count", "type", "redop", "root"}, names, o.timestamps ? "timestamp" : "") +
         column_line({"(B)", "(elements)", "", "", ""}, units, o.timestamps ? "%Y-%m-%d %H:%M:%S" : "");
}

std::string row_text(const Options& options, const Row& row) {
  std::string line = text("%12llu  %12llu  %8s  %6s  %6d", static_cast<unsigned long long>(row.bytes),
                          static_cast<unsigned long long>(row.count), row.type->name, row.op.c_str(), row.root);
  line += side_text(options, row.out_of_place) + side_text(options, row.in_place);
  if (options.timestamps) line += text("%21s", row.time_of_day.c_str());
  return line + "\n";
}

std::string footer_text(const Collective& collective, const Options& options, const Totals& totals) {
  const char* verdict = options.min_bandwidth < 0 ? "" : totals.too_slow ? "FAILED" : "OK";
  return text("# %-20s : %llu %s\n", "Out of bounds values", static_cast<unsigned long long>(totals.wrong),
              totals.wrong != 0 ? "FAILED" : "OK") +
         text("# %-20s : %g %s\n", "Avg bus bandwidth", totals.busbw, verdict) +
         text("#\n# Collective test concluded: %s\n", collective.program);
}

}  // namespace tutti::perf
