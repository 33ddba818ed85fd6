// SPDX-License-Identifier: Apache-2.0
// How the ranks of a host come to map one memory object (shm_transport.h tells when which way is taken).
// Each of the connections below goes through the exchange of shm_exchange.h.
#include <fcntl.h>
#include <poll.h>
#include <sodium.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <ctime>
#include <vector>

#include "base/atomic.h"
#include "base/log.h"
#include "transports/shm/shm_exchange.h"
#include "transports/shm/shm_transport.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

namespace tutti {

using namespace shm;

namespace {

bool same(const Mac& a, const Mac& b) { return sodium_memcmp(a.data(), b.data(), a.size()) == 0; }

Nonce random_nonce() {
  Nonce nonce;
  randombytes_buf(nonce.data(), nonce.size());
  return nonce;
}

std::string hex(const unsigned char* bytes, size_t count) {
  std::string text(2 * count + 1, '\0');
  sodium_bin2hex(text.data(), text.size(), bytes, count);
  text.pop_back();
  return text;
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

int make_memfd() {
  const int fd = ::memfd_create("tutti", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
  if (fd >= 0 || errno != EINVAL) return fd;
  return ::memfd_create("tutti", MFD_CLOEXEC | MFD_ALLOW_SEALING);  // kernels before 6.3
}

// A memory object of the right size that no one can shrink under us (a file of ours is trusted to keep its size).
Status check_object(int fd, const ArenaLayout& layout, bool is_file) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return errno_status("fstat", "the shared memory object");
  if (static_cast<uint64_t>(info.st_size) != layout.bytes())
    return invalid_usage(
        "the shared memory object has {} bytes, this rank computed {}: give all ranks the same "
        "channels and TUTTI_BUFFER_BYTES",
        info.st_size, layout.bytes());
  if (info.st_uid != ::geteuid()) return system_error("the shared memory object belongs to user {}", info.st_uid);
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (!is_file && (seals < 0 || (seals & F_SEAL_SHRINK) == 0))
    return system_error("the shared memory object is not sealed against shrinking");
  return {};
}

}  // namespace

Result<ShmSetup> ShmSetup::begin(const ShmKey& key, HostGroup group, const ArenaLayout& layout, ShmOptions options) {
  TUTTI_TRY(check_group(group, layout));
  if (sodium_init() < 0) return system_error("libsodium cannot start: no source of random numbers");
  ShmSetup setup;
  setup.key_ = key;
  setup.group_ = std::move(group);
  setup.layout_ = layout;
  setup.options_ = std::move(options);
  if (setup.group_.leads()) TUTTI_TRY(setup.make_object());
  return setup;
}

// Takes the first row of the table in shm_transport.h that works.
Status ShmSetup::make_object() {
  const Status listening = listen();
  if (listening.ok()) {
    offer_.kind = ShmOffer::Kind::Socket;
    object_.reset(options_.allow_memfd ? make_memfd() : -1);
    if (!object_) TUTTI_TRY(make_file(false));
  } else {
    log_warn(Subsystem::Transport, "shared memory falls back to a named file in {}: {}", options_.directory,
             listening.message());
    TUTTI_TRY(make_file(true));
    offer_.kind = ShmOffer::Kind::File;
  }
  if (::ftruncate(object_.get(), static_cast<off_t>(layout_.bytes())) != 0)
    return errno_status("ftruncate",
                        fmt::format("shared memory of {} bytes (is `ulimit -f` too low?)", layout_.bytes()));
  if (!is_file_ && ::fcntl(object_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    return errno_status("fcntl(F_ADD_SEALS)", "the shared memory object");
  if (is_file_)
    TUTTI_TRY(reserve_file(object_.get(), 0, layout_.shared_head_bytes(), "control pages", options_.directory));
  return {};
}

Status ShmSetup::make_file(bool named) {
  is_file_ = true;
  UniqueFd directory{::open(options_.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!directory) return errno_status("open", options_.directory);
  const int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
  if (!named) {
    object_.reset(::openat(directory.get(), ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600));
    if (object_) return {};
  }
  const Nonce random = random_nonce();
  const std::string name = "tutti-" + hex(random.data(), 16);
  object_.reset(::openat(directory.get(), name.c_str(), flags, 0600));
  if (!object_)
    return errno_status("open",
                        fmt::format("{}/{} (shared memory of the ranks of this host; memfd_create is refused, so "
                                    "this directory must be writable)",
                                    options_.directory, name));
  if (!named) {  // no O_TMPFILE here
    ::unlinkat(directory.get(), name.c_str(), 0);
    return {};
  }
  std::memcpy(offer_.file, name.c_str(), name.size() + 1);
  directory_ = std::move(directory);
  return {};
}

Status ShmSetup::listen() {
  if (!options_.allow_socket) return system_error("Unix sockets are switched off");
  listener_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener_) return errno_status("socket", "an abstract Unix socket");
  const AbstractAddress name = abstract_address(key_, group_.ranks.front());
  Status status;
  if (::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&name.address), name.size) != 0)
    status = errno_status("bind", "an abstract Unix socket");
  else if (::listen(listener_.get(), layout_.local_ranks()) != 0)
    status = errno_status("listen", "an abstract Unix socket");
  if (!status.ok()) listener_.reset();
  return status;
}

ShmSetup::~ShmSetup() {
  if (directory_) ::unlinkat(directory_.get(), offer_.file, 0);  // set-up ended, well or badly: the name goes
}

Result<std::unique_ptr<ShmTransport>> ShmSetup::finish(const ShmOffer& leaders_offer, Deadline deadline) {
  const int leader = group_.ranks.front();
  UniqueFd object;
  bool is_file = is_file_;
  if (group_.leads()) {
    if (leaders_offer.kind == ShmOffer::Kind::Socket) TUTTI_TRY(serve(deadline));
    object = std::move(object_);
  } else if (leaders_offer.kind == ShmOffer::Kind::Socket) {
    TUTTI_ASSIGN_OR_RETURN(object, fetch(deadline, is_file));
  } else if (leaders_offer.kind == ShmOffer::Kind::File) {
    TUTTI_ASSIGN_OR_RETURN(object, open_file(leaders_offer));
    is_file = true;
  } else {
    return remote_error("rank {} could not make the shared memory of this host; its own error says why", leader);
  }
  TUTTI_TRY(check_object(object.get(), layout_, is_file));
  TUTTI_ASSIGN_OR_RETURN(Mapping memory, Mapping::shared(object.get(), layout_.bytes(), "shared memory"));
  auto* const joined = reinterpret_cast<CounterLine*>(memory.base() + layout_.joined_line(group_.my_local()));
  store_release(joined->value, 1);  // pairs with await_joined()
  if (directory_) {
    const Status all = await_joined(memory, deadline);
    ::unlinkat(directory_.get(), offer_.file, 0);
    directory_.reset();
    TUTTI_TRY(all);
  }
  if (!is_file) object.reset();
  return std::unique_ptr<ShmTransport>(
      new ShmTransport(group_, layout_, std::move(memory), std::move(object), options_.directory));
}

// Leader: carries each visitor through the exchange until every other rank has its descriptor.
Status ShmSetup::serve(Deadline deadline) {
  const int ranks = layout_.local_ranks();
  const size_t most_visitors = 2 * static_cast<size_t>(ranks) + 16;  // strangers may hold this many places, briefly
  std::vector<Visitor> visitors;
  std::vector<bool> granted(ranks, false);
  granted[0] = true;
  int missing = ranks - 1;

  const auto advance = [&](Visitor& visitor) -> const char* {  // what is wrong with the visitor, or null
    const int socket = visitor.socket.get();
    if (visitor.phase == Visitor::Phase::AwaitHello) {
      Hello hello;
      const Received received = receive_message(socket, hello);
      if (received == Received::Nothing) return nullptr;
      if (received != Received::Message || hello.magic != kMagic) return "no greeting";
      if (hello.local_rank < 1 || hello.local_rank >= ranks) return "no rank of this host";
      visitor.said = {group_.ranks.front(), hello.local_rank, hello.nonce, random_nonce()};
      if (!send_message(socket, Challenge{visitor.said.leaders, prove(key_, Role::Leader, visitor.said)}))
        return "gone before the challenge";
      visitor.phase = Visitor::Phase::AwaitProof;
    }
    Proof proof;
    const Received received = receive_message(socket, proof);
    if (received == Received::Nothing) return nullptr;
    if (received != Received::Message || !same(proof.mac, prove(key_, Role::Fetcher, visitor.said)))
      return "no proof of the secret";
    if (granted[visitor.said.local_rank]) return "a rank that was here before";
    if (!send_descriptor(socket, {layout_.bytes(), is_file_}, object_.get())) return "gone before the descriptor";
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
          "rank {} did not fetch the shared memory of this host in time ({} of {} ranks missing); raise "
          "TUTTI_INIT_TIMEOUT if it is alive",
          group_.ranks[absent], missing, ranks);
    }
    polls.assign(1, {listener_.get(), POLLIN, 0});
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
    UniqueFd socket{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
    if (!socket) continue;
    if (!same_user(socket.get())) {
      log_warn(Subsystem::Transport, "dropped a stranger on the shared memory socket: another user");
      continue;
    }
    if (visitors.size() == most_visitors) visitors.erase(visitors.begin());  // the oldest has had its time
    visitors.push_back({std::move(socket)});
  }
  listener_.reset();
  return {};
}

// Everyone else: one exchange with the leader.
Result<UniqueFd> ShmSetup::fetch(Deadline deadline, bool& is_file) const {
  const int leader = group_.ranks.front();
  const auto lost = [&](std::string_view when) {
    return remote_error(
        "rank {} (leader of this host) closed the shared memory socket {}: it failed, or another process "
        "answered in its place",
        leader, when);
  };
  UniqueFd socket{::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!socket) return errno_status("socket", "an abstract Unix socket");
  const AbstractAddress name = abstract_address(key_, leader);
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
  Transcript said{leader, group_.my_local(), random_nonce(), {}};
  if (!send_message(socket.get(), Hello{kMagic, said.local_rank, said.fetchers})) return lost("at once");
  TUTTI_TRY(await("challenge"));
  Challenge challenge;
  if (receive_message(socket.get(), challenge) != Received::Message) return lost("before its challenge");
  said.leaders = challenge.nonce;
  if (!same(challenge.mac, prove(key_, Role::Leader, said)))
    return remote_error("who answers on the shared memory socket of rank {} does not know the communicator's secret",
                        leader);
  if (!send_message(socket.get(), Proof{prove(key_, Role::Fetcher, said)})) return lost("before my proof");
  TUTTI_TRY(await("descriptor"));
  Grant grant{};
  UniqueFd object = receive_descriptor(socket.get(), grant);
  if (!object) return lost("before it passed the descriptor");
  if (grant.bytes != layout_.bytes())
    return invalid_usage(
        "rank {} computed an arena of {} bytes, this rank one of {}: give all ranks the same channels and "
        "TUTTI_BUFFER_BYTES",
        leader, grant.bytes, layout_.bytes());
  is_file = grant.is_file != 0;
  return object;
}

Result<UniqueFd> ShmSetup::open_file(const ShmOffer& offer) const {
  // The name came from a peer: take nothing but the form that make_file() gives it.
  const std::string_view name(offer.file, ::strnlen(offer.file, sizeof offer.file));
  constexpr std::string_view kPrefix = "tutti-";
  if (!name.starts_with(kPrefix) || name.size() == sizeof offer.file ||
      name.find_first_not_of("0123456789abcdef", kPrefix.size()) != std::string_view::npos)
    return remote_error("rank {} offered a shared memory file with an impossible name", group_.ranks.front());
  const std::string path = fmt::format("{}/{}", options_.directory, name);
  UniqueFd object{::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW)};
  if (!object) return errno_status("open", path);
  return object;
}

// Leader of a named file: until every rank has mapped it, so that the name can go.
Status ShmSetup::await_joined(const Mapping& memory, Deadline deadline) const {
  for (int local = 0; local < layout_.local_ranks(); ++local) {
    const auto* line = reinterpret_cast<const CounterLine*>(memory.base() + layout_.joined_line(local));
    while (load_acquire(line->value) == 0) {
      if (deadline.passed())
        return remote_error(
            "rank {} did not map the shared memory of this host in time; raise TUTTI_INIT_TIMEOUT if it is "
            "alive",
            group_.ranks[local]);
      nap();
    }
  }
  return {};
}

}  // namespace tutti
