// SPDX-License-Identifier: Apache-2.0
// LLLane and LL128Lane: slots of lines with their own flags (proto/lines.h). Threads take what they need as it arrives
// and hand on what they have made at once, so a slice crosses a block without a barrier between its first and its last
// byte; only room in the peers' slots and the identity of the call are waited for beforehand.
//
// Data goes through registers 8 bytes (LL) or 16 bytes (LL128) a thread at a time. A line's share of a user buffer may
// be unaligned, end short, or (packed steps) lie in several places: then it goes element by element.
#pragma once

#include "exec/cuda/cuda_lane.h"

namespace tutti::cuda {

// The bytes of a slice as words of 8, wherever they lie in a buffer: the local operand, or what is kept. What is
// missing of the last word is zero.
class Row {
 public:
  // Null: no such buffer.
  TUTTI_DEVICE Row(std::byte* base, const Layout& blocks, const Step& step, bool kept, int n, const Piece& piece)
      : base_(base), blocks_(blocks), step_(step), kept_(kept), n_(n), piece_(piece) {}

  TUTTI_DEVICE uint64_t load(uint64_t at) const {
    const uint64_t bytes = piece_.bytes - at;
    return whole_word(at, bytes) ? reinterpret_cast<const Pack<8>*>(address(at))->word : gather(at, bytes);
  }
  TUTTI_DEVICE void store(uint64_t at, uint64_t word) const {
    const uint64_t bytes = piece_.bytes - at;
    if (!whole_word(at, bytes)) return scatter(at, bytes, word);
    reinterpret_cast<Pack<8>*>(address(at))->word = word;
  }

 private:
  // Bytes that lie together from byte `at` on: so many of them are left, or 0: more than a word.
  struct Spot {
    std::byte* place;
    uint64_t left;
    // The widest access that keeps within the word, of which byte `i` of `bytes` is here, and within what is left.
    TUTTI_DEVICE int width(uint64_t i, uint64_t bytes) const {
      const uint64_t low = reinterpret_cast<uintptr_t>(place) | i | left | (bytes < 8 ? bytes : 8);
      return low % 4 == 0 ? 4 : low % 2 == 0 ? 2 : 1;
    }
  };
  TUTTI_OUTLINE uint64_t gather(uint64_t at, uint64_t bytes) const {
    uint64_t word = 0;
    for (uint64_t i = 0; i < 8 && i < bytes;) {
      const Spot here = spot(at + i);
      const int width = here.width(i, bytes);
      const uint64_t part = width == 4   ? reinterpret_cast<const Pack<4>*>(here.place)->word
                            : width == 2 ? reinterpret_cast<const Pack<2>*>(here.place)->word
                                         : static_cast<uint64_t>(*here.place);
      word |= part << (8 * i);
      i += static_cast<uint64_t>(width);
    }
    return word;
  }
  TUTTI_OUTLINE void scatter(uint64_t at, uint64_t bytes, uint64_t word) const {
    for (uint64_t i = 0; i < 8 && i < bytes;) {
      const Spot here = spot(at + i);
      const int width = here.width(i, bytes);
      const uint64_t part = word >> (8 * i);
      if (width == 4) {
        reinterpret_cast<Pack<4>*>(here.place)->word = static_cast<uint32_t>(part);
      } else if (width == 2) {
        reinterpret_cast<Pack<2>*>(here.place)->word = static_cast<uint16_t>(part);
      } else {
        *here.place = static_cast<std::byte>(part);
      }
      i += static_cast<uint64_t>(width);
    }
  }
  TUTTI_DEVICE bool whole_word(uint64_t at, uint64_t bytes) const {
    return bytes >= 8 && !step_.packed() && reinterpret_cast<uintptr_t>(base_ + piece_.offset + at) % 8 == 0;
  }
  TUTTI_DEVICE std::byte* address(uint64_t at) const { return base_ + piece_.offset + at; }
  TUTTI_DEVICE Spot spot(uint64_t at) const {
    if (!step_.packed()) return {address(at), 0};
    const Layout::PackedPart part = blocks_.packed_part(piece_.offset + at);
    const int block = kept_ ? step_.target_at(part.i, n_) : step_.source_at(part.i, n_);
    return {base_ + blocks_.offset_in(block, part.within), part.bytes};
  }

  std::byte* const base_;
  const Layout& blocks_;
  const Step& step_;
  const bool kept_;
  const int n_;
  const Piece piece_;
};

// What the words of a line are while they pass through a block that does not combine.
template <int kBytes, int kPacks = 1>
struct Passed {
  TUTTI_DEVICE void take(const Span&, int, const Pack<kBytes> (&)[kPacks]) {}
  TUTTI_DEVICE void give(const Span&, Pack<kBytes> (&)[kPacks]) {}
};

// What both kinds share.
class LineLane : public LaneBase {
 public:
  using LaneBase::LaneBase;

 protected:
  // The span says who the sources are and what is scaled; its pointers are not used.
  TUTTI_DEVICE Span slice_span(const Step& step) const {
    Span span = span_of(step, from_count(step), to_count(step));
    if (step.src != Buffer::None) span.local = base(step.src);
    set_scales(step, span);
    span.bytes = piece_.bytes;
    return span;
  }
  TUTTI_DEVICE Row local_row(const Step& step) const {
    return {const_cast<std::byte*>(step.src == Buffer::None ? nullptr : base(step.src)),
            work_.layout.output,
            step,
            false,
            work_.n,
            piece_};
  }
  TUTTI_DEVICE Row kept_row(const Step& step, const Cursor& cursor) const {
    if (step.packed() || step.dst_block < 0)
      return {kept_base(step.dst), work_.layout.output, step, true, work_.n, piece_};
    return {kept_base(step.dst),
            work_.layout.output,
            step,
            true,
            work_.n,
            Piece{piece_of_output(step, step.dst_block, cursor).offset, piece_.bytes}};
  }
};

class LLLane : public LineLane {
 public:
  using LineLane::LineLane;

  // The answer is can_send's, for both.
  TUTTI_DEVICE bool can_receive(const Step& step, const Cursor& cursor) {
    for_my_senders(step, [&](int i) {
      if (!ok_) return;
      const LineReceiver& end = receive_end(step, i).ll;
      const int peer = from_peer(step, i);
      from_[i] = {const_cast<std::byte*>(end.slot()), ll_flag(end.position())};
      uint64_t identity = 0;
      ok_ = read(i, peer, 0, cursor.step, identity);
      if (ok_ && identity != work_.identity) ok_ = LaneBase::end(Ended::Mismatch, Side::Receive, peer, cursor.step);
    });
    return true;
  }
  TUTTI_DEVICE bool can_send(const Step& step, const Cursor& cursor) {
    for_my_receivers(step, [&](int i) {
      if (!ok_) return;
      LineSender& end = send_end(step, i).ll;
      ok_ = wait(Side::Send, to_peer(step, i), cursor.step, [&] { return end.has_room(); });
      to_[i] = {end.slot(), ll_flag(end.position())};
    });
    return block_all(ok_);
  }
  TUTTI_DEVICE void apply(const Step& step, const Cursor& cursor) {
    if (!combines(step)) return carry<Passed<8>>(step, cursor);
    with_element(work_.type, work_.op, [&]<class T, ReduceOp op>() { carry<Gathered<T, op, 8>>(step, cursor); });
  }
  TUTTI_DEVICE void post(const Step& step, const Cursor&) {
    // A wait that ended keeps the block from crediting and counting; the next slice finds the lane ended.
    if (!block_all(ok_)) return;
    for_my_receivers(step, [&](int i) { send_end(step, i).ll.advance(); });
    for_my_senders(step, [&](int i) { receive_end(step, i).ll.release(); });
  }

 private:
  template <class Words>
  TUTTI_OUTLINE void carry(const Step& step, const Cursor& cursor) {
    const Span span = slice_span(step);
    const Row local = local_row(step), kept = kept_row(step, cursor);
    for (int i = thread_index(); i < span.to_count; i += thread_count()) write(i, 0, work_.identity);
    const auto threads = static_cast<uint64_t>(thread_count());
    for (uint64_t at = static_cast<uint64_t>(thread_index()) * kLLLineData; at < span.bytes;
         at += threads * kLLLineData) {
      const uint64_t line = 1 + at / kLLLineData;
      Words words;
      Pack<8> word[1];
      for (int s = 0; s < span.sources() && ok_; ++s) {
        if (span.is_local(s)) {
          word[0].word = local.load(at);
        } else {
          ok_ = read(span.peer(s), from_peer(step, span.peer(s)), line, cursor.step, word[0].word);
        }
        words.take(span, s, word);
      }
      if (!ok_) return;
      words.give(span, word);
      if (step.dst_block >= 0) kept.store(at, word[0].word);
      for (int d = 0; d < span.to_count; ++d) write(d, line, word[0].word);
    }
    refresh(step);
  }
  TUTTI_DEVICE void write(int i, uint64_t line, uint64_t data) {
    store_pair(reinterpret_cast<WordPair*>(to_[i].at)[line], ll_line(data, static_cast<uint32_t>(to_[i].flag)));
  }
  TUTTI_DEVICE bool read(int i, int peer, uint64_t line, int step, uint64_t& data) {
    const WordPair& at = reinterpret_cast<const WordPair*>(from_[i].at)[line];
    const auto flag = static_cast<uint32_t>(from_[i].flag);
    return wait(Side::Receive, peer, step, [&] {
      const WordPair seen = load_pair(at);
      data = ll_data(seen);
      return ll_carries(seen, flag);
    });
  }
  // proto/lines.h: once in a long while every line of a slot is written.
  TUTTI_DEVICE void refresh(const Step& step) {
    const uint64_t first = 1 + (piece_.bytes + kLLLineData - 1) / kLLLineData;
    for (int i = 0; i < to_count(step); ++i) {
      const LineSender& end = send_end(step, i).ll;
      if (!end.refreshes()) continue;
      const auto threads = static_cast<uint64_t>(thread_count());
      for (uint64_t line = first + static_cast<uint64_t>(thread_index()); line < end.slot_bytes() / kLLLineBytes;
           line += threads)
        write(i, line, 0);
    }
  }
};

class LL128Lane : public LineLane {
 public:
  using LineLane::LineLane;

  // The answer is can_send's, for both. The first line says whose the slot is.
  TUTTI_DEVICE bool can_receive(const Step& step, const Cursor& cursor) {
    for_my_senders(step, [&](int i) {
      if (!ok_) return;
      const CudaReceiveEnd& end = receive_end(step, i);
      const int peer = from_peer(step, i);
      if (!end.whole_lines) ok_ = LaneBase::end(Ended::Refused, Side::Receive, peer, cursor.step);
      const uint64_t position = end.ll128.position(), flag = make_flag(position, work_.identity);
      from_[i] = {const_cast<std::byte*>(end.ll128.slot()), flag};
      const WordPair& last = reinterpret_cast<const WordPair*>(end.ll128.slot())[kLL128Threads - 1];
      uint64_t seen = 0;
      ok_ = ok_ && wait(Side::Receive, peer, cursor.step, [&] {
              seen = load_pair(last).word[1];
              return seen != 0 && (seen & kPositionMask) == (flag & kPositionMask);
            });
      if (ok_ && seen != flag) ok_ = LaneBase::end(Ended::Mismatch, Side::Receive, peer, cursor.step);
    });
    return true;
  }
  TUTTI_DEVICE bool can_send(const Step& step, const Cursor& cursor) {
    for_my_receivers(step, [&](int i) {
      if (!ok_) return;
      CudaSendEnd& end = send_end(step, i);
      const int peer = to_peer(step, i);
      if (!end.whole_lines) ok_ = LaneBase::end(Ended::Refused, Side::Send, peer, cursor.step);
      ok_ = ok_ && wait(Side::Send, peer, cursor.step, [&] { return end.ll128.has_room(); });
      to_[i] = {end.ll128.slot(), make_flag(end.ll128.position(), work_.identity)};
    });
    return block_all(ok_);
  }

  TUTTI_DEVICE void apply(const Step& step, const Cursor& cursor) {
    if (!combines(step)) return carry<Passed<8, 2>>(step, cursor);
    with_element(work_.type, work_.op, [&]<class T, ReduceOp op>() { carry<Gathered<T, op, 8, 2>>(step, cursor); });
  }
  TUTTI_DEVICE void post(const Step& step, const Cursor&) {
    if (!block_all(ok_)) return;  // as LLLane
    for_my_receivers(step, [&](int i) { send_end(step, i).ll128.advance(); });
    for_my_senders(step, [&](int i) { receive_end(step, i).ll128.release(); });
  }

 private:
  // Thread t of eight has words 2t and 2t + 1 of a line; the last one's second word is the flag. A warp stays together:
  // threads whose line does not exist take part and move nothing.
  template <class Words>
  TUTTI_OUTLINE void carry(const Step& step, const Cursor& cursor) {
    const Span span = slice_span(step);
    const Row local = local_row(step), kept = kept_row(step, cursor);
    const int thread = thread_index() % kLL128Threads;
    const bool holds_flag = thread == kLL128Threads - 1;
    const uint64_t lines = (span.bytes + kLL128LineData - 1) / kLL128LineData;
    const auto at_once = static_cast<uint64_t>(thread_count() / kLL128Threads);
    const auto first_of_warp = static_cast<uint64_t>(thread_index() / kWarpThreads * (kWarpThreads / kLL128Threads));
    const auto in_warp = static_cast<uint64_t>(thread_index() % kWarpThreads / kLL128Threads);
    for (uint64_t warp_line = first_of_warp; warp_line < lines; warp_line += at_once) {
      const uint64_t line = warp_line + in_warp;
      const bool exists = line < lines;
      const uint64_t at = line * kLL128LineData + static_cast<uint64_t>(thread) * 16;
      const bool first = exists && at < span.bytes, second = exists && !holds_flag && at + 8 < span.bytes;
      Words words;
      Pack<8> word[2] = {};
      for (int s = 0; s < span.sources(); ++s) {
        if (span.is_local(s)) {
          word[0].word = first ? local.load(at) : 0;
          word[1].word = second ? local.load(at + 8) : 0;
        } else if (!read(span.peer(s), from_peer(step, span.peer(s)), line, exists, holds_flag, cursor.step, word)) {
          ok_ = false;
          return;
        }
        words.take(span, s, word);
      }
      words.give(span, word);
      if (step.dst_block >= 0) {
        if (first) kept.store(at, word[0].word);
        if (second) kept.store(at + 8, word[1].word);
      }
      for (int d = 0; d < span.to_count; ++d) {
        const WordPair part{{word[0].word, holds_flag ? to_[d].flag : word[1].word}};
        store_line_part(*part_of(to_[d].at, exists ? line : 0), part, exists, holds_flag);
      }
    }
  }
  TUTTI_DEVICE static WordPair* part_of(std::byte* slot, uint64_t line) {
    return reinterpret_cast<WordPair*>(slot + line * kLL128LineBytes) + thread_index() % kLL128Threads;
  }
  // The warp goes on when the flags of all its lines are there, or one of its threads has to end: all alike.
  TUTTI_DEVICE bool read(int i, int peer, uint64_t line, bool exists, bool holds_flag, int step, Pack<8> (&word)[2]) {
    const WordPair* at = part_of(from_[i].at, exists ? line : 0);
    const bool checks = exists && holds_flag;
    const auto look = [&] {
      const WordPair part = load_line_part(*at, holds_flag);
      word[0].word = part.word[0];
      word[1].word = holds_flag ? 0 : part.word[1];
      return !warp_any(checks && part.word[1] != from_[i].flag);
    };
    return wait(Side::Receive, peer, step, look, [](bool mine) { return warp_any(mine); });
  }
};

}  // namespace tutti::cuda
