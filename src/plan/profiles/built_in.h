// SPDX-License-Identifier: Apache-2.0
// Profiles of `tutti tune` that the library carries, as JSON: one for each vendor whose machines it has measured.
#pragma once

namespace tutti {

// A 2-core guest of an EPYC (Zen 4, 1 MiB L2 per core). The host moves its cores between two states, in which they
// share a cache or do not; each time is the median of comparisons within a second, so that none belongs to one state
// and its rival to the other.
extern const char* const kAmdProfile;

}  // namespace tutti
