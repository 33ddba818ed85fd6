// SPDX-License-Identifier: Apache-2.0
// See socket.h.
#include "net/socket.h"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <string>
#include <system_error>

#include "base/env.h"

namespace tutti {
namespace {

// A peer whose host vanished without a word (power, cable) is noticed after kKeepAliveIdle + kKeepAliveProbes *
// kKeepAliveInterval = 60 s, well before TUTTI_TIMEOUT; the kernel's own default is two hours.
constexpr int kKeepAliveIdleSeconds = 30, kKeepAliveIntervalSeconds = 10, kKeepAliveProbes = 3;

// Messages are small and answered: never delay them. Failures are not fatal: the socket works, only slower.
void tune(int fd) {
  const auto set = [fd](int level, int option, int value) { ::setsockopt(fd, level, option, &value, sizeof value); };
  set(IPPROTO_TCP, TCP_NODELAY, 1);
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, kKeepAliveIdleSeconds);
  set(IPPROTO_TCP, TCP_KEEPINTVL, kKeepAliveIntervalSeconds);
  set(IPPROTO_TCP, TCP_KEEPCNT, kKeepAliveProbes);
}

bool set_congestion_control(int fd, std::string_view name) {
  return ::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), static_cast<socklen_t>(name.size())) == 0;
}

// Before a socket connects or listens (whom it accepts inherits it): a socket that has once been paced stays paced.
//
// BBR spreads what it sends over time, at the rate that it believes the path has, and every pause of ours between two
// collectives makes it believe less: see docs/decisions/tcp.md for what it costs. Ranks are a few hops apart, and a
// burst is what they want.
Status choose_congestion_control(int fd) {
  const std::string& wanted = env().socket_congestion;
  if (wanted == "default") return {};
  if (wanted != "auto") {
    if (set_congestion_control(fd, wanted)) return {};
    return invalid_argument(
        "TUTTI_SOCKET_CONGESTION='{}' is not to be had: {}; net.ipv4.tcp_available_congestion_control lists what the "
        "kernel has, net.ipv4.tcp_allowed_congestion_control what it lets ordinary users choose",
        wanted, std::generic_category().message(errno));
  }
  std::array<char, 32> name{};
  socklen_t size = name.size() - 1;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), &size) != 0) return {};
  if (!std::string_view(name.data()).starts_with("bbr")) return {};
  if (!set_congestion_control(fd, "cubic")) (void)set_congestion_control(fd, "reno");
  return {};
}

bool would_block(int number) { return number == EAGAIN || number == EWOULDBLOCK; }

bool peer_is_gone(int number) { return number == ECONNRESET || number == EPIPE || number == ETIMEDOUT; }

Status closed_by(std::string_view peer) { return remote_error("{} closed the connection", peer); }

// Errno of a read or write.
Status transfer_status(const char* call, std::string_view peer) {
  if (peer_is_gone(errno)) return closed_by(peer);
  return errno_status(call, peer);
}

Status wait_for(int fd, short events, const Deadline& deadline, std::string_view peer) {
  if (deadline.passed()) return remote_error("{} did not answer in time", peer);
  std::vector<pollfd> items{{fd, events, 0}};
  return wait_on(items, deadline.poll_ms());
}

}  // namespace

Result<UniqueFd> listen_tcp(const SocketAddress& where) {
  UniqueFd fd(::socket(where.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return errno_status("socket", where.text());
  const int on = 1, off = 0;
  // Without it a restarted job would wait a minute for the old connections of a fixed port to fade.
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0) {
    return errno_status("setsockopt(SO_REUSEADDR)", where.text());
  }
  if (where.family() == AF_INET6 && ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) != 0) {
    return errno_status("setsockopt(IPV6_V6ONLY)", where.text());
  }
  TUTTI_TRY(choose_congestion_control(fd.get()));
  if (::bind(fd.get(), where.raw(), where.size()) != 0) return errno_status("bind", where.text());
  if (::listen(fd.get(), SOMAXCONN) != 0) return errno_status("listen", where.text());
  return fd;
}

Result<SocketAddress> address_of_socket(int fd) {
  sockaddr_storage raw{};
  socklen_t size = sizeof raw;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&raw), &size) != 0) return errno_status("getsockname", "a socket");
  return SocketAddress::from_raw(reinterpret_cast<const sockaddr*>(&raw));
}

Result<UniqueFd> accept_tcp(int listener, SocketAddress& caller) {
  sockaddr_storage raw{};
  socklen_t size = sizeof raw;
  UniqueFd fd(::accept4(listener, reinterpret_cast<sockaddr*>(&raw), &size, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!fd) {
    // Errors of the one connection (it was reset before we came) are the caller's, not the listener's: look again
    // later.
    const int number = errno;
    if (would_block(number) || number == EINTR || number == ECONNABORTED || number == EPROTO || number == ENETDOWN ||
        number == ENOPROTOOPT || number == EHOSTDOWN || number == ENONET || number == EHOSTUNREACH ||
        number == ENETUNREACH || number == ETIMEDOUT) {
      return UniqueFd();
    }
    errno = number;
    return errno_status("accept", "a listening socket");
  }
  caller = SocketAddress::from_raw(reinterpret_cast<const sockaddr*>(&raw));
  tune(fd.get());
  return fd;
}

Result<UniqueFd> begin_connect(const SocketAddress& to) {
  UniqueFd fd(::socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return errno_status("socket", to.text());
  tune(fd.get());
  TUTTI_TRY(choose_congestion_control(fd.get()));
  if (::connect(fd.get(), to.raw(), to.size()) != 0 && errno != EINPROGRESS && errno != EINTR) {
    return errno_status("connect", to.text());
  }
  return fd;
}

Result<Poll> finish_connect(int fd, const SocketAddress& to) {
  pollfd item{fd, POLLOUT, 0};
  if (::poll(&item, 1, 0) <= 0) return Poll::Pending;
  int failure = 0;
  socklen_t size = sizeof failure;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &size) != 0) return errno_status("getsockopt", to.text());
  if (failure != 0) {
    errno = failure;
    return errno_status("connect", to.text());
  }
  // Dialing a local port on which nobody listens may, by chance, pick that very port as its own and meet itself.
  TUTTI_ASSIGN_OR_RETURN(const SocketAddress mine, address_of_socket(fd));
  if (mine == to) {
    errno = ECONNREFUSED;
    return errno_status("connect", to.text());
  }
  return Poll::Done;
}

Result<size_t> read_some(int fd, std::span<std::byte> out, std::string_view peer) {
  const ssize_t count = ::recv(fd, out.data(), out.size(), 0);
  if (count > 0) return static_cast<size_t>(count);
  if (count == 0) return out.empty() ? Result<size_t>(0) : closed_by(peer);
  if (would_block(errno) || errno == EINTR) return 0;
  return transfer_status("recv", peer);
}

Result<size_t> write_some(int fd, std::span<const std::byte> data, std::string_view peer) {
  const ssize_t count = ::send(fd, data.data(), data.size(), MSG_NOSIGNAL);
  if (count >= 0) return static_cast<size_t>(count);
  if (would_block(errno) || errno == EINTR) return 0;
  return transfer_status("send", peer);
}

Status read_full(int fd, std::span<std::byte> out, const Deadline& deadline, std::string_view peer) {
  while (!out.empty()) {
    TUTTI_ASSIGN_OR_RETURN(const size_t count, read_some(fd, out, peer));
    out = out.subspan(count);
    if (count == 0) TUTTI_TRY(wait_for(fd, POLLIN, deadline, peer));
  }
  return {};
}

Status write_full(int fd, std::span<const std::byte> data, const Deadline& deadline, std::string_view peer) {
  while (!data.empty()) {
    TUTTI_ASSIGN_OR_RETURN(const size_t count, write_some(fd, data, peer));
    data = data.subspan(count);
    if (count == 0) TUTTI_TRY(wait_for(fd, POLLOUT, deadline, peer));
  }
  return {};
}

Status wait_on(std::vector<pollfd>& items, int timeout_ms) {
  if (::poll(items.data(), items.size(), timeout_ms) < 0 && errno != EINTR) return errno_status("poll", "sockets");
  return {};
}

}  // namespace tutti
