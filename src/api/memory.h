// SPDX-License-Identifier: Apache-2.0
// What of memory.cc concerns other entry points.
#pragma once

#include "tutti/tutti.h"

namespace tutti {

// The communicator has ended: registrations and windows of it that the user left are no longer living ones, so that
// the next communicator behind the same handle does not meet them.
void forget_memory_of(tuttiComm_t comm);

}  // namespace tutti
