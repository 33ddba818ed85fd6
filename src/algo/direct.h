// SPDX-License-Identifier: Apache-2.0
// Direct schedules: everybody exchanges with everybody, without relays. One or two dependent exchanges whatever n is.
// Used for small buffers, and where all ranks share memory also for larger ones.
//
// Where everyone needs the same block from a rank it goes over fan-out: one slot, written once, read by n - 1 peers
// (a transport without fan-out posts to each pair). Peers are visited from me + 1 on, so that not all ranks read from
// or write to the same one at a time.
#pragma once

#include "algo/schedule.h"

namespace tutti {

// Everyone shows its input to all; everyone reduces all inputs, in rank order.
//
//   rank 0 of 3    k     0     1
//                  move  S     RRC
//                  from        all
//                  to    all
//
// Invariant: every rank evaluates the same expression, so all results have the same bits.
struct OneShotAllReduce : ScheduleArgs {
  TUTTI_HD constexpr int steps() const { return n == 1 ? 1 : 2; }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(true);
    if (k == 0) return {.src = Buffer::Input, .to = Peers::all_fan()};
    return {.src = Buffer::Input, .reduce = true, .last = true, .dst_block = 0, .from = Peers::all_fan()};
  }
};

// Rank b reduces block b of all inputs, in rank order, and shows the result to all.
//
//   rank 0 of 3    k     0     1     2     3     4
//                  move  S     S     RRCS  RC    RC
//                  block 1     2     0     1     2
//                  from              all   1     2
//                  to    1     2     all
//
// Invariant: block p of the input is sent (k < n - 1) before block p of the output is written (k >= n).
struct TwoShotAllReduce : ScheduleArgs {
  TUTTI_HD constexpr int steps() const { return 2 * n - 1; }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(true);
    if (k == n - 1) {
      return {.src = Buffer::Input,
              .reduce = true,
              .last = true,
              .src_block = me,
              .dst_block = me,
              .from = Peers::all_pairs(),
              .to = Peers::all_fan()};
    }
    const int peer = (me + 1 + k) % n;  // k = n ... 2n - 2 visits the same peers as k = 0 ... n - 2
    if (k < n - 1) return {.src = Buffer::Input, .src_block = peer, .to = Peers::one(peer)};
    return {.dst_block = peer, .from = Peers::one_fan(peer)};
  }
};

// Everyone shows its block to all, then collects.
//
//   rank 0 of 3    k     0     1     2
//                  move  CS    RC    RC
//                  block 0     1     2
//                  to    all
struct DirectAllGather : ScheduleArgs {
  TUTTI_HD constexpr int steps() const { return n; }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(false);
    if (k == 0) return {.src = Buffer::Input, .dst_block = me, .to = Peers::all_fan()};
    const int peer = (me + k) % n;
    return {.dst_block = peer, .from = Peers::one_fan(peer)};
  }
};

// Block p goes straight to rank p, which reduces in rank order.
//
//   rank 0 of 3    k     0     1     2
//                  move  S     S     RRC
//                  block 1     2     0
struct DirectReduceScatter : ScheduleArgs {
  TUTTI_HD constexpr int steps() const { return n; }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(true);
    const int peer = (me + 1 + k) % n;
    if (k < n - 1) return {.src = Buffer::Input, .src_block = peer, .to = Peers::one(peer)};
    return {.src = Buffer::Input,
            .reduce = true,
            .last = true,
            .src_block = me,
            .dst_block = 0,
            .from = Peers::all_pairs()};
  }
};

// The root shows its input to all.
struct DirectBroadcast : ScheduleArgs {
  TUTTI_HD constexpr int steps() const { return 1; }
  TUTTI_HD constexpr Step at(int) const {
    if (n == 1) return local_step(false);
    if (me == root) return {.src = Buffer::Input, .dst_block = 0, .to = Peers::all_fan()};
    return {.dst_block = 0, .from = Peers::one_fan(root)};
  }
};

// All send to the root, which reduces in rank order.
struct DirectReduce : ScheduleArgs {
  TUTTI_HD constexpr int steps() const { return 1; }
  TUTTI_HD constexpr Step at(int) const {
    if (n == 1) return local_step(true);
    if (me != root) return {.src = Buffer::Input, .to = Peers::one(root)};
    return {.src = Buffer::Input, .reduce = true, .last = true, .dst_block = 0, .from = Peers::all_pairs()};
  }
};

// The root collects block p from rank p; its own is copied first.
struct DirectGather : ScheduleArgs {
  TUTTI_HD constexpr int steps() const { return me == root ? n : 1; }
  TUTTI_HD constexpr Step at(int k) const {
    if (me != root) return {.src = Buffer::Input, .to = Peers::one(root)};
    if (k == 0) return {.src = Buffer::Input, .dst_block = me};
    const int peer = (me + k) % n;
    return {.dst_block = peer, .from = Peers::one(peer)};
  }
};

// The root sends block p to rank p; its own is copied last, when nobody waits for it.
struct DirectScatter : ScheduleArgs {
  TUTTI_HD constexpr int steps() const { return me == root ? n : 1; }
  TUTTI_HD constexpr Step at(int k) const {
    if (me != root) return {.dst_block = 0, .from = Peers::one(root)};
    if (k == n - 1) return {.src = Buffer::Input, .src_block = me, .dst_block = 0};
    const int peer = (me + 1 + k) % n;
    return {.src = Buffer::Input, .src_block = peer, .to = Peers::one(peer)};
  }
};

// Point to point with the peer `root`: part 0 sends, part 1 receives. With myself as the peer, part 0 is the copy.
struct SendRecvStep : ScheduleArgs {
  TUTTI_HD constexpr int steps() const { return part == 1 && root == me ? 0 : 1; }
  TUTTI_HD constexpr Step at(int) const {
    if (root == me) return local_step(false);
    if (part == 0) return {.src = Buffer::Input, .to = Peers::one(root)};
    return {.dst_block = 0, .from = Peers::one(root)};
  }
};

}  // namespace tutti
