// SPDX-License-Identifier: Apache-2.0
// RmaLane: a schedule of remote access (algo/rma.h), carried by a CPU thread. Peers' buffers are read and written where
// they are; slots only carry openings.
//
// Implements the lane concept of exec/run_schedule.h. A source that only the kernel can reach is copied to where it
// belongs, or, to be reduced, piece by piece into a scratch that stays in the L2.
//
// A rank may bring a buffer that peers cannot use as the schedule needs (outside all windows, or input and output
// overlapping). Every rank sees every opening, so all know it alike: then the schedule ends without having touched a
// buffer (refused()), and the caller runs another plan.
//
// Factors of a pre-multiplied sum are known to their own rank only, so such calls go through slots (the planner).
//
// Not here: who calls advance() and what it does while a lane is blocked (lane_set.h, waiter.h).
#pragma once

#include <fmt/core.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "algo/catalog.h"
#include "exec/cpu/cpu_lane.h"
#include "exec/run_schedule.h"
#include "transports/remote/remote_memory.h"

namespace tutti {

class RmaLane {
 public:
  // `needs` is the catalog row's mask.
  RmaLane(const Ports& ports, const RemoteMemory& memory, const Tiling& tiling, unsigned needs, bool reduces, int n)
      : ports_(ports),
        memory_(memory),
        tiling_(tiling),
        needs_(needs),
        openings_(static_cast<size_t>(n)),
        sources_(static_cast<size_t>(n)),
        origins_(static_cast<size_t>(n)),
        destinations_(static_cast<size_t>(n)) {
    const auto others = static_cast<uint64_t>(std::max(n - 1, 1));
    if (!reduces) return;
    scratch_piece_ = std::clamp(kScratchBytes / others / kTileAlign * kTileAlign, kLeastPiece, kMostPiece);
    scratch_.reset(new std::byte[others * scratch_piece_]);
  }

  // `call` outlives the run.
  void bind(const LaneCall& call) {
    call_ = &call;
    rounds_ = call.layout.rounds(tiling_);
    refused_ = !fits(call.opening);
    waited_ = 0;
    failure_ = {};
    mismatched_ = -1;
  }

  uint64_t rounds() const { return rounds_; }
  int slices(const Step& step) const { return step.meets() ? 1 : tiling_.slices * step.blocks; }

  bool empty(const Step& step, const Cursor& cursor) const {
    if (step.meets()) return false;
    return refused_ || piece(step, cursor).bytes == 0;
  }

  bool can_receive(const Step& step, const Cursor&) {
    if (!failure_.ok()) [[unlikely]]
      return false;
    if (step.access != Access::Enter) return true;
    const int count = step.from.size(call_->n);
    for (; waited_ < count; ++waited_) {
      const int peer = step.from.at(waited_, call_->me);
      ReceiveEnd& end = receive_end(step, peer);
      if (!end.simple.ready()) return false;
      if (!end.simple.opens(call_->identity)) {
        mismatched_ = peer;
        return false;
      }
      const Opening& theirs = openings_[static_cast<size_t>(peer)] = end.simple.opening();
      refused_ |= !fits(theirs);
    }
    waited_ = 0;
    return true;
  }

  bool can_send(const Step& step, const Cursor&) {
    if (step.access != Access::Open && step.access != Access::Close) return true;
    const int count = send_count(step);
    for (; waited_ < count; ++waited_) {
      if (!send_end(step, waited_).simple.drained()) return false;
    }
    waited_ = 0;
    return true;
  }

  void apply(const Step& step, const Cursor& cursor) {
    switch (step.access) {
      case Access::Open:
        for (int i = 0; i < send_count(step); ++i) send_end(step, i).simple.open(call_->opening, call_->identity);
        return;
      case Access::Leave:
        for (int i = 0; i < step.from.size(call_->n); ++i)
          receive_end(step, step.from.at(i, call_->me)).simple.release();
        return;
      case Access::Enter:
      case Access::Close:
        return;
      case Access::None:
      case Access::Remote:
        move(step, cursor);
    }
  }
  void post(const Step&, const Cursor&) {}

  // All ranks alike know that the schedule cannot serve this call; nothing was moved.
  bool refused() const { return refused_; }
  const Status& failure() const { return failure_; }

  // A peer of this thread's core has not opened its buffers yet, or not left mine.
  bool waits_beside(const Step& step, const CoreMap& cores) const {
    if (step.access == Access::Enter) {
      for (int i = waited_; i < step.from.size(call_->n); ++i) {
        const int peer = step.from.at(i, call_->me);
        if (cores.beside_me(peer) && !receive_end(step, peer).simple.ready()) return true;
      }
      return false;
    }
    if (step.access != Access::Open && step.access != Access::Close) return false;
    return fans_out(step.to) || (waited_ < step.to.size(call_->n) && cores.beside_me(step.to.at(waited_, call_->me)));
  }

  // For messages, off the fast path.
  int find_mismatch(const Step&) const { return mismatched_; }
  // -1: nobody, or a whole host's ranks.
  int waiting_peer(const Step& step) const {
    if (step.access == Access::Enter && waited_ < step.from.size(call_->n)) return step.from.at(waited_, call_->me);
    const bool sends = step.access == Access::Open || step.access == Access::Close;
    if (sends && !fans_out(step.to) && waited_ < step.to.size(call_->n)) return step.to.at(waited_, call_->me);
    return -1;
  }
  std::string waiting_for(const Step& step) const {
    if (step.access == Access::Enter && waited_ < step.from.size(call_->n))
      return fmt::format("the buffers of rank {}", step.from.at(waited_, call_->me));
    if (step.access == Access::Open || step.access == Access::Close) {
      if (fans_out(step.to)) return "the other ranks of this host, which use this rank's buffers";
      return fmt::format("rank {}, which uses this rank's buffers", step.to.at(waited_, call_->me));
    }
    return "nothing";
  }

 private:
  // Of the scratch: half of a common L2, and calls of the kernel that are long enough to be worth their price.
  static constexpr uint64_t kScratchBytes = 512 << 10;
  static constexpr uint64_t kLeastPiece = 16 << 10, kMostPiece = 128 << 10;

  bool fits(const Opening& opening) const {
    if (!memory_.has_window(opening.input_window) || !memory_.has_window(opening.output_window)) return false;
    if ((needs_ & kOutOfPlace) && opening.in_place != 0) return false;
    const bool in_windows =
        ((opening.unused & 1) || opening.input_window != 0) && ((opening.unused & 2) || opening.output_window != 0);
    return in_windows || (call_->single_copy && !(needs_ & kWindows));
  }

  bool fans_out(const Peers& peers) const { return peers.fan && !ports_.fan_receive.empty(); }
  int send_count(const Step& step) const { return fans_out(step.to) ? 1 : step.to.size(call_->n); }
  SendEnd& send_end(const Step& step, int i) const {
    return fans_out(step.to) ? *ports_.fan_send : *ports_.send[static_cast<size_t>(step.to.at(i, call_->me))];
  }
  ReceiveEnd& receive_end(const Step& step, int peer) const {
    return *(fans_out(step.from) ? ports_.fan_receive : ports_.receive)[static_cast<size_t>(peer)];
  }

  Piece piece(const Step& step, const Cursor& cursor) const {
    if (step.src == Buffer::Input)
      return call_->layout.input.piece(tiling_, step.src_block, step.blocks, cursor.round, cursor.slice);
    const int block = step.src == Buffer::Output ? step.src_block : step.dst_block;
    return call_->layout.output.piece(tiling_, block, step.blocks, cursor.round, cursor.slice);
  }
  RemoteAddress remote(int peer, Buffer buffer, int block, const Cursor& cursor) const {
    const Opening& opening = openings_[static_cast<size_t>(peer)];
    const bool input = buffer == Buffer::Input;
    const Piece there =
        (input ? call_->layout.input : call_->layout.output).piece(tiling_, block, 1, cursor.round, cursor.slice);
    return memory_.find(peer, input ? opening.input_window : opening.output_window,
                        (input ? opening.input : opening.output) + there.offset);
  }

  void move(const Step& step, const Cursor& cursor) {
    const Piece what = piece(step, cursor);
    // Sources in increasing rank order, the local operand at my place.
    int sources = 0;
    bool kernel = false;
    const auto add_local = [&] {
      origins_[static_cast<size_t>(sources++)] = {
          call_->me,
          {const_cast<std::byte*>(step.src == Buffer::Input ? call_->input : call_->output) + what.offset, 0}};
    };
    bool placed = step.src == Buffer::None;
    const bool access = step.access == Access::Remote;
    for (int i = 0; access && i < step.from.size(call_->n); ++i) {
      const int peer = step.from.at(i, call_->me);
      if (!placed && peer > call_->me) add_local(), placed = true;
      const RemoteAddress there = remote(peer, step.from_buffer, step.from_block, cursor);
      kernel |= there.mapped == nullptr;
      origins_[static_cast<size_t>(sources++)] = {peer, there};
    }
    if (!placed) add_local();

    int destinations = 0;
    if (step.dst_block >= 0) {
      const Piece where = call_->layout.output.piece(tiling_, step.dst_block, step.blocks, cursor.round, cursor.slice);
      destinations_[static_cast<size_t>(destinations++)] = call_->output + where.offset;
    }
    for (int i = 0; access && i < step.to.size(call_->n); ++i)
      destinations_[static_cast<size_t>(destinations++)] =
          remote(step.to.at(i, call_->me), Buffer::Output, step.to_block, cursor).mapped;

    if (!step.reduce) return copy(step, origins_[0], destinations, what.bytes);
    // Without the kernel one reduction; with it, pieces that fit the scratch.
    const uint64_t most = kernel ? scratch_piece_ : what.bytes;
    for (uint64_t done = 0; done < what.bytes; done += most) {
      const uint64_t bytes = std::min(most, what.bytes - done);
      if (!reduce(step, sources, destinations, done, bytes)) return;
    }
  }

  struct Origin {
    int rank;
    RemoteAddress at;
  };

  // To a peer that is not known to be on this thread's core.
  bool pushes_away(const Step& step) const {
    for (int i = 0; i < step.to.size(call_->n); ++i) {
      if (call_->cores == nullptr || !call_->cores->beside_me(step.to.at(i, call_->me))) return true;
    }
    return false;
  }
  // Which of a step's destinations from the `first` on are written past the caches; `pushed`: those in peers' outputs.
  uint32_t streamed(const Step& step, int first, bool pushed) const {
    if (call_->stream_output) return ~0u;
    if (!pushed) return 0;
    return step.dst_block >= 0 && first == 0 ? ~1u : ~0u;  // my own output comes before them
  }

  void copy(const Step& step, const Origin& origin, int destinations, uint64_t bytes) {
    const auto* from = static_cast<const std::byte*>(origin.at.mapped);
    if (from == nullptr) {
      failure_ = memory_.read(origin.rank, destinations_[0], origin.at.address, bytes);
      if (!failure_.ok()) return;
      from = static_cast<const std::byte*>(destinations_[0]);
    }
    // In place, or what the kernel has just brought.
    const int done = destinations > 0 && destinations_[0] == from ? 1 : 0;
    const auto put = [&](uint64_t at, uint64_t part, bool pushed) {
      for (int d = done; d < destinations; d += kMostDestinations) {
        void* to[kMostDestinations];
        const int count = std::min(destinations - d, kMostDestinations);
        for (int i = 0; i < count; ++i) to[i] = static_cast<std::byte*>(destinations_[static_cast<size_t>(d + i)]) + at;
        copy_bytes(to, count, streamed(step, d, pushed), from + at, part);
      }
    };
    if (step.access != Access::Remote || step.to.none()) return put(0, bytes, false);
    call_->push_stores->write(
        bytes, [&] { return pushes_away(step); }, put);
  }

  bool reduce(const Step& step, int sources, int destinations, uint64_t offset, uint64_t bytes) {
    std::byte* scratch = scratch_.get();
    for (int s = 0; s < sources; ++s) {
      const Origin& origin = origins_[static_cast<size_t>(s)];
      if (origin.at.mapped != nullptr) {
        sources_[static_cast<size_t>(s)] = origin.at.mapped + offset;
        continue;
      }
      failure_ = memory_.read(origin.rank, scratch, origin.at.address + offset, bytes);
      if (!failure_.ok()) return false;
      sources_[static_cast<size_t>(s)] = scratch;
      scratch += scratch_piece_;
    }
    // The time of a reduction says nothing about its stores. So when it is time for a trial the result is copied.
    const bool pushes = step.access == Access::Remote && !step.to.none();
    const auto away = [&] { return pushes_away(step); };
    const bool trial = pushes && step.dst_block >= 0 && call_->push_stores->trial_due(bytes, away);
    const bool pushed = pushes && call_->push_stores->stream_reduced(bytes, away);
    void* to[kMostDestinations];
    const int direct = trial ? 1 : std::min(destinations, kMostDestinations);
    for (int d = 0; d < direct; ++d) to[d] = static_cast<std::byte*>(destinations_[static_cast<size_t>(d)]) + offset;
    Reduction reduction{sources_.data(),
                        sources,
                        -1,
                        to,
                        direct,
                        streamed(step, 0, pushed) & ~0u >> (32 - direct),
                        bytes / call_->element_bytes,
                        {},
                        {}};
    if (step.last && call_->has_post) reduction.post = call_->post;
    call_->reduce(reduction);
    const auto put = [&](uint64_t at, uint64_t part, bool stream) {
      for (int d = direct; d < destinations; ++d) {
        void* rest = static_cast<std::byte*>(destinations_[static_cast<size_t>(d)]) + offset + at;
        copy_bytes(&rest, 1, stream ? 1 : 0, static_cast<const std::byte*>(to[0]) + at, part);
      }
    };
    if (trial) {
      call_->push_stores->write(bytes, away, put);
    } else {
      put(0, bytes, pushed);
    }
    return true;
  }

  const Ports& ports_;
  const RemoteMemory& memory_;
  const Tiling tiling_;
  const unsigned needs_;
  const LaneCall* call_ = nullptr;
  uint64_t rounds_ = 0;
  bool refused_ = false;
  int waited_ = 0;  // peers of the current step already seen ready
  int mismatched_ = -1;
  Status failure_;
  std::vector<Opening> openings_;  // by rank, of this call
  std::vector<const void*> sources_;
  std::vector<Origin> origins_;
  std::vector<void*> destinations_;
  uint64_t scratch_piece_ = 0;
  std::unique_ptr<std::byte[]> scratch_;  // a piece of each peer's input
};

}  // namespace tutti
