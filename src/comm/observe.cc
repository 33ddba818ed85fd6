// SPDX-License-Identifier: Apache-2.0
// What a communicator tells the flight recorder and the arrival counters (src/observe), and what the codes mean.
#include <algorithm>
#include <array>

#include "algo/collective.h"
#include "algo/element.h"
#include "comm/communicator.h"

namespace tutti {
namespace {

// Beyond the element operators: what a Request says by flags.
constexpr uint8_t kAverage = kReduceOps, kPreMultipliedSum = kReduceOps + 1;

template <size_t kCount, class Make>
constexpr auto table(Make make) {
  std::array<decltype(make(0)), kCount> row{};
  for (size_t i = 0; i < kCount; ++i) row[i] = make(i);
  return row;
}
constexpr auto kTypeNames =
    table<kDataTypes>([](size_t i) { return std::string_view(type_name(static_cast<DataType>(i))); });
constexpr auto kTypeBytes =
    table<kDataTypes>([](size_t i) { return static_cast<uint32_t>(element_size(static_cast<DataType>(i))); });
constexpr auto kOperatorNames = table<kReduceOps + 2>([](size_t i) {
  return i == kAverage            ? std::string_view("avg")
         : i == kPreMultipliedSum ? std::string_view("pre-multiplied sum")
                                  : std::string_view(op_name(static_cast<ReduceOp>(i)));
});

constexpr uint64_t set_of(bool (*is_in)(Coll)) {
  uint64_t set = 0;
  for (int coll = 0; coll < kCollCount; ++coll) set |= static_cast<uint64_t>(is_in(static_cast<Coll>(coll))) << coll;
  return set;
}

constexpr CallNames kNames{.operations = kCollNames,
                           .types = kTypeNames,
                           .operators = kOperatorNames,
                           .algorithms = kAlgoNames,
                           .protocols = kProtoNames,
                           .type_bytes = kTypeBytes,
                           .send_receive = static_cast<uint8_t>(Coll::SendRecv),
                           .reduces = set_of(reduces),
                           .rooted = set_of(rooted)};

}  // namespace

Status Communicator::begin_observation(std::string id) {
  TUTTI_ASSIGN_OR_RETURN(Recorder recorder, Recorder::create());
  observed_ = std::make_unique<Observed>(
      Observed::Identity{.name = name_, .id = std::move(id), .rank = rank_, .ranks = n_, .names = &kNames},
      std::move(recorder));
  TUTTI_ASSIGN_OR_RETURN(watch_, Watch::begin(*observed_));
  return {};
}

CallNote Communicator::note_of(const Request& request, uint32_t identity, const Plan& plan) const {
  CallNote note;
  note.call = board_call(request, identity, 0);
  note.board = BoardEntry(note.call);
  note.message = request.point_to_point();
  uint8_t flags = request.tables != nullptr ? CallRecord::kVector : 0;
  if (note.message) flags |= request.is_send ? CallRecord::kSend : CallRecord::kReceive;
  if (request.output == &barrier_word_) flags |= CallRecord::kBarrier;
  const uint8_t op = request.average     ? kAverage
                     : request.prescaled ? kPreMultipliedSum
                                         : static_cast<uint8_t>(request.op);
  note.record = CallWords({.count = request.count,
                           .root = request.root,
                           .operation = static_cast<uint8_t>(request.coll),
                           .type = static_cast<uint8_t>(request.type),
                           .op = op,
                           .flags = flags,
                           .algorithm = static_cast<uint8_t>(plan.algo),
                           .protocol = static_cast<uint8_t>(plan.proto),
                           .channels = static_cast<uint8_t>(std::min(plan.channels, 255))});
  return note;
}

Communicator::CallMark Communicator::posted(const CallNote& note, uint64_t queued, uint64_t now) {
  const uint64_t number = ++(note.message ? messages_ : collectives_);
  if (note.message) {
    BoardCall call = note.call;
    call.number = number;
    health_->post_message(call);
  } else {
    health_->post(number, note.board);
  }
  return {number, observed_->recorder.begin(number, queued != 0 ? queued : now, now, note.record), now};
}

// In a ring everybody waits for a neighbour, and all of them for the one who has not called: that one is meant, where
// the boards tell. When all have called, it is the one whose data is missing.
void Communicator::waits(const LaneSet& lanes, bool message, const CallMark& mark, uint64_t since) {
  int whom = -1, more = -1;
  for (int rank = 0; rank < n_ && !message; ++rank) {
    if (rank == rank_ || health_->has_called(rank, mark.number)) continue;
    if (whom < 0) whom = rank;
    ++more;
  }
  if (whom < 0) whom = lanes.waiting_peer();
  if (whom >= 0) waits_for(whom, std::max(more, 0), since);
}

void Communicator::waits_for(int peer, int more, uint64_t since) {
  if (waiting_since_ == 0) waiting_since_ = since;
  observed_->arrivals.waits_for(peer, more);
}

void Communicator::waits_no_longer() {
  const int peer = observed_->arrivals.waiting_rank();
  if (peer < 0) return;
  observed_->arrivals.add(peer, ticks() - waiting_since_);
  observed_->arrivals.waits_for(-1, 0);
  waiting_since_ = 0;
}

}  // namespace tutti
