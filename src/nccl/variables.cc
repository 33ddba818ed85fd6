// SPDX-License-Identifier: Apache-2.0
#include "nccl/variables.h"

#include <algorithm>
#include <string_view>

#include "algo/collective.h"
#include "base/env.h"
#include "transports/rdma/rdma_ports.h"

namespace tutti::nccl {
namespace {

// A translation gives the value in our words; what it cannot say goes into `problem`, for the log.
struct Translated {
  std::string value;  // empty: as if unset
  std::string problem;
};
using Translation = Translated (*)(std::string_view text);

struct Word {
  std::string_view theirs;
  const char* ours;
};

// Calls use(word) for each word between separators.
template <class Use>
void each(std::string_view list, char separator, Use use) {
  while (true) {
    const size_t end = list.find(separator);
    use(list.substr(0, end));
    if (end == std::string_view::npos) return;
    list.remove_prefix(end + 1);
  }
}

void append(std::string& list, std::string_view word) {
  if (!list.empty()) list += ',';
  list += word;
}

template <size_t N>
const Word* find_word(const Word (&words)[N], std::string_view text) {
  const auto* at = std::find_if(words, words + N, [&](const Word& word) { return same_name(word.theirs, text); });
  return at == words + N ? nullptr : at;
}

template <size_t N>
Translated one_word(const Word (&words)[N], std::string_view text) {
  const Word* found = find_word(words, text);
  if (found != nullptr) return {found->ours, ""};
  std::string known;
  for (const Word& word : words) append(known, word.theirs);
  return {"", fmt::format("'{}' is not known; use one of {}", text, known)};
}

Translated unchanged(std::string_view text) { return {std::string(text), ""}; }

Translated number(std::string_view text) {
  if (!text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos) return unchanged(text);
  return {"", fmt::format("'{}' is not a number", text)};
}

Translated debug_level(std::string_view text) {
  static constexpr Word kWords[] = {{"NONE", "none"}, {"VERSION", "warn"}, {"WARN", "warn"},
                                    {"INFO", "info"}, {"ABORT", "warn"},   {"TRACE", "trace"}};
  return one_word(kWords, text);
}

Translated family(std::string_view text) {
  static constexpr Word kWords[] = {{"AF_INET", "ipv4"}, {"AF_INET6", "ipv6"}};
  return one_word(kWords, text);
}

Translated subsystems(std::string_view text) {
  static constexpr Word kWords[] = {
      {"INIT", "init"},     {"COLL", "exec"},  {"P2P", "transport"},       {"SHM", "transport"},
      {"NET", "net"},       {"GRAPH", "plan"}, {"TUNING", "plan"},         {"ENV", "init"},
      {"ALLOC", "api"},     {"CALL", "api"},   {"PROXY", "exec"},          {"NVLS", "transport"},
      {"REG", "transport"}, {"RAS", "health"}, {"BOOTSTRAP", "bootstrap"}, {"PROFILE", "exec"},
      {"ALL", "all"},
  };
  const bool exclude = text.substr(0, 1) == "^";
  if (exclude) text.remove_prefix(1);
  Translated result;
  each(text, ',', [&](std::string_view word) {
    const Word* found = find_word(kWords, word);
    if (found == nullptr) {
      result.problem += fmt::format("{}'{}' is not known", result.problem.empty() ? "" : "; ", word);
    } else {
      append(result.value, fmt::format("{}{}", exclude ? "^" : "", found->ours));
    }
  });
  return result;
}

// NCCL's leading = or ^ is for all names, and names may be empty; so the mark is written before each.
Translated interfaces(std::string_view text) {
  std::string_view prefix;
  if (text.starts_with('=') || text.starts_with('^')) {
    prefix = text.substr(0, 1);
    text.remove_prefix(1);
  }
  Translated result;
  each(text, ',', [&](std::string_view word) {
    if (!word.empty()) append(result.value, fmt::format("{}{}", prefix, word));
  });
  return result;
}

// One list of names, without those we do not have.
template <class Known>
std::string known_of(std::string_view list, Known known, std::string& dropped) {
  const bool exclude = list.substr(0, 1) == "^";
  if (exclude) list.remove_prefix(1);
  std::string kept;
  each(list, ',', [&](std::string_view word) {
    if (known(word)) {
      append(kept, word);
    } else if (!exclude) {  // to exclude what there is not is no loss
      append(dropped, word);
    }
  });
  return exclude && !kept.empty() ? fmt::format("^{}", kept) : kept;
}

std::string dropped_text(const std::string& dropped) {
  return dropped.empty() ? "" : fmt::format("there is no {} here: left out", dropped);
}

template <size_t N>
bool contains(const std::string_view (&names)[N], std::string_view text) {
  return std::any_of(names, names + N, [&](std::string_view name) { return same_name(name, text); });
}

Translated algorithms(std::string_view text) {
  const auto known = [](std::string_view word) { return contains(kAlgoNames, word); };
  std::string result, dropped;
  each(text, ';', [&](std::string_view part) {
    const size_t colon = part.find(':');
    const std::string_view coll = colon == std::string_view::npos ? "" : part.substr(0, colon);
    if (!coll.empty() && !contains(kCollNames, coll)) {
      append(dropped, coll);
      return;
    }
    const std::string list = known_of(colon == std::string_view::npos ? part : part.substr(colon + 1), known, dropped);
    if (list.empty()) return;
    if (!result.empty()) result += ';';
    result += coll.empty() ? list : fmt::format("{}:{}", coll, list);
  });
  return {result, dropped_text(dropped)};
}

Translated protocols(std::string_view text) {
  if (text.find(':') != std::string_view::npos)
    return {"", "protocols for single collectives are not available; give one list, e.g. LL,Simple"};
  std::string dropped;
  std::string kept = known_of(
      text, [](std::string_view word) { return contains(kProtoNames, word); }, dropped);
  return {std::move(kept), dropped_text(dropped)};
}

Translated switch_off(std::string_view text, const char* transport) {
  if (text == "0") return {};
  if (text == "1") return {fmt::format("^{}", transport), ""};
  return {"", fmt::format("'{}' is not 0 or 1", text)};
}
Translated without_inproc(std::string_view text) { return switch_off(text, "inproc"); }
Translated without_shm(std::string_view text) { return switch_off(text, "shm"); }
Translated without_rdma(std::string_view text) { return switch_off(text, "rdma"); }

Translated network(std::string_view text) {
  static constexpr Word kWords[] = {{"Socket", "^rdma"}, {"IB", "inproc,shm,rdma"}};
  return one_word(kWords, text);
}

Translated devices(std::string_view text) {
  const Result<NameList> list = parse_device_list(text);
  if (!list.ok()) return {"", list.status().message()};
  return unchanged(text);
}

Translated gid_index(std::string_view text) { return text == "-1" ? unchanged("auto") : number(text); }

Translated flag(std::string_view text) {
  static constexpr Word kWords[] = {{"0", "0"}, {"1", "1"}};
  return one_word(kWords, text);
}

// The numbers are an older spelling.
Translated gpu_distance(std::string_view text) {
  static constexpr Word kWords[] = {{"LOC", "off"}, {"PIX", "pix"}, {"PXB", "pxb"}, {"PHB", "phb"}, {"SYS", "sys"},
                                    {"0", "off"},   {"1", "pix"},   {"2", "pxb"},   {"3", "phb"},   {"4", "sys"}};
  return one_word(kWords, text);
}

enum class Kind : uint8_t { Mapped, Own, Lacking, Neutral, Foreign };
struct Variable {
  const char* name;
  Kind kind;
  const char* target;  // Mapped: the TUTTI_* variable; Lacking: the value that asks for nothing
  Translation translation;
  const char* note;
};
constexpr Variable kVariables[] = {
#define NCCL_MAPPED(name, variable, translation, note) {name, Kind::Mapped, variable, translation, note},
#define NCCL_OWN(name, note) {name, Kind::Own, "", nullptr, note},
#define NCCL_LACKING(name, off, note) {name, Kind::Lacking, off, nullptr, note},
#define NCCL_NEUTRAL(name, note) {name, Kind::Neutral, "", nullptr, note},
#define NCCL_FOREIGN(name) {name, Kind::Foreign, "", nullptr, ""},
#include "nccl/variables.def"
#undef NCCL_MAPPED
#undef NCCL_OWN
#undef NCCL_LACKING
#undef NCCL_NEUTRAL
#undef NCCL_FOREIGN
};

// Unset and empty are the same, as in the environment table.
std::string value_of(const Lookup& lookup, const char* name) { return lookup(name).value_or(""); }

// Programs that are not ours and not NCCL's: their variables begin like this.
bool foreign_prefix(std::string_view name) {
  static constexpr std::string_view kPrefixes[] = {"NCCL_TESTS_", "NCCL_OFI_", "NCCL_PLUGIN_"};
  return std::any_of(std::begin(kPrefixes), std::end(kPrefixes),
                     [&](std::string_view prefix) { return name.starts_with(prefix); });
}

std::optional<Notice> notice(const Variable& variable, const std::string& value, const Lookup& lookup) {
  switch (variable.kind) {
    case Kind::Mapped: {
      const Translated translated = variable.translation(value);
      if (!translated.problem.empty())
        return Notice{true, fmt::format("{}={}: {}", variable.name, value, translated.problem)};
      if (!value_of(lookup, variable.target).empty())
        return Notice{false, fmt::format("{}={}: {} is set and counts", variable.name, value, variable.target)};
      return Notice{false, fmt::format("{}={} sets {}={}", variable.name, value, variable.target, translated.value)};
    }
    case Kind::Own:
      if (variable.name == std::string_view("NCCL_COMM_BLOCKING") && value != "0" && value != "1")
        return Notice{true, fmt::format("NCCL_COMM_BLOCKING={}: not 0 or 1; calls block", value)};
      return std::nullopt;
    case Kind::Lacking:
      if (same_name(value, variable.target)) return std::nullopt;
      return Notice{true, fmt::format("{}={} has no effect: {}", variable.name, value, variable.note)};
    case Kind::Neutral:
      return Notice{false, fmt::format("{}={} has nothing to act on: {}", variable.name, value, variable.note)};
    case Kind::Foreign:
      break;
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> translate(const char* tutti_name, const Lookup& lookup) {
  // Several variables switch transports off; of the others the first of the list counts.
  const bool together = tutti_name == std::string_view("TUTTI_TRANSPORTS");
  std::string result;
  for (const Variable& variable : kVariables) {
    if (variable.kind != Kind::Mapped || std::string_view(variable.target) != tutti_name) continue;
    const std::string value = value_of(lookup, variable.name);
    if (value.empty()) continue;
    const std::string translated = variable.translation(value).value;
    if (translated.empty()) continue;
    append(result, translated);
    if (!together) break;
  }
  if (result.empty()) return std::nullopt;
  return result;
}

std::vector<Notice> notices(const std::vector<std::string>& names, const Lookup& lookup) {
  std::vector<Notice> all;
  for (const std::string& name : names) {
    const std::string value = value_of(lookup, name.c_str());
    if (value.empty()) continue;
    const auto* found = std::find_if(std::begin(kVariables), std::end(kVariables),
                                     [&](const Variable& variable) { return name == variable.name; });
    if (found == std::end(kVariables)) {
      if (!foreign_prefix(name))
        all.push_back({true, fmt::format("{} is set, but this library knows no such variable", name)});
    } else if (std::optional<Notice> one = notice(*found, value, lookup)) {
      all.push_back(std::move(*one));
    }
  }
  return all;
}

std::optional<int> default_blocking(const Lookup& lookup) {
  const std::string value = value_of(lookup, "NCCL_COMM_BLOCKING");
  if (value == "0") return 0;
  if (value == "1") return 1;
  return std::nullopt;
}

}  // namespace tutti::nccl
