// SPDX-License-Identifier: Apache-2.0
// CpuLane: one schedule of one channel, carried by a CPU thread through mapped slots or local staging slots.
//
// Implements the lane concept of exec/run_schedule.h. Slices are reduced and copied straight between user buffers and
// slots, so a slice that arrives is read once and a slice that leaves is written once. Not here: who calls advance()
// and what it does while a lane is blocked (lane_set.h, waiter.h).
#pragma once

#include <fmt/core.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "algo/catalog.h"
#include "exec/cpu/landing_steps.h"
#include "exec/cpu/lane_run.h"
#include "exec/cpu/move_list.h"
#include "exec/cpu/reduce/reduce.h"
#include "exec/run_schedule.h"
#include "transports/transport.h"

namespace tutti {

// The connections of one channel, by rank; those that no schedule has named yet are null.
struct Ports {
  std::vector<SendEnd*> send;
  std::vector<ReceiveEnd*> receive;
  std::vector<ReceiveEnd*> fan_receive;  // empty: no fan-out here, steps that ask for it use the pairs
  SendEnd* fan_send = nullptr;
};

// One slice for the reduction. `scaled`: the source that the call's factor applies to; -1: none.
struct SliceReduction {
  const void* const* sources;
  int source_count;
  void* const* destinations;
  int destination_count;
  uint32_t streamed;
  uint64_t bytes;
  int scaled = -1;
  bool scale_out = false;
};
inline constexpr int kMostDestinations = 32;  // of one reduction or copy: one bit each in Reduction::streamed

inline void reduce_slice(const LaneCall& call, const SliceReduction& slice) {
  Reduction reduction{slice.sources,
                      slice.source_count,
                      -1,
                      slice.destinations,
                      slice.destination_count,
                      slice.streamed,
                      slice.bytes / call.element_bytes,
                      {},
                      {}};
  if (slice.destination_count > kMostDestinations) reduction.destination_count = 1;  // the rest gets copies below
  if (slice.scaled >= 0) {
    reduction.scaled_source = slice.scaled;
    reduction.pre = call.pre;
  }
  if (slice.scale_out) reduction.post = call.post;
  call.reduce(reduction);
  for (int i = reduction.destination_count; i < slice.destination_count; i += kMostDestinations)
    copy_bytes(&slice.destinations[i], std::min(slice.destination_count - i, kMostDestinations), 0,
               slice.destinations[0], slice.bytes);
}

template <Proto kProto>
class CpuLane {
 public:
  // `cycled`: so many slots of the same size where they are cycled through (cut()).
  CpuLane(const Ports& ports, const Tiling& tiling, SlotCut cut, uint64_t cycled, int n)
      : ports_(ports), tiling_(tiling), cut_(cut), cycled_cut_{cut.bytes, cycled} {
    sources_.resize(static_cast<size_t>(n) + 1);
    destinations_.resize(static_cast<size_t>(n) + 1);
  }

  void bind(const LaneCall& call) {
    call_ = &call;
    rounds_ = call.layout.rounds(tiling_);
    forget_progress();
    piece_of_ = kNowhere;
    mismatched_ = -1;
    wish_ = {};
    if (call.lands) wished_.assign(static_cast<size_t>(call.n), 0);
  }

  // Networks that write to where a slice stays (Landings): says of the slices ahead of `cursor` where that is, as far
  // as the ends take it and the schedule lets it be written early (landing_steps.h). Call it before the lane moves.
  template <class Schedule>
  void wish_ahead(const Schedule& schedule, const Cursor& cursor) requires(kProto == Proto::Simple) {
    if (!call_->lands) return;
    if (landing_steps_.empty()) landing_steps_ = find_landing_steps(schedule, call_->n);
    if (before(wish_, cursor)) {
      wish_ = cursor;
      std::fill(wished_.begin(), wished_.end(), 0);
    }
    while (wish_.round < rounds_ && wish_for(schedule.at(wish_.step), cursor)) {
      if (++wish_.slice < slices(schedule.at(wish_.step))) continue;
      wish_.slice = 0;
      if (++wish_.step < schedule.steps()) continue;
      wish_.step = 0;
      ++wish_.round;
    }
  }

  uint64_t rounds() const { return rounds_; }
  int slices(const Step& step) const { return tiling_.slices * step.blocks; }

  bool empty(const Step& step, const Cursor& cursor) {
    if (!(cursor == piece_of_)) {  // a blocked slice is asked again and again
      piece_ = piece(step, cursor);
      piece_of_ = cursor;
    }
    return piece_.bytes == 0;
  }

  bool can_receive(const Step& step, const Cursor& cursor) {
    const int count = step.from.size(call_->n);
    for (; received_ < count; ++received_) {
      const int peer = step.from.at(received_, call_->me);
      ReceiveEnd& end = receive_end(step, peer);
      if constexpr (kProto == Proto::LL) {
        if (step.from.fan && call_->cores != nullptr) end.ll.take_near(call_->cores->beside_me(peer));
        if (!end.ll.ready(call_->identity)) return false;
      } else {
        if (!end.simple.ready()) {
          if (end.landing != nullptr) ask_to_land(step, cursor, end);
          return false;
        }
        end.simple.cut_as_sent();
        // Once per call and peer: the first slot says what its sender was asked to do.
        if (cursor.round == 0 && cursor.slice == 0 && !end.simple.matches(call_->identity)) {
          mismatched_ = peer;
          return false;
        }
      }
    }
    return true;
  }

  bool can_send(const Step& step, const Cursor&) {
    const int count = send_count(step);
    for (; sendable_ < count; ++sendable_) {
      if constexpr (kProto == Proto::LL) {
        if (!ll_sender(step, sendable_).has_room()) return false;
      } else {
        SendEnd& end = send_end(step, sendable_);
        if (!cut(step, end) || !end.simple.has_room(cut_.count)) return false;
      }
    }
    return true;
  }

  void apply(const Step& step, const Cursor& cursor) {
    if (step.packed()) [[unlikely]]
      return apply_packed(step);
    const Piece what = piece_;
    Part part{.bytes = what.bytes};
    if (step.src != Buffer::None) part.local = base(step.src) + what.offset;
    if (step.dst_block >= 0) {
      const Piece where = call_->layout.output.piece(tiling_, step.dst_block, step.blocks, cursor.round, cursor.slice);
      part.kept = kept_base(step.dst) + where.offset;
      part.stream_kept = call_->stream_output;
    }
    const std::byte* const loan = on_loan(step, part);
    const int to = send_count(step), slots = to - lend(step, loan);
    if (slots < to && loan != part.local) part.stream_kept = false;  // the output: it is read again at once
    part.stream_slots = slots > 0 && streams_slots(step);
    move_part(step, part);
    call_->slot_stores->settle(what.bytes);
  }

  void post(const Step& step, const Cursor&) {
    const int to = send_count(step);
    for (int i = 0; i < to; ++i) {
      if constexpr (kProto == Proto::LL) {
        ll_sender(step, i).publish(call_->identity);
      } else {
        send_end(step, i).simple.publish(piece_.bytes, call_->identity);
      }
    }
    const int from = step.from.size(call_->n);
    for (int i = 0; i < from; ++i) {
      ReceiveEnd& end = receive_end(step, step.from.at(i, call_->me));
      if constexpr (kProto == Proto::LL) {
        end.ll.release();
      } else {
        end.simple.release();
        if (call_->lands) one_less_ahead(step.from.at(i, call_->me));
      }
    }
    forget_progress();
  }

  // The slices of this call in the order in which advance() moves them, with everything looked up (straight_run.h).
  // Empty when they are too many, or packed.
  template <class Schedule>
  MoveList list_moves(const Schedule& schedule) const requires(kProto == Proto::LL) {
    MoveList list;
    for (Cursor at; at.round < rounds_ && schedule.steps() > 0; ++at.round) {
      for (at.step = 0; at.step < schedule.steps(); ++at.step) {
        const Step step = schedule.at(at.step);
        if (step.packed()) return {};
        for (at.slice = 0; at.slice < slices(step); ++at.slice) {
          if (piece(step, at).bytes == 0) continue;
          if (list.moves.size() == MoveList::kMostMoves) return {};
          add_move(list, step, at);
        }
      }
    }
    return list;
  }

  // The blocked slice needs a rank of this thread's core.
  bool waits_beside(const Step& step, const CoreMap& cores) const {
    if (lacks_beside(step, cores, received_)) return true;
    if (received_ < step.from.size(call_->n) || sendable_ == send_count(step)) return false;
    return fans_out(step) || cores.beside_me(step.to.at(sendable_, call_->me));
  }
  // The step reads from a rank of this thread's core, not before the `first`, that has not sent to it yet.
  bool lacks_beside(const Step& step, const CoreMap& cores, int first = 0) const {
    const int count = step.from.size(call_->n);
    for (int i = first; i < count; ++i) {
      const int peer = step.from.at(i, call_->me);
      if (!cores.beside_me(peer)) continue;
      ReceiveEnd& end = receive_end(step, peer);
      if constexpr (kProto == Proto::LL) {
        if (!end.ll.ready(call_->identity)) return true;
      } else {
        if (!end.simple.ready()) return true;
      }
    }
    return false;
  }

  // For messages, off the fast path. The rank whose slot does not match this call (-1: none), and whom we wait for.
  int find_mismatch(const Step& step) const {
    if (mismatched_ >= 0) return mismatched_;
    if constexpr (kProto == Proto::LL) {
      const int count = step.from.size(call_->n);
      for (int i = 0; i < count; ++i) {
        const int peer = step.from.at(i, call_->me);
        if (receive_end(step, peer).ll.mismatched(call_->identity)) return peer;
      }
    }
    return -1;
  }
  // -1: nobody, or a whole host's ranks.
  int waiting_peer(const Step& step) const {
    if (received_ < step.from.size(call_->n)) return step.from.at(received_, call_->me);
    if (sendable_ < send_count(step) && !fans_out(step)) return step.to.at(sendable_, call_->me);
    return -1;
  }
  std::string waiting_for(const Step& step) const {
    if (received_ < step.from.size(call_->n))
      return fmt::format("data from rank {}", step.from.at(received_, call_->me));
    if (sendable_ < send_count(step)) {
      if (fans_out(step)) return "free slots at the other ranks of this host";
      return fmt::format("a free slot at rank {}", step.to.at(sendable_, call_->me));
    }
    return "nothing";
  }

 private:
  static constexpr Cursor kNowhere{UINT64_MAX, -1, -1};

  void forget_progress() { received_ = sendable_ = 0; }
  static constexpr bool before(const Cursor& a, const Cursor& b) {
    if (a.round != b.round) return a.round < b.round;
    return a.step != b.step ? a.step < b.step : a.slice < b.slice;
  }

  bool fans_out(const Step& step) const { return step.to.fan && !ports_.fan_receive.empty(); }
  // A fan-out's near slots are one more destination.
  bool to_near(const Step& step, int i) const { return i > 0 && fans_out(step); }
  int send_count(const Step& step) const {
    if (!fans_out(step)) return step.to.size(call_->n);
    return kProto == Proto::LL && ports_.fan_send->has_near ? 2 : 1;
  }
  LLSender& ll_sender(const Step& step, int i) const {
    return to_near(step, i) ? ports_.fan_send->ll_near : send_end(step, i).ll;
  }
  SendEnd& send_end(const Step& step, int i) const {
    return fans_out(step) ? *ports_.fan_send : *ports_.send[static_cast<size_t>(step.to.at(i, call_->me))];
  }
  // To a rank that is not known to be on this thread's core. Of a fan-out's readers some are elsewhere, as a rule.
  bool sends_away(const Step& step, int i) const {
    if (fans_out(step)) return !to_near(step, i);
    return call_->cores == nullptr || !call_->cores->beside_me(step.to.at(i, call_->me));
  }
  bool sends_away(const Step& step) const {
    for (int i = 0; i < send_count(step); ++i) {
      if (sends_away(step, i)) return true;
    }
    return false;
  }
  // Slots are cycled through until their lines have left the cache of the core that read them. A core of its own cache
  // is another matter, and so are stores past the caches: there few slots are best. Where there is no choice, receivers
  // that do not look at the tail (kernels of a GPU) take the plan's cut for granted.
  bool cut(const Step& step, SendEnd& end) const {
    if (cycled_cut_ == cut_) return end.simple.cut(cut_);
    const bool cycles = sends_away(step, sendable_) && !call_->slot_stores->streaming();
    return end.simple.cut(cycles ? cycled_cut_ : cut_, cut_.count);
  }
  ReceiveEnd& receive_end(const Step& step, int peer) const {
    const bool fan = step.from.fan && !ports_.fan_receive.empty();
    return *(fan ? ports_.fan_receive : ports_.receive)[static_cast<size_t>(peer)];
  }
  static const std::byte* received(const ReceiveEnd& end) {
    if constexpr (kProto == Proto::LL) return end.ll.payload();
    if (end.landing != nullptr && end.landing->landed[end.simple.place()] != nullptr)
      return end.landing->landed[end.simple.place()];
    if (end.landings != nullptr && end.landings->landed[end.simple.place()] != nullptr)
      return end.landings->landed[end.simple.place()];
    return end.simple.slot();
  }
  std::byte* outgoing(const Step& step, int i) const {
    if constexpr (kProto == Proto::LL) return ll_sender(step, i).payload();
    return send_end(step, i).simple.slot();
  }

  // The slice on the wire: of the source block where there is one, else of the block it is kept in. Packed: counted in
  // the row of the step's blocks.
  Piece piece(const Step& step, const Cursor& cursor) const {
    if (step.packed()) [[unlikely]]
      return call_->layout.output.packed_slice(tiling_, step, cursor.slice);
    if (step.src == Buffer::Input)
      return call_->layout.input.piece(tiling_, step.src_block, step.blocks, cursor.round, cursor.slice);
    const int block = step.src != Buffer::None ? step.src_block : step.dst_block;
    return call_->layout.output.piece(tiling_, block, step.blocks, cursor.round, cursor.slice);
  }

  // What is moved at once: bytes that lie together, in the slots from `at` on.
  struct Part {
    const std::byte* local = nullptr;  // the own operand
    std::byte* kept = nullptr;         // where the result stays
    uint64_t at = 0, bytes = 0;
    bool stream_kept = false, stream_slots = false;
  };

  // Networks (transport.h): from where this slice may leave without a copy to slots, which is where it stays as it is
  // until it has left: in an input that the call does not overwrite, or in its final place. Null: from nowhere.
  const std::byte* on_loan(const Step& step, const Part& part) const {
    if (kProto == Proto::LL || !call_->lends || part.bytes < kLendFrom) return nullptr;
    const bool only_copies = call_->reduce == nullptr, copies = !combines(step);
    if (copies && step.src == Buffer::Input && call_->input_stays) return part.local;
    if (copies && step.src == Buffer::Output && only_copies) return step.passing ? nullptr : part.local;
    const bool final = step.last || (only_copies && step.src == Buffer::None);
    return final && step.dst == Buffer::Output ? part.kept : nullptr;
  }
  // Lends it to the ends that take loans; how many these are.
  int lend(const Step& step, const std::byte* bytes) {
    if constexpr (kProto == Proto::LL) return 0;
    int count = 0;
    for (int i = 0; i < send_count(step); ++i) {
      SendEnd& end = send_end(step, i);
      if (end.loans == nullptr) continue;
      end.loans->lend(end.simple.place(), bytes);
      count += bytes != nullptr;
    }
    return count;
  }
  static bool lent(const SendEnd& end) {
    if constexpr (kProto == Proto::LL) return false;
    return end.loans != nullptr && end.loans->at[end.simple.place()] != nullptr;
  }
  // Networks: a slice that is only kept shall go there at once.
  void ask_to_land(const Step& step, const Cursor& cursor, ReceiveEnd& end) {
    Landing& landing = *end.landing;
    const uint64_t flag = end.simple.awaited_flag(call_->identity);
    if (landing.flag == flag) return;  // asked before
    landing.flag = flag;
    landing.to = nullptr;
    if (step.packed() || step.reduce || step.src != Buffer::None || step.dst_block < 0 || piece_.bytes < kLendFrom)
      return;
    landing.to = kept_base(step.dst) +
                 call_->layout.output.piece(tiling_, step.dst_block, step.blocks, cursor.round, cursor.slice).offset;
    landing.bytes = piece_.bytes;
  }

  void one_less_ahead(int peer) {
    uint64_t& ahead = wished_[static_cast<size_t>(peer)];
    if (ahead > 0) --ahead;  // 0: the lane has overtaken its wishes
  }
  // The slice at wish_: true once it has been spoken of to all ends that it comes from.
  bool wish_for(const Step& step, const Cursor& cursor) {
    if (step.from.none() || piece(step, wish_).bytes == 0) return true;
    const int count = step.from.size(call_->n);
    for (int i = 0; i < count; ++i)
      if (wished_[static_cast<size_t>(step.from.at(i, call_->me))] >= Landings::kMostAhead) return false;
    Landings::Wish wish;
    const LandingStep& may = landing_steps_[static_cast<size_t>(wish_.step)];
    const uint64_t bytes = piece(step, wish_).bytes;
    if (may.lands && bytes >= kLendFrom) {
      const int from = call_->input_stays ? may.after : call_->reduce != nullptr ? may.after_in_place : may.after_input;
      // An earlier step of this round still needs what is there.
      if (from > 0 && before(cursor, {wish_.round, from, 0})) return false;
      wish.to = kept_base(step.dst) +
                call_->layout.output.piece(tiling_, step.dst_block, step.blocks, wish_.round, wish_.slice).offset;
      wish.bytes = bytes;
    }
    for (int i = 0; i < count; ++i) {
      const int peer = step.from.at(i, call_->me);
      ReceiveEnd& end = receive_end(step, peer);
      const uint64_t ahead = wished_[static_cast<size_t>(peer)]++;
      if (end.landings == nullptr) continue;
      const uint64_t flag = end.simple.awaited_flag(call_->identity);
      const uint64_t position = (flag & kPositionMask) - 1 + ahead;
      wish.flag = make_flag(position, call_->identity);
      end.landings->wishes[position % SimpleMemory::kMostInFlight] = wish;
      end.landings->wished = position + 1;
    }
    return true;
  }

  // Blocks of all buffers are of one length here, side by side.
  void apply_packed(const Step& step) {
    const Layout& blocks = call_->layout.output;
    (void)lend(step, nullptr);
    const bool stream_slots = send_count(step) > 0 && streams_slots(step);
    for (Part part{.stream_slots = stream_slots}; part.at < piece_.bytes; part.at += part.bytes) {
      const Layout::PackedPart in_row = blocks.packed_part(piece_.offset + part.at);
      part.bytes = std::min(in_row.bytes, piece_.bytes - part.at);
      if (step.src != Buffer::None)
        part.local = base(step.src) + blocks.offset_in(step.source_at(in_row.i, call_->n), in_row.within);
      if (step.dst_block >= 0)
        part.kept = kept_base(step.dst) + blocks.offset_in(step.target_at(in_row.i, call_->n), in_row.within);
      move_part(step, part);
    }
    call_->slot_stores->settle(piece_.bytes);
  }
  // Whether this slice goes into slots past the caches. SlotStores::settle() follows.
  bool streams_slots(const Step& step) {
    SlotStores& stores = *call_->slot_stores;
    const auto away = [&] { return sends_away(step); };
    return combines(step) ? stores.stream_reduced(piece_.bytes, away) : stores.stream(piece_.bytes, away);
  }
  bool scales_in(const Step& step) const { return call_->has_pre && step.src == Buffer::Input; }
  bool combines(const Step& step) const { return step.reduce || scales_in(step); }

  void move_part(const Step& step, const Part& part) {
    // Sources in increasing rank order, the local operand at my place.
    int sources = 0, scaled = -1;
    bool placed = part.local == nullptr;
    const int from = step.from.size(call_->n);
    for (int i = 0; i < from; ++i) {
      const int peer = step.from.at(i, call_->me);
      if (!placed && peer > call_->me) {
        scaled = sources;
        sources_[sources++] = part.local;
        placed = true;
      }
      sources_[sources++] = received(receive_end(step, peer)) + part.at;
    }
    if (!placed) {
      scaled = sources;
      sources_[sources++] = part.local;
    }

    int destinations = 0;
    uint32_t streamed = 0;
    if (part.kept != nullptr) {
      streamed = part.stream_kept ? 1 : 0;
      destinations_[destinations++] = part.kept;
    }
    const int to = send_count(step);
    for (int i = 0; i < to; ++i) {
      SendEnd& end = send_end(step, i);
      if (lent(end)) continue;
      if (part.stream_slots && destinations < kMostDestinations && sends_away(step, i))
        streamed |= uint32_t{1} << destinations;
      destinations_[destinations++] = outgoing(step, i) + part.at;
    }

    if (combines(step)) {
      reduce_slice(*call_, {sources_.data(), sources, destinations_.data(), destinations, streamed, part.bytes,
                            scales_in(step) ? scaled : -1, step.last && call_->has_post});
      return;
    }
    void** first = destinations_.data();
    if (destinations > 0 && *first == sources_[0]) {  // in place: the block is where it belongs
      ++first, --destinations;
      streamed >>= 1;
    }
    for (; destinations > 0; first += kMostDestinations, destinations -= kMostDestinations, streamed = 0)
      copy_bytes(first, std::min(destinations, kMostDestinations), streamed, sources_[0], part.bytes);
  }
  void add_move(MoveList& list, const Step& step, const Cursor& cursor) const {
    const Piece what = piece(step, cursor);
    Move move;
    move.bytes = what.bytes;
    move.src = step.src;
    move.src_offset = what.offset;
    move.from_begin = static_cast<uint32_t>(list.from.size());
    const int from = step.from.size(call_->n);
    for (int i = 0; i < from; ++i) {
      const int peer = step.from.at(i, call_->me);
      if (step.src != Buffer::None && move.own < 0 && peer > call_->me) move.own = i;
      list.from.push_back({&receive_end(step, peer).ll, peer, step.from.fan});
    }
    if (step.src != Buffer::None && move.own < 0) move.own = from;
    move.from_count = static_cast<uint32_t>(from);
    move.to_begin = static_cast<uint32_t>(list.to.size());
    for (int i = 0; i < send_count(step); ++i)
      list.to.push_back({&ll_sender(step, i), fans_out(step) ? -1 : step.to.at(i, call_->me), to_near(step, i)});
    move.to_count = static_cast<uint32_t>(list.to.size()) - move.to_begin;
    if (step.dst_block >= 0) {
      move.keeps = true;
      move.dst_offset =
          call_->layout.output.piece(tiling_, step.dst_block, step.blocks, cursor.round, cursor.slice).offset;
    }
    move.scale_in = call_->has_pre && step.src == Buffer::Input;
    move.scale_out = step.last && call_->has_post;
    move.combines = step.reduce || move.scale_in;
    list.moves.push_back(move);
  }
  const std::byte* base(Buffer buffer) const { return buffer == Buffer::Input ? call_->input : kept_base(buffer); }
  std::byte* kept_base(Buffer buffer) const { return buffer == Buffer::Scratch ? call_->scratch : call_->output; }

  const Ports& ports_;
  const Tiling tiling_;
  const SlotCut cut_, cycled_cut_;
  const LaneCall* call_ = nullptr;
  uint64_t rounds_ = 0;
  Piece piece_;  // of the slice at piece_of_
  Cursor piece_of_ = kNowhere;
  int received_ = 0, sendable_ = 0;  // peers of the current slice already seen ready
  int mismatched_ = -1;
  Cursor wish_;                             // the first slice that has not been spoken of (wish_ahead)
  std::vector<uint64_t> wished_;            // by peer: how many of its slices have been, beyond the current one
  std::vector<LandingStep> landing_steps_;  // of the schedule, once they are needed
  std::vector<const void*> sources_;
  std::vector<void*> destinations_;
};

}  // namespace tutti
