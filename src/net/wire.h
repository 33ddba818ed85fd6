// SPDX-License-Identifier: Apache-2.0
// Bytes of messages: little-endian whatever the host, lengths checked before anything is read or allocated.
//
// ByteReader fails once and stays failed: after the first read beyond the end (or beyond a bound) every read yields
// zeros, and finished() is false. So a parser reads all fields in order and asks once, at the end.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace tutti {

using Bytes = std::vector<std::byte>;

class ByteWriter {
 public:
  template <class T>
  void number(T value) {
    static_assert(std::is_integral_v<T>);
    auto bits = static_cast<std::make_unsigned_t<T>>(value);
    for (size_t i = 0; i < sizeof(T); ++i) bytes_.push_back(static_cast<std::byte>(bits >> (8 * i) & 0xff));
  }
  void raw(std::span<const std::byte> data) { bytes_.insert(bytes_.end(), data.begin(), data.end()); }
  template <size_t N>
  void raw(const std::array<uint8_t, N>& data) {
    raw(std::as_bytes(std::span(data)));
  }
  // Length (32 bits), then the bytes.
  void sized(std::span<const std::byte> data) {
    number(static_cast<uint32_t>(data.size()));
    raw(data);
  }
  void sized(std::string_view text) { sized(std::as_bytes(std::span(text))); }

  size_t size() const { return bytes_.size(); }
  const Bytes& bytes() const { return bytes_; }
  Bytes take() { return std::move(bytes_); }

 private:
  Bytes bytes_;
};

class ByteReader {
 public:
  explicit ByteReader(std::span<const std::byte> bytes) : rest_(bytes) {}

  template <class T>
  T number() {
    static_assert(std::is_integral_v<T>);
    const auto data = raw(sizeof(T));
    uint64_t bits = 0;
    for (size_t i = 0; i < data.size(); ++i) bits |= static_cast<uint64_t>(data[i]) << (8 * i);
    return static_cast<T>(bits);
  }
  // Empty once failed.
  std::span<const std::byte> raw(size_t size) {
    if (failed_ || size > rest_.size()) {
      failed_ = true;
      return {};
    }
    const auto data = rest_.first(size);
    rest_ = rest_.subspan(size);
    return data;
  }
  template <size_t N>
  void raw(std::array<uint8_t, N>& out) {
    const auto data = raw(N);
    if (data.size() == N) std::memcpy(out.data(), data.data(), N);
  }
  std::span<const std::byte> sized(size_t most) {
    const auto size = number<uint32_t>();
    if (size > most) failed_ = true;
    return raw(size);
  }
  std::string text(size_t most) {
    const auto data = sized(most);
    return std::string(reinterpret_cast<const char*>(data.data()), data.size());
  }
  // For what only the caller can judge, e.g. an unknown tag.
  void fail() { failed_ = true; }

  bool ok() const { return !failed_; }
  bool finished() const { return !failed_ && rest_.empty(); }
  size_t left() const { return failed_ ? 0 : rest_.size(); }

 private:
  std::span<const std::byte> rest_;
  bool failed_ = false;
};

}  // namespace tutti
