// SPDX-License-Identifier: Apache-2.0
// See system_root.h.
#include "topology/detect/system_root.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <climits>
#include <cstdlib>

#include "base/handle.h"

namespace tutti::topology {

namespace {
constexpr size_t kMostBytes = 1 << 20;  // attributes are a page; /proc/cpuinfo of a large machine is hundreds of KiB
bool digit(char c) { return c >= '0' && c <= '9'; }
}  // namespace

bool SystemRoot::exists(std::string_view path) const { return ::access(real(path).c_str(), F_OK) == 0; }

std::optional<std::string> SystemRoot::bytes(std::string_view path) const {
  // O_NONBLOCK: a recording may hold a pipe where a file is expected.
  const UniqueFd fd(::open(real(path).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return std::nullopt;
  std::string text;
  char buffer[4096];
  while (text.size() < kMostBytes) {
    const ssize_t count = ::read(fd.get(), buffer, sizeof buffer);
    if (count < 0) return std::nullopt;  // some attributes fail on reading: a port without a link
    if (count == 0) break;
    text.append(buffer, static_cast<size_t>(count));
  }
  return text;
}

std::optional<std::string> SystemRoot::text(std::string_view path) const {
  auto whole = bytes(path);
  if (!whole) return whole;
  std::string& text = *whole;
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ' || text.back() == '\t' || text.back() == '\0'))
    text.pop_back();
  return whole;
}

std::optional<int64_t> SystemRoot::number(std::string_view path) const {
  const auto all = text(path);
  if (!all) return std::nullopt;
  return whole_number(std::string_view(*all).substr(0, all->find_first_of(" \t\n")));
}

std::vector<std::string> SystemRoot::list(std::string_view path) const {
  std::vector<std::string> names;
  const Handle<DIR, &::closedir> directory(::opendir(real(path).c_str()));
  if (directory == nullptr) return names;
  while (const dirent* entry = ::readdir(directory.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  std::ranges::sort(names, natural_less);
  return names;
}

std::optional<std::string> SystemRoot::resolve(std::string_view path) const {
  char found[PATH_MAX];
  if (::realpath(real(path).c_str(), found) == nullptr) return std::nullopt;
  if (live()) return std::string(found);
  char top[PATH_MAX];
  if (::realpath(directory_.c_str(), top) == nullptr) return std::nullopt;
  const std::string_view whole = found, prefix = top;
  if (!whole.starts_with(prefix) || whole.size() <= prefix.size()) return std::nullopt;
  return std::string(whole.substr(prefix.size()));
}

bool natural_less(std::string_view a, std::string_view b) {
  size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    if (digit(a[i]) && digit(b[j])) {
      size_t i_end = i, j_end = j;
      while (i_end < a.size() && digit(a[i_end])) ++i_end;
      while (j_end < b.size() && digit(b[j_end])) ++j_end;
      while (i < i_end - 1 && a[i] == '0') ++i;
      while (j < j_end - 1 && b[j] == '0') ++j;
      if (i_end - i != j_end - j) return i_end - i < j_end - j;
      if (const int order = a.substr(i, i_end - i).compare(b.substr(j, j_end - j)); order != 0) return order < 0;
      i = i_end;
      j = j_end;
    } else {
      if (a[i] != b[j]) return a[i] < b[j];
      ++i;
      ++j;
    }
  }
  if (a.size() - i != b.size() - j) return a.size() - i < b.size() - j;
  return a < b;  // "01" and "1"
}

std::optional<int64_t> whole_number(std::string_view text) {
  const bool hexadecimal = text.starts_with("0x") || text.starts_with("0X");
  if (hexadecimal) text.remove_prefix(2);
  int64_t value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value, hexadecimal ? 16 : 10);
  if (failed != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::string_view base_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

}  // namespace tutti::topology
