// SPDX-License-Identifier: Apache-2.0
// PMI-1: the line protocol in which launchers such as MPICH's (and Slurm's, with --mpi=pmi2) talk to their processes
// over the descriptor PMI_FD. Enough of it for one exchange: rank 0's text to all.
//
//   > cmd=init pmi_version=1 pmi_subversion=1    < cmd=response_to_init ... rc=0
//   > cmd=get_my_kvsname                         < cmd=my_kvsname kvsname=NAME
//   > cmd=put kvsname=NAME key=K value=V         < cmd=put_result rc=0           rank 0 only
//   > cmd=barrier_in                             < cmd=barrier_out               when all ranks have come
//   > cmd=get kvsname=NAME key=K                 < cmd=get_result rc=0 value=V
//   > cmd=finalize                               < cmd=finalize_ack
//
// A process that has said init must say finalize before it ends, and can say either only once.
#pragma once

#include <string>
#include <string_view>

#include "base/deadline.h"
#include "base/status.h"

namespace tutti {

// Rank 0 gives `mine`; every rank gets it. Collective over the launcher's processes, once per process.
Result<std::string> share_by_pmi(int fd, int rank, const std::string& mine, const Deadline& deadline);

// The value of `name` in a line such as "cmd=get_result rc=0 value=5"; empty if it has none.
std::string_view pmi_value(std::string_view line, std::string_view name);

}  // namespace tutti
