// SPDX-License-Identifier: Apache-2.0
// Parsing and stepping of sizes, with overflow seen rather than wrapped.
#include "perf/sizes.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdlib>

namespace tutti::perf {
namespace {

struct Unit {
  char letter;
  uint64_t bytes;
  const char* name;
};
constexpr Unit kUnits[] = {
    {'T', 1ull << 40, "TiB"}, {'G', 1ull << 30, "GiB"}, {'M', 1ull << 20, "MiB"}, {'K', 1ull << 10, "KiB"}};

}  // namespace

std::optional<uint64_t> parse_size(std::string_view text) {
  const size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
  if (digits == 0 || text[0] == '.') return std::nullopt;
  const std::string figure(text.substr(0, digits));
  char* end = nullptr;
  const double number = std::strtod(figure.c_str(), &end);
  if (*end != '\0') return std::nullopt;
  std::string suffix(text.substr(digits));
  for (char& letter : suffix) letter = static_cast<char>(std::toupper(static_cast<unsigned char>(letter)));
  uint64_t unit = 1;
  if (!suffix.empty() && suffix != "B") {
    unit = 0;
    for (const Unit& candidate : kUnits) {
      const std::string letter(1, candidate.letter);
      if (suffix == letter || suffix == letter + "B" || suffix == letter + "IB") unit = candidate.bytes;
    }
    if (unit == 0) return std::nullopt;
  }
  const double bytes = number * static_cast<double>(unit);
  if (!std::isfinite(bytes) || bytes >= 0x1p63) return std::nullopt;
  return static_cast<uint64_t>(bytes);
}

std::string size_text(uint64_t bytes) {
  for (const Unit& unit : kUnits) {
    if (bytes != 0 && bytes % unit.bytes == 0) return std::to_string(bytes / unit.bytes) + " " + unit.name;
  }
  return std::to_string(bytes) + " B";
}

std::optional<uint64_t> Ladder::next(uint64_t size) const {
  uint64_t up = 0;
  const bool overflow =
      factor > 1 ? __builtin_mul_overflow(size, factor, &up) : __builtin_add_overflow(size, step, &up);
  if (overflow || up <= size || up > last) return std::nullopt;
  return up;
}

uint64_t Ladder::rungs() const {
  if (factor <= 1) return step == 0 ? 1 : (last - first) / step + 1;
  uint64_t count = 1;
  for (auto size = next(first); size; size = next(*size)) ++count;
  return count;
}

}  // namespace tutti::perf
