// SPDX-License-Identifier: Apache-2.0
#include "comm/connections.h"

namespace tutti {

Result<Connections> Connections::create(int me, int n, std::vector<std::unique_ptr<Transport>> transports, bool fans) {
  Connections made;
  made.me_ = me;
  made.n_ = n;
  made.transports_ = std::move(transports);
  made.by_rank_.resize(static_cast<size_t>(n));
  for (int peer = 0; peer < n; ++peer) {
    if (peer == me) continue;
    for (const auto& transport : made.transports_) {
      if (!transport->reaches(peer)) continue;
      made.by_rank_[static_cast<size_t>(peer)] = transport.get();
      break;
    }
    if (made.by_rank_[static_cast<size_t>(peer)] == nullptr) {
      return invalid_usage(
          "rank {} cannot reach rank {}: no transport that TUTTI_TRANSPORTS allows connects them; "
          "allow tcp, or shm for ranks of one host",
          me, peer);
    }
  }
  for (const auto& transport : made.transports_) {
    if (!transport->mapped()) made.network_.push_back(transport.get());
    bool everybody = fans && n > 1 && transport->mapped();
    for (int peer = 0; peer < n; ++peer)
      everybody &= peer == me || made.by_rank_[static_cast<size_t>(peer)] == transport.get();
    if (everybody) made.fan_ = transport.get();
  }
  return made;
}

void Connections::reserve_channels(int channels) {
  const auto n = static_cast<size_t>(n_);
  for (auto* all : {&collective_, &point_to_point_}) {
    while (all->size() < static_cast<size_t>(channels)) {
      auto ports = std::make_unique<Ports>();
      ports->send.resize(n);
      ports->receive.resize(n);
      if (fan_ != nullptr && all == &collective_) ports->fan_receive.resize(n);
      all->push_back(std::move(ports));
    }
  }
}

Status Connections::provide_step(const Step& step, int channel, Use use) {
  Ports& ports = *(use == Use::Collective ? collective_ : point_to_point_)[static_cast<size_t>(channel)];
  const bool fans = !ports.fan_receive.empty();
  for (int i = 0; i < step.from.size(n_); ++i) {
    const int peer = step.from.at(i, me_);
    const bool fan = fans && step.from.fan;
    ReceiveEnd*& end = (fan ? ports.fan_receive : ports.receive)[static_cast<size_t>(peer)];
    if (end != nullptr) continue;
    Transport& transport = *by_rank_[static_cast<size_t>(peer)];
    TUTTI_ASSIGN_OR_RETURN(end,
                           fan ? transport.fan_receive_end(peer, channel) : transport.receive_end(peer, channel, use));
  }
  if (step.to.none()) return {};
  if (fans && step.to.fan) {
    if (ports.fan_send == nullptr) {
      TUTTI_ASSIGN_OR_RETURN(ports.fan_send, fan_->fan_send_end(channel));
    }
    return {};
  }
  for (int i = 0; i < step.to.size(n_); ++i) {
    const int peer = step.to.at(i, me_);
    SendEnd*& end = ports.send[static_cast<size_t>(peer)];
    if (end != nullptr) continue;
    TUTTI_ASSIGN_OR_RETURN(end, by_rank_[static_cast<size_t>(peer)]->send_end(peer, channel, use));
  }
  return {};
}

CoreMap Connections::core_map() const {
  std::vector<uint64_t*> words(static_cast<size_t>(n_));
  for (int rank = 0; rank < n_; ++rank) {
    for (const auto& transport : transports_) {
      if (uint64_t* word = transport->core_word(rank)) words[static_cast<size_t>(rank)] = word;
    }
  }
  return {std::move(words), me_};
}

Result<bool> Connections::progress() {
  bool moved = false;
  for (Transport* transport : network_) {
    TUTTI_ASSIGN_OR_RETURN(const bool one, transport->progress());
    moved |= one;
  }
  return moved;
}

bool Connections::flushed() const {
  for (const Transport* transport : network_) {
    if (!transport->flushed()) return false;
  }
  return true;
}

void Connections::wait(int timeout_ms) {
  // With one network its own descriptors wake us; several would need one poll set over all: look at each in turn.
  for (Transport* transport : network_) transport->wait(timeout_ms);
}

}  // namespace tutti
