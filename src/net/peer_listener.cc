// SPDX-License-Identifier: Apache-2.0
// See peer_listener.h.
#include "net/peer_listener.h"

#include "base/log.h"

namespace tutti {

Result<std::unique_ptr<PeerListener>> PeerListener::open(const Options& options, std::vector<SocketAddress> local) {
  Door::Options door_options{options.secret, options.tag, fmt::format("rank {}", options.rank), options.handshake_ms};
  TUTTI_ASSIGN_OR_RETURN(Door door, Door::open(std::move(door_options), local, 0));
  for (SocketAddress& address : local) address = address.with_port(door.port());
  return std::unique_ptr<PeerListener>(new PeerListener(options, std::move(door), std::move(local)));
}

Status PeerListener::poll() {
  const std::lock_guard lock(mutex_);
  TUTTI_TRY(door_.poll());
  while (auto guest = door_.next()) {
    const Claim& claim = guest->claim;
    if (claim.to != options_.rank || claim.from < 0 || claim.from >= options_.size) {
      log_warn(Subsystem::Net, "rank {} dropped a connection from rank {} meant for rank {}", options_.rank, claim.from,
               claim.to);
      continue;
    }
    arrived_[{claim.from, claim.purpose}] = std::move(guest->fd);
  }
  return {};
}

std::optional<UniqueFd> PeerListener::take(int from, uint32_t purpose) {
  const std::lock_guard lock(mutex_);
  auto node = arrived_.extract({from, purpose});
  if (node.empty()) return std::nullopt;
  return std::move(node.mapped());
}

}  // namespace tutti
