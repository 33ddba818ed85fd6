// SPDX-License-Identifier: Apache-2.0
// Frames from a socket, in pieces of any length: memory follows what arrives, and the bound holds.
#include "net/frame.h"

#include <sys/socket.h>

#include "base/handle.h"
#include "fuzz/target.h"
#include "net/socket.h"

using namespace tutti;

std::vector<fuzz::Input> tutti::fuzz::seeds() {
  const std::vector<std::byte> body(300, std::byte{5});
  std::vector<Input> seeds;
  for (const uint8_t pieces : {0, 1, 7}) {
    for (const size_t length : {0, 1, 300}) {
      const Frame frame = make_frame(std::span(body).first(length));
      seeds.push_back(Input{pieces, 0x2c, 1} + input_of(*frame));
      seeds.push_back(Input{pieces, 0x2b, 1} + input_of(*frame));
    }
  }
  return seeds;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Choices input(data, size);
  const size_t piece = input.byte() + size_t{1};
  const auto most = static_cast<uint32_t>(input.up_to(0xffff));
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) std::abort();
  UniqueFd here(fds[0]), there(fds[1]);
  FrameReader reader(most);
  const auto all = input.bytes(size_t{64} << 10);
  uint64_t expected = 0;
  if (all.size() >= 4) expected = ByteReader(all).number<uint32_t>();
  for (size_t at = 0; at < all.size(); at += piece) {
    const auto now = all.subspan(at, std::min(piece, all.size() - at));
    if (::send(there.get(), now.data(), now.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(now.size())) std::abort();
    const Result<Poll> step = reader.advance(here.get(), "peer");
    const size_t got = at + now.size();
    if (!step.ok()) {
      fuzz::require(got >= 4 && expected > most, "a frame within its bound was refused");
      return 0;
    }
    if (*step == Poll::Pending) continue;
    fuzz::require(expected <= most && got >= 4 + expected, "a frame was done before it was there");
    const Bytes body = reader.take();
    fuzz::require(body.size() == expected && std::equal(body.begin(), body.end(), all.begin() + 4), "another body");
    return 0;
  }
  fuzz::require(all.size() < 4 || all.size() < 4 + expected, "a whole frame was not noticed");
  there.reset();
  fuzz::require(!reader.advance(here.get(), "peer").ok(), "a stream that ended inside a frame is no error");
  return 0;
}
