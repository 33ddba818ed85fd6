// SPDX-License-Identifier: Apache-2.0
// Generators and the check. The bound that makes them exact is argued at each of them.
#include "perf/data.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace tutti::perf {
namespace {

constexpr int kLargest = 9;  // values need not be large to be different

// A bijection of 64 bits with good avalanche (multiply, shift, xor).
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93ull;
  x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93ull;
  return x ^ (x >> 32);
}
uint64_t hash(uint64_t seed, uint64_t index, uint64_t salt) {
  return mix(seed * 0x9e3779b97f4a7c15ull + mix(index * 0x100000001b3ull + salt + 1));
}

// Which of the n parts of an element this rank plays: the ranks change parts from element to element.
int part_of(const DataSpec& spec, int rank, uint64_t index) {
  const uint64_t turn = hash(spec.seed, index, 1) % static_cast<uint64_t>(spec.n);
  return static_cast<int>((static_cast<uint64_t>(rank) + turn) % static_cast<uint64_t>(spec.n));
}

double integer_between(bool is_signed, int largest, uint64_t random) {
  if (!is_signed) return static_cast<double>(random % (static_cast<uint64_t>(largest) + 1));
  return static_cast<double>(random % (2 * static_cast<uint64_t>(largest) + 1)) - largest;
}

// n parts of magnitude <= m with n * m <= bound: each partial sum stays within the bound. With more ranks than the
// bound allows, only `bound` parts are not zero.
double sum_part(const DataSpec& spec, int part, uint64_t index, int bound) {
  const int fits = std::min(bound / spec.n, kLargest);
  if (fits == 0 && part >= bound) return 0;
  return integer_between(spec.type->is_signed, std::max(fits, 1), hash(spec.seed, index, 16 + part));
}

// Deals `units` out in shares as equal as possible.
int share_of(int units, int part, int n) { return units / n + (part < units % n ? 1 : 0); }

// Pairs (+x, -x) take half of the bound; the other half is a sum s = odd part of n times t, dealt out in equal shares.
// s / n = t / 2^j is exact, and so is any partial sum.
double average_part(const DataSpec& spec, int part, uint64_t index) {
  const int half = spec.type->exact / 2;
  const int odd = spec.n <= 512 ? spec.n >> __builtin_ctz(static_cast<unsigned>(spec.n)) : spec.n;
  const int t = static_cast<int>(integer_between(true, std::min(half / odd, 40), hash(spec.seed, index, 2)));
  const int share = share_of(std::abs(odd * t), part, spec.n);
  double value = t < 0 ? -share : share;

  const int pair = part / 2;
  const int pairs = spec.n / 2;
  const int fits = pairs == 0 ? 0 : std::min(half / pairs, kLargest);
  if (pair < (fits > 0 ? pairs : std::min(half, pairs))) {
    const double x = integer_between(false, std::max(fits, 1), hash(spec.seed, index, 16 + pair));
    value += part % 2 == 0 ? x : -x;
  }
  return value;
}

// An integer quotient rounds toward zero, so most mistakes in the sum would not show. The sum n * t loses its quotient
// when anything is missing, the sum n * t + n - 1 when anything is counted twice.
double integer_average_part(const DataSpec& spec, int part, uint64_t index) {
  const uint64_t random = hash(spec.seed, index, 2);
  const int extra = random & 1 ? spec.n - 1 : 0;
  const int largest = std::max((spec.type->exact - extra) / spec.n, 0);
  const int t = static_cast<int>((random >> 2) % (static_cast<uint64_t>(std::min(largest, kLargest)) + 1));
  const int share = share_of(std::min(spec.n * t + extra, spec.type->exact), part, spec.n);
  return spec.type->is_signed && (random & 2) ? -share : share;
}

// Half of the elements: random values. The others: one part alone decides, or few values and many ranks would mean that
// the extreme is always held by several.
double extreme_part(const DataSpec& spec, int part, uint64_t index) {
  const int high = spec.type->exact;
  const int low = spec.type->is_signed ? -high : 0;
  const int middle = (low + high) / 2;
  const uint64_t random = hash(spec.seed, index, 16 + part);
  if (hash(spec.seed, index, 2) & 1) return integer_between(spec.type->is_signed, high, random);
  const bool above = (spec.op->op == Op::Max) == (part == 0);
  const int from = above ? middle + 1 : low;
  const int to = above ? high : middle;
  return from + static_cast<double>(random % static_cast<uint64_t>(to - from + 1));
}

// At most power_of_two parts are 2 (or 1/2), the others 1: each partial product is a power of two within range.
double product_part(const DataSpec& spec, int part, uint64_t index) {
  const int most = std::min(spec.type->power_of_two, spec.n);
  const int factors = static_cast<int>(hash(spec.seed, index, 2) % (static_cast<uint64_t>(most) + 1));
  const uint64_t random = hash(spec.seed, index, 16 + part);
  double value = 1;
  if (part < factors) value = spec.type->is_float() && (random & 1) ? 0.5 : 2;
  return spec.type->is_signed && (random & 2) ? -value : value;
}

void element(const DataSpec& spec, int source, uint64_t index, std::byte* out) {
  if (spec.op == nullptr) {
    const uint64_t bits = hash(spec.seed, index, 16 + static_cast<uint64_t>(source));
    std::memcpy(out, &bits, static_cast<size_t>(spec.type->bytes));
    return;
  }
  encode(*spec.type, source == kReduction ? reduced(spec, index) : contribution(spec, source, index), out);
}

}  // namespace

double mulsum_scalar(int rank) { return 1 + rank % 2; }

double contribution(const DataSpec& spec, int rank, uint64_t index) {
  const int part = part_of(spec, rank, index);
  switch (spec.op->op) {
    case Op::Sum:
      return sum_part(spec, part, index, spec.type->exact);
    case Op::MulSum:
      return sum_part(spec, part, index, spec.type->exact / 2);
    case Op::Avg:
      return spec.type->is_float() ? average_part(spec, part, index) : integer_average_part(spec, part, index);
    case Op::Prod:
      return product_part(spec, part, index);
    case Op::Max:
    case Op::Min:
      return extreme_part(spec, part, index);
  }
  return 0;
}

double reduced(const DataSpec& spec, uint64_t index) {
  double total = contribution(spec, 0, index) * (spec.op->op == Op::MulSum ? mulsum_scalar(0) : 1);
  for (int rank = 1; rank < spec.n; ++rank) {
    const double value = contribution(spec, rank, index);
    switch (spec.op->op) {
      case Op::Sum:
      case Op::Avg:
        total += value;
        break;
      case Op::MulSum:
        total += value * mulsum_scalar(rank);
        break;
      case Op::Prod:
        total *= value;
        break;
      case Op::Max:
        total = std::max(total, value);
        break;
      case Op::Min:
        total = std::min(total, value);
        break;
    }
  }
  if (spec.op->op != Op::Avg) return total;
  const double mean = total / spec.n;
  // Adding 0 turns -0 (a negative sum that rounds to zero) into the 0 that integers have.
  return spec.type->is_float() ? mean : std::trunc(mean) + 0.0;
}

void fill(const DataSpec& spec, int source, size_t first, size_t count, std::byte* out) {
  const auto bytes = static_cast<size_t>(spec.type->bytes);
  const size_t fresh = std::min(count, kPeriod);
  for (size_t i = 0; i < fresh; ++i) element(spec, source, (first + i) % kPeriod, out + i * bytes);
  size_t done = fresh;
  while (done < count) {  // whole periods: each copy doubles what is there
    const size_t more = std::min(count - done, done);
    std::memcpy(out + done * bytes, out, more * bytes);
    done += more;
  }
}

uint64_t count_wrong(const DataSpec& spec, int source, size_t first, size_t count, const std::byte* data) {
  const auto bytes = static_cast<size_t>(spec.type->bytes);
  const size_t period = std::min(count, kPeriod);
  std::vector<std::byte> expected(period * bytes);
  fill(spec, source, first, period, expected.data());
  uint64_t wrong = 0;
  for (size_t at = 0; at < count; at += period) {
    const size_t here = std::min(period, count - at);
    const std::byte* block = data + at * bytes;
    if (std::memcmp(block, expected.data(), here * bytes) == 0) continue;
    for (size_t i = 0; i < here; ++i) wrong += std::memcmp(block + i * bytes, &expected[i * bytes], bytes) != 0;
  }
  return wrong;
}

}  // namespace tutti::perf
