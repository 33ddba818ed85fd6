// SPDX-License-Identifier: Apache-2.0
// The service: one thread per process that answers `tutti status` and writes dumps on a signal. It sleeps until one of
// the two comes, blocks all signals, and lives as long as the process has a communicator.
//
//   address   abstract Unix socket "tutti-status-USER-PROCESS-RANDOM" (ids decimal): nothing in any file system, found
//             in /proc/net/unix of the same network namespace
//   request   kStatusRequest, at most kMostRequestBytes, by a process of the same user (SO_PEERCRED); others are
//   dropped answer    a JSON document and the end of the stream
//
// A caller has kPatienceMs for all of it, and at most kMostCallers are served at a time: a slow or silent one costs a
// descriptor for that long and the job nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace tutti {

inline constexpr std::string_view kStatusSocketPrefix = "tutti-status-";
inline constexpr std::string_view kStatusRequest = "status 1\n";
inline constexpr size_t kMostRequestBytes = 64;
inline constexpr int64_t kPatienceMs = 2000;
inline constexpr size_t kMostCallers = 8;

enum class StatusRequest : uint8_t { Incomplete, Status, Malformed };
// Of the bytes that have come so far.
StatusRequest parse_status_request(std::string_view bytes);

// Starts the thread, and the handler of TUTTI_DUMP_SIGNAL when that is set. A failure is a warning: the job goes on.
void start_service();
void stop_service();

// "USR2", "SIGUSR2" or a number, as TUTTI_DUMP_SIGNAL has it. 0: empty, no signal.
Result<int> parse_signal(std::string_view text);

}  // namespace tutti
