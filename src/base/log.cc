// SPDX-License-Identifier: Apache-2.0
// The log's writer: where lines go and which are wanted is read from the environment table once, then never changes.
//
// A line is one write(2), so lines of many processes on one terminal or file do not mix. Small on purpose: a logging
// library would bring static destructors and threads of its own into a library that promises neither.
#include "base/log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/env.h"

namespace tutti {
namespace {

struct SubsystemName {
  Subsystem subsystem;
  const char* name;
};
constexpr SubsystemName kSubsystems[] = {
    {Subsystem::Init, "init"},           {Subsystem::Net, "net"},       {Subsystem::Bootstrap, "bootstrap"},
    {Subsystem::Transport, "transport"}, {Subsystem::Plan, "plan"},     {Subsystem::Exec, "exec"},
    {Subsystem::Topology, "topology"},   {Subsystem::Health, "health"}, {Subsystem::Api, "api"},
};

const char* name_of(Subsystem subsystem) {
  for (const auto& row : kSubsystems)
    if (row.subsystem == subsystem) return row.name;
  return "?";
}

const char* name_of(LogLevel level) {
  switch (level) {
    case LogLevel::None:
      return "NONE";
    case LogLevel::Warn:
      return "WARN";
    case LogLevel::Info:
      return "INFO";
    case LogLevel::Trace:
      return "TRACE";
  }
  return "?";
}

// Trivially destructible: threads may log while the process leaves main.
struct Sink {
  LogLevel level = LogLevel::None;
  uint32_t subsystems = 0;  // bit per Subsystem
  int fd = STDERR_FILENO;
  char host[64] = "?";
};

std::string expand_path(const std::string& pattern, const char* host) {
  std::string path;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%' || i + 1 == pattern.size()) {
      path += pattern[i];
      continue;
    }
    const char what = pattern[++i];
    if (what == 'h') {
      path += host;
    } else if (what == 'p') {
      path += std::to_string(::getpid());
    } else if (what == '%') {
      path += '%';
    } else {
      path.append({'%', what});
    }
  }
  return path;
}

void write_line(const Sink& sink, LogLevel level, Subsystem subsystem, const std::string& text) {
  const int saved_errno = errno;  // a log line must not change what its caller is about to report
  std::string line =
      fmt::format("{}:{}:{} {} {} ", sink.host, ::getpid(), ::gettid(), name_of(level), name_of(subsystem));
  // A text may quote what a stranger sent or a user wrote: control characters would forge lines.
  for (const char c : text) line += static_cast<unsigned char>(c) < ' ' || c == '\x7f' ? ' ' : c;
  line += '\n';
  while (::write(sink.fd, line.data(), line.size()) < 0 && errno == EINTR) {
  }
  errno = saved_errno;
}

Sink open_sink() {
  Sink sink;
  const Env& env = tutti::env();
  sink.level = env.debug;
  for (const auto& row : kSubsystems)
    if (filter_admits(env.debug_subsystems, row.name)) sink.subsystems |= 1u << static_cast<int>(row.subsystem);
  ::gethostname(sink.host, sizeof sink.host - 1);
  for (char& c : sink.host)
    if (c == '.') c = '\0';  // the short name is enough to tell hosts of a job apart
  if (env.debug_file.empty() || sink.level == LogLevel::None) return sink;
  const std::string path = expand_path(env.debug_file, sink.host);
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd >= 0) {
    sink.fd = fd;  // lives as long as the process: the library is never unloaded
  } else {
    const Status why = errno_status("open", path);
    write_line(sink, LogLevel::Warn, Subsystem::Init,
               fmt::format("TUTTI_DEBUG_FILE: {}; logging to standard error", why.message()));
  }
  return sink;
}

const Sink& sink() {
  static const Sink instance = open_sink();
  return instance;
}

}  // namespace

bool log_wanted(LogLevel level, Subsystem subsystem) {
  const Sink& s = sink();
  return level <= s.level && level != LogLevel::None && (s.subsystems >> static_cast<int>(subsystem) & 1) != 0;
}

void log_line(LogLevel level, Subsystem subsystem, const std::string& text) {
  write_line(sink(), level, subsystem, text);
}

}  // namespace tutti
