// SPDX-License-Identifier: Apache-2.0
// The documents: dumps and status (observed.h). docs/observability.md describes their fields.
#include "observe/observed.h"

#include <fcntl.h>
#include <unistd.h>

#include <map>
#include <vector>

#include "base/env.h"
#include "base/handle.h"
#include "base/log.h"
#include "base/ticks.h"
#include "base/whole_file.h"
#include "observe/json.h"
#include "observe/process_list.h"

namespace tutti {
namespace {

std::string_view at(std::span<const std::string_view> names, uint8_t code) {
  return code < names.size() ? names[code] : std::string_view("?");
}
bool has(uint64_t set, uint8_t code) { return code < 64 && (set >> code & 1) != 0; }

std::string operation_of(const CallRecord& record, const CallNames& names) {
  if ((record.flags & CallRecord::kBarrier) != 0) return "barrier";
  if (record.operation == names.send_receive) return (record.flags & CallRecord::kSend) != 0 ? "send" : "recv";
  const std::string_view vector = (record.flags & CallRecord::kVector) != 0 ? "_v" : "";
  return fmt::format("{}{}", at(names.operations, record.operation), vector);
}

void write_call(JsonWriter& json, const CallRecord& record, const CallNames& names) {
  const bool barrier = (record.flags & CallRecord::kBarrier) != 0;
  json.open('{').field("index", record.index).field("number", record.number);
  json.field("operation", operation_of(record, names)).field("count", barrier ? 0 : record.count);
  json.field("type", at(names.types, record.type));
  const uint64_t size = record.type < names.type_bytes.size() ? names.type_bytes[record.type] : 0;
  json.field("bytes", barrier ? 0 : record.count * size);
  if (has(names.reduces, record.operation) && !barrier) json.field("operator", at(names.operators, record.op));
  if (record.operation == names.send_receive) {
    json.field("peer", record.root);
  } else if (has(names.rooted, record.operation)) {
    json.field("root", record.root);
  }
  json.field("algorithm", at(names.algorithms, record.algorithm));
  json.field("protocol", at(names.protocols, record.protocol)).field("channels", record.channels);
  json.field("queued", record.queued).field("started", record.started).field("ended", record.ended).close('}');
}

void write_identity(JsonWriter& json, const Observed& one) {
  const Observed::Identity& who = one.identity();
  json.field("name", who.name).field("id", who.id).field("rank", who.rank).field("ranks", who.ranks);
  if (const std::string why = one.failure(); !why.empty()) json.field("failure", why);
}

void write_arrivals(JsonWriter& json, const Arrivals& arrivals, const TickClock& clock) {
  json.key("waited_for").open('[');
  for (int rank = 0; rank < arrivals.ranks(); ++rank) {
    const Arrivals::Late late = arrivals.of(rank);
    if (late.calls == 0) continue;
    json.open('{').field("rank", rank).field("calls", late.calls);
    json.field("seconds", static_cast<double>(late.ticks) / clock.ticks_per_second);
    json.field("longest", static_cast<double>(late.longest) / clock.ticks_per_second).close('}');
  }
  json.close(']');
}

std::string host_name() {
  char name[256] = "?";
  (void)::gethostname(name, sizeof name - 1);
  return name;
}

// Whose counter it is: ticks of processes that ran under one boot of one kernel can be compared.
std::string boot_id() {
  std::string text;
  const UniqueFd file(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  char buffer[64];
  const ssize_t got = file ? ::read(file.get(), buffer, sizeof buffer) : 0;
  for (ssize_t i = 0; i < got && buffer[i] > ' '; ++i) text += buffer[i];
  return text.empty() ? host_name() : text;
}

void write_process(JsonWriter& json, const TickClock& clock) {
  json.field("host", host_name()).field("process", ::getpid());
  json.key("clock").open('{').field("boot", boot_id()).field("ticks_per_second", clock.ticks_per_second);
  json.field("ticks", clock.now_ticks).field("unix_ns", clock.now_unix_ns).close('}');
}

constexpr std::string_view kReasons[] = {"failure", "signal", "request"};

std::string dump_document(std::span<const Observed* const> all, DumpReason reason) {
  const TickClock clock = read_tick_clock();
  JsonWriter json;
  json.open('{').field("format", "tutti dump").field("version", 1);
  json.field("reason", kReasons[static_cast<size_t>(reason)]);
  write_process(json, clock);
  json.key("communicators").open('[');
  for (const Observed* one : all) {
    json.line().open('{');
    write_identity(json, *one);
    write_arrivals(json, one->arrivals, clock);
    json.key("calls").open('[');
    for (const CallRecord& record : one->recorder.read_all()) {
      json.line();
      write_call(json, record, *one->identity().names);
    }
    json.close(']').close('}');
  }
  json.line().close(']').close('}').line();
  return json.take();
}

// Names come from users and become part of a path.
std::string as_file_name(std::string_view name) {
  std::string safe(name);
  for (char& c : safe) {
    const bool plain =
        (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '.';
    if (!plain) c = '_';
  }
  return safe;
}

std::string path_for(const Observed& one, std::string_view pattern) {
  std::string path;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%' || i + 1 == pattern.size()) {
      path += pattern[i];
      continue;
    }
    switch (const char what = pattern[++i]) {
      case 'h':
        path += as_file_name(host_name());
        break;
      case 'p':
        path += fmt::format("{}", ::getpid());
        break;
      case 'r':
        path += fmt::format("{}", one.identity().rank);
        break;
      case 'c':
        path += as_file_name(one.identity().name);
        break;
      case '%':
        path += '%';
        break;
      default:
        path.append({'%', what});
    }
  }
  return path;
}

}  // namespace

void Observed::set_failure(const std::string& why) {
  const std::lock_guard lock(mutex_);
  if (failure_.empty()) failure_ = why;
}

std::string Observed::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

Result<std::string> write_dump(const Observed& one, DumpReason reason, std::string_view pattern) {
  std::string path = path_for(one, pattern);
  const Observed* const only[] = {&one};
  TUTTI_TRY(write_whole_file(path, dump_document(only, reason), "the dump file"));
  return path;
}

void write_all_dumps(DumpReason reason, std::string_view pattern) {
  with_observed([&](std::span<const Observed* const> all) {
    std::map<std::string, std::vector<const Observed*>> by_path;
    for (const Observed* one : all) by_path[path_for(*one, pattern)].push_back(one);
    for (const auto& [path, together] : by_path) {
      const Status written = write_whole_file(path, dump_document(together, reason), "the dump file");
      if (!written.ok()) log_warn(Subsystem::Health, "{}", written.message());
      if (written.ok()) log_info(Subsystem::Health, "wrote the last calls of this process to {}", path);
    }
  });
}

void dump_after_failure() {
  if (!env().dump_file.empty()) write_all_dumps(DumpReason::Failure, env().dump_file);
}

std::string status_document() {
  const TickClock clock = read_tick_clock();
  JsonWriter json;
  json.open('{').field("format", "tutti status").field("version", 1);
  write_process(json, clock);
  json.key("communicators").open('[');
  with_observed([&](std::span<const Observed* const> all) {
    for (const Observed* one : all) {
      json.open('{');
      write_identity(json, *one);
      const uint64_t begun = one->recorder.begun();
      json.field("calls", begun);
      // Of calls that run side by side the oldest that has not ended is what holds the communicator up.
      CallRecord record, shown;
      bool found = false;
      for (uint64_t index = begun; index-- > 0 && begun - index <= Recorder::kRecords;) {
        if (!one->recorder.read(index, record)) break;
        if (record.ended != 0 && found) break;
        shown = record;
        found = true;
        if (record.ended != 0) break;
      }
      const bool running = found && shown.ended == 0;
      const int peer = running ? one->arrivals.waiting_rank() : -1;
      json.field("state", !one->failure().empty() ? "failed" : !running ? "idle" : peer >= 0 ? "waiting" : "running");
      if (found) {
        json.key("call");
        write_call(json, shown, *one->identity().names);
        json.field("since_seconds", clock.seconds(running ? shown.started : shown.ended, clock.now_ticks));
      }
      if (peer >= 0) {
        json.key("waits_for").open('{').field("rank", peer).field("others", one->arrivals.waiting_more()).close('}');
      }
      write_arrivals(json, one->arrivals, clock);
      json.close('}');
    }
  });
  json.close(']').close('}').line();
  return json.take();
}

}  // namespace tutti
