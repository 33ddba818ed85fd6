// SPDX-License-Identifier: Apache-2.0
// Step: what one rank does at one position of a schedule. The word every layer shares: schedules (src/algo) produce
// steps, the hot loop (src/exec) carries them out, the prover checks them, the tools draw them.
//
// A step combines its sources and delivers the result:
//
//     sources   the local operand (a block of the input or of the output buffer) and one slice from each peer in `from`
//     combine   reduce: all sources with the call's operator, in increasing rank order, the local operand standing at
//               the place of `me`;  otherwise there is exactly one source, and it is copied
//     delivers  to the output buffer (`dst_block`), and one slice to each peer in `to`
//
// A step that moves several blocks (`blocks` > 1) moves consecutive ones.
//
// Remote access does without slots: ranks open their buffers to each other, and then read and write them where they
// are. A slot without bytes says that a rank's buffers are open, and its release that the peer is done with them:
//
//     Open    tell `to` that my buffers may be used, and where they are
//     Enter   wait until all in `from` have opened theirs
//     Remote  as any other step, but the slice of a peer in `from` is block `from_block` of its buffer `from_buffer`,
//             and the slice for a peer in `to` goes straight into block `to_block` of its output
//     Leave   tell `from` that I am done with their buffers
//     Close   wait until all in `to` have left mine
//
// Invariant: a peer's buffers are used only between Enter and Leave, and an opened buffer is used by its owner only as
// the schedule says until Close.
#pragma once

#include <cstdint>

#include "base/host_device.h"

namespace tutti {

enum class Buffer : uint8_t { None, Input, Output };

enum class Access : uint8_t { None, Open, Enter, Remote, Leave, Close };

// The peers of one side of a step: up to three by name, or everybody but me.
struct Peers {
  static constexpr int kMaxListed = 3;
  static constexpr int8_t kOthers = -1;

  int8_t count = 0;  // number of listed ranks, in increasing order, or kOthers
  bool fan = false;  // through the sender's fan-out connection (one slot, many readers) where the transport has one
  int rank[kMaxListed] = {};

  TUTTI_HD constexpr bool none() const { return count == 0; }
  TUTTI_HD constexpr bool others() const { return count == kOthers; }
  // How many peers these are on n ranks, and which is the i-th, in increasing rank order.
  TUTTI_HD constexpr int size(int n) const { return others() ? n - 1 : count; }
  TUTTI_HD constexpr int at(int i, int me) const { return others() ? (i < me ? i : i + 1) : rank[i]; }

  // Lists one peer more, in its place in the order.
  TUTTI_HD constexpr void add(int peer) {
    int i = count++;
    for (; i > 0 && rank[i - 1] > peer; --i) rank[i] = rank[i - 1];
    rank[i] = peer;
  }

  TUTTI_HD static constexpr Peers one(int peer) { return {1, false, {peer}}; }
  TUTTI_HD static constexpr Peers one_fan(int peer) { return {1, true, {peer}}; }
  TUTTI_HD static constexpr Peers all_fan() { return {kOthers, true, {}}; }     // everybody, over fan-out
  TUTTI_HD static constexpr Peers all_pairs() { return {kOthers, false, {}}; }  // everybody, pair by pair
};

struct Step {
  Buffer src = Buffer::None;  // the local operand
  bool reduce = false;        // combine with the operator; otherwise copy the only source
  bool last = false;          // what leaves this step is the reduction over all ranks (avg divides here)
  int src_block = 0;
  int dst_block = -1;  // keep the result in this block of the output; -1: do not
  int blocks = 1;      // consecutive blocks moved
  Peers from = {}, to = {};
  Access access = Access::None;
  Buffer from_buffer = Buffer::Input;  // Remote: which buffer of the peers is read,
  int from_block = 0, to_block = 0;    // which block of it, and which block of the peers' output is written

  // Opens, enters, leaves or closes: moves no bytes.
  TUTTI_HD constexpr bool meets() const { return access != Access::None && access != Access::Remote; }
};

}  // namespace tutti
