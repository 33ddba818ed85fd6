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
// A step that moves several blocks (`blocks` > 1) moves consecutive ones; or, packed, blocks that lie apart and travel
// side by side, so that a message to one peer is one slice however many places it comes from:
//
//     src_block 1, blocks 4, run 2, stride 4      blocks 1 2 5 6      (numbers are modulo n)
//     src_block 3, blocks 3, run 1, stride -2     blocks 3 1 n-1      (downwards, within a run too)
//
// Scratch is n blocks of the library's own, for what is neither input nor result yet; they are lost with the call.
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

enum class Buffer : uint8_t { None, Input, Output, Scratch };

enum class Access : uint8_t { None, Open, Enter, Remote, Leave, Close };

// The peers of one side of a step: up to three by name, any number in a list kept elsewhere, or everybody but me.
struct Peers {
  static constexpr int kMaxListed = 3;
  static constexpr int kOthers = -1;

  int count = 0;     // number of listed ranks, in increasing order, or kOthers
  bool fan = false;  // through the sender's fan-out connection (one slot, many readers) where the transport has one
  int rank[kMaxListed] = {};
  const int* list = nullptr;  // instead of `rank`; outlives the schedule

  TUTTI_HD constexpr bool none() const { return count == 0; }
  TUTTI_HD constexpr bool others() const { return count == kOthers; }
  // How many peers these are on n ranks, and which is the i-th, in increasing rank order.
  TUTTI_HD constexpr int size(int n) const { return others() ? n - 1 : count; }
  TUTTI_HD constexpr int at(int i, int me) const {
    if (others()) return i < me ? i : i + 1;
    return list != nullptr ? list[i] : rank[i];
  }

  // Lists one peer more, in its place in the order.
  TUTTI_HD constexpr void add(int peer) {
    int i = count++;
    for (; i > 0 && rank[i - 1] > peer; --i) rank[i] = rank[i - 1];
    rank[i] = peer;
  }

  TUTTI_HD static constexpr Peers all_of(const int* ranks, int how_many) { return {how_many, false, {}, ranks}; }
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
  int dst_block = -1;  // keep the result in this block of `dst`; -1: do not
  int blocks = 1;      // blocks moved: consecutive ones, unless packed
  int run = 0;         // packed: so many consecutive blocks,
  int stride = 0;      // from the start of one run to that of the next
  Peers from = {}, to = {};
  Access access = Access::None;
  Buffer from_buffer = Buffer::Input;  // Remote: which buffer of the peers is read,
  int from_block = 0, to_block = 0;    // which block of it, and which block of the peers' output is written
  Buffer dst = Buffer::Output;         // or Scratch
  bool mirrored = false;               // packed: where the result is kept, the blocks go the other way
  bool passing = false;                // a later step writes the source block again, which is in the output

  TUTTI_HD constexpr bool packed() const { return run > 0; }
  // The i-th block on n ranks of those that are read (or travel), and of those that are kept.
  TUTTI_HD constexpr int source_at(int i, int n) const { return block_at(src_block, i, n, stride); }
  TUTTI_HD constexpr int target_at(int i, int n) const {
    return block_at(dst_block, i, n, mirrored ? -stride : stride);
  }
  // Opens, enters, leaves or closes: moves no bytes.
  TUTTI_HD constexpr bool meets() const { return access != Access::None && access != Access::Remote; }

 private:
  TUTTI_HD constexpr int block_at(int first, int i, int n, int apart) const {
    if (!packed()) return first + i;
    const int within = i % run;
    const int block = (first + i / run * apart + (apart < 0 ? -within : within)) % n;
    return block < 0 ? block + n : block;
  }
};

}  // namespace tutti
