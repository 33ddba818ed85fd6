// SPDX-License-Identifier: Apache-2.0
// The set-up of a connection and the movement of its slots (tcp_connection.h).
#include "transports/tcp/tcp_connection.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace tutti {
namespace {

// Messages handed to the kernel in one call: a few small ones share a packet; large ones fill it alone.
constexpr uint64_t kMostMessagesPerCall = 16;
constexpr uint64_t kShortBytes = 1024;  // of payload, with which a copy is cheaper than a list of pieces

// Headers that are no message's. No flag of a slot is 0.
constexpr uint64_t kLost = 1;
constexpr TcpHeader kGoodbye{};
constexpr TcpHeader lost_header(uint64_t rank) {
  return {.bytes = kLost, .flag = 0, .cut = {.bytes = rank, .count = 0}};
}
bool operator==(const TcpHeader& a, const TcpHeader& b) {
  return a.bytes == b.bytes && a.flag == b.flag && a.cut == b.cut;
}

// The iovecs of whole messages, less the first `skip` bytes.
class Gather {
 public:
  explicit Gather(uint64_t skip) : skip_(skip) {}
  void add(const void* data, uint64_t bytes) {
    const uint64_t skipped = std::min(skip_, bytes);
    skip_ -= skipped;
    if (bytes > skipped)
      parts_[count_++] = {const_cast<char*>(static_cast<const char*>(data)) + skipped, bytes - skipped};
  }
  msghdr message() {
    msghdr message{};
    message.msg_iov = parts_.data();
    message.msg_iovlen = count_;
    return message;
  }

 private:
  uint64_t skip_;
  std::array<iovec, 2 * kMostMessagesPerCall> parts_;
  size_t count_ = 0;
};

}  // namespace

Result<LocalFifo> LocalFifo::create(uint64_t capacity, uint64_t rotation) {
  LocalFifo fifo;
  TUTTI_ASSIGN_OR_RETURN(fifo.mapping_, Mapping::anonymous(kPageBytes + capacity));
  std::byte* const base = fifo.mapping_.base();
  constexpr uint64_t kDescriptorBytes = SimpleMemory::kMostInFlight * sizeof(SlotDescriptor);
  constexpr uint64_t kRotations = (kPageBytes - kDescriptorBytes) / (2 * sizeof(CounterLine));
  auto* const counters =
      reinterpret_cast<CounterLine*>(base + kDescriptorBytes) + 2 * (rotation % kRotations);  // tail, head
  fifo.memory_ = {.tail = reinterpret_cast<TailLine*>(counters),
                  .heads = counters + 1,
                  .readers = 1,
                  .descriptors = reinterpret_cast<SlotDescriptor*>(base),
                  .slots = base + kPageBytes,
                  .capacity = capacity};
  return fifo;
}

TcpConnection::TcpConnection(Role role, SocketSetup setup) : role_(std::move(role)), setup_(std::move(setup)) {}

TcpConnection::TcpConnection(Role role, UniqueFd socket) : role_(std::move(role)), socket_(std::move(socket)) {}

Result<SendEnd*> TcpConnection::send_end() {
  if (out_ == nullptr) {
    TUTTI_ASSIGN_OR_RETURN(LocalFifo fifo, LocalFifo::create(role_.capacity, role_.peer + role_.purpose));
    const SimpleMemory memory = fifo.memory();
    out_ = std::make_unique<Out>(Out{.fifo = std::move(fifo),
                                     .end = {.simple = SimpleSender(memory), .ll = {}, .capacity = role_.capacity},
                                     .drain = SimpleReceiver(memory, 0)});
    out_->end.loans = &out_->loans;
    out_->end.mapped = out_->fifo.mapped();
  }
  return &out_->end;
}

Result<ReceiveEnd*> TcpConnection::receive_end() {
  if (in_ == nullptr) {
    TUTTI_ASSIGN_OR_RETURN(LocalFifo fifo, LocalFifo::create(role_.capacity, role_.peer + role_.purpose));
    const SimpleMemory memory = fifo.memory();
    in_ = std::make_unique<In>(In{.fifo = std::move(fifo),
                                  .end = {.simple = SimpleReceiver(memory, 0), .ll = {}, .capacity = role_.capacity},
                                  .fill = SimpleSender(memory)});
    in_->end.landing = &in_->landing;
    in_->end.mapped = in_->fifo.mapped();
  }
  return &in_->end;
}

Result<bool> TcpConnection::advance_setup(PeerListener& listener) {
  TUTTI_ASSIGN_OR_RETURN(socket_, setup_->advance(listener));
  if (!socket_) return false;
  setup_.reset();
  return true;
}

static_assert(EPOLLIN == POLLIN && EPOLLOUT == POLLOUT && EPOLLRDHUP == POLLRDHUP && EPOLLHUP == POLLHUP &&
              EPOLLERR == POLLERR);

void TcpConnection::note_events(uint32_t epoll_events) {
  if ((epoll_events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) readable_ = true;
  if ((epoll_events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) hung_up_ = true;
  if ((epoll_events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) writable_ = true;
}

bool TcpConnection::awaited() const {
  if (expect_ == Expect::Payload || stage_begin_ < stage_end_) return true;
  return expect_ == Expect::Header && in_ != nullptr &&
         (in_->landing.flag & kPositionMask) == ((arrived_ + 1) & kPositionMask);  // cf. make_flag
}

short TcpConnection::wanted_events() const {
  const bool reads = expect_ == Expect::Header || expect_ == Expect::Payload;
  return static_cast<short>((reads ? POLLIN | POLLRDHUP : 0) | (stuck() ? POLLOUT : 0));
}

bool TcpConnection::can_carry() {
  if (can_send()) return true;
  switch (expect_) {
    case Expect::Header:
      return readable_ || stage_end_ - stage_begin_ >= sizeof(TcpHeader);
    case Expect::Payload:
      return readable_;
    case Expect::Room:
      return has_room();
    case Expect::Nothing:
      return false;
  }
  return false;
}

Result<bool> TcpConnection::carry() {
  // What the peer waits for goes first: a look at an idle socket takes a system call.
  const Result<bool> pushed = push();
  // What a peer said before it closed the connection names the culprit.
  if (!pushed.ok()) readable_ = true;
  TUTTI_ASSIGN_OR_RETURN(const bool pulled, pull());
  TUTTI_TRY(pushed.status());
  return pulled || *pushed;
}

Result<bool> TcpConnection::push() {
  if (expect_ == Expect::Nothing && !flushed()) return left_error(role_.label);
  bool moved = false;
  while (out_ != nullptr && writable_) {
    Out& out = *out_;
    const uint64_t messages = std::min(out.drain.readable(), kMostMessagesPerCall);
    if (messages == 0) break;
    out.drain.cut(out.fifo.cut());
    TUTTI_ASSIGN_OR_RETURN(const uint64_t sent, send_slots(messages));
    moved |= sent > 0;
    out.sent_head += sent;
    for (uint64_t m = 0; m < messages; ++m) {
      const uint64_t whole = sizeof(TcpHeader) + out.drain.descriptor().bytes;
      if (out.sent_head < whole) break;
      out.sent_head -= whole;
      out.drain.release();
    }
  }
  return moved;
}

const std::byte* TcpConnection::payload_of(uint64_t ahead) const {
  const std::byte* const lent = out_->loans.at[out_->drain.place(ahead)];
  return lent != nullptr ? lent : out_->drain.slot(ahead);
}

Result<uint64_t> TcpConnection::send_slots(uint64_t messages) {
  const Out& out = *out_;
  const auto header = [&out](uint64_t ahead) {
    const SlotDescriptor& slot = out.drain.descriptor(ahead);
    return TcpHeader{slot.bytes, slot.flag, out.fifo.cut()};
  };
  ssize_t sent = 0;
  if (messages == 1 && out.sent_head == 0 && out.drain.descriptor().bytes <= kShortBytes) {
    // One piece: the kernel takes it faster than two.
    std::array<std::byte, sizeof(TcpHeader) + kShortBytes> message;
    const TcpHeader first = header(0);
    std::memcpy(message.data(), &first, sizeof first);
    std::memcpy(message.data() + sizeof first, payload_of(0), first.bytes);
    do sent = ::send(socket_.get(), message.data(), sizeof first + first.bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
  } else {
    std::array<TcpHeader, kMostMessagesPerCall> headers;
    Gather gather(out.sent_head);
    for (uint64_t m = 0; m < messages; ++m) {
      headers[m] = header(m);
      gather.add(&headers[m], sizeof headers[m]);
      gather.add(payload_of(m), headers[m].bytes);
    }
    const msghdr message = gather.message();
    do sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
  }
  if (sent < 0 && errno == EAGAIN) {
    writable_ = false;
    return uint64_t{0};
  }
  if (sent < 0) return failure("send");
  return static_cast<uint64_t>(sent);
}

// The slot of the current header is free. Where its bytes go: to where the lane wants them, else into the slot.
void TcpConnection::begin_payload() {
  const bool lands = in_->landing.takes(header_.bytes, header_.flag);
  payload_to_ = lands ? in_->landing.to : in_->fill.slot();
  in_->landing.landed[in_->fill.place()] = lands ? payload_to_ : nullptr;
  payload_got_ = 0;
  expect_ = Expect::Payload;
}

Result<bool> TcpConnection::pull() {
  bool moved = false;
  for (;;) {
    const size_t staged = stage_end_ - stage_begin_;
    if (expect_ == Expect::Nothing) return moved;
    if (expect_ == Expect::Header) {
      if (staged < sizeof(TcpHeader)) {
        TUTTI_ASSIGN_OR_RETURN(const size_t got, receive(nullptr, 0));
        if (got == 0) return moved;
        moved = true;
        continue;
      }
      TUTTI_TRY(take_header());
      continue;
    }
    if (expect_ == Expect::Room) {
      if (!has_room()) return moved;
      begin_payload();
    }
    std::byte* const rest = payload_to_ + payload_got_;
    const uint64_t missing = header_.bytes - payload_got_;
    const uint64_t copied = std::min<uint64_t>(missing, staged);
    std::copy_n(stage_.data() + stage_begin_, copied, rest);
    stage_begin_ += copied;
    payload_got_ += copied;
    if (copied < missing) {
      TUTTI_ASSIGN_OR_RETURN(const size_t got, receive(rest + copied, missing - copied));
      if (got == 0) return moved || copied > 0;
      payload_got_ += std::min<uint64_t>(got, missing - copied);
    }
    moved = true;
    if (payload_got_ < header_.bytes) continue;
    const bool landed = payload_to_ == in_->landing.to && header_.bytes > 0;
    in_->fill.publish(header_.bytes, identity_of(header_.flag));
    expect_ = Expect::Header;
    if (landed) return true;  // the lane shall say where the next one goes
  }
}

// The stage holds a header. Nothing in it is believed before it is checked.
Status TcpConnection::take_header() {
  std::memcpy(&header_, stage_.data() + stage_begin_, sizeof header_);
  stage_begin_ += sizeof header_;
  if (header_ == kGoodbye) {
    expect_ = Expect::Nothing;
    return {};
  }
  if (header_ == lost_header(header_.cut.bytes) && header_.cut.bytes < role_.peers->size()) {
    expect_ = Expect::Nothing;
    return lost(header_.cut.bytes);
  }
  const SlotCut& cut = header_.cut;
  const bool fits = cut.count >= 1 && cut.count <= SimpleMemory::kMostInFlight && cut.bytes >= 1 &&
                    cut.bytes <= role_.capacity / cut.count && header_.bytes <= cut.bytes;
  const bool in_turn = header_.flag == make_flag(arrived_, identity_of(header_.flag));
  if (!fits || !in_turn)
    return remote_error(
        "{} sent an impossible header over TCP ({} bytes in {} slots of {} at position {}; this rank has "
        "{} bytes of slots and expects position {}): do both run the same version with the same "
        "TUTTI_BUFFER_BYTES?",
        role_.label, header_.bytes, cut.count, cut.bytes, (header_.flag & kPositionMask) - 1, role_.capacity, arrived_);
  ++arrived_;
  expect_ = Expect::Room;
  return {};
}

Result<size_t> TcpConnection::receive(std::byte* payload, uint64_t payload_bytes) {
  if (!readable_) return 0;
  if (stage_begin_ == stage_end_) stage_begin_ = stage_end_ = 0;
  if (stage_begin_ > 0) {  // the beginning of a header
    std::memmove(stage_.data(), stage_.data() + stage_begin_, stage_end_ - stage_begin_);
    stage_end_ -= stage_begin_;
    stage_begin_ = 0;
  }
  iovec parts[] = {{payload, payload_bytes}, {stage_.data() + stage_end_, kStageBytes - stage_end_}};
  const size_t asked = payload_bytes + kStageBytes - stage_end_;
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  ssize_t got = 0;
  do
    got = payload_bytes == 0 ? ::recv(socket_.get(), parts[1].iov_base, parts[1].iov_len, MSG_DONTWAIT)
                             : ::recvmsg(socket_.get(), &message, MSG_DONTWAIT);
  while (got < 0 && errno == EINTR);
  if (got < 0 && errno == EAGAIN) {
    readable_ = false;
    return 0;
  }
  if (got < 0) return failure("recv");
  if (got == 0)
    return remote_error(
        "{} closed its TCP connection without a goodbye: its process ended or failed; see its own output", role_.label);
  const size_t bytes = static_cast<size_t>(got);
  if (bytes > payload_bytes) stage_end_ += bytes - payload_bytes;
  // Less than asked for: the kernel's buffer is empty, and the next bytes will be an event. The end of the stream that
  // came together with these bytes was part of their event, so it is read now.
  if (bytes < asked && !hung_up_) readable_ = false;
  return bytes;
}

Status TcpConnection::failure(std::string_view call) const {
  const int number = errno;
  if (number == ECONNRESET || number == EPIPE)
    return remote_error("{} closed its TCP connection: its process ended or failed; see its own output", role_.label);
  if (number == ETIMEDOUT)
    return remote_error("{} no longer answers over TCP: its host or the network to it is down", role_.label);
  errno = number;
  return errno_status(call, role_.label);
}

// The peer has failed, and says because of whom.
Status TcpConnection::lost(uint64_t rank) {
  culprit_ = static_cast<int>(rank);
  return lost_error(role_.me, role_.peer, role_.label, culprit_, (*role_.peers)[rank].label);
}

bool TcpConnection::can_say_farewell() const {
  return !setup_ && expect_ != Expect::Nothing && (out_ == nullptr || out_->sent_head == 0);
}

void TcpConnection::say(const TcpHeader& farewell) {
  // If the kernel has no room for it the peer is not reading: it has a failure of its own to report.
  (void)!::send(socket_.get(), &farewell, sizeof farewell, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void TcpConnection::say_goodbye() {
  if (can_say_farewell() && flushed()) say(kGoodbye);
}

void TcpConnection::say_lost(int rank) {
  if (can_say_farewell()) say(lost_header(static_cast<uint64_t>(rank)));
}

}  // namespace tutti
