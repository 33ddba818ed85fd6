// SPDX-License-Identifier: Apache-2.0
// Hierarchical schedules: what is between hosts travels between owners of columns (hosts.h), once; what is inside a
// host goes straight from rank to rank. The hosts may have any ranks, and different numbers of them.
//
// Bytes that leave a host, of a buffer of S bytes on H hosts: 2 (H - 1) / H * S for an all-reduce, (H - 1) / H * S for
// a reduce-scatter and for an all-gather of as many ranks per host, S for a broadcast (none from the last of the
// chain): what the theory asks for, whatever the number of ranks on a host. The load is shared by the owners.
#pragma once

#include "algo/schedule.h"

namespace tutti {

// Where `me` stands: its host, its place there, the column it owns (or none).
struct HierarchicalArgs : ScheduleArgs {
  TUTTI_HD constexpr int count() const { return hosts->hosts; }
  TUTTI_HD constexpr int columns() const { return hosts->columns; }
  TUTTI_HD constexpr int host() const { return hosts->host_of[me]; }
  TUTTI_HD constexpr int place() const { return hosts->place_of[me]; }
  TUTTI_HD constexpr bool owns() const { return place() < columns(); }
  TUTTI_HD constexpr int owner(int column) const { return hosts->rank(host(), column); }
  TUTTI_HD constexpr int next_owner() const { return hosts->rank(hosts->next(host()), place()); }
  TUTTI_HD constexpr int previous_owner() const { return hosts->rank(hosts->previous(host()), place()); }
  // The columns that others on my host own, starting behind my place so that not all ranks turn to one owner at a time.
  TUTTI_HD constexpr int foreign_columns() const { return columns() - owns(); }
  TUTTI_HD constexpr int foreign(int i) const {
    return owns() ? (place() + 1 + i) % columns() : (place() + i) % columns();
  }
  TUTTI_HD constexpr bool last_host(int k) const { return k == count() - 1; }
};

// A ring all-reduce over hosts in each column, whose ranks bring their team's inputs along and hand the result out to
// it. A region is cut into one block per column and host; block (c, b) starts on host b + 1 and is complete on host b.
//
//   turn k of column c moves block (c, host - 1 - k):
//     k < H     everyone on the host sends its input of it to the owner, who adds it to what the previous host sent,
//               and passes it on; at k = H - 1 it is complete, and goes to the team as well
//     k >= H    it goes once around, each owner handing it to its team
//
// Invariant: what arrives from the previous host in turn k < H is the sum over the ranks of k hosts. All of a rank's
// input has left before a complete block arrives: in place works.
struct HierarchicalAllReduce : HierarchicalArgs {
  TUTTI_HD constexpr int steps() const {
    if (n == 1) return 1;
    // Sends in H turns, own moves in 2H - 1, receptions in H.
    return foreign_columns() * 2 * count() + (owns() ? 2 * count() - 1 : 0);
  }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(true);
    const int others = foreign_columns(), own = owns() ? 1 : 0, turns = count();
    // Turns 0 ... H - 2 have the sends and my move, turn H - 1 also receptions, the others my move and receptions.
    const int early = (turns - 1) * (others + own);
    if (k < early) {
      const int within = k % (others + own);
      return within < others ? give(within, k / (others + own)) : move(k / (others + own));
    }
    k -= early;
    if (k < others) return give(k, turns - 1);
    k -= others;
    const int turn = turns - 1 + k / (others + own), within = k % (others + own);
    if (own != 0 && within == 0) return move(turn);
    return {.dst_block = block(foreign(within - own), turn), .from = Peers::one(owner(foreign(within - own)))};
  }

 private:
  TUTTI_HD constexpr int block(int column, int turn) const {
    return column * count() + (host() - 1 - turn + 2 * count()) % count();
  }
  TUTTI_HD constexpr Step give(int i, int turn) const {
    const int column = foreign(i);
    return {.src = Buffer::Input, .src_block = block(column, turn), .to = Peers::one(owner(column))};
  }
  TUTTI_HD constexpr Step move(int turn) const {
    const int mine = block(place(), turn);
    if (turn >= count()) {
      const bool ends = turn == 2 * count() - 2;
      return {.dst_block = mine,
              .from = Peers::one(previous_owner()),
              .to = ends ? hosts->team(me) : hosts->team_and_next(me)};
    }
    const bool last = last_host(turn);
    const Peers from = turn == 0 ? hosts->team(me) : hosts->team_and_previous(me);
    return {.src = Buffer::Input,
            .reduce = last || !from.none(),
            .last = last,
            .src_block = mine,
            .dst_block = last ? mine : -1,
            .from = from,
            .to = !last         ? Peers::one(next_owner())
                  : count() > 1 ? hosts->team_and_next(me)
                                : hosts->team(me)};
  }
};

// One step per block, host by host in the order in which a ring of hosts brings them. What a column carries of a host
// are the blocks of its ranks at places column, column + columns, ...
struct HostByHost : HierarchicalArgs {
  TUTTI_HD constexpr int column_of(int rank) const { return hosts->place_of[rank] % columns(); }
  TUTTI_HD constexpr bool carries(int rank) const { return owns() && column_of(rank) == place(); }

 protected:
  // The rank whose block is the k-th, beginning with those of host `from` and going on with the hosts before it. Of a
  // host with a rank for each column the one at place `start` is first, so that not all wait for one owner at a time;
  // of others, whose columns carry several blocks in an order, the first.
  TUTTI_HD constexpr int visited(int from, int k, int start) const {
    const int rank = hosts->ranks[(hosts->first[from + 1] - 1 - k + n) % n];  // each host's last rank comes first
    const int on = hosts->host_of[rank], size = hosts->size(on), i = size - 1 - hosts->place_of[rank];
    return hosts->rank(on, size == columns() ? (start + i) % size : i);
  }
};

// The own host's blocks are exchanged directly. The owner of a column passes on what its column carries of each host,
// to its team and to the next host.
//
//   hosts {0 1} {2 3}, rank 0   k     0         1       2            3
//                               move  CS[0]>1,2 RC[1]   RCS[2]>1     RC[3]     (2 from its owner, 3 from rank 1)
//
// Invariant: after the blocks of j hosts, all ranks of this host have the blocks of the j hosts up to it.
struct HierarchicalAllGather : HostByHost {
  TUTTI_HD constexpr int steps() const { return n; }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(false);
    const int here = hosts->size(host());
    // The own block first; every rank of this host begins elsewhere.
    const int rank = k < here ? hosts->rank(host(), (place() + k) % here) : visited(host(), k, place());
    const bool onward = count() > 1 && carries(rank);
    if (rank == me) {
      return {.src = Buffer::Input, .dst_block = me, .to = onward ? hosts->team_and_next(me) : hosts->team(me)};
    }
    if (k < here) {
      return {.dst_block = rank, .from = Peers::one(rank), .to = onward ? Peers::one(next_owner()) : Peers{}};
    }
    if (!carries(rank)) return {.dst_block = rank, .from = Peers::one(owner(column_of(rank)))};
    const bool ends = hosts->next(host()) == hosts->host_of[rank];
    return {.dst_block = rank,
            .from = Peers::one(previous_owner()),
            .to = ends ? hosts->team(me) : hosts->team_and_next(me)};
  }
};

// The other way: for each block, the ranks of a host give their input to the owner of its column, who adds it to what
// the previous host sent and passes it on, and on the block's own host to its rank.
//
//   hosts {0 1} {2 3}, rank 0   k     0               1        2                 3
//                               move  S[3]>1   RRS[2]>2   S[1]>1   RRC[0]      (from 1; from 1 and 2)
//
// Invariant: what the previous host sends for a block is the sum over all hosts from behind the block's up to it. A
// rank's own block comes after all others whose result could overwrite it: in place works.
struct HierarchicalReduceScatter : HostByHost {
  TUTTI_HD constexpr int steps() const { return n == 1 ? 1 : n + (owns() ? 0 : 1); }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(true);
    if (k == n) return {.dst_block = 0, .from = Peers::one(owner(column_of(me)))};
    const int rank = visited(hosts->previous(host()), k, place() + 1);  // the own column's last
    const int target = hosts->host_of[rank];
    if (!carries(rank)) {
      return {.src = Buffer::Input, .src_block = rank, .to = Peers::one(owner(column_of(rank)))};
    }
    const bool first = target == hosts->previous(host()), last = target == host();
    const Peers from = first ? hosts->team(me) : hosts->team_and_previous(me);
    return {.src = Buffer::Input,
            .reduce = last || !from.none(),
            .last = last,
            .src_block = rank,
            .dst_block = rank == me ? 0 : -1,
            .from = from,
            .to = rank == me ? Peers{} : Peers::one(last ? rank : next_owner())};
  }
};

// One rank of each host leads it, the root its own; which of the others do depends on the channel, so that all ranks
// (and the NICs beside them) share the load. Inside a host the ranks hang below the leader in a binary tree.
struct LedArgs : HierarchicalArgs {
  TUTTI_HD constexpr int leader(int of_host) const {
    return of_host == hosts->host_of[root] ? root : hosts->rank(of_host, channel % hosts->size(of_host));
  }
  TUTTI_HD constexpr bool leads() const { return me == leader(host()); }
  TUTTI_HD constexpr bool root_host() const { return host() == hosts->host_of[root]; }
  TUTTI_HD constexpr bool before_root_host() const { return hosts->next(host()) == hosts->host_of[root]; }
  TUTTI_HD constexpr bool behind_root_host() const { return hosts->previous(host()) == hosts->host_of[root]; }
  // Places below the leader: 0 is the leader, 2p + 1 and 2p + 2 hang below p.
  TUTTI_HD constexpr int depth_place() const {
    return wrap(place() - hosts->place_of[leader(host())], hosts->size(host()));
  }
  TUTTI_HD constexpr int at_depth_place(int p) const {
    return hosts->rank(host(), (hosts->place_of[leader(host())] + p) % hosts->size(host()));
  }
  TUTTI_HD constexpr int above() const { return at_depth_place((depth_place() - 1) / 2); }
  TUTTI_HD constexpr Peers below() const {
    Peers peers;
    for (int p = 2 * depth_place() + 1; p <= 2 * depth_place() + 2 && p < hosts->size(host()); ++p)
      peers.add(at_depth_place(p));
    return peers;
  }
};

// A chain of leaders from the root's host on, pipelined over slices; each leader feeds the tree of its host.
//
//   hosts {0 1} {2 3}, root 0:   0 -> 1     0 -> 2     2 -> 3
//
// Invariant: no rank waits for one after it, so one slot is enough.
struct HierarchicalBroadcast : LedArgs {
  TUTTI_HD constexpr int steps() const { return 1; }
  TUTTI_HD constexpr Step at(int) const {
    if (n == 1) return local_step(false);
    Step step{.src = me == root ? Buffer::Input : Buffer::None, .dst_block = 0, .to = below()};
    if (leads() && !before_root_host()) step.to.add(leader(hosts->next(host())));
    if (me != root) step.from = Peers::one(leads() ? leader(hosts->previous(host())) : above());
    return step;
  }
};

// The way back: the tree of each host sums up to its leader, the chain of leaders ends at the root.
//
// Invariant: a leader sends the sum over the hosts from behind the root's up to its own.
struct HierarchicalReduce : LedArgs {
  TUTTI_HD constexpr int steps() const { return 1; }
  TUTTI_HD constexpr Step at(int) const {
    if (n == 1) return local_step(true);
    Step step{.src = Buffer::Input, .dst_block = me == root ? 0 : -1, .from = below()};
    if (leads() && !behind_root_host()) step.from.add(leader(hosts->previous(host())));
    if (me != root) step.to = Peers::one(leads() ? leader(hosts->next(host())) : above());
    step.reduce = me == root || !step.from.none();
    step.last = me == root;
    return step;
  }
};

// Rail-aligned: blocks for the ranks at place x of all hosts go to the rank at place x of this host, in one message;
// then each rank exchanges one message with the rank at its place on each other host. So a rank talks to H - 1 ranks
// of other hosts instead of n - g, always along its rail. Needs as many ranks on each host, in consecutive numbers.
//
//   2 hosts of 2, rank 0   k     0         1         2         3           4
//                          move  S[1,3]>1  C[0,2]    RC[1,3]   OS[2-3]>2   RC[2-3]
//
// Invariant: after the first exchange output block (d, x) is what the rank at place x of this host has for the rank at
// my place of host d; the second exchange replaces it by what (d, x) has for me. What a place receives it has sent
// before: in place works.
struct HierarchicalAllToAll : HierarchicalArgs {
  TUTTI_HD constexpr int steps() const { return n == 1 ? 1 : 2 * columns() - 1 + 2 * (count() - 1); }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(false);
    const int team = columns() - 1;
    if (k < team) return for_place((place() + 1 + k) % columns(), true);
    k -= team;
    if (k == 0) {
      Step step = for_place(place(), true);
      step.to = {};
      step.dst_block = place();
      return step;
    }
    if (k <= team) return for_place((place() + columns() - k) % columns(), false);  // who sent to me first comes first
    k -= team + 1;
    const int others = count() - 1;
    const int there = (host() + (k < others ? 1 + k : count() - 1 - (k - others))) % count();
    const Peers rail = Peers::one(hosts->rank(there, place()));
    const int first = there * columns();
    if (k < others)
      return {.src = Buffer::Output, .src_block = first, .blocks = columns(), .to = rail, .passing = true};
    return {.dst_block = first, .blocks = columns(), .from = rail};
  }

 private:
  // The blocks of one place on all hosts, to or from the rank at that place of this host.
  TUTTI_HD constexpr Step for_place(int x, bool sends) const {
    const Peers peer = Peers::one(hosts->rank(host(), x));
    Step step{.blocks = count(), .run = 1, .stride = columns()};
    if (sends) {
      step.src = Buffer::Input, step.src_block = x, step.to = peer;
    } else {
      step.dst_block = x, step.from = peer;
    }
    return step;
  }
};

}  // namespace tutti
