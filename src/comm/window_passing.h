// SPDX-License-Identifier: Apache-2.0
// How the object of a window goes from its owner to ranks of other processes, of the host's memory and of GPUs alike.
#pragma once

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "bootstrap/bootstrap.h"
#include "transports/shm/descriptor_passing.h"

namespace tutti {

// Who has a part in passing on the object of `owner`: itself and the ranks of other processes; those of its own need no
// descriptor. Rising.
inline std::vector<int> window_takers(const Bootstrap& bootstrap, int owner) {
  const std::vector<Member>& members = bootstrap.members();
  std::vector<int> ranks;
  for (const Member& member : members) {
    if (member.rank == owner || !member.same_process(members[static_cast<size_t>(owner)])) ranks.push_back(member.rank);
  }
  return ranks;
}

// A tag for each passing: all have the communicator's secret.
inline shm::DescriptorPassing window_passing(const Bootstrap& bootstrap, std::vector<int> ranks, int owner,
                                             uint64_t attempt) {
  shm::DescriptorPassing passing;
  std::memcpy(passing.key.secret.data(), bootstrap.secret().bytes.data(), passing.key.secret.size());
  std::memcpy(passing.key.tag.data(), bootstrap.tag().bytes.data(), passing.key.tag.size());
  constexpr uint64_t kPurpose = 0x77696E646F77ull;  // "window": no passing of the arena has it
  const uint64_t which = kPurpose ^ (attempt << 16 ^ static_cast<uint64_t>(owner)) * 0x9E3779B97F4A7C15u;
  for (size_t i = 0; i < sizeof which; ++i) passing.key.tag[i] ^= static_cast<std::byte>(which >> 8 * i);
  const auto place = [&](int rank) {
    return static_cast<int>(std::lower_bound(ranks.begin(), ranks.end(), rank) - ranks.begin());
  };
  passing.owner_local = place(owner);
  passing.local = place(bootstrap.rank());
  passing.ranks = std::move(ranks);
  passing.what = "a window";
  return passing;
}

}  // namespace tutti
