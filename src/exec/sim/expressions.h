// SPDX-License-Identifier: Apache-2.0
// Symbolic data of the prover: what a piece of memory holds is an expression over the ranks' inputs.
//
// A leaf is one rank's input; a combination remembers its two operands in order. Expressions are interned: equal
// numbers mean equal expressions, and equal expressions mean equal bits whatever the type and the operator are. The set
// of ranks in an expression is kept beside it, so that counting a rank twice is seen when it happens.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace tutti {

// What one cell (Proof::cell_bytes bytes of memory) holds: an expression over the inputs' cells at `index`.
struct Value {
  static constexpr uint32_t kUnwritten = ~0u;

  uint32_t expression = kUnwritten;
  uint32_t index : 31 = 0;    // cell of the input buffers, counted from their start
  uint32_t complete : 1 = 0;  // left a step with `last`: averaged, not to be combined again

  bool written() const { return expression != kUnwritten; }
  bool operator==(const Value&) const = default;
};

class Expressions {
 public:
  static constexpr uint32_t kTwice = ~0u;

  explicit Expressions(int n) : words_((n + 63) / 64) {
    for (int r = 0; r < n; ++r) {
      sets_.resize(sets_.size() + words_);
      set(r)[r / 64] |= uint64_t{1} << r % 64;
    }
  }

  uint32_t leaf(int rank) const { return rank; }
  // `left` op `right`; kTwice when a rank is in both.
  uint32_t combine(uint32_t left, uint32_t right) {
    const auto [at, inserted] = combinations_.try_emplace(uint64_t{left} << 32 | right, next());
    if (!inserted) return at->second;
    for (int w = 0; w < words_; ++w) {
      if (set(left)[w] & set(right)[w]) return at->second = kTwice;
    }
    sets_.resize(sets_.size() + words_);
    for (int w = 0; w < words_; ++w) set(at->second)[w] = set(left)[w] | set(right)[w];
    return at->second;
  }
  bool contains(uint32_t expression, int rank) const {
    return sets_[size_t{expression} * words_ + rank / 64] >> rank % 64 & 1;
  }
  int count(uint32_t expression) const {
    int ranks = 0;
    for (int w = 0; w < words_; ++w) ranks += __builtin_popcountll(sets_[size_t{expression} * words_ + w]);
    return ranks;
  }
  // "rank 3" or "the sum over ranks {0-2, 5}".
  std::string text(uint32_t expression) const;

 private:
  uint32_t next() const { return static_cast<uint32_t>(sets_.size() / words_); }
  uint64_t* set(uint32_t expression) { return &sets_[size_t{expression} * words_]; }

  int words_;
  std::vector<uint64_t> sets_;  // words_ per expression
  std::unordered_map<uint64_t, uint32_t> combinations_;
};

}  // namespace tutti
