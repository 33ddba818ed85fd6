// SPDX-License-Identifier: Apache-2.0
#include "plan/restrictions.h"

#include <algorithm>

#include "algo/catalog.h"

namespace tutti {
namespace {

// What users know a list by.
constexpr std::string_view kAlgorithms = "TUTTI_ALGO, or algorithms of the configuration";
constexpr std::string_view kProtocols = "TUTTI_PROTO, or protocols of the configuration";

// Calls `each` for every part of `text` between separators.
template <class Each>
Status split(std::string_view text, char separator, Each&& each) {
  while (!text.empty()) {
    const size_t end = text.find(separator);
    TUTTI_TRY(each(text.substr(0, end)));
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  }
  return {};
}

template <size_t kCount>
std::string known(const std::string_view (&names)[kCount]) {
  std::string all;
  for (const std::string_view name : names) all.append(all.empty() ? "" : ", ").append(name);
  return all;
}

template <size_t kCount>
int find(const std::string_view (&names)[kCount], std::string_view text) {
  const auto at =
      std::find_if(std::begin(names), std::end(names), [&](std::string_view name) { return same_name(name, text); });
  return at == std::end(names) ? -1 : static_cast<int>(at - std::begin(names));
}

template <size_t kCount>
Result<unsigned> parse_list(std::string_view text, const std::string_view (&names)[kCount], std::string_view variable) {
  const bool exclude = text.substr(0, 1) == "^";
  if (exclude) text.remove_prefix(1);
  unsigned mask = 0;
  TUTTI_TRY(split(text, ',', [&](std::string_view one) -> Status {
    const int found = find(names, one);
    if (found < 0)
      return invalid_argument("{}: '{}' is not known; use auto, or some of {}", variable, one, known(names));
    mask |= 1u << found;
    return {};
  }));
  return exclude ? ~mask : mask;
}

bool has_any(Coll coll, unsigned algorithms) {
  return std::any_of(catalog().begin(), catalog().end(), [&](const CatalogRow& row) {
    return row.coll == coll && (algorithms & (1u << static_cast<int>(row.algo)));
  });
}

}  // namespace

Result<Restrictions> parse_restrictions(std::string_view algorithms, std::string_view protocols) {
  Restrictions parsed;
  if (!algorithms.empty() && algorithms != "auto") {
    TUTTI_TRY(split(algorithms, ';', [&](std::string_view part) -> Status {
      const size_t colon = part.find(':');
      if (colon == std::string_view::npos) {
        TUTTI_ASSIGN_OR_RETURN(parsed.everywhere_, parse_list(part, kAlgoNames, kAlgorithms));
        return {};
      }
      const int coll = find(kCollNames, part.substr(0, colon));
      if (coll < 0) {
        return invalid_argument("{}: collective '{}' is not known; use one of {}", kAlgorithms, part.substr(0, colon),
                                known(kCollNames));
      }
      TUTTI_ASSIGN_OR_RETURN(parsed.algorithms_[static_cast<size_t>(coll)],
                             parse_list(part.substr(colon + 1), kAlgoNames, kAlgorithms));
      return {};
    }));
  }
  if (!protocols.empty() && protocols != "auto") {
    TUTTI_ASSIGN_OR_RETURN(parsed.protocols_, parse_list(protocols, kProtoNames, kProtocols));
  }
  return parsed;
}

std::string Restrictions::excludes(Coll coll, Algo algo, Proto proto, bool mapped) const {
  const unsigned algorithm = 1u << static_cast<int>(algo);
  const std::optional<unsigned>& own = algorithms_[static_cast<size_t>(coll)];
  if (own.has_value() && !(*own & algorithm)) return fmt::format("excluded by {} for {}", kAlgorithms, name(coll));
  if (!own.has_value() && everywhere_.has_value() && has_any(coll, *everywhere_) && !(*everywhere_ & algorithm))
    return fmt::format("excluded by {}", kAlgorithms);
  // Where slots are not mapped only Simple exists: a protocol list leaves such communicators alone.
  if (mapped && protocols_.has_value() && !(*protocols_ & (1u << static_cast<int>(proto))))
    return fmt::format("excluded by {}", kProtocols);
  return {};
}

}  // namespace tutti
