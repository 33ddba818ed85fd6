// SPDX-License-Identifier: Apache-2.0
// Who shares memory with me: the identity of the host and of the process.
//
// Two ranks are on one host if their processes run under one kernel and in one network namespace (shared memory is
// handed over by an abstract Unix socket, which lives in the namespace). TUTTI_HOST_ID overrides it: ranks with equal
// text share memory; give ranks different texts to keep them from it.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/status.h"
#include "net/crypto.h"
#include "net/wire.h"

namespace tutti {

using HostId = Hash16;
using ProcessToken = std::array<uint8_t, 16>;  // random; not a process id, which another namespace may use as well

// What every rank knows of every rank.
struct Member {
  static constexpr size_t kMaxHostname = 255;

  int32_t rank = -1;
  HostId host{};
  ProcessToken process{};
  int32_t pid = 0;       // for messages
  std::string hostname;  // for messages

  bool same_host(const Member& other) const { return host == other.host; }
  bool same_process(const Member& other) const { return process == other.process; }
  std::string text() const;  // "rank 3 (node7, process 4242)"

  void encode(ByteWriter& writer) const;
  static Member decode(ByteReader& reader);
};

// Pure: the identity from its parts.
HostId host_id_of(const std::string& boot_id, uint64_t network_namespace);
HostId host_id_of_text(const std::string& text);

// This process as `rank`. Reads the environment table.
Result<Member> this_member(int rank);

}  // namespace tutti
