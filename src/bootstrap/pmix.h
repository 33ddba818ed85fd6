// SPDX-License-Identifier: Apache-2.0
// PMIx, loaded when a launcher says that it serves it (Open MPI's mpirun, prterun, srun --mpi=pmix): who this process
// is, and one exchange, rank 0's text to all.
//
// Only what the PMIx standard fixes of the binary interface is used, so that no header of it is needed: functions by
// name, {name space, rank}, and values that begin with their type.
#pragma once

#include <functional>
#include <string>

#include "base/status.h"
#include "bootstrap/meeting.h"

namespace tutti {

struct PmixAnswer {
  LaunchPlace place;
  std::string text;  // rank 0's
};
// `mine` is asked on rank 0 only. Collective over the launcher's processes; blocks until all have come. `library`: a
// path, or empty.
Result<PmixAnswer> share_by_pmix(const std::string& library, const std::function<Result<std::string>()>& mine);

}  // namespace tutti
