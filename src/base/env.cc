// SPDX-License-Identifier: Apache-2.0
// Parsers for the types of env_vars.def, and the only calls of getenv in the project's libraries.
#include "base/env.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace tutti {
namespace {

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return result;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// Calls use(word) for each word of a comma list, blanks trimmed, until it returns false.
template <class Use>
bool each_word(std::string_view list, Use use) {
  while (true) {
    const size_t comma = list.find(',');
    if (!use(trim(list.substr(0, comma)))) return false;
    if (comma == std::string_view::npos) return true;
    list.remove_prefix(comma + 1);
  }
}

// "12K": the digits, then the rest. Nothing when there are no digits or they exceed 63 bits.
struct Number {
  uint64_t value;
  std::string unit;
};
std::optional<Number> split_number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc() || value > INT64_MAX) return std::nullopt;
  return Number{value, lower(trim(text.substr(static_cast<size_t>(end - text.data()))))};
}

struct Unit {
  const char* name;
  uint64_t factor;
};
// value * factor of the unit; nothing when the unit is unknown or the product exceeds 63 bits.
template <size_t N>
std::optional<uint64_t> scaled(std::string_view text, const Unit (&units)[N]) {
  const auto number = split_number(text);
  if (!number) return std::nullopt;
  for (const Unit& unit : units)
    if (number->unit == unit.name && number->value <= INT64_MAX / unit.factor) return number->value * unit.factor;
  return std::nullopt;
}

// A comma list of the given words, each of which may be excluded with ^, or one of the words that mean everything.
bool is_filter(std::string_view text, std::initializer_list<std::string_view> words) {
  if (text == "auto" || text == "all") return true;
  return each_word(text, [&](std::string_view word) {
    if (word.starts_with('^')) word.remove_prefix(1);
    return std::find(words.begin(), words.end(), lower(word)) != words.end();
  });
}

// One parser per type of the table: false when `text` is not of the type. kAllowed says what is.
struct TextParser {
  static constexpr const char* kAllowed = "any text";
  static bool parse(std::string_view text, std::string& value) {
    value = text;
    return true;
  }
};
struct FlagParser {
  static constexpr const char* kAllowed = "1, true, yes, on or 0, false, no, off";
  static bool parse(std::string_view text, bool& value) {
    const std::string word = lower(text);
    value = word == "1" || word == "true" || word == "yes" || word == "on";
    return value || word == "0" || word == "false" || word == "no" || word == "off";
  }
};
struct CountParser {
  static constexpr const char* kAllowed = "a non-negative integer, e.g. 4";
  static bool parse(std::string_view text, int64_t& value) {
    const auto number = split_number(text);
    if (!number || !number->unit.empty()) return false;
    value = static_cast<int64_t>(number->value);
    return true;
  }
};
struct SizeParser {
  static constexpr const char* kAllowed =
      "a number of bytes with an optional suffix K, M, G or T (powers of 1024), e.g. 512K";
  static bool parse(std::string_view text, uint64_t& value) {
    const auto bytes = parse_size(text);
    if (bytes) value = *bytes;
    return bytes.has_value();
  }
};
struct DurationParser {
  static constexpr const char* kAllowed = "a number with its unit ms, s, min or h, e.g. 30s, or never";
  static bool parse(std::string_view text, int64_t& value) {
    static constexpr Unit kUnits[] = {{"ms", 1}, {"s", 1000}, {"min", 60'000}, {"m", 60'000}, {"h", 3'600'000}};
    if (lower(text) == "never") {
      value = -1;
      return true;
    }
    const auto ms = scaled(text, kUnits);
    if (ms) value = static_cast<int64_t>(*ms);
    return ms.has_value();
  }
};
struct LogLevelNameParser {
  static constexpr const char* kAllowed = "one of none, warn, info, trace";
  static bool parse(std::string_view text, LogLevel& value) {
    static constexpr const char* kNames[] = {"none", "warn", "info", "trace"};
    const auto* name = std::find(std::begin(kNames), std::end(kNames), lower(text));
    if (name == std::end(kNames)) return false;
    value = static_cast<LogLevel>(name - kNames);
    return true;
  }
};
struct FamilyNameParser {
  static constexpr const char* kAllowed = "one of any, ipv4, ipv6";
  static bool parse(std::string_view text, std::string& value) {
    value = lower(text);
    return value == "any" || value == "ipv4" || value == "ipv6";
  }
};
struct SubsystemListParser {
  static constexpr const char* kAllowed =
      "all, or a comma list of init, net, bootstrap, transport, plan, exec, topology, health, api, each excluded by ^";
  static bool parse(std::string_view text, std::string& value) {
    value = lower(text);
    return is_filter(value,
                     {"init", "net", "bootstrap", "transport", "plan", "exec", "topology", "health", "api", "all"});
  }
};
struct ProtocolListParser {
  static constexpr const char* kAllowed = "auto, or a comma list of simple, ll, ll128, rma, each excluded by ^";
  static bool parse(std::string_view text, std::string& value) {
    value = lower(text);
    return is_filter(value, {"simple", "ll", "ll128", "rma"});
  }
};
struct TransportListParser {
  static constexpr const char* kAllowed = "auto, or a comma list of inproc, shm, rdma, tcp, each excluded by ^";
  static bool parse(std::string_view text, std::string& value) {
    value = lower(text);
    return is_filter(value, {"inproc", "shm", "rdma", "tcp"});
  }
};

struct GpuDistanceParser {
  static constexpr const char* kAllowed = "one of auto, off, pix, pxb, phb, sys";
  static bool parse(std::string_view text, std::string& value) {
    static constexpr const char* kWords[] = {"auto", "off", "pix", "pxb", "phb", "sys"};
    value = lower(text);
    return std::find(std::begin(kWords), std::end(kWords), value) != std::end(kWords);
  }
};

struct AutoFlagParser {
  static constexpr const char* kAllowed = "auto, 0 or 1";
  static bool parse(std::string_view text, int& value) {
    value = text == "0" ? 0 : text == "1" ? 1 : -1;
    return value >= 0 || lower(text) == "auto";
  }
};

struct GidIndexParser {
  static constexpr const char* kAllowed = "auto, or a place in the GID table from 0 to 255";
  static bool parse(std::string_view text, int& value) {
    value = -1;
    if (lower(text) == "auto") return true;
    const auto number = split_number(text);
    if (!number || !number->unit.empty() || number->value > 255) return false;
    value = static_cast<int>(number->value);
    return true;
  }
};

// 2.N.P from 2.27 on: what programs compiled against an older NCCL check is that the library is not older.
struct NcclVersionParser {
  static constexpr const char* kAllowed = "a version from 2.27.0 to 2.99.99, e.g. 2.30.7";
  static bool parse(std::string_view text, int& value) {
    const size_t dot = text.find('.', 2);
    if (!text.starts_with("2.") || dot == std::string_view::npos) return false;
    const auto minor = split_number(text.substr(2, dot - 2)), patch = split_number(text.substr(dot + 1));
    if (!minor || !patch || !minor->unit.empty() || !patch->unit.empty()) return false;
    if (minor->value < 27 || minor->value > 99 || patch->value > 99) return false;
    value = static_cast<int>(20000 + minor->value * 100 + patch->value);
    return true;
  }
};

std::optional<std::string> (*g_fallback)(const char* name) = nullptr;

struct Parsed {
  Env env;
  Status status;
};
// Never destroyed: a static destructor would race with threads that still communicate at exit.
const Parsed& parsed() {
  static const Parsed& instance = [&]() -> const Parsed& {
    auto* made = new Parsed;
    made->status = parse_env(
        [](const char* name) {
          auto value = environment_variable(name);
          if ((!value || trim(*value).empty()) && g_fallback != nullptr) value = g_fallback(name);
          return value;
        },
        made->env);
    return *made;
  }();
  return instance;
}

}  // namespace

std::optional<uint64_t> parse_size(std::string_view text) {
  static constexpr uint64_t kKilo = 1 << 10, kMega = kKilo << 10, kGiga = kMega << 10, kTera = kGiga << 10;
  static constexpr Unit kUnits[] = {
      {"", 1},        {"b", 1},     {"k", kKilo},  {"kb", kKilo},  {"kib", kKilo}, {"m", kMega},  {"mb", kMega},
      {"mib", kMega}, {"g", kGiga}, {"gb", kGiga}, {"gib", kGiga}, {"t", kTera},   {"tb", kTera}, {"tib", kTera},
  };
  return scaled(text, kUnits);
}

const std::vector<EnvVariable>& env_variables() {
  static const auto& table = *new std::vector<EnvVariable>{
#define TUTTI_ENV(field, name, type, fallback, help) {name, #type, fallback, help},
#include "base/env_vars.def"
#undef TUTTI_ENV
  };
  return table;
}

std::optional<std::string> environment_variable(const char* name) {
  const char* value = ::getenv(name);
  return value != nullptr ? std::optional<std::string>(value) : std::nullopt;
}

Status parse_env(const std::function<std::optional<std::string>(const char* name)>& lookup, Env& env) {
  std::string problems;
  const auto take = [&]<class Parser>(Parser, const char* name, const char* fallback, auto& field) {
    Parser::parse(fallback, field);  // the table's defaults parse: tests/base/env_test.cc
    const auto set = lookup(name);
    if (!set || trim(*set).empty()) return;  // empty means unset, so that `NAME= program` restores a default
    auto value = field;
    if (Parser::parse(trim(*set), value)) {
      field = std::move(value);
      return;
    }
    if (!problems.empty()) problems += "; ";
    problems += fmt::format("environment variable {}=\"{}\": allowed is {}", name, *set, Parser::kAllowed);
  };
#define TUTTI_ENV(field, name, type, fallback, help) take(type##Parser{}, name, fallback, env.field);
#include "base/env_vars.def"
#undef TUTTI_ENV
  return problems.empty() ? Status() : Status(Code::InvalidArgument, problems);
}

void set_env_fallback(std::optional<std::string> (*fallback)(const char* name)) { g_fallback = fallback; }

const Env& env() { return parsed().env; }

Status env_status() { return parsed().status; }

std::vector<std::string> environment_names(std::string_view prefix) {
  std::vector<std::string> names;
  for (char** entry = ::environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    if (text.starts_with(prefix)) names.emplace_back(text.substr(0, text.find('=')));
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> unknown_env() {
  std::vector<std::string> names = environment_names("TUTTI_");
  const auto& table = env_variables();
  std::erase_if(names, [&](const std::string& name) {
    return std::any_of(table.begin(), table.end(), [&](const EnvVariable& row) { return name == row.name; });
  });
  return names;
}

bool filter_admits(std::string_view filter, std::string_view name) {
  bool any_included = false, included = false, excluded = false;
  each_word(filter, [&](std::string_view word) {
    if (word.starts_with('^')) {
      excluded |= word.substr(1) == name;
    } else if (!word.empty()) {
      any_included = true;
      included |= word == name || word == "auto" || word == "all";
    }
    return true;
  });
  return !excluded && (included || !any_included);
}

}  // namespace tutti
