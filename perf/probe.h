// SPDX-License-Identifier: Apache-2.0
// Whether ranks can be on GPUs here: asked in a process of its own, since neither the driver nor the library may have
// been used where --ranks forks.
#pragma once

#include <string>

namespace tutti::perf {

struct Probed {
  bool usable = false;
  std::string why_not;
};
// The driver has devices and (`own`: our library) a communicator can be made on the first. Call it before the process
// has threads.
Probed probe_gpus(bool own);

}  // namespace tutti::perf
