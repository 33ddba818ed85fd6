// SPDX-License-Identifier: Apache-2.0
// CudaLane: one thread block that carries one schedule through advance(), as CpuLane does with a thread of a CPU.
//
// LaneBase has what all protocols share: peers, pieces, waiting, and why it ended. All threads of the block call every
// function together, and every answer is the same in all of them. The lanes themselves: SimpleLane here, those of lines
// in line_lanes.h, remote access in remote_lane.h; kernel.h chooses.
//
// A slice passes two barriers of the block:
//
//     can_receive, can_send   each thread waits for its peers, and notes where their slots are
//     barrier                 all slots are there, and known to all threads; or the lane has ended
//     apply                   all threads
//     barrier                 all bytes are read and written
//     post                    each thread publishes to, and credits, its peers
//
// Each wait is a call of wait(), which polls, looks now and then whether the host wants the kernel to end, and reports
// why it ended. Who has not everything it waits for publishes nothing: an end hands no bytes to peers.
#pragma once

#include "exec/cuda/span.h"
#include "exec/cuda/work.h"

namespace tutti::cuda {

// Polls between two looks at the host's control word, each of which crosses the PCI bus (about a microsecond, against
// some tenths for a poll of memory of a GPU).
inline constexpr int kPollsPerLook = 512;

// The factor of a pre-multiplied sum, where it lies in memory.
TUTTI_OUTLINE Scale stored_factor(const CudaWork& work) {
  Scale factor;
  with_type(work.type,
            [&]<class T>() { factor = Element<T, ReduceOp::Sum>::factor(*static_cast<const T*>(work.pre_at)); });
  return factor;
}

class LaneBase {
 public:
  TUTTI_DEVICE LaneBase(const CudaWork& work, const CudaBlock& block, bool may_wait)
      : work_(work),
        block_(block),
        may_wait_(may_wait),
        from_(reinterpret_cast<Place*>(block_memory())),
        to_(from_ + block.most_from),
        rounds_(work.layout.rounds(block.tiling)),
        pre_(work.pre_at == nullptr ? work.pre : stored_factor(work)) {}

  TUTTI_DEVICE uint64_t rounds() const { return rounds_; }
  TUTTI_DEVICE int slices(const Step& step) const { return block_.tiling.slices * step.blocks; }
  TUTTI_DEVICE bool empty(const Step& step, const Cursor& cursor) {
    piece_ = piece(step, cursor);
    return piece_.bytes == 0;
  }

 protected:
  // Until ready() is true. False: the lane ends here; the report says why. Where several threads wait together,
  // `any` makes one answer of theirs, so that they also end together.
  template <class Ready, class Any>
  TUTTI_DEVICE bool wait(Side side, int peer, int step, Ready ready, Any any) {
    if (ready()) return true;
    if (!may_wait_) return end(Ended::Blocked, side, peer, step);
    const uint64_t asked = load_relaxed(work_.control->ask);
    for (bool told = false;;) {
      for (int polls = 0; polls < kPollsPerLook; ++polls) {
        if (ready()) return true;
        let_others_run();
      }
      if (any(load_relaxed(work_.control->end) != 0)) return end(Ended::Stopped, side, peer, step);
      if (!told && load_relaxed(work_.control->ask) != asked) {
        told = true;
        end(Ended::Waiting, side, peer, step);
      }
    }
  }
  template <class Ready>
  TUTTI_DEVICE bool wait(Side side, int peer, int step, Ready ready) {
    return wait(side, peer, step, ready, [](bool mine) { return mine; });
  }
  // Always false.
  TUTTI_DEVICE bool end(Ended why, Side side, int peer, int step) {
    const Report report{why, side, peer, static_cast<uint32_t>(step)};
    store_relaxed(work_.reports[block_index() - work_.first_block], report.word());
    return false;
  }

  // The positions among `peers` that this thread looks after. A peer has the same thread in every step: what a step
  // leaves in an end is there for the next without a barrier in between.
  template <class Each>
  TUTTI_DEVICE void for_my_peers(const Peers& peers, Each each) const {
    if (peers.others()) {
      for (int peer = thread_index(); peer < work_.n; peer += thread_count()) {
        if (peer != work_.me) each(peer - (peer > work_.me));
      }
      return;
    }
    for (int i = 0; i < peers.count; ++i) {
      if (peers.at(i, work_.me) % thread_count() == thread_index()) each(i);
    }
  }
  template <class Each>
  TUTTI_DEVICE void for_my_senders(const Step& step, Each each) const {
    for_my_peers(step.from, each);
  }
  template <class Each>
  TUTTI_DEVICE void for_my_receivers(const Step& step, Each each) const {
    if (!fans_out(step)) return for_my_peers(step.to, each);
    if (thread_index() == 0) each(0);
  }
  TUTTI_DEVICE int from_count(const Step& step) const { return step.from.size(work_.n); }
  TUTTI_DEVICE int from_peer(const Step& step, int i) const { return step.from.at(i, work_.me); }
  TUTTI_DEVICE CudaReceiveEnd& receive_end(const Step& step, int i) const {
    const bool fan = step.from.fan && block_.fan_receive != nullptr;
    return (fan ? block_.fan_receive : block_.receive)[from_peer(step, i)];
  }
  TUTTI_DEVICE bool fans_out(const Step& step) const { return step.to.fan && block_.fan_send != nullptr; }
  TUTTI_DEVICE int to_count(const Step& step) const { return fans_out(step) ? 1 : step.to.size(work_.n); }
  TUTTI_DEVICE int to_peer(const Step& step, int i) const { return fans_out(step) ? -1 : step.to.at(i, work_.me); }
  TUTTI_DEVICE CudaSendEnd& send_end(const Step& step, int i) const {
    return fans_out(step) ? *block_.fan_send : block_.send[to_peer(step, i)];
  }

  TUTTI_DEVICE Piece piece(const Step& step, const Cursor& cursor) const {
    return piece_on_wire(work_.layout, block_.tiling, step, cursor);
  }
  TUTTI_DEVICE Piece piece_of_output(const Step& step, int block, const Cursor& cursor) const {
    return work_.layout.output.piece(block_.tiling, block, step.blocks, cursor.round, cursor.slice);
  }
  TUTTI_DEVICE std::byte* kept_base(Buffer buffer) const {
    return buffer == Buffer::Scratch ? work_.scratch : work_.output;
  }
  TUTTI_DEVICE const std::byte* base(Buffer buffer) const {
    return buffer == Buffer::Input ? work_.input : kept_base(buffer);
  }

  TUTTI_DEVICE bool scales_in(const Step& step) const {
    return step.src == Buffer::Input && pre_.kind != Scale::Kind::None;
  }
  TUTTI_DEVICE bool combines(const Step& step) const { return step.reduce || scales_in(step); }

  // The span of a slice, but for local operand and kept result.
  TUTTI_DEVICE Span span_of(const Step& step, int from, int to) const {
    Span span;
    span.from = from_;
    span.from_count = from;
    span.to = to_;
    span.to_count = to;
    if (step.src != Buffer::None) {
      while (span.local_index < from && from_peer(step, span.local_index) < work_.me) ++span.local_index;
    }
    return span;
  }
  // Calls move(span) for each run of bytes that lie together.
  template <class Move>
  TUTTI_DEVICE void for_runs(const Step& step, const Cursor& cursor, Span span, Move move) const {
    const Layout& blocks = work_.layout.output;
#pragma unroll 1
    for (; span.at < piece_.bytes; span.at += span.bytes) {
      span.bytes = piece_.bytes;
      if (!step.packed()) {
        if (step.src != Buffer::None) span.local = base(step.src) + piece_.offset;
        if (step.dst_block >= 0) span.kept = kept_base(step.dst) + piece_of_output(step, step.dst_block, cursor).offset;
      } else {
        const Layout::PackedPart in_row = blocks.packed_part(piece_.offset + span.at);
        span.bytes = in_row.bytes < piece_.bytes - span.at ? in_row.bytes : piece_.bytes - span.at;
        if (step.src != Buffer::None)
          span.local = base(step.src) + blocks.offset_in(step.source_at(in_row.i, work_.n), in_row.within);
        if (step.dst_block >= 0)
          span.kept = kept_base(step.dst) + blocks.offset_in(step.target_at(in_row.i, work_.n), in_row.within);
      }
      move(span);
    }
  }
  // Combines or copies, as the step says.
  TUTTI_DEVICE void move_span(const Step& step, Span span) const {
    if (!combines(step)) return copy(span);
    set_scales(step, span);
    combine_elements(work_.type, work_.op, span);
  }
  TUTTI_DEVICE void set_scales(const Step& step, Span& span) const {
    if (scales_in(step)) span.pre = &pre_;
    if (step.last && work_.post.kind != Scale::Kind::None) span.post = &work_.post;
  }

  const CudaWork& work_;
  const CudaBlock& block_;
  const bool may_wait_;
  Place* const from_;  // in shared memory: where the current slices of peers are,
  Place* const to_;    // and where they go
  const uint64_t rounds_;
  const Scale pre_;
  Piece piece_;     // of the current slice
  bool ok_ = true;  // all waits of this thread so far; a lane that has ended does not begin again
};

class SimpleLane : public LaneBase {
 public:
  using LaneBase::LaneBase;

  // The answer is can_send's, for both.
  TUTTI_DEVICE bool can_receive(const Step& step, const Cursor& cursor) {
    for_my_senders(step, [&](int i) {
      if (!ok_) return;
      SimpleReceiver& end = receive_end(step, i).simple;
      end.cut(block_.cut);
      ok_ = wait(Side::Receive, from_peer(step, i), cursor.step, [&] { return end.ready(); });
      // Once per call and peer: the first slot says what its sender was asked to do.
      if (ok_ && cursor.round == 0 && cursor.slice == 0 && !end.matches(work_.identity))
        ok_ = this->end(Ended::Mismatch, Side::Receive, from_peer(step, i), cursor.step);
      from_[i].at = const_cast<std::byte*>(end.slot());
    });
    return true;
  }
  TUTTI_DEVICE bool can_send(const Step& step, const Cursor& cursor) {
    for_my_receivers(step, [&](int i) {
      if (!ok_) return;
      SimpleSender& end = send_end(step, i).simple;
      ok_ = wait(Side::Send, to_peer(step, i), cursor.step, [&] { return end.cut(block_.cut) && end.has_room(); });
      to_[i].at = end.slot();
    });
    return block_all(ok_);
  }
  TUTTI_DEVICE void apply(const Step& step, const Cursor& cursor) {
    for_runs(step, cursor, span_of(step, from_count(step), to_count(step)),
             [&](const Span& span) { move_span(step, span); });
    block_barrier();
  }
  TUTTI_DEVICE void post(const Step& step, const Cursor&) {
    for_my_receivers(step, [&](int i) { send_end(step, i).simple.publish(piece_.bytes, work_.identity); });
    for_my_senders(step, [&](int i) { receive_end(step, i).simple.release(); });
  }
};

}  // namespace tutti::cuda
