// SPDX-License-Identifier: Apache-2.0
// JsonWriter: one JSON document, written front to back into a string. Writing only: who reads JSON is a tool, and has a
// library for it.
#pragma once

#include <fmt/core.h>

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

namespace tutti {

class JsonWriter {
 public:
  JsonWriter& open(char bracket) {  // '{' or '['
    separate();
    text_ += bracket;
    first_ = true;
    return *this;
  }
  JsonWriter& close(char bracket) {
    text_ += bracket;
    first_ = false;
    return *this;
  }
  JsonWriter& key(std::string_view name) {
    separate();
    quote(name);
    text_ += ':';
    first_ = true;  // no comma before the value
    return *this;
  }
  JsonWriter& value(std::string_view text) {
    separate();
    quote(text);
    return *this;
  }
  JsonWriter& value(std::integral auto number) {
    separate();
    text_ += fmt::format("{}", number);
    return *this;
  }
  JsonWriter& value(double number) {
    separate();
    text_ += fmt::format("{}", number);
    return *this;
  }
  template <class T>
  JsonWriter& field(std::string_view name, const T& what) {
    return key(name).value(what);
  }
  JsonWriter& line() {  // for people who look at the file
    text_ += '\n';
    return *this;
  }
  std::string take() { return std::move(text_); }

 private:
  void separate() {
    if (!first_) text_ += ',';
    first_ = false;
  }
  // Names and messages may hold anything; what is not plain ASCII is written so that any reader takes it.
  void quote(std::string_view text) {
    text_ += '"';
    for (const char c : text) {
      const auto byte = static_cast<unsigned char>(c);
      if (c == '"' || c == '\\') {
        text_ += {'\\', c};
      } else if (byte < ' ' || byte > '~') {
        text_ += fmt::format("\\u{:04x}", byte);
      } else {
        text_ += c;
      }
    }
    text_ += '"';
  }

  std::string text_;
  bool first_ = true;
};

}  // namespace tutti
