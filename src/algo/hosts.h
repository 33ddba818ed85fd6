// SPDX-License-Identifier: Apache-2.0
// HostMap: which ranks share a host, as hierarchical schedules see it. Made once per communicator (HostTable, host
// only) and read by schedules, the planner and the prover; the ranks of a host may be any, and any number.
//
//   host 0   ranks 0 2 5     team of rank 2: 0 5
//   host 1   ranks 1 3       columns: 2, as many as the smallest host has ranks
//
//   column 0   owners 0 and 1        column 1   owners 2 and 3        rank 5 owns no column
//
// Hosts are numbered by their first rank. The rank at *place* c of each host *owns* column c: the buffer is shared out
// among the columns, and what belongs to a column travels between hosts along its owners, in a ring of hosts.
#pragma once

#include <span>
#include <vector>

#include "algo/step.h"
#include "base/host_device.h"

namespace tutti {

struct HostMap {
  int n = 1, hosts = 1, columns = 1;
  int largest = 1;                // ranks of the largest host
  const int* host_of = nullptr;   // by rank
  const int* place_of = nullptr;  // by rank: position among the ranks of its host
  const int* first = nullptr;     // by host, and one more: where its ranks begin in `ranks`
  const int* ranks = nullptr;     // host by host, increasing
  // Three lists of each rank, at 3 * rank: its team (the others of its host), the team and the owner of its column on
  // the previous host, the team and the owner on the next. Without a column, or with one host, all are the team.
  const int* list_begin = nullptr;  // 3 * n, and one more
  const int* lists = nullptr;

  TUTTI_HD constexpr int size(int host) const { return first[host + 1] - first[host]; }
  TUTTI_HD constexpr int rank(int host, int place) const { return ranks[first[host] + place]; }
  TUTTI_HD constexpr int next(int host) const { return host + 1 == hosts ? 0 : host + 1; }
  TUTTI_HD constexpr int previous(int host) const { return host == 0 ? hosts - 1 : host - 1; }
  TUTTI_HD constexpr Peers team(int me) const { return peers(3 * me); }
  TUTTI_HD constexpr Peers team_and_previous(int me) const { return peers(3 * me + 1); }
  TUTTI_HD constexpr Peers team_and_next(int me) const { return peers(3 * me + 2); }
  // Equally many ranks on each host, in consecutive numbers.
  TUTTI_HD constexpr bool even() const {
    if (hosts * columns != n) return false;
    for (int i = 0; i < n; ++i) {
      if (ranks[i] != i) return false;
    }
    return true;
  }
  // Several hosts, of which one at least has several ranks: what a hierarchy is for.
  TUTTI_HD constexpr bool hierarchical() const { return hosts > 1 && hosts < n; }

 private:
  TUTTI_HD constexpr Peers peers(int list) const {
    return Peers::all_of(lists + list_begin[list], list_begin[list + 1] - list_begin[list]);
  }
};

// Owns what a HostMap refers to. Not copyable: the map points into it.
class HostTable {
 public:
  // host_of[r]: any number that tells the host of rank r from others.
  explicit HostTable(std::span<const int> host_of);
  HostTable(const HostTable&) = delete;
  HostTable& operator=(const HostTable&) = delete;

  const HostMap& map() const { return map_; }

 private:
  void make_lists();

  std::vector<int> host_of_, place_of_, first_, ranks_, list_begin_, lists_;
  HostMap map_;
};

}  // namespace tutti
