// SPDX-License-Identifier: Apache-2.0
// Ends over an arena (mapped.h).
#include "transports/mapped.h"

#include <algorithm>

namespace tutti {

int HostGroup::local(int rank) const {
  const auto at = std::lower_bound(ranks.begin(), ranks.end(), rank);
  return at != ranks.end() && *at == rank ? static_cast<int>(at - ranks.begin()) : -1;
}

Status check_group(const HostGroup& group, const ArenaLayout& layout) {
  if (std::adjacent_find(group.ranks.begin(), group.ranks.end(), std::greater_equal<>()) != group.ranks.end())
    return error(Code::InternalError, "the ranks of a host must be ascending and different");
  if (group.my_local() < 0) return error(Code::InternalError, "rank {} is not among the ranks of its host", group.me);
  if (static_cast<int>(group.ranks.size()) != layout.local_ranks())
    return error(Code::InternalError, "{} ranks share an arena laid out for {}", group.ranks.size(),
                 layout.local_ranks());
  return {};
}

MappedTransport::MappedTransport(HostGroup group, const ArenaLayout& layout, std::byte* base)
    : group_(std::move(group)),
      layout_(layout),
      base_(base),
      my_local_(group_.my_local()),
      send_(group_.ranks.size() * layout.per_pair()),
      receive_(group_.ranks.size() * layout.per_pair()),
      fan_send_(layout.limits().channels),
      fan_receive_(group_.ranks.size() * layout.limits().channels) {}

Result<int> MappedTransport::local_peer(int peer, int channel, Use use) const {
  const int local = group_.local(peer);
  if (local < 0 || local == my_local_)
    return error(Code::InternalError, "{}: rank {} cannot connect to rank {} (not another rank of this host)", name(),
                 group_.me, peer);
  const int channels = use == Use::PointToPoint ? 1 : layout_.limits().channels;
  if (channel < 0 || channel >= channels)
    return error(Code::InternalError, "{}: channel {} of a connection to rank {} is not in 0 .. {}", name(), channel,
                 peer, channels - 1);
  return local;
}

Result<SendEnd*> MappedTransport::send_end(int peer, int channel, Use use) {
  TUTTI_ASSIGN_OR_RETURN(const int local, local_peer(peer, channel, use));
  const int index = layout_.pair_index(channel, use);
  std::unique_ptr<SendEnd>& end = send_[local * layout_.per_pair() + index];
  if (end == nullptr) {
    const ConnectionPlace place = layout_.pair(my_local_, local, index);
    TUTTI_TRY(reserve(place.begin, place.bytes, "a connection"));
    end = std::make_unique<SendEnd>(
        SendEnd{SimpleSender(place.simple(base_)), LLSender(place.ll(base_)), place.capacity});
    end->mapped = {base_ + place.begin, place.bytes};
  }
  return end.get();
}

Result<ReceiveEnd*> MappedTransport::receive_end(int peer, int channel, Use use) {
  TUTTI_ASSIGN_OR_RETURN(const int local, local_peer(peer, channel, use));
  const int index = layout_.pair_index(channel, use);
  std::unique_ptr<ReceiveEnd>& end = receive_[local * layout_.per_pair() + index];
  if (end == nullptr) {
    const ConnectionPlace place = layout_.pair(local, my_local_, index);
    TUTTI_TRY(reserve(place.begin, place.bytes, "a connection"));
    end = std::make_unique<ReceiveEnd>(
        ReceiveEnd{SimpleReceiver(place.simple(base_), 0), LLReceiver(place.ll(base_), 0), place.capacity});
    end->mapped = {base_ + place.begin, place.bytes};
  }
  return end.get();
}

Result<SendEnd*> MappedTransport::fan_send_end(int channel) {
  if (layout_.local_ranks() < 2 || channel < 0 || channel >= layout_.limits().channels)
    return error(Code::InternalError, "{}: no fan-out connection on channel {} among {} ranks", name(), channel,
                 layout_.local_ranks());
  std::unique_ptr<SendEnd>& end = fan_send_[channel];
  if (end == nullptr) {
    const ConnectionPlace place = layout_.fan(my_local_, channel);
    TUTTI_TRY(reserve(place.begin, place.bytes, "a fan-out connection"));
    const LLMemory ll = place.ll(base_);
    end = std::make_unique<SendEnd>(SendEnd{SimpleSender(place.simple(base_)), LLSender(ll), place.capacity});
    end->has_near = ll.near != nullptr;
    if (end->has_near) end->ll_near = LLSender(ll.near_slots());
  }
  return end.get();
}

Result<ReceiveEnd*> MappedTransport::fan_receive_end(int peer, int channel) {
  TUTTI_ASSIGN_OR_RETURN(const int local, local_peer(peer, channel, Use::Collective));
  std::unique_ptr<ReceiveEnd>& end = fan_receive_[local * layout_.limits().channels + channel];
  if (end == nullptr) {
    const ConnectionPlace place = layout_.fan(local, channel);
    TUTTI_TRY(reserve(place.begin, place.bytes, "a fan-out connection"));
    const int reader = ArenaLayout::fan_reader(local, my_local_);
    end = std::make_unique<ReceiveEnd>(
        ReceiveEnd{SimpleReceiver(place.simple(base_), reader), LLReceiver(place.ll(base_), reader), place.capacity});
  }
  return end.get();
}

uint64_t* MappedTransport::core_word(int rank) const {
  const int local = group_.local(rank);
  return local < 0 ? nullptr : reinterpret_cast<uint64_t*>(base_ + layout_.core_word(local));
}

std::span<std::byte> MappedTransport::control_page(int rank) const {
  const int local = group_.local(rank);
  if (local < 0) return {};
  return {base_ + layout_.control_page(local), kPageBytes};
}

}  // namespace tutti
