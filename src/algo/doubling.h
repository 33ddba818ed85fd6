// SPDX-License-Identifier: Apache-2.0
// Doubling schedules: in exchange j a rank talks to the one whose number differs in bit j. log2(n) exchanges.
// Doubling (whole buffers) is for small messages on networks, halving and doubling for medium ones.
//
// Where n is not a power of two, the reductions fold: ranks 0 ... 2 * extra - 1 pair up, the odd one of each pair hands
// its input to the even one before, and gets the result after. The even ones and all ranks from 2 * extra on are the
// 2^log_n *members*; member numbers follow rank order, so each exchange combines runs of neighbouring ranks.
//
//   n = 6    rank    0   1   2   3   4   5        extra = 2
//            member  0 <-1   1 <-3   2   3
#pragma once

#include "algo/schedule.h"

namespace tutti {

struct DoublingArgs : ScheduleArgs {
  TUTTI_HD constexpr int log_n() const { return floor_log2(n); }
  TUTTI_HD constexpr int members() const { return 1 << log_n(); }
  TUTTI_HD constexpr int extra() const { return n - members(); }
  TUTTI_HD constexpr bool in_pair() const { return me < 2 * extra(); }
  TUTTI_HD constexpr bool retired() const { return in_pair() && me % 2 == 1; }
  TUTTI_HD constexpr bool folds() const { return in_pair() && me % 2 == 0; }  // a member that serves a retired rank
  TUTTI_HD constexpr int keeper() const { return me - 1; }                    // of a retired rank
  TUTTI_HD constexpr int member() const { return in_pair() ? me / 2 : me - extra(); }
  TUTTI_HD constexpr int partner(int exchange) const {
    const int other = member() ^ (1 << exchange);
    return other < extra() ? 2 * other : other + extra();
  }
};

// Recursive doubling. Each step combines what arrived with what is there, keeps it and sends it on to the next partner.
//
//   rank 0 of 8    k     0     1     2     3
//                  move  S     RRCS  RRCS  RRC
//                  from        1     2     4
//                  to    1     2     4
//
// Invariant: what leaves after j exchanges is the sum over the 2^j members that agree with me in bits j and above,
// combined in the same order on each of them, so all ranks get the same bits.
struct DoublingAllReduce : DoublingArgs {
  TUTTI_HD constexpr int steps() const { return n == 1 ? 1 : retired() ? 2 : log_n() + 1; }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(true);
    if (retired()) {
      if (k == 0) return {.src = Buffer::Input, .to = Peers::one(keeper())};
      return {.dst_block = 0, .from = Peers::one(keeper())};
    }
    if (k == 0) {
      if (!folds()) return {.src = Buffer::Input, .to = Peers::one(partner(0))};
      return {.src = Buffer::Input,
              .reduce = true,
              .dst_block = 0,
              .from = Peers::one(me + 1),
              .to = Peers::one(partner(0))};
    }
    Step step{.src = k == 1 && !folds() ? Buffer::Input : Buffer::Output,
              .reduce = true,
              .last = k == log_n(),
              .dst_block = 0,
              .from = Peers::one(partner(k - 1))};
    if (k < log_n()) step.to = Peers::one(partner(k));
    if (k == log_n() && folds()) step.to = Peers::one(me + 1);
    return step;
  }
};

// Recursive doubling for n a power of two: each exchange doubles the run of blocks I have. Runs of blocks move as one
// range of bytes, so the blocks must be adjacent and move in a single round.
//
//   rank 0 of 8    k       0     1     2     3     4     5
//                  move    CS    RC    S     RC    S     RC
//                  blocks  0     1     0-1   2-3   0-3   4-7
//                  from          1           2           4
//                  to      1           2           4
//
// Invariant: after j exchanges I have the 2^j blocks of the ranks that agree with me in bits j and above.
struct DoublingAllGather : DoublingArgs {
  TUTTI_HD constexpr int steps() const { return n == 1 ? 1 : 2 * log_n(); }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(false);
    if (k == 0) return {.src = Buffer::Input, .dst_block = me, .to = Peers::one(partner(0))};
    const int exchange = k / 2, run = 1 << exchange;
    const int mine = me / run * run;
    if (k % 2 == 0) {
      return {.src = Buffer::Output, .src_block = mine, .blocks = run, .to = Peers::one(partner(exchange))};
    }
    return {.dst_block = mine ^ run, .blocks = run, .from = Peers::one(partner(exchange))};
  }
};

// Reduce-scatter by recursive halving, then all-gather by recursive doubling, over the 2^log_n blocks of a region.
// Halving starts with the nearest partner and the most data. Partial sums accumulate in the output.
//
//   rank 0 of 4    k       0     1     2     3     4     5     6
//                  move    S     RRC   S     RRCS  RC    S     RC
//                  blocks  2-3   0-1   1     0     1     0-1   2-3
//                  from          1           2     2           1
//                  to      1           2     2           1
//
// Invariant: after j halvings I hold, in the run of members() / 2^j blocks that bits 0 ... j - 1 of my number select,
// the sum over the 2^j members that agree with me in bits j and above. Doubling walks the same runs back.
struct HalvingDoublingAllReduce : DoublingArgs {
  TUTTI_HD constexpr int steps() const { return n == 1 ? 1 : retired() ? 2 : 4 * log_n() - 1 + 2 * folds(); }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(true);
    if (retired()) {
      if (k == 0) return {.src = Buffer::Input, .blocks = members(), .to = Peers::one(keeper())};
      return {.dst_block = 0, .blocks = members(), .from = Peers::one(keeper())};
    }
    if (folds()) {
      const Peers other = Peers::one(me + 1);
      if (k == 0) {
        return {.src = Buffer::Input, .reduce = true, .dst_block = 0, .blocks = members(), .from = other};
      }
      if (k == 4 * log_n()) return {.src = Buffer::Output, .blocks = members(), .to = other};
      k -= 1;
    }
    return k < 2 * log_n() ? halving(k) : doubling(k - 2 * log_n());
  }

 private:
  // Exchange j sends the half of my run that my partner keeps, then reduces what it sends into mine. The last one ends
  // with a complete block, which leaves at once.
  TUTTI_HD constexpr Step halving(int k) const {
    const int exchange = k / 2, run = members() >> (exchange + 1);
    const int kept = first_block(exchange + 1);
    const Buffer src = exchange == 0 && !folds() ? Buffer::Input : Buffer::Output;
    const Peers peer = Peers::one(partner(exchange));
    if (k % 2 == 0) return {.src = src, .src_block = kept ^ run, .blocks = run, .to = peer};
    const bool last = exchange == log_n() - 1;
    return {.src = src,
            .reduce = true,
            .last = last,
            .src_block = kept,
            .dst_block = kept,
            .blocks = run,
            .from = peer,
            .to = last ? peer : Peers{}};
  }
  // Steps: receive from the last partner, then send and receive for each exchange before it.
  TUTTI_HD constexpr Step doubling(int k) const {
    const int exchange = log_n() - 1 - (k + 1) / 2, run = members() >> (exchange + 1);
    const int mine = first_block(exchange + 1);
    const Peers peer = Peers::one(partner(exchange));
    if (k % 2 == 1) return {.src = Buffer::Output, .src_block = mine, .blocks = run, .to = peer};
    return {.dst_block = mine ^ run, .blocks = run, .from = peer};
  }
  // The first block of my run after this many halvings: bit j of my number selects the upper half in exchange j.
  TUTTI_HD constexpr int first_block(int halvings) const {
    int first = 0;
    for (int j = 0; j < halvings; ++j) first += (member() >> j & 1) * (members() >> (j + 1));
    return first;
  }
};

}  // namespace tutti
