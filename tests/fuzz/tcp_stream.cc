// SPDX-License-Identifier: Apache-2.0
// What a TCP peer may send once it is trusted: headers and payloads in pieces of any length. No slot is left, and what
// is published fits the cut it claims.
#include <sys/socket.h>

#include "fuzz/target.h"
#include "transports/tcp/tcp_connection.h"

using namespace tutti;
using fuzz::operator+;

namespace {

constexpr uint64_t kCapacity = 64 << 10;

void add_message(fuzz::Input& stream, const TcpHeader& header) {
  const auto bytes = std::as_bytes(std::span(&header, 1));
  stream = stream + fuzz::input_of(bytes) + fuzz::Input(header.bytes, 0x5a);
}

}  // namespace

std::vector<fuzz::Input> tutti::fuzz::seeds() {
  std::vector<Input> seeds;
  for (const uint8_t piece : {255, 40, 3}) {
    Input stream{piece};
    for (uint64_t position = 0; position < 4; ++position)
      add_message(stream, {.bytes = 50 * position, .flag = make_flag(position, 9), .cut = {256, 4}});
    add_message(stream, {.bytes = 100, .flag = make_flag(4, 9), .cut = {1024, 2}});
    Input ended = stream;
    add_message(ended, {});
    seeds.push_back(ended);
    for (const uint64_t lost : {0, 1, 2}) {
      TcpHeader farewell;
      farewell.bytes = 1;
      farewell.cut.bytes = lost;
      const auto bytes = std::as_bytes(std::span(&farewell, 1));
      seeds.push_back(stream + input_of(bytes));
    }
  }
  return seeds;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Choices input(data, size);
  const size_t piece = input.byte() + size_t{1};
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) std::abort();
  UniqueFd here(fds[0]), there(fds[1]);
  const std::vector<NetworkPeer> peers{{{}, "rank 0"}, {{}, "rank 1"}, {{}, "rank 2"}};
  TcpConnection connection(
      {.peer = 1, .purpose = 16, .label = "rank 1", .capacity = kCapacity, .me = 0, .peers = &peers}, std::move(here));
  Result<ReceiveEnd*> end = connection.receive_end();
  if (!end.ok()) std::abort();
  SimpleReceiver& slots = (*end)->simple;
  uint64_t position = 0;
  const auto take = [&] {
    while (slots.ready()) {
      const SlotDescriptor& slot = slots.descriptor();
      fuzz::require(slot.bytes <= kCapacity, "a slot larger than its memory");
      fuzz::require(slot.flag == make_flag(position, identity_of(slot.flag)), "a slot out of turn");
      ++position;
      slots.release();
    }
  };
  while (!input.empty()) {
    const auto now = input.some(piece);
    if (::send(there.get(), now.data(), now.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(now.size())) return 0;
    connection.note_events(1);  // EPOLLIN
    for (;;) {
      const Result<bool> moved = connection.carry();
      if (!moved.ok()) return 0;
      take();
      if (!*moved) break;
    }
  }
  return 0;
}
