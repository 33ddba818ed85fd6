// SPDX-License-Identifier: Apache-2.0
// Both sides of the handshake against any bytes: as a stranger sends them (nobody may pass), and with right MACs, so
// that what lies behind the proof is reached.
#include "net/handshake.h"

#include <sys/socket.h>

#include "base/handle.h"
#include "fuzz/target.h"
#include "net/socket.h"
#include "net/wire.h"

using namespace tutti;
using fuzz::operator+;

namespace {

constexpr std::string_view kDialerRole = "tutti handshake: dialer", kListenerRole = "tutti handshake: listener";

enum Mode : uint8_t { kListener = 1, kRightMac = 2 };

struct Wire {
  UniqueFd here, there;
  Wire() {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) std::abort();
    here.reset(fds[0]);
    there.reset(fds[1]);
  }
  void send(std::span<const uint8_t> bytes) const {
    if (::send(there.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(bytes.size()))
      std::abort();
  }
  fuzz::Input receive(size_t size) const {
    fuzz::Input bytes(size);
    if (::recv(there.get(), bytes.data(), size, 0) != static_cast<ssize_t>(size)) std::abort();
    return bytes;
  }
};

// Sends in two pieces and drives the other side after each.
Result<Poll> feed(Handshake& handshake, const Wire& wire, std::span<const uint8_t> bytes, size_t cut) {
  cut = std::min(cut, bytes.size());
  if (cut > 0) wire.send(bytes.first(cut));
  TUTTI_TRY(handshake.advance(wire.here.get(), "peer").status());
  if (cut < bytes.size()) wire.send(bytes.subspan(cut));
  return handshake.advance(wire.here.get(), "peer");
}

}  // namespace

std::vector<fuzz::Input> tutti::fuzz::seeds() {
  ByteWriter greeting, hello;
  greeting.number(Handshake::kMagic);
  greeting.number(Handshake::kVersion);
  for (size_t i = 0; i < Handshake::kNonceBytes; ++i) greeting.number(static_cast<uint8_t>(i));
  hello.number(Handshake::kMagic);
  hello.number(Handshake::kVersion);
  hello.raw(tag_of(Secret{}).bytes);
  for (const int32_t number : {3, 5, 77}) hello.number(number);
  for (size_t i = 0; i < Handshake::kNonceBytes; ++i) hello.number(static_cast<uint8_t>(i));
  std::vector<Input> seeds;
  for (const uint8_t mode : {0, kRightMac + 0}) seeds.push_back(Input{mode, 9} + input_of(greeting.bytes()));
  for (const uint8_t mode : {kListener + 0, kListener + kRightMac})
    seeds.push_back(Input{static_cast<uint8_t>(mode), 9} + input_of(hello.bytes()));
  return seeds;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (!crypto_ready().ok()) std::abort();
  fuzz::Choices input(data, size);
  const uint8_t mode = input.byte();
  const size_t cut = input.byte();
  const bool right_mac = (mode & kRightMac) != 0;
  const Secret secret{};
  const CommTag tag = tag_of(secret);
  const Wire wire;
  if ((mode & kListener) != 0) {
    Handshake listener = Handshake::as_listener(secret, tag);
    fuzz::require(listener.advance(wire.here.get(), "dialer").ok(), "no greeting");
    fuzz::Input transcript = wire.receive(Handshake::kGreetingBytes);
    fuzz::Input hello(Handshake::kClaimBytes);
    const auto given = input.some(hello.size());
    std::copy(given.begin(), given.end(), hello.begin());
    transcript = transcript + hello;
    const Mac mac = keyed_mac(secret, kDialerRole, transcript);
    fuzz::Input proof(mac.begin(), mac.end());
    if (!right_mac) {
      std::fill(proof.begin(), proof.end(), 0);
      const auto tried = input.some(proof.size());
      std::copy(tried.begin(), tried.end(), proof.begin());
    }
    const Result<Poll> done = feed(listener, wire, hello + proof, cut);
    if (!done.ok() || *done != Poll::Done) return 0;
    fuzz::require(right_mac, "a stranger passed the door");
    fuzz::require(std::memcmp(hello.data() + 8, tag.bytes.data(), tag.bytes.size()) == 0,
                  "another communicator's rank");
    return 0;
  }
  Handshake dialer = Handshake::as_dialer(secret, tag, Claim{3, 5, 77});
  fuzz::Input greeting(Handshake::kGreetingBytes);
  const auto given = input.some(greeting.size());
  std::copy(given.begin(), given.end(), greeting.begin());
  const Result<Poll> greeted = feed(dialer, wire, greeting, cut);
  if (!greeted.ok()) return 0;
  const fuzz::Input hello = wire.receive(Handshake::kHelloBytes);
  const Mac mac = keyed_mac(secret, kListenerRole, greeting + hello);
  fuzz::Input proof(mac.begin(), mac.end());
  if (!right_mac) {
    std::fill(proof.begin(), proof.end(), 0);
    const auto tried = input.some(proof.size());
    std::copy(tried.begin(), tried.end(), proof.begin());
  }
  const Result<Poll> done = feed(dialer, wire, proof, cut);
  fuzz::require((done.ok() && *done == Poll::Done) == right_mac,
                "a listener passed without the secret, or one with it did not");
  return 0;
}
