// SPDX-License-Identifier: Apache-2.0
// See network.h.
#include "transports/network.h"

#include "transports/arena.h"

namespace tutti {
namespace {

constexpr uint64_t KiB = 1024, MiB = 1024 * KiB;
// At each end of a connection. Few ranks: as much as a fast network keeps in flight; many: all-to-all stays affordable.
constexpr int kFewRanks = 16;
constexpr uint64_t kCapacityFew = 1 * MiB, kCapacityMany = 256 * KiB;

}  // namespace

Result<TransportLimits> network_limits(int ranks, uint64_t buffer_bytes, int channels) {
  // The arena's rules for channels and TUTTI_BUFFER_BYTES hold here too.
  TUTTI_ASSIGN_OR_RETURN(const ArenaLayout rules,
                         ArenaLayout::compute({.local_ranks = 2, .channels = channels, .buffer_bytes = buffer_bytes}));
  TransportLimits limits;
  limits.channels = channels != 0 ? channels : ArenaLayout::most_channels(ranks);
  limits.capacity = ranks <= kFewRanks ? kCapacityFew : kCapacityMany;
  if (buffer_bytes != 0) limits.capacity = rules.limits().capacity;
  return limits;
}

SocketSetup::SocketSetup(const NetworkOptions& options, int peer, std::vector<SocketAddress> addresses,
                         uint32_t purpose, const std::string& label)
    : peer_(peer), purpose_(purpose), label_(label), deadline_(Deadline::in_ms(options.connect_timeout_ms)) {
  if (options.me > peer) return;
  Dialer::Options dial;
  dial.addresses = std::move(addresses);
  dial.secret = options.secret;
  dial.tag = options.tag;
  dial.claim = {.from = options.me, .to = peer, .purpose = purpose};
  dial.peer = label;
  dial.deadline = deadline_;
  dial.remedy = "raise TUTTI_TIMEOUT if it is only late";
  dialer_.emplace(std::move(dial));
}

Result<UniqueFd> SocketSetup::advance(PeerListener& listener) {
  if (dialer_) {
    const Result<Poll> dialed = dialer_->advance();
    if (!dialed.ok()) return dialed.status();
    return *dialed == Poll::Pending ? UniqueFd() : dialer_->take();
  }
  std::optional<UniqueFd> caller = listener.take(peer_, purpose_);
  if (caller) return std::move(*caller);
  if (deadline_.passed()) return late_error(label_);
  return UniqueFd();
}

void SocketSetup::add_poll(std::vector<pollfd>& items) const {
  if (dialer_) dialer_->add_poll(items);
}
int SocketSetup::poll_ms(int most) const { return dialer_ ? dialer_->poll_ms(most) : most; }

Status late_error(const std::string& label) {
  return remote_error("{} did not connect in time; raise TUTTI_TIMEOUT if it is only late", label);
}

Status lost_error(int me, int peer, const std::string& label, int culprit, const std::string& culprit_label) {
  if (culprit == peer) return remote_error("{} has failed; see its own output", label);
  if (culprit == me)
    return remote_error("{} says that rank {} (this one) is lost: a connection of this rank was cut", label, me);
  return remote_error("{} is lost, says {}: its process ended or failed; see its own output", culprit_label, label);
}

Status left_error(const std::string& label) {
  return remote_error(
      "{} has left the communicator while this rank still sends to it: do all ranks call the same operations?", label);
}

}  // namespace tutti
