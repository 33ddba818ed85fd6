// SPDX-License-Identifier: Apache-2.0
// Sizes: "64K" to bytes and back, and the ladder of sizes that -b -e -i -f describe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tutti::perf {

// "8", "64K", "1.5M", "2G" (powers of 1024, either case, an optional B or iB behind); nothing when it is not a size.
std::optional<uint64_t> parse_size(std::string_view text);
std::string size_text(uint64_t bytes);  // "64 KiB"; exact multiples only, else plain bytes

struct Ladder {
  uint64_t first = 32u << 20;
  uint64_t last = 32u << 20;
  uint64_t step = 1u << 20;  // bytes; used when factor <= 1
  uint64_t factor = 1;
  std::optional<uint64_t> next(uint64_t size) const;  // nothing: `size` was the last one
  uint64_t rungs() const;
};

}  // namespace tutti::perf
