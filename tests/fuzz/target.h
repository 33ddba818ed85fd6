// SPDX-License-Identifier: Apache-2.0
// What a fuzz target is: one parser behind one function, and inputs it accepts, from which mutations start.
//
// A target defines LLVMFuzzerTestOneInput and seeds(). libFuzzer (preset `fuzz`) searches new inputs; replay.cc runs
// seeds, mutations of them and past findings (regressions/NAME) in every build, without clang. A target checks more
// than "does not crash": what was parsed keeps its bounds, and strangers never pass.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace tutti::fuzz {

using Input = std::vector<uint8_t>;
std::vector<Input> seeds();

inline Input input_of(std::span<const std::byte> bytes) {
  Input input(bytes.size());
  if (!bytes.empty()) std::memcpy(input.data(), bytes.data(), bytes.size());
  return input;
}
inline Input operator+(Input left, const Input& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

// Takes an input apart: a few choices, then the bytes of the message. Past the end everything is zero and empty.
class Choices {
 public:
  Choices(const uint8_t* data, size_t size) : rest_(data, size) {}
  uint8_t byte() {
    if (rest_.empty()) return 0;
    const uint8_t value = rest_[0];
    rest_ = rest_.subspan(1);
    return value;
  }
  // 0 .. most
  size_t up_to(size_t most) { return (byte() | static_cast<size_t>(byte()) << 8) % (most + 1); }
  std::span<const uint8_t> some(size_t most) {
    const auto taken = rest_.first(std::min(most, rest_.size()));
    rest_ = rest_.subspan(taken.size());
    return taken;
  }
  std::span<const std::byte> bytes(size_t most = SIZE_MAX) { return std::as_bytes(some(most)); }
  bool empty() const { return rest_.empty(); }

 private:
  std::span<const uint8_t> rest_;
};

// A property that holds whatever the input is. Says what was broken and ends the process, as a crash would.
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "the fuzz target found: %s\n", what);
  std::abort();
}

}  // namespace tutti::fuzz
