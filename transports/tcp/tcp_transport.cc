// SPDX-License-Identifier: Apache-2.0
// Which connections there are, and who of them may move (tcp_transport.h).
#include "transports/tcp/tcp_transport.h"

#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>

#include "base/env.h"
#include "transports/tcp/tcp_connection.h"

namespace tutti {
namespace {

constexpr int kEventsPerCall = 64;
// Up to so many sockets are looked at one by one for who is awaited, and poll(2) is asked about the others. With more the
// event set is, each time. Few sockets are not in it: whoever sends to one would pay for telling it, 1 us of 12 where cores share no
// cache.
constexpr size_t kFewSockets = 16;
// Calls of carry() between two questions to the event set about sockets that nobody waits for.
constexpr unsigned kCallsPerQuestion = 16;

// Channels begin with different ones of the peer's addresses, where these are equally good: those that
// TUTTI_SOCKET_IFNAME chose, of the family of the first. So several channels use several interfaces.
std::vector<SocketAddress> turned(std::vector<SocketAddress> addresses, int channel) {
  if (env().socket_interface.empty() || env().socket_interface.starts_with('^')) return addresses;
  const auto other = std::find_if(addresses.begin(), addresses.end(), [&](const SocketAddress& address) {
    return address.family() != addresses.front().family() || address.loopback();
  });
  const auto equals = other - addresses.begin();
  if (equals > 1) std::rotate(addresses.begin(), addresses.begin() + channel % equals, other);
  return addresses;
}

}  // namespace

Result<std::unique_ptr<TcpTransport>> TcpTransport::create(TcpOptions options) {
  const int size = static_cast<int>(options.peers.size());
  TUTTI_ASSIGN_OR_RETURN(const TransportLimits limits, network_limits(size, options.buffer_bytes, options.channels));
  UniqueFd events{::epoll_create1(EPOLL_CLOEXEC)};
  if (!events) return errno_status("epoll_create1", "the TCP connections");
  return std::unique_ptr<TcpTransport>(new TcpTransport(std::move(options), limits, std::move(events)));
}

TcpTransport::TcpTransport(TcpOptions options, TransportLimits limits, UniqueFd events)
    : options_(std::move(options)),
      limits_(limits),
      events_(std::move(events)),
      connections_(options_.peers.size() * (limits.channels + 1)) {}

TcpTransport::~TcpTransport() {
  if (!failure_.ok()) return;  // peers shall see that we failed
  for (TcpConnection* connection : open_) connection->say_goodbye();
}

bool TcpTransport::reaches(int peer) const {
  return peer >= 0 && peer < static_cast<int>(options_.peers.size()) && peer != options_.me &&
         !options_.peers[peer].addresses.empty();
}

Result<TcpConnection*> TcpTransport::connection(int peer, int channel, Use use) {
  TUTTI_TRY(failure_);
  if (!reaches(peer)) return error(Code::InternalError, "tcp: rank {} has no address of rank {}", options_.me, peer);
  const int channels = use == Use::PointToPoint ? 1 : limits_.channels;
  if (channel < 0 || channel >= channels)
    return error(Code::InternalError, "tcp: channel {} of a connection to rank {} is not in 0 .. {}", channel, peer,
                 channels - 1);
  const int index = use == Use::PointToPoint ? limits_.channels : channel;
  std::unique_ptr<TcpConnection>& slot = connections_[peer * (limits_.channels + 1) + index];
  if (slot != nullptr) return slot.get();

  const NetworkPeer& there = options_.peers[peer];
  const uint32_t purpose = kFirstFreePurpose + static_cast<uint32_t>(index);
  const std::string label = fmt::format("{} at {}", there.label, there.addresses.front().text());
  slot = std::make_unique<TcpConnection>(TcpConnection::Role{.peer = peer,
                                                             .purpose = purpose,
                                                             .label = label,
                                                             .capacity = limits_.capacity,
                                                             .me = options_.me,
                                                             .peers = &options_.peers},
                                         SocketSetup(options_, peer, turned(there.addresses, channel), purpose, label));
  setting_up_.push_back(slot.get());
  return slot.get();
}

Result<SendEnd*> TcpTransport::send_end(int peer, int channel, Use use) {
  TUTTI_ASSIGN_OR_RETURN(TcpConnection* const found, connection(peer, channel, use));
  return found->send_end();
}
Result<ReceiveEnd*> TcpTransport::receive_end(int peer, int channel, Use use) {
  TUTTI_ASSIGN_OR_RETURN(TcpConnection* const found, connection(peer, channel, use));
  return found->receive_end();
}
Result<SendEnd*> TcpTransport::fan_send_end(int) {
  return error(Code::InternalError, "tcp has no fan-out connections: post to each pair");
}
Result<ReceiveEnd*> TcpTransport::fan_receive_end(int, int) {
  return error(Code::InternalError, "tcp has no fan-out connections: receive from the pair");
}

Result<bool> TcpTransport::progress() {
  TUTTI_TRY(failure_);
  TUTTI_ASSIGN_OR_RETURN(const bool connected, advance_setup());
  TUTTI_ASSIGN_OR_RETURN(const bool carried, carry());
  return connected || carried;
}

Status TcpTransport::fail(Status status, int culprit) {
  failure_ = std::move(status);
  for (TcpConnection* connection : open_) connection->say_lost(culprit);
  return failure_;
}

Result<bool> TcpTransport::advance_setup() {
  if (setting_up_.empty()) return false;
  if (Status heard = options_.listener->poll(); !heard.ok()) return fail(std::move(heard), options_.me);
  bool moved = false;
  for (TcpConnection*& connection : setting_up_) {
    const Result<bool> connected = connection->advance_setup(*options_.listener);
    if (!connected.ok()) return fail(connected.status(), connection->culprit());
    if (!*connected) continue;
    open_.push_back(connection);
    connection = nullptr;
    moved = true;
  }
  std::erase(setting_up_, nullptr);
  if (!few()) TUTTI_TRY(watch_all());
  return moved;
}

bool TcpTransport::few() const { return open_.size() <= kFewSockets; }

Status TcpTransport::watch_all() {
  for (; watched_ < open_.size(); ++watched_) {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.ptr = open_[watched_];
    if (::epoll_ctl(events_.get(), EPOLL_CTL_ADD, open_[watched_]->socket(), &event) != 0)
      return fail(errno_status("epoll_ctl", "a TCP connection"), options_.me);
  }
  return {};
}

// A system call costs about as much as everything else that a short message needs, so the event set is asked only when
// its answer can matter: who has just something to send sends it, and who waits for a peer reads from that peer.
bool TcpTransport::worth_asking() {
  if (!few()) return true;
  bool awaited = false, owed = false, stuck = false;
  for (TcpConnection* connection : open_) {
    owed |= connection->can_send();
    stuck |= connection->stuck();
    if (!connection->awaited()) continue;
    connection->try_reading();
    awaited = true;
  }
  return stuck || (!awaited && !owed) || ++calls_ % kCallsPerQuestion == 0;
}

Result<bool> TcpTransport::carry() {
  if (open_.empty()) return false;
  if (worth_asking()) collect_events(0);
  bool moved = false;
  for (TcpConnection* connection : open_) {
    if (!connection->can_carry()) continue;
    const Result<bool> carried = connection->carry();
    if (!carried.ok()) return fail(carried.status(), connection->culprit());
    moved |= *carried;
  }
  return moved;
}

std::vector<pollfd> TcpTransport::poll_items() const {
  if (!few()) return {{events_.get(), POLLIN, 0}};
  std::vector<pollfd> items;
  for (const TcpConnection* connection : open_) {
    const short events = connection->wanted_events();
    items.push_back({events != 0 ? connection->socket() : -1, events, 0});
  }
  return items;
}

void TcpTransport::collect_events(int timeout_ms) {
  if (few()) {
    std::vector<pollfd> items = poll_items();
    (void)::poll(items.data(), items.size(), timeout_ms);
    for (size_t i = 0; i < items.size(); ++i) {
      if (items[i].revents != 0) open_[i]->note_events(static_cast<uint32_t>(items[i].revents));
    }
    return;
  }
  std::array<epoll_event, kEventsPerCall> events;
  const int count = ::epoll_wait(events_.get(), events.data(), kEventsPerCall, timeout_ms);
  for (int i = 0; i < count; ++i) static_cast<TcpConnection*>(events[i].data.ptr)->note_events(events[i].events);
}

// A connection in the making is owed to the peer, even if this rank has nothing to say on it: the peer may hold it for
// made, and would take our leaving now, without the goodbye that only a made one can say, for a failure.
bool TcpTransport::flushed() const {
  return setting_up_.empty() &&
         std::all_of(open_.begin(), open_.end(), [](const TcpConnection* connection) { return connection->flushed(); });
}

void TcpTransport::wait(int timeout_ms) {
  if (!failure_.ok()) return;
  if (std::any_of(open_.begin(), open_.end(), [](TcpConnection* open) { return open->can_carry(); })) return;
  if (setting_up_.empty()) return collect_events(timeout_ms);
  wait_for_setup(poll_items(), *options_.listener, setting_up_, timeout_ms);
}

}  // namespace tutti
