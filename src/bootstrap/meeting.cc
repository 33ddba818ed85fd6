// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/meeting.h"

#include "net/interfaces.h"
#include "net/socket.h"

namespace tutti {
namespace {

// Stores limit the length of a value; PMI-1 to about a thousand characters.
constexpr size_t kMostAddresses = 8;

int digit_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

}  // namespace

Result<Meeting> Meeting::here() {
  TUTTI_TRY(crypto_ready());
  Meeting meeting;
  meeting.secret = random_secret();
  TUTTI_ASSIGN_OR_RETURN(meeting.addresses, local_addresses());
  if (meeting.addresses.size() > kMostAddresses) meeting.addresses.resize(kMostAddresses);
  // Only to learn a free port: the rendezvous opens it again, or one of the next (launch.h).
  TUTTI_ASSIGN_OR_RETURN(const UniqueFd probe, listen_tcp(meeting.addresses.front().with_port(0)));
  TUTTI_ASSIGN_OR_RETURN(const SocketAddress bound, address_of_socket(probe.get()));
  for (SocketAddress& address : meeting.addresses) address = address.with_port(bound.port());
  return meeting;
}

std::string Meeting::text() const {
  ByteWriter writer;
  writer.raw(secret.bytes);
  encode_addresses(writer, addresses);
  std::string text;
  for (const std::byte byte : writer.bytes()) text += fmt::format("{:02x}", static_cast<unsigned>(byte));
  return text;
}

Result<Meeting> Meeting::parse(std::string_view text) {
  if (text == kNoMeeting) return remote_error("rank 0 has found no place to meet at; see its own output");
  Bytes bytes;
  bool good = text.size() % 2 == 0;
  for (size_t i = 0; good && i < text.size(); i += 2) {
    const int high = digit_of(text[i]), low = digit_of(text[i + 1]);
    good = high >= 0 && low >= 0;
    bytes.push_back(static_cast<std::byte>(high << 4 | low));
  }
  ByteReader reader(bytes);
  Meeting meeting;
  reader.raw(meeting.secret.bytes);
  meeting.addresses = decode_addresses(reader);
  if (!good || !reader.finished() || meeting.addresses.empty()) {
    return remote_error("what rank 0 left in the launcher's store does not parse: do all ranks run the same version?");
  }
  return meeting;
}

}  // namespace tutti
