// SPDX-License-Identifier: Apache-2.0
// Reads what the kernel shows of a machine (/sys, /proc, /dev) below a directory: "" is this machine, any other a
// recorded tree. Nothing in topology/detect opens such a file in another way, so a recording behaves as its machine
// did.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tutti::topology {

class SystemRoot {
 public:
  explicit SystemRoot(std::string directory = {}) : directory_(std::move(directory)) {}

  bool live() const { return directory_.empty(); }
  // All paths begin with '/', as on the machine itself.
  std::string real(std::string_view path) const { return directory_ + std::string(path); }
  bool exists(std::string_view path) const;
  // The whole file without the white space at its end; nothing when it cannot be read. At most 1 MiB is read.
  std::optional<std::string> text(std::string_view path) const;
  // The same, every byte as it is.
  std::optional<std::string> bytes(std::string_view path) const;
  // The file's first word as a number: decimal, or hexadecimal after 0x.
  std::optional<int64_t> number(std::string_view path) const;
  // Names in a directory, sorted so that numbers count ("eth2" before "eth10"); empty when there is none.
  std::vector<std::string> list(std::string_view path) const;
  // Where a path leads after all links, as a path of the machine; nothing when it leads nowhere or out of the root.
  std::optional<std::string> resolve(std::string_view path) const;

 private:
  std::string directory_;
};

// "a2" < "a10".
bool natural_less(std::string_view a, std::string_view b);
// Decimal, or hexadecimal with 0x; the whole text.
std::optional<int64_t> whole_number(std::string_view text);
// The last part of a path.
std::string_view base_name(std::string_view path);

}  // namespace tutti::topology
