// SPDX-License-Identifier: Apache-2.0
// MoveList: the slices of a short LL call in the order in which they move, with everything looked up: a schedule as
// MoveLane (straight_run.h) carries it. Made by CpuLane::list_moves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "algo/step.h"
#include "proto/slots.h"

namespace tutti {

// One slice of one step. Sources and destinations on the wire are runs of MoveList::from and MoveList::to.
struct Move {
  uint64_t bytes = 0;
  uint64_t src_offset = 0, dst_offset = 0;
  uint32_t from_begin = 0, from_count = 0;
  uint32_t to_begin = 0, to_count = 0;
  int own = -1;               // place of the local operand among the sources; -1: there is none
  Buffer src = Buffer::None;  // where it is
  bool keeps = false;         // the result goes to the output, at dst_offset
  bool combines = false;      // through the reduction: several sources, or a factor
  bool scale_in = false, scale_out = false;
};

struct MoveList {
  static constexpr size_t kMostMoves = 32;
  struct From {
    LLReceiver* end;
    int rank;
    bool fan;  // its fan-out, which may have near slots
  };
  struct To {
    LLSender* end;
    int rank;           // -1: a fan-out's readers
    bool near = false;  // the near slots of one, that is: those readers that are on this core
  };

  std::vector<Move> moves;
  std::vector<From> from;
  std::vector<To> to;

  int steps() const { return static_cast<int>(moves.size()); }
  const Move& at(int k) const { return moves[static_cast<size_t>(k)]; }
};

}  // namespace tutti
