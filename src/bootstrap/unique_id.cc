// SPDX-License-Identifier: Apache-2.0
// See unique_id.h.
#include "bootstrap/unique_id.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace tutti {
namespace {

constexpr uint32_t kMagic = 0x44495454;  // "TTID"
constexpr uint8_t kVersion = 1;
constexpr size_t kCheckAt = kUniqueIdBytes - sizeof(Hash16);
static_assert(kCheckAt == 112);

Hash16 check_of(std::span<const std::byte> head) {
  return hash16("tutti unique id", {reinterpret_cast<const uint8_t*>(head.data()), head.size()});
}

}  // namespace

std::array<char, kUniqueIdBytes> encode_unique_id(const UniqueId& id) {
  constexpr size_t kHeadBytes = 4 + 1 + 1 + 2 + sizeof(Secret);
  ByteWriter addresses;
  uint8_t count = 0;
  for (const SocketAddress& address : id.addresses) {
    ByteWriter one;
    address.encode(one);
    const auto without_port = std::span(one.bytes()).first(one.size() - sizeof(uint16_t));
    if (kHeadBytes + addresses.size() + without_port.size() > kCheckAt) continue;  // a shorter one may still fit
    addresses.raw(without_port);
    ++count;
  }
  ByteWriter writer;
  writer.number(kMagic);
  writer.number(kVersion);
  writer.number(count);
  writer.number(id.addresses.empty() ? uint16_t{0} : id.addresses[0].port());
  writer.raw(id.secret.bytes);
  writer.raw(addresses.bytes());

  std::array<std::byte, kUniqueIdBytes> bytes{};
  std::ranges::copy(writer.bytes(), bytes.begin());
  const Hash16 check = check_of(std::span(bytes).first(kCheckAt));
  std::memcpy(bytes.data() + kCheckAt, check.data(), check.size());
  return std::bit_cast<std::array<char, kUniqueIdBytes>>(bytes);
}

Result<UniqueId> decode_unique_id(std::span<const char, kUniqueIdBytes> chars) {
  TUTTI_TRY(crypto_ready());
  const auto bytes = std::as_bytes(chars);
  if (std::ranges::all_of(bytes, [](std::byte value) { return value == std::byte{0}; })) {
    return invalid_argument(
        "the unique id is all zeros: fill it with tuttiGetUniqueId on one rank and send its {} bytes to the others",
        kUniqueIdBytes);
  }
  ByteReader reader(bytes.first(kCheckAt));
  const auto magic = reader.number<uint32_t>();
  const auto version = reader.number<uint8_t>();
  const auto count = reader.number<uint8_t>();
  const auto port = reader.number<uint16_t>();
  if (magic != kMagic) {
    return invalid_argument("the unique id was not made by tuttiGetUniqueId: pass its {} bytes on as they are",
                            kUniqueIdBytes);
  }
  if (version != kVersion) {
    return invalid_argument(
        "the unique id has format version {}, this library reads {}: use one Tutti version in a job", version,
        kVersion);
  }
  const Hash16 check = check_of(bytes.first(kCheckAt));
  if (std::memcmp(check.data(), bytes.data() + kCheckAt, check.size()) != 0) {
    return invalid_argument(
        "the unique id was damaged on its way: pass all {} bytes of it on, as binary data, not text", kUniqueIdBytes);
  }
  UniqueId id;
  reader.raw(id.secret.bytes);
  for (int i = 0; i < count && reader.ok(); ++i) {
    // SocketAddress::decode wants a port behind each address; here all share one.
    const auto family = reader.number<uint8_t>();
    if (family != 4 && family != 6) reader.fail();
    ByteWriter one;
    one.number(family);
    one.raw(reader.raw(family == 6 ? 16 : 4));
    one.number(port);
    ByteReader one_reader(one.bytes());
    if (reader.ok()) id.addresses.push_back(SocketAddress::decode(one_reader));
  }
  if (!reader.ok() || id.addresses.empty() || port == 0) {
    return invalid_argument("the unique id holds no usable address: make a new one with tuttiGetUniqueId");
  }
  return id;
}

}  // namespace tutti
