// SPDX-License-Identifier: Apache-2.0
#include "comm/request.h"

#include "proto/slots.h"

namespace tutti {

uint32_t call_identity(const Request& request) {
  // AllToAllV's counts differ between ranks by nature; the other V collectives know all counts everywhere, but a rank's
  // `count` is its own, so it stays out too.
  const uint64_t count = request.tables == nullptr ? request.count : 0;
  uint64_t hash = 0x9E3779B97F4A7C15u;
  const auto mix = [&hash](uint64_t word) {
    hash = (hash ^ word) * 0xBF58476D1CE4E5B9u;
    hash ^= hash >> 29;
  };
  // Equal on both ends of a connection: a send and its receive differ in peer and direction, not in what they move.
  const uint64_t root = request.point_to_point() ? 0 : static_cast<uint64_t>(request.root);
  mix(static_cast<uint64_t>(request.coll) | static_cast<uint64_t>(request.type) << 8 |
      static_cast<uint64_t>(request.op) << 16 | static_cast<uint64_t>(request.average) << 24 |
      static_cast<uint64_t>(request.tables != nullptr) << 25 | static_cast<uint64_t>(request.prescaled) << 26 |
      root << 32);
  mix(count);
  return static_cast<uint32_t>(hash >> 32) & kIdentityMask;
}

}  // namespace tutti
