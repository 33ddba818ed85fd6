// SPDX-License-Identifier: Apache-2.0
// See handshake.h.
#include "net/handshake.h"

#include <poll.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "net/socket.h"
#include "net/wire.h"

namespace tutti {
namespace {

constexpr std::string_view kDialerRole = "tutti handshake: dialer";
constexpr std::string_view kListenerRole = "tutti handshake: listener";

std::span<const std::byte> bytes_of(std::span<const uint8_t> data) { return std::as_bytes(data); }

}  // namespace

Handshake Handshake::as_listener(const Secret& secret, const CommTag& tag) {
  Handshake handshake(Phase::SendGreeting, secret, tag, Claim{});
  handshake.begin_greeting();
  return handshake;
}

Handshake Handshake::as_dialer(const Secret& secret, const CommTag& tag, const Claim& claim) {
  return Handshake(Phase::AwaitGreeting, secret, tag, claim);
}

void Handshake::begin_greeting() {
  std::array<uint8_t, kNonceBytes> nonce;
  random_bytes(nonce);
  ByteWriter writer;
  writer.number(kMagic);
  writer.number(kVersion);
  writer.raw(nonce);
  std::memcpy(greeting_.data(), writer.bytes().data(), greeting_.size());
}

short Handshake::events() const {
  switch (phase_) {
    case Phase::SendGreeting:
    case Phase::SendProof:
    case Phase::SendHello:
      return POLLOUT;
    case Phase::AwaitHello:
    case Phase::AwaitGreeting:
    case Phase::AwaitProof:
      return POLLIN;
    case Phase::Done:
      return 0;
  }
  return 0;
}

Result<Poll> Handshake::advance(int fd, std::string_view peer) {
  while (phase_ != Phase::Done) {
    Poll moved = Poll::Done;
    switch (phase_) {
      case Phase::SendGreeting: {
        TUTTI_ASSIGN_OR_RETURN(moved, transmit(fd, greeting_, peer));
        if (moved == Poll::Done) phase_ = Phase::AwaitHello;
        break;
      }
      case Phase::AwaitHello: {
        TUTTI_ASSIGN_OR_RETURN(moved, receive(fd, hello_, peer));
        if (moved == Poll::Pending) break;
        TUTTI_TRY(take_hello(peer));
        phase_ = Phase::SendProof;
        break;
      }
      case Phase::SendProof: {
        TUTTI_ASSIGN_OR_RETURN(moved, transmit(fd, proof_, peer));
        if (moved == Poll::Done) phase_ = Phase::Done;
        break;
      }
      case Phase::AwaitGreeting: {
        TUTTI_ASSIGN_OR_RETURN(moved, receive(fd, greeting_, peer));
        if (moved == Poll::Pending) break;
        TUTTI_TRY(take_greeting(peer));
        phase_ = Phase::SendHello;
        break;
      }
      case Phase::SendHello: {
        TUTTI_ASSIGN_OR_RETURN(moved, transmit(fd, hello_, peer));
        if (moved == Poll::Done) phase_ = Phase::AwaitProof;
        break;
      }
      case Phase::AwaitProof: {
        auto received = receive(fd, proof_, peer);
        if (!received.ok() && received.status().code() == Code::RemoteError) {
          return remote_error("{} refused the connection: it belongs to another job or has another secret", peer);
        }
        TUTTI_ASSIGN_OR_RETURN(moved, std::move(received));
        if (moved == Poll::Pending) break;
        TUTTI_TRY(take_proof(peer));
        phase_ = Phase::Done;
        break;
      }
      case Phase::Done:
        break;
    }
    if (moved == Poll::Pending) return Poll::Pending;
  }
  return Poll::Done;
}

// Listener and dialer compute the same two MACs; each sends one and checks the other.
Mac Handshake::mac_as(std::string_view role, std::span<const uint8_t> hello) const {
  std::vector<uint8_t> transcript(greeting_.begin(), greeting_.end());
  transcript.insert(transcript.end(), hello.begin(), hello.end());
  return keyed_mac(secret_, role, transcript);
}

Status Handshake::take_greeting(std::string_view peer) {
  ByteReader reader(bytes_of(greeting_));
  const auto magic = reader.number<uint32_t>();
  const auto version = reader.number<uint32_t>();
  if (magic != kMagic) return remote_error("{} is not a Tutti rank: another program listens there", peer);
  if (version != kVersion) {
    return remote_error("{} speaks version {} of the handshake, this rank version {}: use one Tutti version in a job",
                        peer, version, kVersion);
  }
  std::array<uint8_t, kNonceBytes> nonce;
  random_bytes(nonce);
  ByteWriter writer;
  writer.number(kMagic);
  writer.number(kVersion);
  writer.raw(tag_.bytes);
  writer.number(claim_.from);
  writer.number(claim_.to);
  writer.number(claim_.purpose);
  writer.raw(nonce);
  std::memcpy(hello_.data(), writer.bytes().data(), kClaimBytes);
  const Mac mac = mac_as(kDialerRole, std::span(hello_).first(kClaimBytes));
  std::ranges::copy(mac, hello_.begin() + kClaimBytes);
  return {};
}

Status Handshake::take_hello(std::string_view peer) {
  Mac theirs;
  std::copy_n(hello_.begin() + kClaimBytes, theirs.size(), theirs.begin());
  const bool genuine = equal_macs(theirs, mac_as(kDialerRole, std::span(hello_).first(kClaimBytes)));
  // From here on only words of someone who knows the secret are read.
  if (!genuine) return remote_error("{} does not know the secret of this job", peer);
  ByteReader reader(bytes_of(hello_));
  CommTag tag;
  const auto magic = reader.number<uint32_t>();
  const auto version = reader.number<uint32_t>();
  reader.raw(tag.bytes);
  claim_ = {reader.number<int32_t>(), reader.number<int32_t>(), reader.number<uint32_t>()};
  if (magic != kMagic || version != kVersion) return remote_error("{} speaks another version of the handshake", peer);
  if (tag != tag_) return remote_error("{} belongs to another communicator of this job", peer);
  proof_ = mac_as(kListenerRole, hello_);
  return {};
}

Status Handshake::take_proof(std::string_view peer) const {
  if (equal_macs(proof_, mac_as(kListenerRole, hello_))) return {};
  return remote_error("{} does not know the secret of this job", peer);
}

Result<Poll> Handshake::receive(int fd, std::span<uint8_t> message, std::string_view peer) {
  TUTTI_ASSIGN_OR_RETURN(const size_t count, read_some(fd, std::as_writable_bytes(message.subspan(moved_)), peer));
  if (count > 0) heard_ = true;
  moved_ += count;
  if (moved_ < message.size()) return Poll::Pending;
  moved_ = 0;
  return Poll::Done;
}

Result<Poll> Handshake::transmit(int fd, std::span<const uint8_t> message, std::string_view peer) {
  TUTTI_ASSIGN_OR_RETURN(const size_t count, write_some(fd, bytes_of(message.subspan(moved_)), peer));
  moved_ += count;
  if (moved_ < message.size()) return Poll::Pending;
  moved_ = 0;
  return Poll::Done;
}

}  // namespace tutti
