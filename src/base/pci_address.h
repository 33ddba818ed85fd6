// SPDX-License-Identifier: Apache-2.0
// Where a device sits on PCI, as the kernel writes it: "0000:3b:00.0". Drivers write the same with eight digits of
// domain ("00000000:3B:00.0"), NCCL without a function; all are read.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace tutti {

struct PciAddress {
  uint32_t domain = 0;
  uint8_t bus = 0, device = 0, function = 0;

  auto operator<=>(const PciAddress&) const = default;
  std::string text() const { return fmt::format("{:04x}:{:02x}:{:02x}.{:x}", domain, bus, device, function); }

  static std::optional<PciAddress> parse(std::string_view text) {
    uint64_t fields[4] = {0, 0, 0, 0};
    constexpr char kEnds[] = {':', ':', '.'};
    constexpr uint64_t kMost[] = {UINT32_MAX, 0xff, 0x1f, 0x7};
    int field = 0, digits = 0;
    for (const char c : text) {
      const bool decimal = c >= '0' && c <= '9';
      const char lower = static_cast<char>(c | 0x20);
      if (decimal || (lower >= 'a' && lower <= 'f')) {
        if (++digits > 8) return std::nullopt;
        fields[field] = fields[field] * 16 + static_cast<uint64_t>(decimal ? c - '0' : lower - 'a' + 10);
      } else if (field < 3 && c == kEnds[field] && digits > 0) {
        ++field;
        digits = 0;
      } else {
        return std::nullopt;
      }
    }
    if (field < 2 || digits == 0) return std::nullopt;
    for (int i = 0; i < 4; ++i)
      if (fields[i] > kMost[i]) return std::nullopt;
    return PciAddress{static_cast<uint32_t>(fields[0]), static_cast<uint8_t>(fields[1]),
                      static_cast<uint8_t>(fields[2]), static_cast<uint8_t>(fields[3])};
  }
};

}  // namespace tutti
