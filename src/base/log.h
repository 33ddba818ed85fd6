// SPDX-License-Identifier: Apache-2.0
// Log: one line per event, to standard error or TUTTI_DEBUG_FILE, filtered by TUTTI_DEBUG and TUTTI_DEBUG_SUBSYS.
//
// Off by default but for warnings. Arguments are formatted only when the line is wanted. Never on the hot path.
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <string>
#include <utility>

namespace tutti {

enum class LogLevel : uint8_t { None, Warn, Info, Trace };
enum class Subsystem : uint8_t { Init, Net, Bootstrap, Transport, Plan, Exec, Topology, Health, Api };

bool log_wanted(LogLevel level, Subsystem subsystem);
// One write(2) of "host:pid:tid [rank?] LEVEL subsystem text\n".
void log_line(LogLevel level, Subsystem subsystem, const std::string& text);

template <class... Args>
void log_warn(Subsystem subsystem, fmt::format_string<Args...> text, Args&&... args) {
  if (log_wanted(LogLevel::Warn, subsystem))
    log_line(LogLevel::Warn, subsystem, fmt::format(text, std::forward<Args>(args)...));
}
template <class... Args>
void log_info(Subsystem subsystem, fmt::format_string<Args...> text, Args&&... args) {
  if (log_wanted(LogLevel::Info, subsystem))
    log_line(LogLevel::Info, subsystem, fmt::format(text, std::forward<Args>(args)...));
}

}  // namespace tutti
