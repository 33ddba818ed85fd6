// SPDX-License-Identifier: Apache-2.0
#include "topology/formats/xml.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace tutti::topology {
namespace {

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// Walked without recursion: a hostile file may nest as deep as it is long.
bool too_deep(const pugi::xml_node& root, int most) {
  int depth = 0;
  for (pugi::xml_node at = root; at;) {
    if (at.first_child()) {
      at = at.first_child();
      if (++depth > most) return true;
      continue;
    }
    while (at && at != root && !at.next_sibling()) {
      at = at.parent();
      --depth;
    }
    if (!at || at == root) return false;
    at = at.next_sibling();
  }
  return false;
}

}  // namespace

Result<XmlText> XmlText::parse(std::string_view text, std::string_view name) {
  XmlText xml;
  xml.name_ = name;
  for (size_t i = 0; i < text.size(); ++i)
    if (text[i] == '\n') xml.newlines_.push_back(i);
  // UTF-8 without conversion, so that offsets are the file's.
  const pugi::xml_parse_result result =
      xml.document_->load_buffer(text.data(), text.size(), pugi::parse_default, pugi::encoding_utf8);
  if (!result) {
    const auto offset = std::min(static_cast<size_t>(std::max<ptrdiff_t>(result.offset, 0)), text.size());
    return invalid_argument("{}:{}: not well-formed XML: {}", name, xml.line_at(offset), result.description());
  }
  if (!xml.root()) return invalid_argument("{}:1: no XML element in it", name);
  if (too_deep(xml.root(), kMostDepth))
    return invalid_argument("{}:{}: elements nested deeper than {}", name, xml.line(xml.root()), kMostDepth);
  return xml;
}

int32_t XmlText::line_at(size_t offset) const {
  return static_cast<int32_t>(std::lower_bound(newlines_.begin(), newlines_.end(), offset) - newlines_.begin()) + 1;
}

std::string_view text_of(const pugi::xml_node& node, const char* attribute) {
  return trimmed(node.attribute(attribute).value());
}

std::vector<std::string_view> words(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  std::vector<std::string_view> found;
  for (size_t from; (from = text.find_first_not_of(kBlanks)) != std::string_view::npos;) {
    const size_t to = std::min(text.find_first_of(kBlanks, from), text.size());
    found.push_back(text.substr(from, to - from));
    text.remove_prefix(to);
  }
  return found;
}

std::optional<int64_t> to_integer(std::string_view text) {
  text = trimmed(text);
  int base = 10;
  if (text.starts_with("0x") || text.starts_with("0X")) {
    text.remove_prefix(2);
    base = 16;
  }
  int64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value, base);
  if (error != std::errc{} || at != end || text.empty()) return std::nullopt;
  return value;
}

std::optional<double> to_number(std::string_view text) {
  text = trimmed(text);
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || at != end || text.empty() || !std::isfinite(value)) return std::nullopt;
  return value;
}

}  // namespace tutti::topology
