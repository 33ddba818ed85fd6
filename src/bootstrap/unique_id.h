// SPDX-License-Identifier: Apache-2.0
// UniqueId: what tuttiGetUniqueId hands to the ranks: where the rendezvous listens and the secret of the communicator.
//
// 128 bytes, opaque to the user, carried by means of theirs (MPI, a file, a socket):
//
//   offset  0       4         5                6      8        40           112     128
//           | magic | version | address count  | port | secret | addresses  | check |
//
// An address is a byte 4 or 6 and 4 or 16 bytes; all have the same port. The check is a hash over everything before
// it: a truncated, corrupted or foreign id is told apart before anyone dials. Whoever sees the id can join: keep it as
// private as the job.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "base/status.h"
#include "net/address.h"
#include "net/crypto.h"

namespace tutti {

inline constexpr size_t kUniqueIdBytes = 128;

struct UniqueId {
  Secret secret;
  std::vector<SocketAddress> addresses;  // all with the same port, best first
};

// Addresses that do not fit are left out from the end of the list on, as far as needed.
std::array<char, kUniqueIdBytes> encode_unique_id(const UniqueId& id);
Result<UniqueId> decode_unique_id(std::span<const char, kUniqueIdBytes> bytes);

}  // namespace tutti
