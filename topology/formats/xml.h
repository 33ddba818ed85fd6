// SPDX-License-Identifier: Apache-2.0
// XML elements with their lines, over pugixml: what the readers of NCCL's and hwloc's files share.
#pragma once

#include <pugixml.hpp>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace tutti::topology {

class XmlText {
 public:
  // Errors: not well-formed, no root, elements nested deeper than kMostDepth.
  static Result<XmlText> parse(std::string_view text, std::string_view name);

  pugi::xml_node root() const { return document_->document_element(); }
  int32_t line(const pugi::xml_node& node) const { return line_at(static_cast<size_t>(node.offset_debug())); }
  template <class... Args>
  Status wrong(const pugi::xml_node& node, fmt::format_string<Args...> text, Args&&... args) const {
    return invalid_argument("{}:{}: {}", name_, line(node), fmt::format(text, std::forward<Args>(args)...));
  }

  static constexpr int kMostDepth = 256;

 private:
  int32_t line_at(size_t offset) const;

  // On the heap: elements point into it, and an XmlText moves.
  std::unique_ptr<pugi::xml_document> document_ = std::make_unique<pugi::xml_document>();
  std::string name_;
  std::vector<size_t> newlines_;
};

// An attribute's text without surrounding blanks; "" when it is missing or empty, which files use alike.
std::string_view text_of(const pugi::xml_node& node, const char* attribute);
// The parts between blanks, tabs and line ends.
std::vector<std::string_view> words(std::string_view text);
// A decimal or 0x number that fits; nothing when the text is anything else.
std::optional<int64_t> to_integer(std::string_view text);
std::optional<double> to_number(std::string_view text);

}  // namespace tutti::topology
