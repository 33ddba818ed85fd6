// SPDX-License-Identifier: Apache-2.0
#include "exec/cpu/lane_set.h"

#include <algorithm>

#include "algo/catalog.h"
#include "exec/cpu/alone_run.h"
#include "exec/cpu/rma_lane.h"

namespace tutti {
namespace {

template <class Schedule, class Lane>
class TypedLaneRun final : public LaneRun {
 public:
  template <class... LaneArgs>
  explicit TypedLaneRun(const Schedule& schedule, LaneArgs&&... lane_args)
      : schedule_(schedule), lane_(std::forward<LaneArgs>(lane_args)...) {}

  void bind(const LaneCall& call) override {
    lane_.bind(call);
    cursor_ = {};
  }

  Advance run(int polls) override {
    if (schedule_.steps() == 0) return Advance::Done;  // a part that has nothing to do on this rank
    if constexpr (std::is_same_v<Lane, CpuLane<Proto::Simple>>) lane_.wish_ahead(schedule_, cursor_);
    return run_lane(schedule_, lane_, cursor_, polls);
  }

  bool waits_beside(const CoreMap& cores) override {
    if (finished()) return false;
    if (lane_.waits_beside(schedule_.at(cursor_.step), cores)) return true;
    if constexpr (requires { lane_.lacks_beside(schedule_.at(0), cores); }) {
      // The steps of a direct schedule, or a good part of any other's.
      const int end = std::min(schedule_.steps(), cursor_.step + kStepsAhead);
      for (int step = cursor_.step + 1; step < end; ++step) {
        if (lane_.lacks_beside(schedule_.at(step), cores)) return true;
      }
    }
    return false;
  }
  int find_mismatch() const override { return finished() ? -1 : lane_.find_mismatch(schedule_.at(cursor_.step)); }
  int waiting_peer() const override { return finished() ? -1 : lane_.waiting_peer(schedule_.at(cursor_.step)); }
  std::string waiting_for() const override {
    if (finished()) return {};
    return fmt::format("{} (round {}, step {} of {}, slice {})", lane_.waiting_for(schedule_.at(cursor_.step)),
                       cursor_.round, cursor_.step, schedule_.steps(), cursor_.slice);
  }
  std::unique_ptr<StraightRun> straightened() const override {
    if constexpr (std::is_same_v<Lane, CpuLane<Proto::LL>>) {
      if (MoveList list = lane_.list_moves(schedule_); list.steps() > 0)
        return std::make_unique<StraightRun>(std::move(list));
    }
    return nullptr;
  }
  Status failure() const override {
    if constexpr (requires { lane_.failure(); }) return lane_.failure();
    return {};
  }
  bool refused() const override {
    if constexpr (requires { lane_.refused(); }) return lane_.refused();
    return false;
  }

 private:
  static constexpr int kStepsAhead = 64;

  bool finished() const { return schedule_.steps() == 0 || cursor_.round >= lane_.rounds(); }

  const Schedule schedule_;
  Lane lane_;
  Cursor cursor_;
};

}  // namespace

LaneSet::LaneSet(const Plan& plan, const ScheduleArgs& args, const std::vector<std::unique_ptr<Ports>>& ports,
                 const RemoteMemory& memory)
    : plan_(plan), alone_(args.n == 1 && plan.user == nullptr && plan.coll != Coll::SendRecv) {
  if (alone_) {
    lanes_.push_back(std::make_unique<AloneRun>());
    done_.resize(1);
    return;
  }
  if (plan.scratch_bytes > 0) scratch_ = std::make_unique<std::byte[]>(plan.scratch_bytes);
  for (int channel = 0; channel < plan.channels; ++channel) {
    for (int part = 0; part < plan.parts; ++part) {
      ScheduleArgs mine = args;
      mine.channel = channel;
      if (plan.coll != Coll::SendRecv) mine.part = part;  // there the part is the direction
      const Tiling tiling{channel, plan.channels, plan.blocks, plan.slices, plan.slice_bytes};
      const SlotCut cut{plan.slice_bytes, plan.slots};
      const Ports& channel_ports = *ports[static_cast<size_t>(channel)];
      const AnySchedule any = make_schedule(plan.coll, plan.algo, mine);
      const auto add = [&](const auto& schedule) {
        using Schedule = std::decay_t<decltype(schedule)>;
        if constexpr (kRemote<Schedule>) {
          const CatalogRow& row = *find_row(plan.coll, plan.algo);
          lanes_.push_back(std::make_unique<TypedLaneRun<Schedule, RmaLane>>(schedule, channel_ports, memory, tiling,
                                                                             row.needs, reduces(plan.coll), args.n));
        } else if (plan.proto == Proto::LL) {
          lanes_.push_back(std::make_unique<TypedLaneRun<Schedule, CpuLane<Proto::LL>>>(schedule, channel_ports, tiling,
                                                                                        cut, plan.cycled, args.n));
        } else {
          lanes_.push_back(std::make_unique<TypedLaneRun<Schedule, CpuLane<Proto::Simple>>>(
              schedule, channel_ports, tiling, cut, plan.cycled, args.n));
        }
      };
      std::visit(add, any.kind);
    }
  }
  done_.resize(lanes_.size());
}

void LaneSet::straighten() {
  if (lanes_.size() != 1) return;
  straight_alone_ = alone_;
  std::unique_ptr<StraightRun> straightened = lanes_[0]->straightened();
  if (straightened == nullptr) return;
  straight_ = straightened.get();
  lanes_[0] = std::move(straightened);
  straight_->bind(call_);
}

Advance LaneSet::all() {
  if (unfinished_ == 0) return Advance::Done;
  bool moved = false;
  for (size_t i = 0; i < lanes_.size(); ++i) {
    if (done_[i]) continue;
    const Advance result = lanes_[i]->run(1);
    moved |= result != Advance::Blocked;
    if (result == Advance::Done) {
      done_[i] = true;
      --unfinished_;
    }
  }
  if (unfinished_ == 0) return Advance::Done;
  return moved ? Advance::Progressed : Advance::Blocked;
}

bool LaneSet::waits_beside(const CoreMap& cores) {
  if (elsewhere_) return otherwise_->waits_beside(cores);
  for (size_t i = 0; i < lanes_.size(); ++i) {
    if (!done_[i] && lanes_[i]->waits_beside(cores)) return true;
  }
  return false;
}

Advance LaneSet::run_otherwise() {
  elsewhere_ = true;
  LaneCall& call = otherwise_->call();
  call = call_;
  call.stream_output = otherwise_->plan().stream_output;
  otherwise_->start();
  return Advance::Progressed;
}

Status LaneSet::failure() const {
  if (elsewhere_) return otherwise_->failure();
  for (const auto& lane : lanes_) TUTTI_TRY(lane->failure());
  return {};
}

int LaneSet::find_mismatch() const {
  if (elsewhere_) return otherwise_->find_mismatch();
  for (size_t i = 0; i < lanes_.size(); ++i) {
    const int peer = done_[i] ? -1 : lanes_[i]->find_mismatch();
    if (peer >= 0) return peer;
  }
  return -1;
}

int LaneSet::waiting_peer() const {
  if (elsewhere_) return otherwise_->waiting_peer();
  for (size_t i = 0; i < lanes_.size(); ++i) {
    const int peer = done_[i] ? -1 : lanes_[i]->waiting_peer();
    if (peer >= 0) return peer;
  }
  return -1;
}

std::string LaneSet::waiting_for() const {
  if (elsewhere_) return otherwise_->waiting_for();
  for (size_t i = 0; i < lanes_.size(); ++i) {
    if (done_[i]) continue;
    if (std::string what = lanes_[i]->waiting_for(); !what.empty()) return what;
  }
  return "its data to leave over the network";
}

}  // namespace tutti
