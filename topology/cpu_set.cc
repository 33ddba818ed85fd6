// SPDX-License-Identifier: Apache-2.0
#include "topology/cpu_set.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <charconv>

namespace tutti::topology {
namespace {

// The whole of `text` as a number; nothing when it is anything else.
std::optional<uint32_t> number(std::string_view text, int base) {
  uint32_t value = 0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value, base);
  if (error != std::errc{} || at != end || text.empty()) return std::nullopt;
  return value;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (size_t from = 0; from <= text.size();) {
    const size_t to = std::min(text.find(separator, from), text.size());
    parts.push_back(text.substr(from, to - from));
    from = to + 1;
  }
  return parts;
}

}  // namespace

size_t CpuSet::count() const {
  size_t sum = 0;
  for (const uint64_t word : words_) sum += static_cast<size_t>(std::popcount(word));
  return sum;
}

bool CpuSet::add(uint32_t cpu) {
  if (cpu >= kMost) return false;
  if (cpu / 64 >= words_.size()) words_.resize(cpu / 64 + 1);
  words_[cpu / 64] |= uint64_t{1} << (cpu % 64);
  return true;
}

void CpuSet::add(const CpuSet& other) {
  if (other.words_.size() > words_.size()) words_.resize(other.words_.size());
  for (size_t i = 0; i < other.words_.size(); ++i) words_[i] |= other.words_[i];
}

bool CpuSet::intersects(const CpuSet& other) const {
  for (size_t i = 0; i < std::min(words_.size(), other.words_.size()); ++i)
    if (words_[i] & other.words_[i]) return true;
  return false;
}

std::string CpuSet::mask() const {
  std::string text;
  for (size_t i = words_.size() * 2; i-- > 0;) {
    const auto word = static_cast<uint32_t>(words_[i / 2] >> (i % 2 * 32));
    if (text.empty() && word == 0) continue;  // the upper half of the last word
    text += fmt::format("{}{:08x}", text.empty() ? "" : ",", word);
  }
  return text;
}

std::string CpuSet::list() const {
  std::string text;
  const auto end = static_cast<uint32_t>(words_.size() * 64);
  for (uint32_t first = 0; first < end; ++first) {
    if (!contains(first)) continue;
    uint32_t last = first;
    while (contains(last + 1)) ++last;
    text += text.empty() ? "" : ",";
    text += first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last);
    first = last;
  }
  return text;
}

std::optional<CpuSet> CpuSet::from_mask(std::string_view text) {
  CpuSet set;
  if (text.empty()) return set;
  const auto parts = split(text, ',');
  if (parts.size() > kMost / 32) return std::nullopt;
  set.words_.resize((parts.size() + 1) / 2);
  for (size_t i = 0; i < parts.size(); ++i) {
    std::string_view part = parts[parts.size() - 1 - i];
    if (part.starts_with("0x")) part.remove_prefix(2);
    uint32_t word = 0;
    if (!part.empty()) {
      const auto read = part.size() <= 8 ? number(part, 16) : std::nullopt;
      if (!read) return std::nullopt;
      word = *read;
    }
    set.words_[i / 2] |= static_cast<uint64_t>(word) << (i % 2 * 32);
  }
  while (!set.words_.empty() && set.words_.back() == 0) set.words_.pop_back();
  return set;
}

std::optional<CpuSet> CpuSet::from_list(std::string_view text) {
  CpuSet set;
  if (text.empty()) return set;
  for (const std::string_view part : split(text, ',')) {
    const size_t dash = part.find('-');
    const auto first = number(part.substr(0, dash), 10);
    const auto last = dash == std::string_view::npos ? first : number(part.substr(dash + 1), 10);
    if (!first || !last || *last < *first || *last >= kMost) return std::nullopt;
    for (uint32_t cpu = *first; cpu <= *last; ++cpu) set.add(cpu);
  }
  return set;
}

}  // namespace tutti::topology
