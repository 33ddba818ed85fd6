// SPDX-License-Identifier: Apache-2.0
// ncclConfig_t of any version from 2.14 on, as a tuttiConfig_t.
#pragma once

#include "nccl/shim.h"

namespace tutti::nccl {

// `config` may be NULL. Fields that the caller's version did not have are as unset. Fields without a counterpart warn
// once per process when they are set. The strings of the result are the caller's. `inherit`: for a communicator made of
// another, so that the environment's default is the parent's business.
Result<tuttiConfig_t> read_config(const char* function, const ncclConfig_t* config, bool inherit = false);

}  // namespace tutti::nccl
