// SPDX-License-Identifier: Apache-2.0
// Packed schedules: logarithmically many messages for any number of ranks, each with many blocks side by side. For
// small blocks on many ranks, where the number of messages is what costs. Bruck et al., "Efficient algorithms for
// all-to-all communications in multiport message-passing systems" (1997) gives the patterns; that the far exchanges
// should be the small ones, and the reduce-scatter as the all-gather backwards, is NCCL's PAT (2024).
//
// An *offset* is a distance between ranks modulo n. Exchange j goes over the distance 2^j, to me + 2^j.
#pragma once

#include "algo/schedule.h"

namespace tutti {

struct PackedArgs : ScheduleArgs {
  TUTTI_HD constexpr int exchanges() const { return ceil_log2(n); }
  TUTTI_HD constexpr Peers ahead(int exchange) const { return Peers::one((me + (1 << exchange)) % n); }
  TUTTI_HD constexpr Peers behind(int exchange) const { return Peers::one(wrap(me - (1 << exchange), n)); }
  // Multiples of 2^(j + 1), from 0 on, that are still below n after adding 2^j.
  TUTTI_HD constexpr int spread(int exchange) const {
    const int step = 1 << exchange;
    return (n - step + 2 * step - 1) / (2 * step);
  }
};

// The near exchanges first: each doubles the run of blocks that a rank has.
//
//   rank 0 of 6    k       0     1     2     3     4     5
//                  move    CS    RC    S     RC    S     RC
//                  blocks  0     5     0 5   4 3   0 5   2 1
//                  from          5           4           2
//                  to      1           2           4
//
// Invariant: after j exchanges I have the blocks of the 2^j ranks up to me (of all when there are fewer).
struct BruckAllGather : PackedArgs {
  TUTTI_HD constexpr int steps() const { return n == 1 ? 1 : 2 * exchanges(); }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(false);
    const int exchange = k / 2, have = 1 << exchange;
    const int moved = have < n - have ? have : n - have;
    if (k == 0) return {.src = Buffer::Input, .dst_block = me, .to = ahead(0)};
    if (k % 2 == 0) {
      return {.src = Buffer::Output, .src_block = me, .blocks = moved, .run = 1, .stride = -1, .to = ahead(exchange)};
    }
    return {.dst_block = wrap(me - have, n), .blocks = moved, .run = 1, .stride = -1, .from = behind(exchange)};
  }
};

// The far exchanges first, while there is little to move.
//
//   rank 0 of 6    k       0     1     2     3     4      5
//                  move    CS    RC    S     RC    S      RC
//                  blocks  0     2     0     4     0 4 2  5 3 1
//                  from          2           4            5
//                  to      4           2           1
//
// Invariant: before exchange j I have the blocks at all offsets behind me that are multiples of 2^(j + 1).
struct PatAllGather : PackedArgs {
  TUTTI_HD constexpr int steps() const { return n == 1 ? 1 : 2 * exchanges(); }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(false);
    const int exchange = exchanges() - 1 - k / 2, apart = -(2 << exchange);
    if (k == 0) return {.src = Buffer::Input, .dst_block = me, .to = ahead(exchange)};
    if (k % 2 == 0) {
      return {.src = Buffer::Output,
              .src_block = me,
              .blocks = spread(exchange),
              .run = 1,
              .stride = apart,
              .to = ahead(exchange)};
    }
    return {.dst_block = wrap(me - (1 << exchange), n),
            .blocks = spread(exchange),
            .run = 1,
            .stride = apart,
            .from = behind(exchange)};
  }
};

// That backwards: the near exchanges first, with the most blocks. Sums are kept in scratch, at the number of the rank
// they are for.
//
//   rank 0 of 6    k       0      1      2      3      4      5
//                  move    S      RRC    S      RRC    S      RRC
//                  blocks  1 3 5  0 2 4  2      0      4      0
//                  from           5             4             2
//                  to      1             2             4
//
// Invariant: after exchange j I hold, for each offset ahead that is a multiple of 2^(j + 1), the sum over the ranks
// among me, me - 1, ..., me - 2^(j + 1) + 1 that the offset does not lead beyond once around.
struct PatReduceScatter : PackedArgs {
  TUTTI_HD constexpr int steps() const { return n == 1 ? 1 : 2 * exchanges() + uneven(); }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(true);
    // With an odd n nobody adds to the block of the rank behind me in the first exchange: it is set aside as it is.
    const int aside = wrap(me - 1, n);
    if (uneven() != 0 && k == 0) {
      return {
          .src = Buffer::Input, .src_block = aside, .dst_block = aside, .run = 1, .stride = 1, .dst = Buffer::Scratch};
    }
    k -= uneven();
    const int exchange = k / 2, apart = 2 << exchange;
    const Buffer held = exchange == 0 ? Buffer::Input : Buffer::Scratch;
    if (k % 2 == 0) {
      return {.src = held,
              .src_block = (me + (1 << exchange)) % n,
              .blocks = spread(exchange),
              .run = 1,
              .stride = apart,
              .to = ahead(exchange)};
    }
    const bool last = exchange == exchanges() - 1;
    return {.src = held,
            .reduce = true,
            .last = last,
            .src_block = me,
            .dst_block = last ? 0 : me,
            .blocks = spread(exchange),
            .run = 1,
            .stride = apart,
            .from = behind(exchange),
            .dst = last ? Buffer::Output : Buffer::Scratch};
  }

 private:
  TUTTI_HD constexpr int uneven() const { return n > 2 ? n % 2 : 0; }
};

// Each block travels over the distances whose bits are set in the offset of its receiver; place i of scratch holds the
// block on its way that has this offset in all.
//
//   rank 0 of 3    k       0      1      2      3      4      5
//                  move    C      S      RC     S      RC     C
//                  places  0 1 2  1      1      2      2      0 1 2
//                  from                  2             1
//                  to             1             2
//
// Invariant: after exchange j the block at place i is that of the rank as far behind me as the bits 0 ... j of i say,
// for the rank i further than that one. All input is read first, all output written last: in place works.
struct BruckAllToAll : PackedArgs {
  TUTTI_HD constexpr int steps() const { return n == 1 ? 1 : 2 * exchanges() + 2; }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(false);
    if (k == 0) {
      return {.src = Buffer::Input,
              .src_block = me,
              .dst_block = 0,
              .blocks = n,
              .run = 1,
              .stride = 1,
              .dst = Buffer::Scratch};
    }
    if (k == steps() - 1) {
      return {.src = Buffer::Scratch,
              .src_block = 0,
              .dst_block = me,
              .blocks = n,
              .run = 1,
              .stride = 1,
              .mirrored = true};
    }
    const int exchange = (k - 1) / 2, bit = 1 << exchange;
    Step step{.blocks = with_bit(bit), .run = bit, .stride = 2 * bit};
    if (k % 2 == 1) {
      step.src = Buffer::Scratch, step.src_block = bit, step.to = ahead(exchange);
    } else {
      step.dst = Buffer::Scratch, step.dst_block = bit, step.from = behind(exchange);
    }
    return step;
  }

 private:
  // Offsets below n that have this bit.
  TUTTI_HD constexpr int with_bit(int bit) const {
    const int rest = n % (2 * bit);
    return n / (2 * bit) * bit + (rest > bit ? rest - bit : 0);
  }
};

}  // namespace tutti
