// SPDX-License-Identifier: Apache-2.0
//
// The floor between two hosts: the bytes of a collective of 2 ranks over one bare TCP socket, each side spinning.
//
// A peer like any other, with the same cells, checks and batches. Variants are congestion controls: `kernel` is what
// the kernel has by default (what every library gets that does not choose), `reno` what any user may choose and what
// never paces. The floor of a cell is its best variant. Not a law: a library that overlaps what this does one after the other
// (combining after everything has come) can be below it.
#ifndef TUTTI_PERF_COMPARE_TCP_FLOOR_H_
#define TUTTI_PERF_COMPARE_TCP_FLOOR_H_

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "perf/compare/harness.h"

namespace tutti::compare {

class TcpFloor : public OrdinaryPeer {
 public:
  explicit TcpFloor(Control& control) : control_(control) {
    for (const char* congestion : {"", "reno"}) sockets_[congestion[0] != 0] = connect_pair(congestion);
  }
  ~TcpFloor() {
    for (const int fd : sockets_) close(fd);
  }
  TcpFloor(const TcpFloor&) = delete;
  TcpFloor& operator=(const TcpFloor&) = delete;

  std::string version() { return "one socket"; }
  std::string variants(const Problem&) { return "kernel,reno"; }

  template <class Run>
  std::string with_operation(Problem& p, const std::string& variant, float* send, float* recv, Run& run) {
    const int fd = sockets_[variant == "reno"];
    const size_t share = p.chunk * sizeof(float), whole = p.bytes;
    if (p.ranks != 2) return "the floor is of 2 ranks";
    switch (p.collective) {
      case Collective::AllReduce:
        theirs_.resize(p.recv_count);
        return run([=, this, count = p.recv_count] {
          exchange(fd, send, whole, theirs_.data(), whole);
          for (size_t i = 0; i < count; ++i) recv[i] = send[i] + theirs_[i];
          return 0;
        });
      case Collective::AllGather:
        return run([=, this, mine = recv + p.rank * p.chunk, other = recv + (1 - p.rank) * p.chunk] {
          exchange(fd, send, share, other, share);
          std::memcpy(mine, send, share);
          return 0;
        });
      case Collective::Broadcast:
        return run([=, this, root = p.is_root()] {
          exchange(fd, recv, root ? whole : 0, recv, root ? 0 : whole);
          return 0;
        });
      default:
        return "no floor of this collective between hosts";
    }
  }

 private:
  // As much as goes at once, each way in turn.
  void exchange(int fd, const void* out, size_t out_bytes, void* in, size_t in_bytes) {
    const char* from = static_cast<const char*>(out);
    char* to = static_cast<char*>(in);
    while (out_bytes > 0 || in_bytes > 0) {
      if (out_bytes > 0) {
        const ssize_t sent = ::send(fd, from, out_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) control_.fail("send between hosts");
        if (sent > 0) from += sent, out_bytes -= static_cast<size_t>(sent);
      }
      if (in_bytes > 0) {
        const ssize_t got = ::recv(fd, to, in_bytes, MSG_DONTWAIT);
        if (got == 0 || (got < 0 && errno != EAGAIN)) control_.fail("recv between hosts");
        if (got > 0) to += got, in_bytes -= static_cast<size_t>(got);
      }
    }
  }

  // Rank 0 listens on the first address that is not its loopback's.
  int connect_pair(const std::string& congestion) {
    sockaddr_in address{};
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    int connected = fd;
    choose(fd, congestion);
    if (control_.rank() == 0) {
      address = first_address();
      socklen_t size = sizeof address;
      auto* raw = reinterpret_cast<sockaddr*>(&address);
      if (::bind(fd, raw, size) != 0 || ::listen(fd, 1) != 0 || ::getsockname(fd, raw, &size) != 0)
        control_.fail("a listening socket for the floor between hosts");
    }
    std::array<sockaddr_in, kMaxRanks> all{};
    control_.all_gather(&address, all.data(), sizeof address);
    if (control_.rank() == 0) {
      connected = ::accept(fd, nullptr, nullptr);
      close(fd);
    } else if (::connect(fd, reinterpret_cast<sockaddr*>(&all[0]), sizeof all[0]) != 0) {
      control_.fail("connecting for the floor between hosts");
    }
    const int on = 1;
    if (connected < 0 || ::setsockopt(connected, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0)
      control_.fail("a socket for the floor between hosts");
    return connected;
  }
  // Before it listens or connects: the accepted socket inherits it.
  void choose(int fd, const std::string& congestion) {
    if (congestion.empty()) return;
    if (::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion.data(), static_cast<socklen_t>(congestion.size())) != 0)
      control_.fail("the kernel has no " + congestion);
  }
  sockaddr_in first_address() {
    sockaddr_in found{};
    ifaddrs* all = nullptr;
    if (::getifaddrs(&all) != 0) control_.fail("getifaddrs");
    for (const ifaddrs* one = all; one != nullptr && found.sin_family == 0; one = one->ifa_next) {
      if (one->ifa_addr == nullptr || one->ifa_addr->sa_family != AF_INET) continue;
      const auto& address = *reinterpret_cast<const sockaddr_in*>(one->ifa_addr);
      if (ntohl(address.sin_addr.s_addr) >> 24 != 127) found = address;
    }
    ::freeifaddrs(all);
    if (found.sin_family == 0) control_.fail("this host has no address beside its loopback");
    found.sin_port = 0;
    return found;
  }

  Control& control_;
  std::array<int, 2> sockets_{};
  std::vector<float> theirs_;
};

}  // namespace tutti::compare
#endif  // TUTTI_PERF_COMPARE_TCP_FLOOR_H_
