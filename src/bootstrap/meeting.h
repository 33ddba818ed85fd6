// SPDX-License-Identifier: Apache-2.0
// Meeting: where a job's ranks meet and what only they know, as rank 0 tells it to the others through the launcher's
// own store (pmix.h, pmi.h). Text of the digits and letters a to f, so that every store carries it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "net/address.h"
#include "net/crypto.h"

namespace tutti {

struct Meeting {
  std::vector<SocketAddress> addresses;  // of rank 0, best first, all with the same port
  Secret secret;

  // Of this process: its addresses (interfaces.h), a port that is free now, a fresh secret.
  static Result<Meeting> here();
  std::string text() const;
  static Result<Meeting> parse(std::string_view text);
};

// In the place of a meeting's text where rank 0 has failed, so that nobody waits for it.
inline constexpr const char* kNoMeeting = "0";

// What a launcher says of this process.
struct LaunchPlace {
  int rank = 0, ranks = 1, local_rank = 0;
};

}  // namespace tutti
