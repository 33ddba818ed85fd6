// SPDX-License-Identifier: Apache-2.0
// The 128 bytes of a unique id: as they are, and with a check that fits, so that what lies behind it is reached.
#include "bootstrap/unique_id.h"

#include "fuzz/target.h"

namespace {

constexpr size_t kCheckAt = tutti::kUniqueIdBytes - sizeof(tutti::Hash16);

}  // namespace

std::vector<tutti::fuzz::Input> tutti::fuzz::seeds() {
  std::vector<Input> seeds;
  UniqueId id;
  for (const char* text : {"192.0.2.1:29500", "[2001:db8::1]:29500", "198.51.100.7:29500"}) {
    id.addresses.push_back(*SocketAddress::parse(text));
    const auto bytes = encode_unique_id(id);
    for (const uint8_t fix : {0, 1}) seeds.push_back(Input{fix} + Input(bytes.begin(), bytes.end()));
  }
  return seeds;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tutti;
  if (!crypto_ready().ok()) std::abort();
  fuzz::Choices input(data, size);
  const bool fix_check = (input.byte() & 1) != 0;
  std::array<char, kUniqueIdBytes> bytes{};
  const auto given = input.some(bytes.size());
  std::copy(given.begin(), given.end(), bytes.begin());
  if (fix_check) {
    const Hash16 check = hash16("tutti unique id", {reinterpret_cast<const uint8_t*>(bytes.data()), kCheckAt});
    std::memcpy(bytes.data() + kCheckAt, check.data(), check.size());
  }
  const Result<UniqueId> id = decode_unique_id(std::span<const char, kUniqueIdBytes>(bytes));
  if (!id.ok()) return 0;
  fuzz::require(!id->addresses.empty() && id->addresses[0].port() != 0, "an id that says nowhere to go");
  // What was read can be written, and is then read as the same.
  const Result<UniqueId> again = decode_unique_id(std::span<const char, kUniqueIdBytes>(encode_unique_id(*id)));
  fuzz::require(again.ok() && again->secret == id->secret && again->addresses == id->addresses, "an unstable id");
  return 0;
}
