// SPDX-License-Identifier: Apache-2.0
// The prover: runs a schedule on all ranks with symbolic data, through the very advance() that moves real bytes, and
// says whether the result is right, or shows a counterexample.
//
// What is checked
//   * each rank's result is exactly what the collective promises: every contribution once, at its place, and for the
//     reductions the same expression on every rank and in every order (the same bits);
//   * nothing is read before it is written, an input is not read after an in-place result replaced it, an input out of
//     place is untouched, nothing outside the blocks is written;
//   * with `slots` slots per connection no order of events ends in a deadlock;
//   * on each connection the receiver takes the slices that the sender sends, in that order, and none remains;
//   * `last` stands exactly where a reduction is complete;
//   * buffers of peers are used only between entering and leaving, and every opening is closed.
//
// How far that goes: lanes read from named connections only and each connection has one sending lane, so what they
// exchange does not depend on the order in which lanes run (a Kahn network); orders matter where lanes of one rank
// share its buffers. Each proof runs several orders all the same. It holds for the shape it was given; the tests cover
// shapes.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "algo/catalog.h"
#include "base/status.h"

namespace tutti {

// What is to be proven. Lengths are multiples of `cell_bytes`, the smallest run of bytes told apart.
struct Proof {
  Coll coll = Coll::AllReduce;
  int n = 1;
  int root = 0;                    // SendRecv: the distance; each rank sends to me + root and receives from me - root
  int parts = 1;                   // lanes per channel
  const HostMap* hosts = nullptr;  // for schedules that ask which ranks share a host
  const ChannelMap* channel_map = nullptr;  // for those that run on rings and trees of a topology
  std::function<AnySchedule(const ScheduleArgs&)> schedule = {};

  uint64_t bytes = 64;  // what a rank contributes: the region, or one block
  // The V forms, instead of `bytes`: bytes of the block of rank r (AllGather, ReduceScatter), or of the block that rank
  // r sends to rank p at [r * n + p] (AllToAll). Blocks then lie in the buffers with gaps of one cell.
  std::vector<uint64_t> lengths = {};
  bool in_place = false;
  bool scratch = false;  // the lanes have n blocks of scratch memory

  int channels = 1, blocks = 1, slices = 1;
  uint64_t slice_bytes = 64;
  uint64_t cell_bytes = 32;
  int slots = 2;
  bool fan_out = true;  // false: what is meant for fan-out goes to each pair, as on TCP

  bool fixed_orders = true;  // ranks in turn, first rank first, last rank first
  int random_orders = 1;
  uint64_t seed = 1;
};

// The proof of one catalog row, with the fewest slots that the row asks for and something in every block.
Proof proof_of(const CatalogRow& row, Ranks ranks, int root = 0, int slices = 1);

// What was seen on the way; bytes are those of the busiest rank.
struct ProofStats {
  int hops = 0;  // messages on the longest chain
  uint64_t sent_bytes = 0, received_bytes = 0;
  uint64_t host_sent_bytes = 0;  // that leave the busiest host; 0 without a HostMap
  uint64_t messages = 0;
  uint64_t steps_without_data =
      0;  // of all lanes: steps that had nothing but empty slices, so nothing is proven of them
};

// What a proof comes to. The caller may have another remedy for each.
enum class Verdict : uint8_t {
  Proven,
  Deadlock,  // with these slots; more of them may do
  Wrong,
  Senseless,  // the proof itself makes no sense
};

// The measures of the first order, or the counterexample: rank, step, slice, block, what arrived and what was expected.
// InvalidArgument: the proof itself makes no sense. InternalError: the schedule is wrong.
// `verdict`, where given, is told which it was.
Result<ProofStats> prove(const Proof& proof, Verdict* verdict = nullptr);

}  // namespace tutti
