// SPDX-License-Identifier: Apache-2.0
// Connections of one communicator: which transport reaches which rank, and the ends that schedules have asked for.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "exec/cpu/core_map.h"
#include "exec/cpu/cpu_lane.h"
#include "transports/transport.h"

namespace tutti {

class Connections {
 public:
  // `transports` in order of preference; each rank but `me` must be reached by one of them.
  // `fans`: fan-out connections are used where all ranks have them.
  static Result<Connections> create(int me, int n, std::vector<std::unique_ptr<Transport>> transports, bool fans);

  // Makes the ends that `schedule` names on this channel, where they are still missing. Never waits for a peer.
  template <class Schedule>
  Status provide(const Schedule& schedule, int channel, Use use) {
    for (int k = 0; k < schedule.steps(); ++k) TUTTI_TRY(provide_step(schedule.at(k), channel, use));
    return {};
  }

  // The end of the connection to or from `peer`, for who carries no schedules here; the same object each time.
  Result<SendEnd*> send_end(int peer, int channel, Use use) {
    return by_rank_[static_cast<size_t>(peer)]->send_end(peer, channel, use);
  }
  Result<ReceiveEnd*> receive_end(int peer, int channel, Use use) {
    return by_rank_[static_cast<size_t>(peer)]->receive_end(peer, channel, use);
  }

  // For a rank on a GPU: as Transport's.
  uint64_t wants_gpu_slots(int peer, Flow flow) const {
    return by_rank_[static_cast<size_t>(peer)]->wants_gpu_slots(peer, flow);
  }
  Result<SendEnd*> send_end_on_gpu(int peer, int channel, Use use, std::shared_ptr<GpuSlots> slots) {
    return by_rank_[static_cast<size_t>(peer)]->send_end_on_gpu(peer, channel, use, std::move(slots));
  }
  Result<ReceiveEnd*> receive_end_on_gpu(int peer, int channel, Use use, std::shared_ptr<GpuSlots> slots) {
    return by_rank_[static_cast<size_t>(peer)]->receive_end_on_gpu(peer, channel, use, std::move(slots));
  }

  // By channel; the addresses of the entries are stable.
  const std::vector<std::unique_ptr<Ports>>& ports(Use use) const {
    return use == Use::Collective ? collective_ : point_to_point_;
  }
  void reserve_channels(int channels);

  // The core words of all ranks of this host.
  CoreMap core_map() const;

  bool has_network() const { return !network_.empty(); }
  // Nothing comes by memory, so that who sleeps in a network is woken by whatever may come.
  bool only_network() const { return network_.size() == transports_.size(); }
  // Moves slots through networks; true when something moved.
  Result<bool> progress();
  bool flushed() const;
  // Sleeps until a network may have news, or for `timeout_ms`.
  void wait(int timeout_ms);

 private:
  Status provide_step(const Step& step, int channel, Use use);

  int me_ = 0, n_ = 1;
  std::vector<std::unique_ptr<Transport>> transports_;
  std::vector<Transport*> by_rank_;
  std::vector<Transport*> network_;  // those with progress() to call
  Transport* fan_ = nullptr;         // reaches everybody with mapped slots
  std::vector<std::unique_ptr<Ports>> collective_, point_to_point_;
};

}  // namespace tutti
