// SPDX-License-Identifier: Apache-2.0
// Stepped launches: a call of one rank as a row of launches whose kernels never wait, with values between them that the
// stream waits for. For GPUs that several processes share: two kernels of theirs need not be on the GPU together.
//
//   stream   wait head, tail ... | kernel: one slice | wait ... | kernel: the next slice | ...
//
// Why nothing waits for itself. The blocks of a launch carry the same schedule in different channels, so that all are
// at the same {round, step, slice}: a launch is one move of the schedule, in as many channels. Before it the stream
// waits for just what this move needs, as a lane of a CPU does. So the ranks' streams do what the prover's lanes do
// (exec/sim), and come to the end as these do. Parts of a channel (the two ways of a tree) are at different places, and
// are not planned. The messages of a group are carried slice by slice: number k of all sends, then number k of all
// receives. A send's slice k needs the peer's receive of slice k - slots; a receive's slice k needs the peer's send of
// slice k.
//
// Positions are those of the ends (proto/slots.h), counted along on the host: nothing else tells them.
#pragma once

#include <cstdint>
#include <vector>

#include "algo/catalog.h"
#include "exec/cuda/peer_arena.h"
#include "exec/cuda/work.h"
#include "plan/plan.h"

namespace tutti::cuda {

// What a stream waits for: a word of the rank's own.
struct StepWait {
  uint64_t at = 0;  // offset in the words of the rank
  uint64_t least = 0;
  int peer = 0;
  int step = 0;
  Side side = Side::Receive;
};

// The positions of one rank's connections.
class StepPositions {
 public:
  StepPositions() = default;
  explicit StepPositions(const PeerWords& words) : words_(words), links_(words.connections()) {}

  void send(Use use, int channel, int peer, SlotCut cut, int step, std::vector<StepWait>& waits);
  void receive(Use use, int channel, int peer, int step, std::vector<StepWait>& waits);

 private:
  struct Link {
    uint64_t sent = 0, received = 0;
    SlotCut cut;
  };
  PeerWords words_;
  std::vector<Link> links_;
};

// One block of a placed plan, as the host walks along with it.
struct WalkedBlock {
  AnySchedule schedule;
  Tiling tiling;
  SlotCut cut;
  Use use = Use::Collective;
};

// The walk of one block through one call.
class StepWalk {
 public:
  // `block` outlives this.
  StepWalk(const WalkedBlock& block, const CollLayout& layout, int me, int n)
      : block_(&block), layout_(layout), me_(me), n_(n), rounds_(layout.rounds(block.tiling)) {}

  bool ended() const { return cursor_.round >= rounds_ || block_->schedule.steps() == 0; }
  // One call of advance(). True: it moves bytes, once `waits` are met.
  bool move(StepPositions& positions, std::vector<StepWait>& waits);

 private:
  const WalkedBlock* block_;
  CollLayout layout_;
  int me_, n_;
  uint64_t rounds_;
  Cursor cursor_;
};

// Blocks that are launched together.
struct StepTurn {
  uint32_t moves = 0;
  std::vector<StepWait> waits;
};
// Their next launch; moves 0: all have ended.
StepTurn next_turn(std::vector<StepWalk>& walks, StepPositions& positions);

// Whether all channels of the plan walk alike, on every rank, as they have to. `args`: what is alike on them.
bool walks_alike(const Plan& plan, ScheduleArgs args);

}  // namespace tutti::cuda
