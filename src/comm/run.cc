// SPDX-License-Identifier: Apache-2.0
// Carrying calls out: look the plan up, bind the call, run the loop, wait when nothing moves.
#include "algo/catalog.h"
#include "base/env.h"
#include "base/log.h"
#include "comm/call_shape.h"
#include "comm/carry.h"
#include "comm/communicator.h"
#include "comm/cuda_team.h"
#include "transports/remote/shared_memory.h"

namespace tutti {
namespace {

// In place, all-to-alls and reductions write over what they read; gathers find their block where it belongs.
bool input_stays(const Request& request, int n) {
  if (request.coll == Coll::AllToAll) return request.input != request.output;
  if (!reduces(request.coll)) return true;
  if (request.tables != nullptr) return false;
  const auto* const input = static_cast<const std::byte*>(request.input);
  const auto* const output = static_cast<const std::byte*>(request.output);
  const uint64_t read = request.bytes() * static_cast<uint64_t>(request.coll == Coll::ReduceScatter ? n : 1);
  return output == nullptr || input >= output + request.bytes() || output >= input + read;
}

}  // namespace

void Communicator::begin(LaneSet& lanes, const Request& request, bool lends) {
  LaneCall& call = lanes.call();
  call.input = static_cast<const std::byte*>(request.input);
  call.output = static_cast<std::byte*>(request.output);
  call.me = rank_;
  call.n = n_;
  call.element_bytes = static_cast<uint32_t>(element_size(request.type));
  call.identity = call_identity(request);
  call.stream_output = lanes.plan().stream_output;
  call.slot_stores = &slot_stores_;
  call.push_stores = &push_stores_;
  call.cores = oversubscribed() ? &cores_ : nullptr;
  if (oversubscribed()) cores_.note_core();  // a call of a batch may never wait by itself
  if (reduces(request.coll)) {
    call.reduce = reduce_function(request.type, request.op);
    call.has_pre = request.prescaled;
    call.has_post = request.average;
    if (request.prescaled) call.pre = request.scale;
    if (request.average) call.post = Scale::divide(static_cast<uint32_t>(n_));
  }
  if (const BlockTables* tables = request.tables.get()) {
    call.layout = layout_of(request, n_, rank_, {tables->in_offsets.data(), tables->in_lengths.data()},
                            {tables->out_offsets.data(), tables->out_lengths.data()});
  } else {
    call.layout = coll_layout(request.coll, n_, rank_, request.root, request.bytes());
  }
  call.input_stays = input_stays(request, n_);
  call.lends = lends && lanes.plan().user == nullptr;  // a user's schedule may write what it has sent
  call.lands = call.lends && connections_.has_network() && find_shared_memory(request.output, 1) != nullptr;
  const CollLayout& layout = call.layout;
  call.single_copy = summary_.single_copy;
  call.opening = {.input = reinterpret_cast<uint64_t>(request.input),
                  .output = reinterpret_cast<uint64_t>(request.output),
                  .in_place = request.input == request.output,
                  .unused = (layout.input_blocks == 0 ? 1u : 0u) | (layout.output_blocks == 0 ? 2u : 0u)};
  if (!windows_.empty() && request.tables == nullptr) {
    const auto place = [this](const Layout& blocks, int count, uint64_t& address, uint32_t& window) {
      const uint64_t bytes =
          blocks.kind == Layout::Kind::Region ? blocks.length : blocks.length * static_cast<uint64_t>(count);
      const auto* start = reinterpret_cast<const std::byte*>(address);
      const Window* found = count == 0 ? nullptr : find_window(start, bytes);
      if (found == nullptr) return;
      window = found->number;
      address = static_cast<uint64_t>(start - found->base);
    };
    place(layout.input, layout.input_blocks, call.opening.input, call.opening.input_window);
    place(layout.output, layout.output_blocks, call.opening.output, call.opening.output_window);
  }
  lanes.start();
}

Result<std::unique_ptr<LaneSet>> Communicator::build(const Plan& plan, const Request& request, Use use) {
  connections_.reserve_channels(plan.channels);
  // A send's schedule is made for its direction: `root` is the peer, `part` 0 sends and 1 receives.
  ScheduleArgs args{.me = rank_,
                    .n = n_,
                    .root = request.root,
                    .hosts = summary_.ranks().hosts,
                    .user = plan.user,
                    .channel_map = plan.channel_map()};
  for (int channel = 0; channel < plan.channels; ++channel) {
    for (int part = 0; part < plan.parts; ++part) {
      args.channel = channel;
      args.part = request.point_to_point() ? (request.is_send ? 0 : 1) : part;
      const AnySchedule schedule = make_schedule(plan.coll, plan.algo, args);
      TUTTI_TRY(
          std::visit([&](const auto& typed) { return connections_.provide(typed, channel, use); }, schedule.kind));
    }
  }
  auto lanes = std::make_unique<LaneSet>(plan, args, connections_.ports(use), memory_);
  if (plan.proto != Proto::Rma || !can_be_refused(*find_row(plan.coll, plan.algo), summary_.single_copy)) return lanes;
  TUTTI_ASSIGN_OR_RETURN(const Plan otherwise, plan_after_refusal(summary_, shape_of(request)));
  TUTTI_ASSIGN_OR_RETURN(std::unique_ptr<LaneSet> lanes_otherwise, build(otherwise, request, use));
  lanes->set_otherwise(std::move(lanes_otherwise));
  return lanes;
}

Result<double> Communicator::predict(const Request& request) const {
  TUTTI_ASSIGN_OR_RETURN(const Plan plan, make_plan(summary_, shape_of(request)));
  return plan.predicted_us;
}

Result<Communicator::Known*> Communicator::make_lanes(const Request& request, uint64_t key) {
  TUTTI_ASSIGN_OR_RETURN(const Plan plan, make_plan(summary_, shape_of(request)));
  TUTTI_ASSIGN_OR_RETURN(std::unique_ptr<LaneSet> lanes, build(plan, request, Use::Collective));
  log_info(Subsystem::Plan, "{} rank {}: {} -> {}/{}, {} channel(s), slices of {} bytes, {:.1f} us predicted", name_,
           rank_, describe(request), tutti::name(plan.algo), tutti::name(plan.proto), plan.channels, plan.slice_bytes,
           plan.predicted_us);
  return &shelves_.keep(key, request.bytes(), {.lanes = std::move(lanes), .note = {}});
}

Result<LaneSet*> Communicator::start_collective(const Request& request, bool lends) {
  const uint64_t key = kind_of(request);
  if (const Known* known = shelves_.find(key, request.bytes())) [[likely]] {
    LaneSet& lanes = *known->lanes;
    if (lanes.straight()) [[likely]] {
      if (request.prescaled) lanes.call().pre = request.scale;
      lanes.restart(request.input, request.output);
    } else {
      begin(lanes, request, lends);
    }
    return &lanes;
  }
  TUTTI_ASSIGN_OR_RETURN(Known* const known, make_lanes(request, key));
  LaneSet* const lanes = known->lanes.get();
  begin(*lanes, request, lends);
  if (request.tables == nullptr) lanes->straighten();
  if (lanes->straight()) {
    known->note = note_of(request, lanes->identity(), lanes->plan());
    known->note.record.remove_flag(CallRecord::kBarrier);  // a matter of the buffer
  }
  return lanes;
}

LaneSet* Communicator::known_collective(const Request& request) {
  const Known* known = shelves_.find(kind_of(request), request.bytes());
  return known != nullptr ? known->lanes.get() : nullptr;
}

Result<Communicator::KnownMessage> Communicator::make_message(const Request& request) {
  TUTTI_ASSIGN_OR_RETURN(const Plan plan, make_plan(summary_, shape_of(request)));
  const uint64_t key = static_cast<uint64_t>(request.root) << 32 | static_cast<uint64_t>(request.is_send) << 31 |
                       static_cast<uint64_t>(plan.proto) << 29 | static_cast<uint64_t>(plan.stream_output) << 28 |
                       plan.slice_bytes / kTileAlign;
  std::unique_ptr<LaneSet>& lanes = peer_lanes_[key];
  if (lanes == nullptr) {
    TUTTI_ASSIGN_OR_RETURN(lanes, build(plan, request, Use::PointToPoint));
  }
  KnownMessage known{.lanes = lanes.get(), .note = note_of(request, call_identity(request), plan)};
  const bool one_slot = request.bytes() > 0 && request.bytes() <= plan.slice_bytes;
  if (plan.proto != Proto::LL || plan.channels != 1 || !one_slot || request.root == rank_) return known;
  if (request.is_send) {
    TUTTI_ASSIGN_OR_RETURN(SendEnd* const end, connections_.send_end(request.root, 0, Use::PointToPoint));
    known.to = &end->ll;
  } else {
    TUTTI_ASSIGN_OR_RETURN(ReceiveEnd* const end, connections_.receive_end(request.root, 0, Use::PointToPoint));
    known.from = &end->ll;
  }
  return known;
}

Result<const Communicator::KnownMessage*> Communicator::start_point_to_point(const Request& request, bool lends) {
  const uint64_t key = kind_of(request);
  const KnownMessage* kept = peer_shelves_.find(key, request.bytes());
  if (kept == nullptr) [[unlikely]] {
    TUTTI_ASSIGN_OR_RETURN(const KnownMessage made, make_message(request));
    kept = &peer_shelves_.keep(key, request.bytes(), made);
  }
  begin(*kept->lanes, request, lends);
  return kept;
}

Advance Communicator::move(LaneSet& lanes, int polls, Status& status) {
  const Advance moved = lanes.advance(polls);
  if (!connections_.has_network()) return moved;
  // Nothing owed to a peer may still need this thread when the call returns.
  if (moved == Advance::Done && connections_.flushed()) return Advance::Done;
  const Result<bool> carried = progress_network();
  if (!carried.ok()) {
    status = carried.status();
    return Advance::Done;
  }
  if (moved == Advance::Done && connections_.flushed()) return Advance::Done;
  return *carried || moved == Advance::Progressed ? Advance::Progressed : Advance::Blocked;
}

int Communicator::polls(LaneSet& lanes, const Waiter& waiter) {
  if (!oversubscribed() || poll_count_ > 0 || connections_.has_network()) return waiter.polls();
  cores_.note_core();
  if (lanes.waits_beside(cores_)) return Waiter::kPollsBeside;
  return lanes.straight() ? Waiter::kPollsApart : Waiter::kPollsApartLane;
}

Result<bool> Communicator::progress_network() {
  Result<bool> carried = connections_.progress();
  if (!carried.ok()) return health_->explain(carried.status());
  return carried;
}

void Communicator::sleep(Waiter& waiter) {
  if (connections_.has_network()) {
    connections_.wait(1);
  } else {
    waiter.sleep();
  }
}

Status Communicator::run(const Request& request) {
  if (failed_.load(std::memory_order_relaxed)) [[unlikely]]
    return failure();
  const uint64_t ticket = issue();
  Waiter waiter(oversubscribed(), poll_count_, connections_.has_network(), core_demand());
  while (!turn(ticket)) {  // calls on streams come first
    if (waiter.idle()) waiter.sleep();
  }
  if (failed_.load(std::memory_order_relaxed)) [[unlikely]] {  // while we waited
    complete(ticket);
    return failure();
  }
  const Status status = request.point_to_point() ? run_message(request, waiter) : run_collective(request, waiter);
  complete(ticket);
  return status;
}

Status Communicator::run_message(const Request& request, Waiter& waiter) {
  TUTTI_ASSIGN_OR_RETURN(const KnownMessage* const known, start_point_to_point(request, true));
  Status status;
  const Advance first = move(*known->lanes, 1, status);
  carry_on(*known->lanes, known->note, request.queued, waiter, first, status);
  return status;
}

Status Communicator::run_collective(const Request& request, Waiter& waiter) {
  TUTTI_ASSIGN_OR_RETURN(LaneSet* const lanes, start_collective(request, true));
  Status status;
  // The post first: everything else is done while the line travels.
  const Advance first = move(*lanes, 1, status);
  carry_on(*lanes, note_of(request, lanes->identity(), lanes->plan()), request.queued, waiter, first, status);
  return status;
}

namespace {
BoardCall numbered(BoardCall call, uint64_t number) {
  call.number = number;
  return call;
}
}  // namespace

Status Communicator::run_straight(Known& known, Advance first) {
  if (n_ == 1) [[unlikely]]
    return run_alone(known);
  Waiter waiter = make_waiter();
  const uint64_t ticket = issue();
  Status status;
  carry_on(*known.lanes, known.note, 0, waiter, first, status);
  complete(ticket);
  return status;
}

Status Communicator::run_alone(Known& known) {
  constexpr uint64_t kShort = 1 << 12;  // takes as long as reading the counter
  const uint64_t ticket = issue();
  const CallMark mark = posted(known.note, 0);
  known.lanes->advance(1);
  known.lanes->call().layout.output.whole(0).bytes <= kShort ? ended_at_once(false, mark) : ended(false, mark);
  complete(ticket);
  return {};
}

void Communicator::carry_on(LaneSet& lanes, const CallNote& note, uint64_t queued, Waiter& waiter, Advance first,
                            Status& status) {
  const CallMark mark = posted(note, queued);
  if (first != Advance::Done) {
    carry(
        waiter, 1, [&] { return move(lanes, polls(lanes, waiter), status); },
        [&] { return (status = look(lanes, numbered(note.call, mark.number), waiter)).ok(); }, [&] { sleep(waiter); },
        [&](bool waiting) {
          waiting ? waits(lanes, note.message, mark, waiter.idle_since_ticks()) : waits_no_longer();
        });
  }
  if (!status.ok()) fail(status);  // its dump shows the call as it was: not ended
  if (lanes.straight() && n_ > 1 && !waiter.has_waited() && !connections_.has_network())
    return ended_at_once(note.message, mark);
  ended(note.message, mark);
}

void Communicator::drain() {
  Waiter waiter(true, 0, false);
  while (!turn(issued_)) {
    if (waiter.idle()) waiter.sleep();
  }
  settle();
  if (cuda_ == nullptr) return;
  if (failed()) cuda_->stop(failure());  // kernels may wait for ranks that wait no longer
  cuda_->drain();
}

void Communicator::settle() const {
  Waiter waiter(true, 0, false);
  while (carried_.load(std::memory_order_acquire) != 0) {  // pairs with end_carrying()
    if (waiter.idle()) waiter.sleep();
  }
}

Status Communicator::look(const LaneSet& lanes, const BoardCall& call, const Waiter& waiter) {
  if (failed_.load(std::memory_order_relaxed)) return failure();
  if (const Status lost = lanes.failure(); !lost.ok()) return health_->explain(lost);
  StuckCall stuck;
  stuck.call = call;
  stuck.message = static_cast<Coll>(call.coll) == Coll::SendRecv;
  stuck.mismatched = lanes.find_mismatch();
  stuck.idle_ms = waiter.idle_time().count();
  return health_->look(stuck, [&lanes] { return lanes.waiting_for(); });
}

Status Communicator::failure() const {
  const std::lock_guard lock(failure_mutex_);
  return failure_;
}

void Communicator::fail(const Status& status) {
  {
    const std::lock_guard lock(failure_mutex_);
    if (!failure_.ok()) return;
    failure_ = status;
    failed_.store(true, std::memory_order_release);
  }
  health_->failed(status);
  observed_->set_failure(status.message());
  dump_after_failure();
}

int Communicator::add_operator(const UserOperator& made) {
  for (size_t i = 0; i < operators_.size(); ++i) {
    if (operators_[i].live) continue;
    operators_[i] = made;
    return static_cast<int>(i);
  }
  operators_.push_back(made);
  return static_cast<int>(operators_.size()) - 1;
}

const Communicator::UserOperator* Communicator::find_operator(int index) const {
  if (index < 0 || static_cast<size_t>(index) >= operators_.size()) return nullptr;
  const UserOperator& found = operators_[static_cast<size_t>(index)];
  return found.live ? &found : nullptr;
}

bool Communicator::remove_operator(int index) {
  if (find_operator(index) == nullptr) return false;
  operators_[static_cast<size_t>(index)].live = false;
  return true;
}

}  // namespace tutti
