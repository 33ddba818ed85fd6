// SPDX-License-Identifier: Apache-2.0
// See crypto.h. MAC: HMAC-SHA-512-256 (crypto_auth). Hash: BLAKE2b (crypto_generichash), the context as its key.
#include "net/crypto.h"

#include <sodium.h>

#include <algorithm>
#include <vector>

namespace tutti {
namespace {

static_assert(sizeof(Secret::bytes) == crypto_auth_KEYBYTES);
static_assert(sizeof(Mac) == crypto_auth_BYTES);
static_assert(sizeof(Hash16) == crypto_generichash_BYTES_MIN);

void hash(std::string_view context, std::span<const uint8_t> data, std::span<uint8_t> out) {
  // The key of BLAKE2b is 16 to 64 bytes; contexts are short literals, padded.
  std::array<uint8_t, crypto_generichash_KEYBYTES_MAX> key{};
  std::copy_n(context.begin(), std::min(context.size(), key.size()), key.begin());
  crypto_generichash(out.data(), out.size(), data.data(), data.size(), key.data(), key.size());
}

std::span<const uint8_t> as_data(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace

Status crypto_ready() {
  static const bool ready = sodium_init() >= 0;  // thread-safe; a second call would be harmless
  if (!ready) return system_error("libsodium does not start: is /dev/urandom readable?");
  return {};
}

void random_bytes(std::span<uint8_t> out) { randombytes_buf(out.data(), out.size()); }

Secret random_secret() {
  Secret secret;
  random_bytes(secret.bytes);
  return secret;
}

Secret secret_from_text(std::string_view text) {
  Secret secret;
  hash("tutti secret of a text", as_data(text), secret.bytes);
  return secret;
}

CommTag tag_of(const Secret& secret) { return CommTag{hash16("tutti communicator tag", secret.bytes)}; }

Mac keyed_mac(const Secret& key, std::string_view context, std::span<const uint8_t> data) {
  std::vector<uint8_t> message(context.begin(), context.end());
  message.push_back(0);  // ends the context: it contains no zero byte itself
  message.insert(message.end(), data.begin(), data.end());
  Mac mac;
  crypto_auth(mac.data(), message.data(), message.size(), key.bytes.data());
  return mac;
}

Hash16 hash16(std::string_view context, std::span<const uint8_t> data) {
  Hash16 out;
  hash(context, data, out);
  return out;
}

bool equal_macs(const Mac& a, const Mac& b) { return sodium_memcmp(a.data(), b.data(), a.size()) == 0; }

}  // namespace tutti
