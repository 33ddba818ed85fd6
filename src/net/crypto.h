// SPDX-License-Identifier: Apache-2.0
// The few cryptographic functions in use, over libsodium: a keyed MAC, a hash, random bytes.
//
// Only crypto.cc knows of libsodium. Whoever creates a listener, a dialer or an identity calls
// crypto_ready() first; the other functions rely on it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/status.h"

namespace tutti {

// What the ranks of one communicator know and strangers do not.
struct Secret {
  std::array<uint8_t, 32> bytes{};
  bool operator==(const Secret&) const = default;
};
// Names a communicator without telling its secret.
struct CommTag {
  std::array<uint8_t, 16> bytes{};
  bool operator==(const CommTag&) const = default;
};
using Mac = std::array<uint8_t, 32>;
using Hash16 = std::array<uint8_t, 16>;

// Initialises the library once; cheap afterwards; any thread.
Status crypto_ready();

void random_bytes(std::span<uint8_t> out);
Secret random_secret();
// From text that a person or a launcher chose. As hard to guess as the text.
Secret secret_from_text(std::string_view text);
CommTag tag_of(const Secret& secret);

// `context` keeps the uses apart: equal data in two contexts has unrelated MACs and hashes.
Mac keyed_mac(const Secret& key, std::string_view context, std::span<const uint8_t> data);
Hash16 hash16(std::string_view context, std::span<const uint8_t> data);
// In a time that does not depend on where they differ.
bool equal_macs(const Mac& a, const Mac& b);

}  // namespace tutti
