// SPDX-License-Identifier: Apache-2.0
// A set of logical CPUs of any size, and the texts in which machines write it: masks ("ffff0000,0000ffff", most
// significant word first, as sysfs, NCCL and hwloc do) and lists ("0-47,96-143", as nvidia-smi does).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tutti::topology {

class CpuSet {
 public:
  bool operator==(const CpuSet&) const = default;

  bool empty() const { return words_.empty(); }
  size_t count() const;
  bool contains(uint32_t cpu) const { return cpu / 64 < words_.size() && (words_[cpu / 64] >> (cpu % 64) & 1); }
  // False when `cpu` is beyond kMost: a set never takes memory that a stranger's number asks for.
  bool add(uint32_t cpu);
  void add(const CpuSet& other);
  bool intersects(const CpuSet& other) const;

  // Words of 32 bits joined by commas; "" is the empty set.
  std::string mask() const;
  // Ranges joined by commas; "" is the empty set.
  std::string list() const;
  // 1 to 8 hex digits a word, "0x" before any of them, an empty word is 0. Nothing when it is not a mask.
  static std::optional<CpuSet> from_mask(std::string_view text);
  static std::optional<CpuSet> from_list(std::string_view text);

  static constexpr uint32_t kMost = 1 << 20;

 private:
  std::vector<uint64_t> words_;  // no zero word at the end, so equal sets have equal words
};

}  // namespace tutti::topology
