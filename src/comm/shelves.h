// SPDX-License-Identifier: Apache-2.0
// Shelves: what a communicator remembers of the kinds of call it has seen, so that the second call of a kind plans
// nothing. A kind is a key and a size. Memory is bounded: a bucket has kWays shelves, and a kind too many takes the
// place of the one that has been there longest. (With one shelf a bucket, 88 kinds on 256 shelves had 15 pairs that
// planned anew at every call.)
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace tutti {

template <class Value>
class Shelves {
 public:
  // Null: not seen, or forgotten. `key` is never 0.
  Value* find(uint64_t key, uint64_t bytes) {
    Bucket* const bucket = buckets_[index(key, bytes)].get();
    if (bucket == nullptr) [[unlikely]]
      return nullptr;
    for (Shelf& shelf : bucket->shelves) {
      if (shelf.key == key && shelf.bytes == bytes) [[likely]]
        return &shelf.value;
    }
    return nullptr;
  }
  Value& keep(uint64_t key, uint64_t bytes, Value value) {
    std::unique_ptr<Bucket>& bucket = buckets_[index(key, bytes)];
    if (bucket == nullptr) bucket = std::make_unique<Bucket>();
    Shelf& shelf = bucket->shelves[bucket->next++ % kWays];
    shelf = {key, bytes, std::move(value)};
    return shelf.value;
  }

 private:
  static constexpr size_t kBuckets = 256, kWays = 4;
  struct Shelf {
    uint64_t key = 0, bytes = 0;
    Value value{};
  };
  struct Bucket {
    std::array<Shelf, kWays> shelves;
    size_t next = 0;
  };
  static size_t index(uint64_t key, uint64_t bytes) {
    return ((key ^ bytes * 0x9E3779B97F4A7C15u) * 0xBF58476D1CE4E5B9u >> 40) % kBuckets;
  }
  // Made when first needed: a communicator that was split off for a few kinds of call does not pay for a thousand.
  std::vector<std::unique_ptr<Bucket>> buckets_ = std::vector<std::unique_ptr<Bucket>>(kBuckets);
};

}  // namespace tutti
