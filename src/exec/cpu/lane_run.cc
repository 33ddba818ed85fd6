// SPDX-License-Identifier: Apache-2.0
#include "exec/cpu/lane_run.h"

#include "exec/cpu/straight_run.h"

namespace tutti {

std::unique_ptr<StraightRun> LaneRun::straightened() const { return nullptr; }

}  // namespace tutti
