// SPDX-License-Identifier: Apache-2.0
#include "algo/hosts.h"

#include <algorithm>

namespace tutti {

HostTable::HostTable(std::span<const int> host_of) {
  const int n = static_cast<int>(host_of.size());
  std::vector<int> known;  // the caller's numbers, in the order of first ranks
  std::vector<std::vector<int>> members;
  for (int rank = 0; rank < n; ++rank) {
    const int theirs = host_of[static_cast<size_t>(rank)];
    const auto host = static_cast<size_t>(std::find(known.begin(), known.end(), theirs) - known.begin());
    if (host == known.size()) {
      known.push_back(theirs);
      members.emplace_back();
    }
    host_of_.push_back(static_cast<int>(host));
    place_of_.push_back(static_cast<int>(members[host].size()));
    members[host].push_back(rank);
  }
  size_t columns = static_cast<size_t>(n), largest = 0;
  for (const std::vector<int>& one : members) {
    first_.push_back(static_cast<int>(ranks_.size()));
    ranks_.insert(ranks_.end(), one.begin(), one.end());
    columns = std::min(columns, one.size());
    largest = std::max(largest, one.size());
  }
  first_.push_back(n);
  map_ = {n,
          static_cast<int>(members.size()),
          static_cast<int>(columns),
          static_cast<int>(largest),
          host_of_.data(),
          place_of_.data(),
          first_.data(),
          ranks_.data()};
  make_lists();
}

void HostTable::make_lists() {
  if (map_.hosts == 1) return;  // nobody is elsewhere: no schedule asks
  for (int me = 0; me < map_.n; ++me) {
    const int host = map_.host_of[me], place = map_.place_of[me];
    const bool owner = place < map_.columns && map_.hosts > 1;
    const int neighbours[] = {-1, owner ? map_.rank(map_.previous(host), place) : -1,
                              owner ? map_.rank(map_.next(host), place) : -1};
    for (const int neighbour : neighbours) {
      const auto begin = static_cast<std::ptrdiff_t>(lists_.size());
      list_begin_.push_back(static_cast<int>(begin));
      for (int i = 0; i < map_.size(host); ++i) {
        if (i != place) lists_.push_back(map_.rank(host, i));
      }
      // Ranks of a host are in order already.
      if (neighbour >= 0) lists_.insert(std::upper_bound(lists_.begin() + begin, lists_.end(), neighbour), neighbour);
    }
  }
  list_begin_.push_back(static_cast<int>(lists_.size()));
  map_.list_begin = list_begin_.data();
  map_.lists = lists_.data();
}

}  // namespace tutti
