// SPDX-License-Identifier: Apache-2.0
// Launch: the job as a launcher describes it, and the way from there to JoinOptions. The innermost launcher counts, so
// these are looked at in turn:
//
//   variables                            set by                               where the ranks meet, and the secret
//   RANK WORLD_SIZE MASTER_ADDR, _PORT   torchrun, `tutti run`, Kubernetes    there, TUTTI_JOB_SECRET
//   PMIX_NAMESPACE PMIX_RANK             Open MPI's mpirun, srun --mpi=pmix   told by rank 0 through PMIx
//   PMI_FD PMI_RANK PMI_SIZE             MPICH's mpirun, srun --mpi=pmi2      told by rank 0 through PMI-1
//   SLURM_STEP_ID SLURM_PROCID ...       srun                                 the step's first host, TUTTI_JOB_SECRET
//
// Rank 0 holds the rendezvous at the port. Launchers that keep a store of their own on that very port are common, so it
// takes the next free one of kLaunchPorts ports, and the others look at all of them. Where no store carries a secret
// and there is no TUTTI_JOB_SECRET, it is made of address and port, which any stranger knows as well: one warning.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "bootstrap/bootstrap.h"
#include "bootstrap/meeting.h"

namespace tutti {

inline constexpr int kLaunchPorts = 4;

struct Launch {
  int rank = 0;
  int ranks = 1;
  int local_rank = 0;
  std::string master_host;
  uint16_t master_port = 0;
  bool by_address = false;              // not by MASTER_ADDR, for messages
  std::optional<Meeting> meeting = {};  // told by rank 0: instead of the host, port and TUTTI_JOB_SECRET

  using Lookup = std::function<std::optional<std::string>(const char* name)>;
  // `lookup` is getenv, or a test's. RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT.
  static Result<Launch> parse(const Lookup& lookup);
  // srun's variables.
  static Result<Launch> of_slurm(const Lookup& lookup);
  // Whichever launcher there is. Through a store it is collective over the launcher's processes, blocks until all have
  // called, and happens once: later calls of this process get the same answer.
  static Result<Launch> find(const Lookup& lookup);
  // Of an address "host:port" or "[IPv6]:port" that the ranks know without a launcher.
  static Result<Launch> at(std::string_view address, int ranks, int rank);
};

// The first name of Slurm's "node[07-12,15],login": "node07".
std::string first_of_host_list(std::string_view list);

// `secret`: what all ranks know, e.g. of launch_secret(). On rank 0 this starts the rendezvous in the background.
Result<JoinOptions> rendezvous_at(const Launch& launch, const Secret& secret);
// Of the text if there is one, else (with a warning) of what is public about the job.
Secret launch_secret(const Launch& launch, const std::string& job_secret);

}  // namespace tutti
