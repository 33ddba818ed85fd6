// SPDX-License-Identifier: Apache-2.0
// Passing a descriptor from the rank that owns it to the other ranks of its host (shm_exchange.h).
#include "transports/shm/descriptor_passing.h"

#include <poll.h>
#include <sodium.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <vector>

#include "base/log.h"

namespace tutti::shm {
namespace {

bool same(const Mac& a, const Mac& b) { return sodium_memcmp(a.data(), b.data(), a.size()) == 0; }

Nonce random_nonce() {
  Nonce nonce;
  randombytes_buf(nonce.data(), nonce.size());
  return nonce;
}

bool same_user(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == ::geteuid();
}

template <class Message>
bool send_message(int socket, const Message& message) {
  return ::send(socket, &message, sizeof message, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof message;
}

enum class Received : uint8_t { Message, Nothing, Closed, Malformed };
template <class Message>
Received receive_message(int socket, Message& message) {
  const ssize_t got = ::recv(socket, &message, sizeof message, MSG_DONTWAIT | MSG_TRUNC);
  if (got == sizeof message) return Received::Message;
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return Received::Nothing;
  return got <= 0 ? Received::Closed : Received::Malformed;
}

bool send_descriptor(int socket, const Grant& grant, int fd) {
  iovec payload{const_cast<Grant*>(&grant), sizeof grant};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &payload;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  return ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof grant;
}

// The descriptor that came with the grant; none when the message is not what send_descriptor() makes.
UniqueFd receive_descriptor(int socket, Grant& grant) {
  iovec payload{&grant, sizeof grant};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &payload;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t got = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  UniqueFd fd;
  if (got < 0) return fd;
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  if (header != nullptr && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS &&
      header->cmsg_len == CMSG_LEN(sizeof(int))) {
    int number = -1;
    std::memcpy(&number, CMSG_DATA(header), sizeof number);
    fd.reset(number);
  }
  if (got != sizeof grant || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) fd.reset();
  return fd;
}

// A connection on its way through the leader's half of the exchange.
struct Visitor {
  enum class Phase : uint8_t { AwaitHello, AwaitProof, Gone };
  UniqueFd socket;
  Phase phase = Phase::AwaitHello;
  Transcript said{};
};

constexpr int kMilli = 1'000'000;  // ns
void nap() {
  const timespec time{0, kMilli};
  ::nanosleep(&time, nullptr);
}

}  // namespace

Result<UniqueFd> DescriptorPassing::listen() const {
  UniqueFd listener;
  listener.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener) return errno_status("socket", "an abstract Unix socket");
  const AbstractAddress name = abstract_address(key, owner());
  Status status;
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&name.address), name.size) != 0)
    status = errno_status("bind", "an abstract Unix socket");
  else if (::listen(listener.get(), static_cast<int>(ranks.size())) != 0)
    status = errno_status("listen", "an abstract Unix socket");
  TUTTI_TRY(status);
  return listener;
}

// The owner: carries each visitor through the exchange until every other rank has its descriptor.
Status DescriptorPassing::serve(UniqueFd listener, int fd, const Grant& grant, Deadline deadline) const {
  const int count = static_cast<int>(ranks.size());
  const size_t most_visitors = 2 * static_cast<size_t>(count) + 16;  // strangers may hold this many places, briefly
  std::vector<Visitor> visitors;
  std::vector<bool> granted(static_cast<size_t>(count), false);
  granted[static_cast<size_t>(owner_local)] = true;
  int missing = count - 1;

  const auto advance = [&](Visitor& visitor) -> const char* {  // what is wrong with the visitor, or null
    const int socket = visitor.socket.get();
    if (visitor.phase == Visitor::Phase::AwaitHello) {
      Hello hello;
      const Received received = receive_message(socket, hello);
      if (received == Received::Nothing) return nullptr;
      if (received != Received::Message || hello.magic != kMagic) return "no greeting";
      if (hello.local_rank < 0 || hello.local_rank >= count || hello.local_rank == owner_local)
        return "no rank of this host";
      visitor.said = {owner(), hello.local_rank, hello.nonce, random_nonce()};
      if (!send_message(socket, Challenge{visitor.said.leaders, prove(key, Role::Leader, visitor.said)}))
        return "gone before the challenge";
      visitor.phase = Visitor::Phase::AwaitProof;
    }
    Proof proof;
    const Received received = receive_message(socket, proof);
    if (received == Received::Nothing) return nullptr;
    if (received != Received::Message || !same(proof.mac, prove(key, Role::Fetcher, visitor.said)))
      return "no proof of the secret";
    if (granted[visitor.said.local_rank]) return "a rank that was here before";
    if (!send_descriptor(socket, grant, fd)) return "gone before the descriptor";
    granted[visitor.said.local_rank] = true;
    --missing;
    visitor.phase = Visitor::Phase::Gone;
    return nullptr;
  };

  std::vector<pollfd> polls;
  while (missing > 0) {
    if (deadline.passed()) {
      const auto absent = std::find(granted.begin(), granted.end(), false) - granted.begin();
      return remote_error(
          "{}: rank {} did not fetch it in time ({} of {} ranks missing); raise "
          "TUTTI_INIT_TIMEOUT if it is alive",
          what, ranks[static_cast<size_t>(absent)], missing, count);
    }
    polls.assign(1, {listener.get(), POLLIN, 0});
    for (const Visitor& visitor : visitors) polls.push_back({visitor.socket.get(), POLLIN, 0});
    if (::poll(polls.data(), polls.size(), deadline.poll_ms()) < 0 && errno != EINTR)
      return errno_status("poll", "the shared memory socket");
    for (size_t i = 1; i < polls.size(); ++i) {
      if (polls[i].revents == 0) continue;
      Visitor& visitor = visitors[i - 1];
      if (const char* fault = advance(visitor)) {
        log_warn(Subsystem::Transport, "dropped a stranger on the shared memory socket: {}", fault);
        visitor.phase = Visitor::Phase::Gone;
      }
    }
    std::erase_if(visitors, [](const Visitor& visitor) { return visitor.phase == Visitor::Phase::Gone; });
    if ((polls[0].revents & POLLIN) == 0) continue;
    UniqueFd socket{::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
    if (!socket) continue;
    if (!same_user(socket.get())) {
      log_warn(Subsystem::Transport, "dropped a stranger on the shared memory socket: another user");
      continue;
    }
    if (visitors.size() == most_visitors) visitors.erase(visitors.begin());  // the oldest has had its time
    visitors.push_back({std::move(socket)});
  }
  return {};
}

// Everyone else: one exchange with the owner.
Result<UniqueFd> DescriptorPassing::fetch(Deadline deadline, Grant& grant) const {
  const int leader = owner();
  const auto lost = [&](std::string_view when) {
    return remote_error(
        "rank {} (leader of this host) closed the shared memory socket {}: it failed, or another process "
        "answered in its place",
        leader, when);
  };
  UniqueFd socket{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!socket) return errno_status("socket", "an abstract Unix socket");
  const AbstractAddress name = abstract_address(key, leader);
  while (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&name.address), name.size) != 0) {
    if (errno == ECONNREFUSED)
      return remote_error(
          "rank {} (leader of this host) no longer listens on its abstract Unix socket, or runs in "
          "another network namespace: set TUTTI_HOST_ID so that such ranks count as different hosts",
          leader);
    if (errno != EAGAIN && errno != EINTR) return errno_status("connect", "the leader's abstract Unix socket");
    if (deadline.passed()) return remote_error("rank {} (leader of this host) accepts no connection in time", leader);
    nap();  // its queue is full; a connect that fails so cannot be polled for
  }
  if (!same_user(socket.get()))
    return remote_error("the shared memory socket of rank {} is held by another user", leader);

  const auto await = [&](std::string_view what) -> Status {
    for (;;) {
      pollfd waiting{socket.get(), POLLIN, 0};
      const int ready = ::poll(&waiting, 1, deadline.poll_ms());
      if (ready > 0) return {};
      if (ready < 0 && errno != EINTR) return errno_status("poll", "the shared memory socket");
      if (deadline.passed())
        return remote_error("rank {} (leader of this host) sent no {} over the shared memory socket in time", leader,
                            what);
    }
  };
  Transcript said{leader, local, random_nonce(), {}};
  if (!send_message(socket.get(), Hello{kMagic, said.local_rank, said.fetchers})) return lost("at once");
  TUTTI_TRY(await("challenge"));
  Challenge challenge;
  if (receive_message(socket.get(), challenge) != Received::Message) return lost("before its challenge");
  said.leaders = challenge.nonce;
  if (!same(challenge.mac, prove(key, Role::Leader, said)))
    return remote_error("who answers on the shared memory socket of rank {} does not know the communicator's secret",
                        leader);
  if (!send_message(socket.get(), Proof{prove(key, Role::Fetcher, said)})) return lost("before my proof");
  TUTTI_TRY(await("descriptor"));
  UniqueFd object = receive_descriptor(socket.get(), grant);
  if (!object) return lost("before it passed the descriptor");
  return object;
}

}  // namespace tutti::shm
