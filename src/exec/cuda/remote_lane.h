// SPDX-License-Identifier: Apache-2.0
// RemoteLane: schedules of remote access (algo/rma.h) in a thread block. Peers' buffers are read and written where they
// are; Simple connections only carry openings.
//
// A peer's opening stays in the tail line of its connection until all have left, so it is read where it is.
//
// A buffer that cannot be used as the schedule needs is refused, as on the CPU (exec/cpu/rma_lane.h): in schedules in
// which every rank opens to all (kAllOpen), all blocks of all ranks find the same, move nothing from there on, leave
// and close as always, so that the connections stay as they should be, and report Ended::Refused in place of an end.
// The launch behind it, which does nothing otherwise, then carries the call through slots (CudaWork::after_refusal).
// Where the host knows all buffers beforehand it does not choose this lane for those that do not fit.
#pragma once

#include "exec/cuda/cuda_lane.h"

namespace tutti::cuda {

class RemoteLane : public LaneBase {
 public:
  using LaneBase::LaneBase;

  TUTTI_DEVICE int slices(const Step& step) const { return step.meets() ? 1 : LaneBase::slices(step); }
  TUTTI_DEVICE bool empty(const Step& step, const Cursor& cursor) {
    if (step.meets()) return false;
    return refused_ || LaneBase::empty(step, cursor);
  }
  // When all is done: the last word, whatever was answered to `ask` in between.
  TUTTI_DEVICE void conclude() {
    if (refused_ && thread_index() == 0) end(Ended::Refused, Side::Receive, -1, 0);
  }

  // The answer is can_send's, for both.
  TUTTI_DEVICE bool can_receive(const Step& step, const Cursor& cursor) {
    if (step.access == Access::Enter) enter(step, cursor);
    if (step.access == Access::Remote) find_peers(step, cursor);
    return true;
  }
  TUTTI_DEVICE bool can_send(const Step& step, const Cursor& cursor) {
    if (step.access == Access::Open && !fits(work_.opening)) refuse(work_.me, cursor);  // alike in all threads
    if (step.access == Access::Open || step.access == Access::Close) {
      for_my_receivers(step, [&](int i) {
        if (!ok_) return;
        SimpleSender& end = send_end(step, i).simple;
        ok_ = wait(Side::Send, to_peer(step, i), cursor.step, [&] { return end.drained(); });
      });
    }
    // One thread has seen the opening that the others have to know of.
    if (step.access == Access::Enter) refused_ = !block_all(!refused_);
    return block_all(ok_);
  }
  TUTTI_DEVICE void apply(const Step& step, const Cursor& cursor) {
    if (step.meets()) return;
    const bool remote = step.access == Access::Remote;
    for_runs(step, cursor, span_of(step, remote ? from_count(step) : 0, remote ? step.to.size(work_.n) : 0),
             [&](const Span& span) { move_span(step, span); });
    block_barrier();
  }
  TUTTI_DEVICE void post(const Step& step, const Cursor&) {
    if (step.access == Access::Open) {
      for_my_receivers(step, [&](int i) { send_end(step, i).simple.open(work_.opening, work_.identity); });
    } else if (step.access == Access::Leave) {
      for_my_senders(step, [&](int i) { receive_end(step, i).simple.release(); });
    }
  }

 private:
  TUTTI_DEVICE void enter(const Step& step, const Cursor& cursor) {
    for_my_senders(step, [&](int i) {
      if (!ok_) return;
      SimpleReceiver& end = receive_end(step, i).simple;
      const int peer = from_peer(step, i);
      ok_ = wait(Side::Receive, peer, cursor.step, [&] { return end.ready(); });
      if (!ok_) return;
      if (!end.opens(work_.identity)) {
        ok_ = this->end(Ended::Mismatch, Side::Receive, peer, cursor.step);
      } else if (!fits(end.opening())) {
        refuse(peer, cursor);
      }
    });
  }

  TUTTI_DEVICE void refuse(int peer, const Cursor& cursor) {
    refused_ = true;
    (void)end(Ended::Refused, Side::Receive, peer, cursor.step);
  }

  TUTTI_DEVICE bool fits(const Opening& opening) const {
    if (block_.needs_out_of_place && opening.in_place != 0) return false;
    if (opening.input_window >= work_.windows.count && opening.input_window != 0) return false;
    if (opening.output_window >= work_.windows.count && opening.output_window != 0) return false;
    const bool in_windows =
        ((opening.unused & 1) || opening.input_window != 0) && ((opening.unused & 2) || opening.output_window != 0);
    return in_windows || work_.windows.same_space;
  }

  TUTTI_DEVICE std::byte* address(int peer, uint32_t window, uint64_t offset) const {
    if (window == 0) return reinterpret_cast<std::byte*>(offset);
    return reinterpret_cast<std::byte*>(work_.windows.bases[window * static_cast<uint64_t>(work_.n) + peer] + offset);
  }
  // Peers that are read have opened to me in this step's direction; so have those that are written.
  TUTTI_DEVICE void find_peers(const Step& step, const Cursor& cursor) {
    const auto block = [&](const Layout& layout, int number) {
      return layout.piece(block_.tiling, number, 1, cursor.round, cursor.slice).offset;
    };
    for_my_senders(step, [&](int i) {
      const Opening& theirs = receive_end(step, i).simple.opening();
      from_[i].at = step.from_buffer == Buffer::Input
                        ? address(from_peer(step, i), theirs.input_window,
                                  theirs.input + block(work_.layout.input, step.from_block))
                        : address(from_peer(step, i), theirs.output_window,
                                  theirs.output + block(work_.layout.output, step.from_block));
    });
    for_my_peers(step.to, [&](int i) {
      const int peer = step.to.at(i, work_.me);
      const bool fan = step.to.fan && block_.fan_receive != nullptr;
      const Opening& theirs = (fan ? block_.fan_receive : block_.receive)[peer].simple.opening();
      to_[i].at = address(peer, theirs.output_window, theirs.output + block(work_.layout.output, step.to_block));
    });
  }

  bool refused_ = false;
};

}  // namespace tutti::cuda
