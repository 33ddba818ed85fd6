// SPDX-License-Identifier: Apache-2.0
// Launch: the job as a launcher's environment describes it (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT, as
// torchrun sets them), and the way from there to JoinOptions.
//
// Rank 0 holds the rendezvous at MASTER_PORT. Launchers that keep a store of their own on that very port are common, so
// it takes the next free one of kLaunchPorts ports, and the others look at all of them. The secret is made of
// TUTTI_JOB_SECRET, or, if there is none, of the address and port, which any stranger knows as well: one warning.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "bootstrap/bootstrap.h"

namespace tutti {

inline constexpr int kLaunchPorts = 4;

struct Launch {
  int rank = 0;
  int ranks = 1;
  int local_rank = 0;
  std::string master_host;
  uint16_t master_port = 0;
  bool by_address = false;  // not by the environment, for messages

  // `lookup` is getenv, or a test's.
  static Result<Launch> parse(const std::function<std::optional<std::string>(const char* name)>& lookup);
  // Of an address "host:port" or "[IPv6]:port" that the ranks know without a launcher.
  static Result<Launch> at(std::string_view address, int ranks, int rank);
};

// `secret`: what all ranks know, e.g. of launch_secret(). On rank 0 this starts the rendezvous in the background.
Result<JoinOptions> rendezvous_at(const Launch& launch, const Secret& secret);
// Of the text if there is one, else (with a warning) of what is public about the job.
Secret launch_secret(const Launch& launch, const std::string& job_secret);

}  // namespace tutti
