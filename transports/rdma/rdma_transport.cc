// SPDX-License-Identifier: Apache-2.0
// Which connections there are, and what their devices have to tell (rdma_transport.h).
#include "transports/rdma/rdma_transport.h"

#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>

#include "base/log.h"
#include "transports/arena.h"
#include "transports/rdma/rdma_connection.h"

namespace tutti {
namespace {

constexpr uint64_t MiB = uint64_t{1} << 20;
constexpr uint64_t kMostCapacity = 256 * MiB;  // a message is cut into so many writes at most (rdma_rail.cc)
constexpr int kEventsPerCall = 64;
constexpr size_t kCompletionsPerCall = 32;
// Sockets and events cost a system call to look at: between messages they are looked at this rarely.
constexpr int kIdlePollsPerLook = 64;
// Of the handshake, beside tcp's.
constexpr uint32_t kFirstPurpose = kFirstFreePurpose + (1u << 16);

}  // namespace

Result<TransportLimits> RdmaTransport::limits_for(int ranks, uint64_t buffer_bytes, int channels) {
  TUTTI_ASSIGN_OR_RETURN(TransportLimits limits, network_limits(ranks, buffer_bytes, channels));
  limits.capacity = std::min(limits.capacity, kMostCapacity);
  return limits;
}

Result<std::unique_ptr<Transport>> RdmaTransport::create(RdmaOptions options) {
  TUTTI_ASSIGN_OR_RETURN(const TransportLimits limits,
                         limits_for(static_cast<int>(options.peers.size()), options.buffer_bytes, options.channels));
  UniqueFd events{::epoll_create1(EPOLL_CLOEXEC)};
  if (!events) return errno_status("epoll_create1", "the RDMA connections");
  std::unique_ptr<RdmaTransport> made(new RdmaTransport(std::move(options), limits, std::move(events)));
  TUTTI_TRY(made->watch_devices());
  return std::unique_ptr<Transport>(std::move(made));
}

RdmaTransport::RdmaTransport(RdmaOptions options, TransportLimits limits, UniqueFd events)
    : options_(std::move(options)),
      limits_(limits),
      events_(std::move(events)),
      user_memory_(std::make_unique<UserMemory>()),
      gpu_(std::make_unique<RdmaGpu>(options_.gpu)),
      connections_(options_.peers.size() * (static_cast<size_t>(limits.channels) + 1)) {}

RdmaTransport::~RdmaTransport() {
  if (!failure_.ok()) return;  // peers shall see that we failed
  for (RdmaConnection* connection : open_) connection->say_goodbye();
}

Status RdmaTransport::watch_devices() {
  for (const auto& nic : options_.devices->nics()) {
    for (const int fd : {nic->event_fd(), nic->completion_fd()}) {
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.ptr = nullptr;
      if (::epoll_ctl(events_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return errno_status("epoll_ctl", nic->name());
    }
  }
  return {};
}

bool RdmaTransport::reaches(int peer) const {
  if (peer < 0 || peer >= static_cast<int>(options_.peers.size()) || peer == options_.me) return false;
  return !pair_ports(options_.devices->ports(), options_.peers[static_cast<size_t>(peer)].ports).empty();
}

Result<RdmaConnection*> RdmaTransport::connection(int peer, int channel, Use use) {
  TUTTI_TRY(failure_);
  if (!reaches(peer)) return error(Code::InternalError, "rdma: rank {} has no way to rank {}", options_.me, peer);
  const int channels = use == Use::PointToPoint ? 1 : limits_.channels;
  if (channel < 0 || channel >= channels)
    return error(Code::InternalError, "rdma: channel {} of a connection to rank {} is not in 0 .. {}", channel, peer,
                 channels - 1);
  const int turn = use == Use::PointToPoint ? limits_.channels : channel;
  const auto index = static_cast<uint32_t>(peer * (limits_.channels + 1) + turn);
  std::unique_ptr<RdmaConnection>& slot = connections_[index];
  if (slot != nullptr) return slot.get();

  const RdmaPeer& there = options_.peers[static_cast<size_t>(peer)];
  const uint32_t purpose = kFirstPurpose + static_cast<uint32_t>(turn);
  const std::string label = fmt::format("{} at {}", there.label, there.addresses.front().text());
  slot = std::make_unique<RdmaConnection>(RdmaConnection::Role{.peer = peer,
                                                               .purpose = purpose,
                                                               .index = index,
                                                               .turn = static_cast<uint32_t>(turn),
                                                               .label = label,
                                                               .capacity = limits_.capacity,
                                                               .me = options_.me,
                                                               .peers = &options_.peers,
                                                               .devices = options_.devices.get(),
                                                               .settings = &options_.settings,
                                                               .user_memory = user_memory_.get(),
                                                               .gpu = gpu_.get()},
                                          SocketSetup(options_, peer, there.addresses, purpose, label),
                                          Deadline::in_ms(options_.connect_timeout_ms));
  setting_up_.push_back(slot.get());
  return slot.get();
}

Result<SendEnd*> RdmaTransport::send_end(int peer, int channel, Use use) {
  return send_end_on_gpu(peer, channel, use, nullptr);
}
Result<ReceiveEnd*> RdmaTransport::receive_end(int peer, int channel, Use use) {
  return receive_end_on_gpu(peer, channel, use, nullptr);
}
uint64_t RdmaTransport::wants_gpu_slots(int peer, Flow flow) const {
  return reaches(peer) && gpu_->wanted(flow) ? limits_.capacity : 0;
}
Result<SendEnd*> RdmaTransport::send_end_on_gpu(int peer, int channel, Use use, std::shared_ptr<GpuSlots> slots) {
  TUTTI_ASSIGN_OR_RETURN(RdmaConnection* const found, connection(peer, channel, use));
  return found->send_end(std::move(slots));
}
Result<ReceiveEnd*> RdmaTransport::receive_end_on_gpu(int peer, int channel, Use use, std::shared_ptr<GpuSlots> slots) {
  TUTTI_ASSIGN_OR_RETURN(RdmaConnection* const found, connection(peer, channel, use));
  return found->receive_end(std::move(slots));
}
Result<SendEnd*> RdmaTransport::fan_send_end(int) {
  return error(Code::InternalError, "rdma has no fan-out connections: post to each pair");
}
Result<ReceiveEnd*> RdmaTransport::fan_receive_end(int, int) {
  return error(Code::InternalError, "rdma has no fan-out connections: receive from the pair");
}

Status RdmaTransport::fail(Status status, int culprit) {
  failure_ = std::move(status);
  for (RdmaConnection* connection : open_) {
    connection->say_lost(culprit);
    connection->end_landings();
  }
  return failure_;
}

Result<bool> RdmaTransport::progress() {
  TUTTI_TRY(failure_);
  TUTTI_ASSIGN_OR_RETURN(bool moved, advance_setup());
  TUTTI_ASSIGN_OR_RETURN(const bool completed, take_completions());
  moved |= completed;
  if (!moved && (word_expected_ || ++idle_polls_ >= kIdlePollsPerLook)) {
    idle_polls_ = 0;
    collect_events(0);
  }
  if (device_news_) TUTTI_TRY(take_device_events());
  TUTTI_ASSIGN_OR_RETURN(const bool carried, carry());
  return moved || carried;
}

Result<bool> RdmaTransport::advance_setup() {
  if (setting_up_.empty()) return false;
  if (Status heard = options_.listener->poll(); !heard.ok()) return fail(std::move(heard), options_.me);
  bool moved = false;
  for (RdmaConnection*& connection : setting_up_) {
    const Result<bool> connected = connection->advance_setup(*options_.listener);
    if (!connected.ok()) return fail(connected.status(), connection->culprit());
    if (!*connected) continue;
    epoll_event event{};
    event.events = EPOLLIN | EPOLLRDHUP;
    event.data.ptr = connection;
    if (::epoll_ctl(events_.get(), EPOLL_CTL_ADD, connection->socket(), &event) != 0)
      return fail(errno_status("epoll_ctl", "an RDMA connection"), options_.me);
    open_.push_back(connection);
    connection = nullptr;
    moved = true;
  }
  std::erase(setting_up_, nullptr);
  return moved;
}

Result<bool> RdmaTransport::take_completions() {
  std::array<ibv_wc, kCompletionsPerCall> entries;
  bool moved = false;
  const auto take = [&](const ibv_wc& entry) -> Status {
    moved = true;
    if (entry.status == IBV_WC_WR_FLUSH_ERR) TUTTI_TRY(take_device_events());  // why it was flushed
    RdmaConnection& connection = *connections_[RdmaTicket::decode(entry.wr_id).connection];
    Status taken = connection.complete(entry);
    return taken.ok() ? taken : fail(std::move(taken), connection.culprit());
  };
  for (const ibv_wc& entry : taken_early_) TUTTI_TRY(take(entry));
  taken_early_.clear();
  for (const auto& nic : options_.devices->nics()) {
    const size_t count = nic->poll(entries);
    for (size_t i = 0; i < count; ++i) TUTTI_TRY(take(entries[i]));
  }
  return moved;
}

Status RdmaTransport::take_device_events() {
  device_news_ = false;
  for (const auto& nic : options_.devices->nics()) {
    for (ibv_async_event event; nic->take_event(event);) {
      const std::string what = nic->api().event_type_str(event.event_type);
      int port = 0;
      const ibv_qp* queue_pair = nullptr;
      bool down = true;
      switch (event.event_type) {
        case IBV_EVENT_PORT_ACTIVE:
          down = false;
          [[fallthrough]];
        case IBV_EVENT_PORT_ERR:
          port = event.element.port_num;
          break;
        case IBV_EVENT_QP_FATAL:
        case IBV_EVENT_QP_REQ_ERR:
        case IBV_EVENT_QP_ACCESS_ERR:
          queue_pair = event.element.qp;
          break;
        case IBV_EVENT_CQ_ERR:  // of all that the device completes for us
        case IBV_EVENT_DEVICE_FATAL:
          break;
        default:  // changes of tables are looked at when a rail is made; queue pairs of shared queues are not ours
          log_info(Subsystem::Transport, "rdma: {}: {}", nic->name(), what);
          continue;
      }
      log_info(Subsystem::Transport, "rdma: {}: {}{}", nic->name(), what,
               port != 0 ? fmt::format(", port {}", port) : "");
      for (RdmaConnection* connection : open_) {
        Status taken = connection->device_event(*nic, port, queue_pair, event.event_type, down);
        if (!taken.ok()) return fail(std::move(taken), connection->culprit());
      }
    }
  }
  return {};
}

Result<bool> RdmaTransport::carry() {
  bool moved = false;
  word_expected_ = false;
  for (RdmaConnection* connection : open_) {
    const Result<bool> carried = connection->carry();
    if (!carried.ok()) return fail(carried.status(), connection->culprit());
    moved |= *carried;
    if (!connection->made())
      if (Status late = connection->check_deadline(); !late.ok()) return fail(std::move(late), connection->culprit());
    word_expected_ |= connection->expects_word();
  }
  return moved;
}

void RdmaTransport::collect_events(int timeout_ms) {
  std::array<epoll_event, kEventsPerCall> events;
  const int count = ::epoll_wait(events_.get(), events.data(), kEventsPerCall, timeout_ms);
  for (int i = 0; i < count; ++i) {
    if (events[i].data.ptr != nullptr)
      static_cast<RdmaConnection*>(events[i].data.ptr)->note_readable();
    else
      device_news_ = true;
  }
  if (!device_news_) return;
  for (const auto& nic : options_.devices->nics()) nic->take_completion_events();
}

// A connection in the making is owed to the peer (tcp_transport.cc says why).
bool RdmaTransport::flushed() const {
  return setting_up_.empty() && std::all_of(open_.begin(), open_.end(),
                                            [](const RdmaConnection* open) { return open->made() && open->flushed(); });
}

void RdmaTransport::wait(int timeout_ms) {
  if (!failure_.ok() || !taken_early_.empty()) return;
  if (std::any_of(open_.begin(), open_.end(), [](RdmaConnection* open) { return open->can_carry(); })) return;
  // Armed first and looked at once more: a completion between the last look and the sleep would wake nobody.
  std::array<ibv_wc, kCompletionsPerCall> entries;
  for (const auto& nic : options_.devices->nics()) {
    nic->arm();
    const size_t count = nic->poll(entries);
    taken_early_.insert(taken_early_.end(), entries.begin(), entries.begin() + static_cast<ptrdiff_t>(count));
  }
  if (!taken_early_.empty()) return;
  if (setting_up_.empty()) return collect_events(timeout_ms);
  wait_for_setup({{events_.get(), POLLIN, 0}}, *options_.listener, setting_up_, timeout_ms);
}

}  // namespace tutti
