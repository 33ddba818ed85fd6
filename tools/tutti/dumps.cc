// SPDX-License-Identifier: Apache-2.0
// See dumps.h.
#include "tools/tutti/dumps.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

namespace tutti::tool {
namespace {

using nlohmann::json;

constexpr size_t kMostCalls = 1 << 20;  // of a rank in a file: far beyond what a recorder holds
constexpr int kMostRanks = 1 << 20;

// Fields of one JSON object. A field that is missing or of another kind makes the whole reading fail, once.
class Fields {
 public:
  Fields(const json& object, std::string& problem) : object_(object), problem_(problem) {}
  template <class T>
  T number(const char* name, T least, T most) {
    const auto found = find(name);
    if (found == nullptr) return T{};
    if constexpr (std::is_floating_point_v<T>) {
      if (found->is_number()) {
        const double value = found->get<double>();
        if (std::isfinite(value) && value >= least && value <= most) return value;
      }
    } else {
      // Compared in the widest type of its sign: a cast first would wrap.
      if (found->is_number_unsigned()) {
        const auto value = found->get<uint64_t>();
        if (std::cmp_greater_equal(value, least) && std::cmp_less_equal(value, most)) return static_cast<T>(value);
      } else if (found->is_number_integer()) {
        const auto value = found->get<int64_t>();
        if (std::cmp_greater_equal(value, least) && std::cmp_less_equal(value, most)) return static_cast<T>(value);
      }
    }
    fail(name, "is not a number of the right size");
    return T{};
  }
  std::string text(const char* name, bool required = true) {
    if (!required && !has(name)) return {};
    const auto found = find(name);
    if (found == nullptr) return {};
    if (found->is_string()) return found->get<std::string>();
    fail(name, "is not a text");
    return {};
  }
  const json& list(const char* name) {
    static const json none = json::array();
    const auto found = find(name);
    if (found != nullptr && found->is_array()) return *found;
    if (found != nullptr) fail(name, "is not a list");
    return none;
  }
  const json& object(const char* name) {
    static const json none = json::object();
    const auto found = find(name);
    if (found != nullptr && found->is_object()) return *found;
    if (found != nullptr) fail(name, "is not an object");
    return none;
  }
  bool has(const char* name) const { return object_.is_object() && object_.contains(name); }

 private:
  const json* find(const char* name) {
    if (has(name)) return &object_.at(name);
    fail(name, "is missing");
    return nullptr;
  }
  void fail(const char* name, const char* what) {
    if (problem_.empty()) problem_ = std::string("'") + name + "' " + what;
  }
  const json& object_;
  std::string& problem_;
};

DumpedCall parse_call(const json& object, std::string& problem) {
  constexpr uint64_t kAny = std::numeric_limits<uint64_t>::max();
  Fields fields(object, problem);
  DumpedCall call;
  call.index = fields.number<uint64_t>("index", 0, kAny);
  call.number = fields.number<uint64_t>("number", 0, kAny);
  call.count = fields.number<uint64_t>("count", 0, kAny);
  call.bytes = fields.number<uint64_t>("bytes", 0, kAny);
  call.queued = fields.number<uint64_t>("queued", 0, kAny);
  call.started = fields.number<uint64_t>("started", 0, kAny);
  call.ended = fields.number<uint64_t>("ended", 0, kAny);
  call.operation = fields.text("operation");
  call.type = fields.text("type");
  call.op = fields.text("operator", false);
  call.algorithm = fields.text("algorithm");
  call.protocol = fields.text("protocol");
  call.channels = fields.number<int>("channels", 0, 1 << 16);
  for (const char* name : {"root", "peer"}) {
    if (fields.has(name)) call.root = fields.number<int>(name, 0, kMostRanks);
  }
  if (problem.empty() && call.ended != 0 && call.ended < call.started) problem = "a call ends before it starts";
  return call;
}

// The collectives of which nobody leaves before everybody has entered, with data from all to all.
const std::set<std::string, std::less<>>& meetings() {
  static const std::set<std::string, std::less<>> all{"all_reduce", "barrier",        "all_gather",      "all_gather_v",
                                                      "all_to_all", "reduce_scatter", "reduce_scatter_v"};
  return all;
}

}  // namespace

// Without bytes there is nothing that anybody would have to wait for, except in a barrier.
bool DumpedCall::meets() const { return meetings().contains(operation) && (bytes > 0 || operation == "barrier"); }

Result<std::vector<DumpedRank>> parse_dump(std::string_view text, const std::string& file) {
  const json document = json::parse(text, nullptr, false);
  if (document.is_discarded()) return invalid_argument("{} is not JSON: was it cut short?", file);
  std::string problem;
  Fields top(document, problem);
  const std::string format = top.text("format");
  if (format != "tutti dump") return invalid_argument("{} is not a dump of Tutti", file);
  const int version = top.number<int>("version", 0, std::numeric_limits<int>::max());
  if (problem.empty() && version != 1)
    return invalid_argument("{} has version {} of the dump format, this tool reads version 1", file, version);
  DumpedRank common;
  common.file = file;
  common.host = top.text("host");
  common.process = top.number<int>("process", 0, std::numeric_limits<int>::max());
  Fields clock(top.object("clock"), problem);
  common.boot = clock.text("boot");
  common.ticks_per_second = clock.number<double>("ticks_per_second", 1.0, 1e12);
  common.now_ticks = clock.number<uint64_t>("ticks", 0, std::numeric_limits<uint64_t>::max());
  common.now_unix_ns = clock.number<int64_t>("unix_ns", 0, std::numeric_limits<int64_t>::max());
  std::vector<DumpedRank> ranks;
  for (const json& one : top.list("communicators")) {
    if (!problem.empty()) break;
    Fields fields(one, problem);
    DumpedRank rank = common;
    rank.communicator = fields.text("name");
    rank.id = fields.text("id");
    rank.failure = fields.text("failure", false);
    rank.ranks = fields.number<int>("ranks", 1, kMostRanks);
    rank.rank = fields.number<int>("rank", 0, kMostRanks);
    if (problem.empty() && rank.rank >= rank.ranks) problem = "'rank' is not below 'ranks'";
    const json& calls = fields.list("calls");
    if (calls.size() > kMostCalls) problem = "'calls' is too long";
    for (const json& call : calls) {
      if (!problem.empty()) break;
      rank.calls.push_back(parse_call(call, problem));
    }
    ranks.push_back(std::move(rank));
  }
  if (!problem.empty()) return invalid_argument("{} does not hold a whole dump: {}", file, problem);
  return ranks;
}

Timeline::Timeline(std::vector<DumpedRank> ranks) : ranks_(std::move(ranks)) {
  // One rate per counter: of the process that has measured longest, which is the one that says least else; the median
  // is as good and needs no such knowledge.
  std::map<std::string, std::vector<double>> rates;
  for (const DumpedRank& rank : ranks_) {
    rates[rank.boot].push_back(rank.ticks_per_second);
    std::vector<std::string>& hosts = clocks_[rank.boot].hosts;
    if (std::find(hosts.begin(), hosts.end(), rank.host) == hosts.end()) hosts.push_back(rank.host);
  }
  for (auto& [boot, all] : rates) {
    std::nth_element(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2), all.end());
    clocks_[boot].ticks_per_second = all[all.size() / 2];
  }
  if (ranks_.empty()) return;

  for (const DumpedRank& rank : ranks_) {
    HostClock& clock = clocks_[rank.boot];
    if (clock.base_ticks == 0) clock.base_ticks = rank.now_ticks;
    for (const DumpedCall& call : rank.calls)
      clock.base_ticks = std::min({clock.base_ticks, call.queued, call.started});
  }
  align(ranks_.front());
  double earliest = std::numeric_limits<double>::infinity();
  for (const DumpedRank& rank : ranks_) {
    for (const DumpedCall& call : rank.calls)
      earliest = std::min(earliest, seconds(rank, std::min(call.queued, call.started)));
  }
  if (std::isfinite(earliest)) origin_ = earliest;
}

void Timeline::align(const DumpedRank& reference) {
  // By the wall clocks, as a beginning. Differences first: a double holds no nanosecond of today's date.
  const auto wall_ns = [&](const DumpedRank& rank) {  // when the host's base tick was
    return rank.now_unix_ns - static_cast<int64_t>(clocks_[rank.boot].local_seconds(rank.now_ticks) * 1e9);
  };
  for (const DumpedRank& rank : ranks_) {
    HostClock& clock = clocks_[rank.boot];
    if (!clock.how.empty()) continue;
    clock.offset_seconds = static_cast<double>(wall_ns(rank) - wall_ns(reference)) * 1e-9;
    clock.how = "wall clocks";
  }

  // Calls in which ranks of several hosts met: when the last of a host entered and the first of it left.
  struct Passage {
    double last_entry = -std::numeric_limits<double>::infinity();
    double first_exit = std::numeric_limits<double>::infinity();
  };
  std::map<std::pair<std::string, uint64_t>, std::map<std::string, Passage>> meetings;
  for (const DumpedRank& rank : ranks_) {
    const HostClock& clock = clocks_[rank.boot];
    for (const DumpedCall& call : rank.calls) {
      if (!call.meets()) continue;
      Passage& passage = meetings[{rank.id, call.number}][rank.boot];
      passage.last_entry = std::max(passage.last_entry, clock.local_seconds(call.started));
      if (call.ended != 0) passage.first_exit = std::min(passage.first_exit, clock.local_seconds(call.ended));
    }
  }
  // From host to host, beginning with the first: each is aligned to one that is aligned already.
  std::set<std::string> aligned{reference.boot};
  clocks_[reference.boot].how = "the reference";
  for (bool found = true; found;) {
    found = false;
    for (auto& [boot, clock] : clocks_) {
      if (aligned.contains(boot)) continue;
      for (const std::string& known : aligned) {
        double least = -std::numeric_limits<double>::infinity(), most = std::numeric_limits<double>::infinity();
        std::vector<double> middles;
        for (const auto& [call, passages] : meetings) {
          const auto here = passages.find(boot), there = passages.find(known);
          if (here == passages.end() || there == passages.end()) continue;
          // Nobody here leaves before the last there has entered, and the other way round.
          const double low = there->second.last_entry - here->second.first_exit;
          const double high = there->second.first_exit - here->second.last_entry;
          if (!std::isfinite(low) || !std::isfinite(high)) continue;
          least = std::max(least, low);
          most = std::min(most, high);
          middles.push_back((low + high) / 2);
        }
        if (middles.empty()) continue;
        const double base = clocks_[known].offset_seconds;
        if (least <= most) {
          clock.offset_seconds = base + (least + most) / 2;
          clock.uncertainty_seconds = clocks_[known].uncertainty_seconds + (most - least) / 2;
          clock.how = fmt::format("{} calls in common", middles.size());
        } else {  // the rates drift apart within the record: the median call is the best there is
          const auto middle = middles.begin() + static_cast<std::ptrdiff_t>(middles.size() / 2);
          std::nth_element(middles.begin(), middle, middles.end());
          clock.offset_seconds = base + *middle;
          clock.uncertainty_seconds = clocks_[known].uncertainty_seconds + (least - most) / 2;
          clock.how = fmt::format("the median of {} calls in common, whose rates differ", middles.size());
        }
        aligned.insert(boot);
        found = true;
        break;
      }
    }
  }
}

double Timeline::seconds(const DumpedRank& rank, uint64_t ticks) const {
  const HostClock& clock = clocks_.at(rank.boot);
  return clock.local_seconds(ticks) + clock.offset_seconds - origin_;
}

std::vector<CommunicatorReport> find_stragglers(const Timeline& timeline, double threshold_seconds) {
  std::map<std::string, std::vector<const DumpedRank*>> communicators;
  for (const DumpedRank& rank : timeline.ranks()) communicators[rank.id].push_back(&rank);
  std::vector<CommunicatorReport> reports;
  for (auto& [id, members] : communicators) {
    CommunicatorReport report;
    report.id = id;
    report.communicator = members.front()->communicator;
    report.ranks = members.front()->ranks;
    std::set<int> here;
    std::map<uint64_t, std::map<int, double>> entries;  // of each collective: when which rank entered
    for (const DumpedRank* member : members) {
      here.insert(member->rank);
      for (const DumpedCall& call : member->calls) {
        if (!call.message()) entries[call.number][member->rank] = timeline.seconds(*member, call.started);
        if (call.ended != 0) continue;
        report.unfinished.push_back(fmt::format(
            "rank {}: {} number {} of {} bytes, for {:.6f} s when dumped", member->rank, call.operation, call.number,
            call.bytes, timeline.seconds(*member, member->now_ticks) - timeline.seconds(*member, call.started)));
      }
    }
    std::map<int, Punctuality> by_rank;
    for (const int rank : here) by_rank[rank].rank = rank;
    for (const auto& [number, entered] : entries) {
      if (static_cast<int>(entered.size()) != report.ranks || entered.size() < 2) continue;
      ++report.compared;
      std::vector<std::pair<double, int>> order;
      for (const auto& [rank, when] : entered) {
        order.emplace_back(when, rank);
        ++by_rank[rank].calls;
      }
      std::sort(order.begin(), order.end());
      const auto& [last, who] = order.back();
      const double behind = last - order[order.size() - 2].first;
      if (behind <= threshold_seconds) continue;
      Punctuality& punctuality = by_rank[who];
      ++punctuality.late;
      punctuality.total += behind;
      punctuality.longest = std::max(punctuality.longest, behind);
    }
    // A file may claim any number of ranks: name those that are missing only where they can be told.
    for (int rank = 0; rank < report.ranks && report.missing.size() < 64; ++rank) {
      if (!here.contains(rank)) report.missing.push_back(rank);
    }
    for (const auto& [rank, punctuality] : by_rank) report.by_rank.push_back(punctuality);
    std::stable_sort(report.by_rank.begin(), report.by_rank.end(),
                     [](const Punctuality& a, const Punctuality& b) { return a.total > b.total; });
    reports.push_back(std::move(report));
  }
  return reports;
}

std::string chrome_trace(const Timeline& timeline) {
  constexpr double kMicros = 1e6;
  // A process of a host may have the number of another host's: rows of the picture are numbered here.
  std::map<std::tuple<std::string, std::string, int>, int> processes;
  std::map<std::pair<int, std::string>, int> tracks;
  json events = json::array();
  for (const DumpedRank& rank : timeline.ranks()) {
    const auto [process, new_process] =
        processes.emplace(std::tuple(rank.boot, rank.host, rank.process), static_cast<int>(processes.size()) + 1);
    const int pid = process->second;
    if (new_process) {
      events.push_back({{"ph", "M"},
                        {"name", "process_name"},
                        {"pid", pid},
                        {"tid", 0},
                        {"args", {{"name", fmt::format("{} process {}", rank.host, rank.process)}}}});
    }
    const auto [track, new_track] =
        tracks.emplace(std::pair(pid, fmt::format("{}/{}", rank.id, rank.rank)), static_cast<int>(tracks.size()) + 1);
    const int tid = track->second;
    if (new_track) {
      events.push_back({{"ph", "M"},
                        {"name", "thread_name"},
                        {"pid", pid},
                        {"tid", tid},
                        {"args", {{"name", fmt::format("{} rank {}", rank.communicator, rank.rank)}}}});
    }
    for (const DumpedCall& call : rank.calls) {
      const double start = timeline.seconds(rank, call.started);
      const double end = timeline.seconds(rank, call.ended != 0 ? call.ended : std::max(rank.now_ticks, call.started));
      json arguments = {
          {"number", call.number},       {"count", call.count},
          {"type", call.type},           {"bytes", call.bytes},
          {"algorithm", call.algorithm}, {"protocol", call.protocol},
          {"channels", call.channels},   {"queued_us", (start - timeline.seconds(rank, call.queued)) * kMicros}};
      if (!call.op.empty()) arguments["operator"] = call.op;
      if (call.root >= 0) arguments[call.message() ? "peer" : "root"] = call.root;
      if (call.ended == 0) arguments["state"] = "had not ended";
      events.push_back({{"ph", "X"},
                        {"name", call.operation},
                        {"cat", call.message() ? "message" : "collective"},
                        {"pid", pid},
                        {"tid", tid},
                        {"ts", start * kMicros},
                        {"dur", (end - start) * kMicros},
                        {"args", std::move(arguments)}});
    }
  }
  const json document = {{"displayTimeUnit", "ns"}, {"traceEvents", std::move(events)}};
  return document.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace tutti::tool
