// SPDX-License-Identifier: Apache-2.0
// Schedules of remote access: buffers are opened to peers, which use them where they are (algo/step.h).
//
//   Pull   ranks read the peers' buffers and write only their own. Any memory that peers can read will do.
//   Push   ranks write the peers' outputs as well, so that each byte of a result is written once, by whoever made it.
//          Needs memory made for it (windows).
//
//   rank 0 of 2    k     0     1      2       3      4
//   PushAllReduce  step  Open  Enter  Remote  Leave  Close
//
// Opening costs one line to the peers, leaving one line back: two exchanges in all, whatever the size. Who neither
// reads nor is read does not take part: with a root, only those open whose buffers somebody needs.
#pragma once

#include "algo/schedule.h"

namespace tutti {

struct RmaArgs : ScheduleArgs {
  static constexpr bool kRemoteAccess = true;
};

TUTTI_HD constexpr Step open_to(Peers peers) { return {.to = peers, .access = Access::Open}; }
TUTTI_HD constexpr Step enter(Peers peers) { return {.from = peers, .access = Access::Enter}; }
TUTTI_HD constexpr Step leave(Peers peers) { return {.from = peers, .access = Access::Leave}; }
TUTTI_HD constexpr Step close_to(Peers peers) { return {.to = peers, .access = Access::Close}; }
// Block `block` of the peer's buffer becomes block `dst` of my output.
TUTTI_HD constexpr Step pull(Peers peer, Buffer buffer, int block, int dst) {
  return {.dst_block = dst, .from = peer, .access = Access::Remote, .from_buffer = buffer, .from_block = block};
}

// Rank b reduces block b of all inputs into its own output; then everyone collects the results.
//
//   rank 0 of 3    k     0     1      2     3      4      5     6      7     8     9      10
//                  step  Open  Enter  RRC   Leave  Close  Open  Enter  RC    RC    Leave  Close
//                  block              0                                1     2
//                  from               all                              1     2
//
// Invariant: block p of my input is read by p only, and left (k = 4) before my output's block p is written (k >= 7).
struct PullAllReduce : RmaArgs {
  TUTTI_HD constexpr int steps() const { return n == 1 ? 1 : n + 8; }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(true);
    switch (k) {
      case 0:
      case 5:
        return open_to(Peers::all_fan());
      case 1:
      case 6:
        return enter(Peers::all_fan());
      case 2:
        return {.src = Buffer::Input,
                .reduce = true,
                .last = true,
                .src_block = me,
                .dst_block = me,
                .from = Peers::all_fan(),
                .access = Access::Remote,
                .from_block = me};
      case 3:
        return leave(Peers::all_fan());
      case 4:
        return close_to(Peers::all_fan());
      default:
        break;
    }
    if (k == n + 6) return leave(Peers::all_fan());
    if (k == n + 7) return close_to(Peers::all_fan());
    const int peer = (me + k - 6) % n;  // 7 <= k < n + 6
    return pull(Peers::one_fan(peer), Buffer::Output, peer, peer);
  }
};

// Every rank reduces all of all inputs: one meeting instead of two, and nothing is read that was written only just now,
// for n / 2 times the reading. Not in place: an input would be replaced before its peers have read it.
struct PullAllAllReduce : RmaArgs {
  TUTTI_HD constexpr int steps() const { return n == 1 ? 1 : 5; }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(true);
    if (k == 0) return open_to(Peers::all_fan());
    if (k == 1) return enter(Peers::all_fan());
    if (k == 3) return leave(Peers::all_fan());
    if (k == 4) return close_to(Peers::all_fan());
    return {.src = Buffer::Input,
            .reduce = true,
            .last = true,
            .dst_block = 0,
            .from = Peers::all_fan(),
            .access = Access::Remote};
  }
};

// The root reduces all inputs.
struct PullReduce : RmaArgs {
  TUTTI_HD constexpr int steps() const { return n == 1 ? 1 : me == root ? 3 : 2; }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(true);
    if (me != root) return k == 0 ? open_to(Peers::one(root)) : close_to(Peers::one(root));
    if (k == 0) return enter(Peers::all_pairs());
    if (k == 2) return leave(Peers::all_pairs());
    return {.src = Buffer::Input,
            .reduce = true,
            .last = true,
            .dst_block = 0,
            .from = Peers::all_pairs(),
            .access = Access::Remote};
  }
};

// Everyone collects; the own block is copied while the others open.
struct PullAllGather : RmaArgs {
  TUTTI_HD constexpr int steps() const { return n == 1 ? 1 : n + 4; }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(false);
    if (k == 0) return open_to(Peers::all_fan());
    if (k == 1) return {.src = Buffer::Input, .dst_block = me};
    if (k == 2) return enter(Peers::all_fan());
    if (k == n + 2) return leave(Peers::all_fan());
    if (k == n + 3) return close_to(Peers::all_fan());
    const int peer = (me + k - 2) % n;
    return pull(Peers::one_fan(peer), Buffer::Input, 0, peer);
  }
};

// Everyone reads the blocks meant for it. Not in place: a block would be replaced before its peer has read it.
struct PullAllToAll : RmaArgs {
  TUTTI_HD constexpr int steps() const { return n == 1 ? 1 : n + 4; }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(false);
    if (k == 0) return open_to(Peers::all_fan());
    if (k == 1) return {.src = Buffer::Input, .src_block = me, .dst_block = me};
    if (k == 2) return enter(Peers::all_fan());
    if (k == n + 2) return leave(Peers::all_fan());
    if (k == n + 3) return close_to(Peers::all_fan());
    const int peer = (me + k - 2) % n;
    return pull(Peers::one_fan(peer), Buffer::Input, me, peer);
  }
};

// Rank b reduces block b of all inputs.
struct PullReduceScatter : RmaArgs {
  TUTTI_HD constexpr int steps() const { return n == 1 ? 1 : 5; }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(true);
    if (k == 0) return open_to(Peers::all_fan());
    if (k == 1) return enter(Peers::all_fan());
    if (k == 3) return leave(Peers::all_fan());
    if (k == 4) return close_to(Peers::all_fan());
    return {.src = Buffer::Input,
            .reduce = true,
            .last = true,
            .src_block = me,
            .dst_block = 0,
            .from = Peers::all_fan(),
            .access = Access::Remote,
            .from_block = me};
  }
};

// The root opens its input, everyone copies it.
struct PullBroadcast : RmaArgs {
  TUTTI_HD constexpr int steps() const { return n == 1 ? 1 : 3; }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(false);
    if (me == root) {
      if (k == 0) return open_to(Peers::all_fan());
      if (k == 1) return {.src = Buffer::Input, .dst_block = 0};
      return close_to(Peers::all_fan());
    }
    if (k == 0) return enter(Peers::one_fan(root));
    if (k == 1) return pull(Peers::one_fan(root), Buffer::Input, 0, 0);
    return leave(Peers::one_fan(root));
  }
};

// The root copies from each.
struct PullGather : RmaArgs {
  TUTTI_HD constexpr int steps() const { return n == 1 ? 1 : me == root ? n + 2 : 2; }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(false);
    if (me != root) return k == 0 ? open_to(Peers::one(root)) : close_to(Peers::one(root));
    if (k == 0) return {.src = Buffer::Input, .dst_block = me};
    if (k == 1) return enter(Peers::all_pairs());
    if (k == n + 1) return leave(Peers::all_pairs());
    const int peer = (me + k - 1) % n;
    return pull(Peers::one(peer), Buffer::Input, 0, peer);
  }
};

// Everyone copies its block from the root, which copies its own meanwhile.
struct PullScatter : RmaArgs {
  TUTTI_HD constexpr int steps() const { return n == 1 ? 1 : 3; }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(false);
    if (me == root) {
      if (k == 0) return open_to(Peers::all_fan());
      if (k == 1) return {.src = Buffer::Input, .src_block = me, .dst_block = 0};
      return close_to(Peers::all_fan());
    }
    if (k == 0) return enter(Peers::one_fan(root));
    if (k == 1) return pull(Peers::one_fan(root), Buffer::Input, me, 0);
    return leave(Peers::one_fan(root));
  }
};

// Point to point with the peer `root`: part 0 opens, part 1 copies. With myself as the peer, part 0 is the copy.
struct PullSendRecv : RmaArgs {
  TUTTI_HD constexpr int steps() const { return root == me ? 1 - part : part == 0 ? 2 : 3; }
  TUTTI_HD constexpr Step at(int k) const {
    if (root == me) return local_step(false);
    if (part == 0) return k == 0 ? open_to(Peers::one(root)) : close_to(Peers::one(root));
    if (k == 0) return enter(Peers::one(root));
    if (k == 1) return pull(Peers::one(root), Buffer::Input, 0, 0);
    return leave(Peers::one(root));
  }
};

// What the Push schedules have in common: all open to all, and rank b makes block b.
struct PushArgs : RmaArgs {
  TUTTI_HD constexpr int steps() const { return n == 1 ? 1 : 5; }

 protected:
  TUTTI_HD constexpr Step frame(int k, Step work) const {
    if (k == 0) return open_to(Peers::all_fan());
    if (k == 1) return enter(Peers::all_fan());
    if (k == 3) return leave(Peers::all_fan());
    if (k == 4) return close_to(Peers::all_fan());
    return work;
  }
};

// Rank b reduces block b of all inputs into all outputs.
struct PushAllReduce : PushArgs {
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(true);
    return frame(k, {.src = Buffer::Input,
                     .reduce = true,
                     .last = true,
                     .src_block = me,
                     .dst_block = me,
                     .from = Peers::all_fan(),
                     .to = Peers::all_fan(),
                     .access = Access::Remote,
                     .from_block = me,
                     .to_block = me});
  }
};

// Rank b copies its input into block b of all outputs.
struct PushAllGather : PushArgs {
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(false);
    return frame(
        k, {.src = Buffer::Input, .dst_block = me, .to = Peers::all_fan(), .access = Access::Remote, .to_block = me});
  }
};

// Rank b reduces block b of all inputs into the root's output.
struct PushReduce : PushArgs {
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(true);
    Step work{.src = Buffer::Input,
              .reduce = true,
              .last = true,
              .src_block = me,
              .from = Peers::all_fan(),
              .access = Access::Remote,
              .from_block = me};
    if (me == root) {
      work.dst_block = me;
    } else {
      work.to = Peers::one_fan(root);
      work.to_block = me;
    }
    return frame(k, work);
  }
};

// Each rank copies its input into the root's output.
struct PushGather : PushArgs {
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(false);
    if (me == root) return frame(k, {.src = Buffer::Input, .dst_block = me});
    return frame(k, {.src = Buffer::Input, .to = Peers::one_fan(root), .access = Access::Remote, .to_block = me});
  }
};

// The buffer is cut into n blocks. Rank b brings block b of the root's input to everyone but the root, who copies its
// own (nothing to do in place) when its block is out: all cores copy.
//
//   rank 1 of 3 (root 0)   k     0     1      2    3    4      5
//                          step  Open  Enter  RC   OS   Leave  Close
//                          block              1    1
//                          peer               0    2
struct PushBroadcast : RmaArgs {
  TUTTI_HD constexpr int steps() const { return n == 1 ? 1 : me == root ? 2 * n + 3 : n + 3; }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(false);
    const int last = steps() - 1;
    if (k == 0) return open_to(Peers::all_fan());
    if (k == 1) return enter(Peers::all_fan());
    if (k == last - 1) return leave(Peers::all_fan());
    if (k == last) return close_to(Peers::all_fan());
    const int work = k - 2;
    if (me == root) {
      if (work >= n - 1) return {.src = Buffer::Input, .src_block = work - n + 1, .dst_block = work - n + 1};
      return push(Buffer::Input, (me + 1 + work) % n);
    }
    if (work == 0) return pull(Peers::one_fan(root), Buffer::Input, me, me);
    // The others but me and the root, from me + 1 on.
    const int distance = wrap(root - me, n);
    return push(Buffer::Output, (me + (work < distance ? work : work + 1)) % n);
  }

 private:
  TUTTI_HD constexpr Step push(Buffer source, int peer) const {
    return {.src = source, .src_block = me, .to = Peers::one_fan(peer), .access = Access::Remote, .to_block = me};
  }
};

// The schedules of this file, which another lane carries than those of slots.
template <class S>
inline constexpr bool kRemote = requires {
  S::kRemoteAccess;
};

}  // namespace tutti
