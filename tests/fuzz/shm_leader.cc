// SPDX-License-Identifier: Apache-2.0
// The leader of a host against whoever finds its abstract socket: any messages, in any number, none of which may get
// the memory. One leader serves all inputs, as it would serve many strangers during a slow start.
#include <unistd.h>

#include <thread>

#include "fuzz/target.h"
#include "transports/shm/shm_exchange.h"

using namespace tutti;

namespace {

const ShmKey kKey{};

void start_leader() {
  static bool started = false;
  if (std::exchange(started, true)) return;
  setenv("TUTTI_DEBUG", "none", 1);
  const auto layout = ArenaLayout::compute({3, 0, 64 << 10});
  if (!layout.ok()) std::abort();
  auto setup = ShmSetup::begin(kKey, HostGroup{0, {0, 1, 2}}, *layout);
  if (!setup.ok()) {
    std::fprintf(stderr, "%s\n", setup.status().message().c_str());
    std::abort();
  }
  std::thread([setup = std::move(*setup)]() mutable {
    (void)setup.finish(setup.offer(), Deadline::never());
    fuzz::require(false, "the leader gave its memory away");
  }).detach();
}

}  // namespace

std::vector<fuzz::Input> tutti::fuzz::seeds() {
  const shm::Hello hello{shm::kMagic, 1, {}};
  const auto bytes = std::as_bytes(std::span(&hello, 1));
  const Input greeting = Input{sizeof hello, 0} + input_of(bytes);
  std::vector<Input> seeds{greeting, greeting + Input{32, 0} + Input(32, 7), greeting + greeting, Input{1, 0, 9}};
  return seeds;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  start_leader();
  fuzz::Choices input(data, size);
  const UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  const shm::AbstractAddress name = shm::abstract_address(kKey, 0);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&name.address), name.size) != 0) std::abort();
  while (!input.empty()) {
    const auto message = input.some(input.up_to(512));
    if (::send(socket.get(), message.data(), message.size(), MSG_NOSIGNAL) < 0) return 0;  // dropped already
  }
  // The leader has read all of it when it answers or hangs up; a well-formed beginning it waits on longer than that.
  ::shutdown(socket.get(), SHUT_WR);
  std::array<char, 256> answer;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  for (;;) {
    iovec part{answer.data(), answer.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    if (::recvmsg(socket.get(), &message, MSG_CMSG_CLOEXEC) <= 0) return 0;
    fuzz::require(CMSG_FIRSTHDR(&message) == nullptr, "a stranger was given a descriptor");
  }
}
