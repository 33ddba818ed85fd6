// SPDX-License-Identifier: Apache-2.0
// FNV-1a: a digest of a text that is the same on every host and in every build. Not against an adversary.
#pragma once

#include <cstdint>
#include <string_view>

namespace tutti {

constexpr uint64_t fnv1a(std::string_view text) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return hash;
}
static_assert(fnv1a("a") == 0xAF63DC4C8601EC8Cu);

}  // namespace tutti
