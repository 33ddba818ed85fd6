// SPDX-License-Identifier: Apache-2.0
// The communicators of this process, for those who look at all of them. Watch (observed.h) keeps the list.
#pragma once

#include <functional>
#include <span>

namespace tutti {

class Observed;

// No communicator leaves the list, and so none is destroyed, until `look` returns: it must be short.
void with_observed(const std::function<void(std::span<const Observed* const>)>& look);

}  // namespace tutti
