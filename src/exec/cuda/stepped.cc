// SPDX-License-Identifier: Apache-2.0
#include "exec/cuda/stepped.h"

#include <algorithm>
#include <cstddef>

namespace tutti::cuda {
namespace {

bool same_peers(const Peers& a, const Peers& b, int me, int n) {
  if (a.size(n) != b.size(n)) return false;
  for (int i = 0; i < a.size(n); ++i) {
    if (a.at(i, me) != b.at(i, me)) return false;
  }
  return true;
}

}  // namespace

void StepPositions::send(Use use, int channel, int peer, SlotCut cut, int step, std::vector<StepWait>& waits) {
  const uint64_t index = words_.index(use, channel, peer);
  Link& link = links_[index];
  // As SimpleSender: all slots free before they are cut anew, then one free slot.
  uint64_t least = link.sent + 1 > cut.count ? link.sent + 1 - cut.count : 0;
  if (!(link.cut == cut)) least = link.sent;
  link.cut = cut;
  ++link.sent;
  if (least > 0)
    waits.push_back(
        {index * sizeof(PeerWords::Words) + offsetof(PeerWords::Words, head), least, peer, step, Side::Send});
}

void StepPositions::receive(Use use, int channel, int peer, int step, std::vector<StepWait>& waits) {
  const uint64_t index = words_.index(use, channel, peer);
  waits.push_back({index * sizeof(PeerWords::Words) + offsetof(PeerWords::Words, tail), ++links_[index].received, peer,
                   step, Side::Receive});
}

bool StepWalk::move(StepPositions& positions, std::vector<StepWait>& waits) {
  if (ended()) return false;
  const Step step = block_->schedule.at(cursor_.step);
  const bool moves = piece_on_wire(layout_, block_->tiling, step, cursor_).bytes > 0;
  if (moves) {
    const int channel = block_->tiling.channel;
    for (int i = 0; i < step.from.size(n_); ++i)
      positions.receive(block_->use, channel, step.from.at(i, me_), cursor_.step, waits);
    for (int i = 0; i < step.to.size(n_); ++i)
      positions.send(block_->use, channel, step.to.at(i, me_), block_->cut, cursor_.step, waits);
  }
  if (++cursor_.slice < block_->tiling.slices * step.blocks) return moves;
  cursor_.slice = 0;
  if (++cursor_.step < block_->schedule.steps()) return moves;
  cursor_.step = 0;
  ++cursor_.round;
  return moves;
}

StepTurn next_turn(std::vector<StepWalk>& walks, StepPositions& positions) {
  StepTurn turn;
  for (bool moved = false; !moved;) {
    if (std::all_of(walks.begin(), walks.end(), [](const StepWalk& one) { return one.ended(); })) {
      turn.moves = 0;  // what is left moves nothing
      return turn;
    }
    ++turn.moves;
    for (StepWalk& one : walks) moved |= one.move(positions, turn.waits);
  }
  return turn;
}

bool walks_alike(const Plan& plan, ScheduleArgs args) {
  if (plan.parts > 1) return false;
  args.part = 0;
  for (args.me = 0; args.me < args.n; ++args.me) {
    args.channel = 0;
    const AnySchedule first = make_schedule(plan.coll, plan.algo, args);
    for (args.channel = 1; args.channel < plan.channels; ++args.channel) {
      const AnySchedule other = make_schedule(plan.coll, plan.algo, args);
      if (other.steps() != first.steps()) return false;
      for (int k = 0; k < first.steps(); ++k) {
        const Step a = first.at(k), b = other.at(k);
        if (a.blocks != b.blocks || !same_peers(a.from, b.from, args.me, args.n) ||
            !same_peers(a.to, b.to, args.me, args.n))
          return false;
      }
    }
  }
  return true;
}

}  // namespace tutti::cuda
