// SPDX-License-Identifier: Apache-2.0
// Poll: what a step of a waiting state machine says (docs/architecture.md, "work that waits").
#pragma once

#include <cstdint>

namespace tutti {

enum class Poll : uint8_t { Pending, Done };

}  // namespace tutti
