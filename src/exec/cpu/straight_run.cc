// SPDX-License-Identifier: Apache-2.0
#include "exec/cpu/straight_run.h"

#include <fmt/core.h>

#include <algorithm>

#include "exec/cpu/cpu_lane.h"

namespace tutti {

MoveLane::MoveLane(const MoveList& list) : list_(list) {
  size_t most_sources = 1, most_destinations = 1;
  for (const Move& move : list.moves) {
    most_sources = std::max<size_t>(most_sources, move.from_count + 1);
    most_destinations = std::max<size_t>(most_destinations, move.to_count + 1);
  }
  sources_.resize(most_sources);
  destinations_.resize(most_destinations);
}

void MoveLane::combine(const Move& move) {
  int sources = 0, destinations = 0;
  for (uint32_t i = 0; i < move.from_count; ++i) {
    if (sources == move.own) sources_[sources++] = address(move.src, move.src_offset);
    sources_[sources++] = list_.from[move.from_begin + i].end->payload();
  }
  if (sources == move.own) sources_[sources++] = address(move.src, move.src_offset);
  if (move.keeps) destinations_[destinations++] = call_->output + move.dst_offset;
  uint32_t streamed = 0;
  const bool streams =
      move.to_count > 0 && call_->slot_stores->stream_reduced(move.bytes, [&] { return sends_away(move); });
  for (uint32_t i = 0; i < move.to_count; ++i) {
    const MoveList::To& to = list_.to[move.to_begin + i];
    if (streams && destinations < kMostDestinations && goes_away(to)) streamed |= uint32_t{1} << destinations;
    destinations_[destinations++] = to.end->payload();
  }
  reduce_slice(*call_, {sources_.data(), sources, destinations_.data(), destinations, streamed, move.bytes,
                        move.scale_in ? move.own : -1, move.scale_out});
}

bool MoveLane::sends_away(const Move& move) const {
  for (uint32_t i = 0; i < move.to_count; ++i) {
    if (goes_away(list_.to[move.to_begin + i])) return true;
  }
  return false;
}

int MoveLane::post_ahead(const LaneCall& call, int count) {
  const LaneCall* const bound = std::exchange(call_, &call);
  const uint32_t received = std::exchange(received_, 0), sendable = std::exchange(sendable_, 0);
  int posted = 0;
  for (; posted < count && can_send(list_.at(posted), {}); ++posted) {
    apply(list_.at(posted), {});
    post(list_.at(posted), {});
  }
  call_ = bound;
  received_ = received;
  sendable_ = sendable;
  return posted;
}

bool MoveLane::waits_beside(int step, const CoreMap& cores) const {
  const Move& blocked = list_.at(step);
  // Who has not freed a slot is as good a guess as any: a fan-out has several readers.
  if (received_ == blocked.from_count && sendable_ < blocked.to_count) return true;
  for (size_t i = blocked.from_begin + received_; i < list_.from.size(); ++i) {
    const MoveList::From& from = list_.from[i];
    if (cores.beside_me(from.rank) && !from.end->ready(call_->identity)) return true;
  }
  return false;
}

int MoveLane::find_mismatch(const Move& move) const {
  for (uint32_t i = 0; i < move.from_count; ++i) {
    const MoveList::From& from = list_.from[move.from_begin + i];
    if (from.end->mismatched(call_->identity)) return from.rank;
  }
  return -1;
}

int MoveLane::waiting_peer(const Move& move) const {
  if (received_ < move.from_count) return list_.from[move.from_begin + received_].rank;
  return sendable_ < move.to_count ? list_.to[move.to_begin + sendable_].rank : -1;
}

std::string MoveLane::waiting_for(const Move& move) const {
  if (received_ < move.from_count)
    return fmt::format("data from rank {}", list_.from[move.from_begin + received_].rank);
  if (sendable_ < move.to_count) {
    const int rank = list_.to[move.to_begin + sendable_].rank;
    return rank < 0 ? "free slots at the other ranks of this host" : fmt::format("a free slot at rank {}", rank);
  }
  return "nothing";
}

StraightRun::StraightRun(MoveList list) : list_(std::move(list)), lane_(list_) {
  const auto& moves = list_.moves;
  const auto waits = [](const Move& move) { return move.from_count > 0; };
  const auto first_wait = std::find_if(moves.begin(), moves.end(), waits);
  ahead_.posts = static_cast<int>(first_wait - moves.begin());
  ahead_.possible = std::none_of(first_wait, moves.end(), [](const Move& move) { return move.to_count > 0; }) &&
                    first_wait != moves.end();
  ahead_.keeps = std::any_of(moves.begin(), first_wait, [](const Move& move) { return move.keeps; });
}

std::string StraightRun::waiting_for() const {
  if (finished()) return {};
  return fmt::format("{} (message {} of {})", lane_.waiting_for(list_.at(cursor_.step)), cursor_.step + 1,
                     list_.steps());
}

}  // namespace tutti
