// SPDX-License-Identifier: Apache-2.0
#include "base/name_list.h"

#include <algorithm>
#include <charconv>

namespace tutti {
namespace {

// NAME:PORT into its parts; false: the port is no number of a port.
bool split_port(std::string_view& name, int& port) {
  const size_t colon = name.find(':');
  if (colon == std::string_view::npos) return true;
  const std::string_view number = name.substr(colon + 1);
  name = name.substr(0, colon);
  const auto [end, failure] = std::from_chars(number.data(), number.data() + number.size(), port);
  return failure == std::errc() && end == number.data() + number.size() && port >= 0 && port <= 255;
}

}  // namespace

Result<NameList> NameList::parse(std::string_view variable, std::string_view text, Ports ports) {
  NameList list;
  bool exclude = false, exact = false;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    const std::string_view word = text.substr(at, end - at);
    std::string_view name = word;
    at = end + 1;
    if (name.starts_with('^') || name.starts_with('=')) {
      exclude = name.starts_with('^');
      if (exclude) name.remove_prefix(1);
      exact = name.starts_with('=');
      if (exact) name.remove_prefix(1);
    }
    int port = 0;
    const bool port_reads = ports == Ports::No || split_port(name, port);
    if (!port_reads || name.empty() || name.find_first_of("^=/ \t") != std::string_view::npos)
      return invalid_argument(
          "{}='{}' does not parse: '{}' is not {}; expected a comma list of name prefixes, e.g. eth,ib; =eth0 is an "
          "exact name, ^docker excludes, and a mark holds until the next",
          variable, text, word, ports == Ports::Yes ? "NAME or NAME:PORT" : "a NAME");
    (exclude ? list.excluded_ : list.chosen_).push_back({std::string(name), exact, port});
  }
  return list;
}

int NameList::place_of(std::string_view name, int port) const {
  const auto matches = [&](const Item& item) { return item.matches(name, port); };
  if (std::ranges::any_of(excluded_, matches)) return -1;
  if (chosen_.empty()) return 0;
  const auto item = std::ranges::find_if(chosen_, matches);
  return item == chosen_.end() ? -1 : static_cast<int>(item - chosen_.begin());
}

}  // namespace tutti
