// SPDX-License-Identifier: Apache-2.0
// All-reduce on a two-dimensional torus: the ranks are a grid, and only rings along its rows and columns are used. As
// many bytes as on one ring, in a + b steps instead of a * b. For many ranks, and for networks that are such a torus.
//
// Rows are the hosts where these have equally many ranks in consecutive numbers; otherwise the grid is as square as n
// allows. Channels alternate between rows first and columns first, so that both directions carry data at all times.
#pragma once

#include "algo/schedule.h"

namespace tutti {

// The largest divisor of n that is not above its root.
TUTTI_HD constexpr int square_side(int n) {
  int side = 1;
  for (int a = 2; a * a <= n; ++a) {
    if (n % a == 0) side = a;
  }
  return side;
}

struct Torus {
  int rows = 1, columns = 1;  // rank = row * columns + column

  TUTTI_HD static constexpr Torus of(int n, const HostMap* hosts) {
    if (hosts != nullptr && hosts->hierarchical() && hosts->even()) return {hosts->hosts, hosts->columns};
    const int rows = square_side(n);
    return {rows, n / rows};
  }
};

// A reduce-scatter along the first dimension (a ranks), an all-reduce along the second (b ranks) of the part that is
// left, an all-gather along the first. Block (x, y) is number x * b + y; chunk x is the run of b blocks from (x, 0) on.
//
//   place (p, q), a = b = 2   k     0     1      2       3        4      5      6
//                             move  S     RRC    OS      ORRCS    RC     OS     RC
//                             of    1-p   p      (p,1-q) (p,q)    (p,1-q) p     1-p      chunks and blocks
//
// Invariant: after the first ring chunk p is the sum over the first dimension, after the second it is complete.
struct TorusAllReduce : ScheduleArgs {
  Torus torus;
  constexpr TorusAllReduce(const ScheduleArgs& args) : ScheduleArgs(args), torus(Torus::of(n, hosts)) {}

  TUTTI_HD constexpr int steps() const { return n == 1 ? 1 : 2 * a() + 2 * b() - 1; }
  TUTTI_HD constexpr Step at(int k) const {
    if (n == 1) return local_step(true);
    if (k < a()) return gathering_sums(k);
    k -= a();
    if (k < 2 * b() - 1) return completing(k);
    return handing_out(k - 2 * b() + 1);
  }

 private:
  TUTTI_HD constexpr bool rows_first() const { return channel % 2 == 0; }
  TUTTI_HD constexpr int row() const { return me / torus.columns; }
  TUTTI_HD constexpr int column() const { return me % torus.columns; }
  TUTTI_HD constexpr int a() const { return rows_first() ? torus.columns : torus.rows; }
  TUTTI_HD constexpr int b() const { return rows_first() ? torus.rows : torus.columns; }
  TUTTI_HD constexpr int p() const { return rows_first() ? column() : row(); }
  TUTTI_HD constexpr int q() const { return rows_first() ? row() : column(); }
  TUTTI_HD constexpr Peers at_place(int p, int q) const {
    return Peers::one(rows_first() ? q * torus.columns + p : p * torus.columns + q);
  }
  TUTTI_HD constexpr Peers next_p() const { return at_place((p() + 1) % a(), q()); }
  TUTTI_HD constexpr Peers previous_p() const { return at_place(wrap(p() - 1, a()), q()); }
  TUTTI_HD constexpr Peers next_q() const { return at_place(p(), (q() + 1) % b()); }
  TUTTI_HD constexpr Peers previous_q() const { return at_place(p(), wrap(q() - 1, b())); }

  TUTTI_HD constexpr Step gathering_sums(int k) const {
    const int chunk = (p() - 1 - k + 2 * a()) % a() * b();
    Step step{.src = Buffer::Input, .reduce = k > 0, .src_block = chunk, .blocks = b()};
    if (k > 0) step.from = previous_p();
    if (k < a() - 1) step.to = next_p();
    if (k == a() - 1) step.dst_block = chunk;
    return step;
  }
  TUTTI_HD constexpr Step completing(int k) const {
    const int block = p() * b() + (q() - 1 - k + 2 * b()) % b();
    Step step;
    if (k > 0) step.from = previous_q();
    if (k < 2 * b() - 2) step.to = next_q();
    if (k < b()) {
      step.src = Buffer::Output;
      step.src_block = block;
      step.reduce = k > 0;
      step.last = k == b() - 1;
    }
    if (k >= b() - 1) step.dst_block = block;
    return step;
  }
  TUTTI_HD constexpr Step handing_out(int k) const {
    const int chunk = wrap(p() - k, a()) * b();
    if (k == 0) return {.src = Buffer::Output, .src_block = chunk, .blocks = b(), .to = next_p()};
    return {.dst_block = chunk, .blocks = b(), .from = previous_p(), .to = k < a() - 1 ? next_p() : Peers{}};
  }
};

}  // namespace tutti
