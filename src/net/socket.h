// SPDX-License-Identifier: Apache-2.0
// TCP sockets: listen, connect, read and write. Everything is non-blocking and close-on-exec; what waits has a
// Deadline.
//
// `peer` is how messages name the other end, e.g. "rank 3 (node7, process 4242)" or an address.
#pragma once

#include <poll.h>

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "base/deadline.h"
#include "base/handle.h"
#include "base/poll.h"
#include "base/status.h"
#include "net/address.h"

namespace tutti {

// Port 0: the kernel chooses. The IPv6 wildcard also takes IPv4 callers.
Result<UniqueFd> listen_tcp(const SocketAddress& where);
Result<SocketAddress> address_of_socket(int fd);

// Empty when no caller waits. `caller` is where the connection comes from.
Result<UniqueFd> accept_tcp(int listener, SocketAddress& caller);

Result<UniqueFd> begin_connect(const SocketAddress& to);
Result<Poll> finish_connect(int fd, const SocketAddress& to);

// Bytes moved now, 0 when the socket would block. The end of the stream is an error: nobody of ours half-closes.
Result<size_t> read_some(int fd, std::span<std::byte> out, std::string_view peer);
Result<size_t> write_some(int fd, std::span<const std::byte> data, std::string_view peer);

Status read_full(int fd, std::span<std::byte> out, const Deadline& deadline, std::string_view peer);
Status write_full(int fd, std::span<const std::byte> data, const Deadline& deadline, std::string_view peer);

// poll(2) that takes a signal as an early return.
Status wait_on(std::vector<pollfd>& items, int timeout_ms);

}  // namespace tutti
