// SPDX-License-Identifier: Apache-2.0
#include "reference.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <tuple>

namespace conformance {

const char* const kTypeNames[kTypes] = {"int8",    "uint8",   "int32",   "uint32",   "int64",       "uint64",
                                        "float16", "float32", "float64", "bfloat16", "float8_e4m3", "float8_e5m2"};
const char* const kOpNames[kOps] = {"sum", "prod", "max", "min", "avg", "premulsum"};

namespace {

struct Format {
  int bytes;
  bool is_signed;    // integers
  int exponent = 0;  // bits of the fields; 0: an integer
  int mantissa = 0;
};
const Format kFormats[kTypes] = {{1, true},         {1, false},      {4, true},        {4, false},
                                 {8, true},         {8, false},      {2, true, 5, 10}, {4, true, 8, 23},
                                 {8, true, 11, 52}, {2, true, 8, 7}, {1, true, 4, 3},  {1, true, 5, 2}};

bool floating(int type) { return kFormats[type].exponent != 0; }
uint64_t low_bits(int count) { return count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1; }
uint64_t field_exponent(uint64_t bits, const Format& f) { return (bits >> f.mantissa) & low_bits(f.exponent); }

// Decodes any float type from its fields. Exact: double holds every value of each.
double decode(uint64_t bits, int type) {
  const Format& f = kFormats[type];
  if (is_nan(bits, type)) return NAN;
  const double sign = (bits >> (f.exponent + f.mantissa)) & 1 ? -1 : 1;
  const int bias = (1 << (f.exponent - 1)) - 1;
  const auto exponent = static_cast<int>(field_exponent(bits, f));
  const auto mantissa = static_cast<double>(bits & low_bits(f.mantissa));
  if (type != TUTTI_FLOAT8_E4M3 && exponent == static_cast<int>(low_bits(f.exponent))) return sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - f.mantissa);
  return sign * std::ldexp(mantissa + std::ldexp(1, f.mantissa), exponent - bias - f.mantissa);
}

// Encodes a finite value that the type represents exactly; anything else is a mistake of this file.
uint64_t encode(double value, int type) {
  const Format& f = kFormats[type];
  const int bias = (1 << (f.exponent - 1)) - 1;
  uint64_t bits = 0;
  if (value != 0) {
    int exponent = 0;
    std::frexp(value, &exponent);  // |value| = m * 2^exponent, m in [0.5, 1)
    const int biased = std::max(exponent - 1 + bias, 0);
    const double units = std::ldexp(std::fabs(value), bias + f.mantissa - std::max(biased, 1));
    bits = static_cast<uint64_t>(units);
    if (biased > 0) bits = (bits & low_bits(f.mantissa)) | static_cast<uint64_t>(biased) << f.mantissa;
    if (value < 0) bits |= uint64_t{1} << (f.exponent + f.mantissa);
  }
  if (decode(bits, type) != value) {
    std::fprintf(stderr, "reference: %s cannot hold %.17g\n", kTypeNames[type], value);
    std::abort();
  }
  return bits;
}

// Sums of integers of up to this size are exact.
double most_exact(int type) { return std::ldexp(1, std::min(kFormats[type].mantissa + 1, 40)); }

int64_t as_signed(uint64_t bits, int type) {
  const int shift = 64 - 8 * kFormats[type].bytes;
  return static_cast<int64_t>(bits << shift) >> shift;
}
uint64_t cut(uint64_t bits, int type) { return bits & low_bits(8 * kFormats[type].bytes); }

class Maker {
 public:
  Maker(int type, int op, int n)
      : type_(type), op_(op), n_(n), random_(static_cast<unsigned>(type * 100 + op * 10 + n)) {}

  Table make() {
    table_.in.assign(static_cast<size_t>(n_), std::vector<uint64_t>(kPeriod));
    table_.out.assign(kPeriod, 0);
    table_.nan.assign(kPeriod, false);
    for (int r = 0; r < n_; ++r) table_.scale.push_back(scale(r));
    for (size_t k = 0; k < kPeriod; ++k) {
      if (op_ == TUTTI_MAX || op_ == TUTTI_MIN) {
        extremum(k);
      } else if (floating(type_)) {
        op_ == TUTTI_PROD ? float_product(k) : float_sum(k);
      } else {
        integers(k);
      }
    }
    return std::move(table_);
  }

 private:
  uint64_t draw() { return random_(); }
  uint64_t below(uint64_t limit) { return draw() % limit; }
  uint64_t& in(int rank, size_t k) { return table_.in[static_cast<size_t>(rank)][k]; }

  uint64_t scale(int rank) {
    if (op_ != kPreMulSum) return 0;
    if (floating(type_)) return encode(rank % 3 == 0 ? 2 : rank % 3 == 1 ? 0.5 : -1, type_);
    return cut(static_cast<uint64_t>(rank % 2 == 0 ? rank + 2 : -rank - 2), type_);
  }

  // Wrapping arithmetic; avg on values whose sum does not wrap, with any remainder.
  void integers(size_t k) {
    uint64_t all = op_ == TUTTI_PROD ? 1 : 0;
    for (int r = 0; r < n_; ++r) {
      uint64_t x = draw();
      if (op_ == TUTTI_PROD) x |= 1;  // powers of two would soon leave nothing
      if (op_ == TUTTI_AVG) {
        x = cut(x, type_);
        x = kFormats[type_].is_signed ? static_cast<uint64_t>(as_signed(x, type_) / n_) : x / static_cast<uint64_t>(n_);
      }
      x = cut(x, type_);
      in(r, k) = x;
      if (op_ == TUTTI_PROD) {
        all *= x;
      } else {
        all += op_ == kPreMulSum ? x * table_.scale[static_cast<size_t>(r)] : x;
      }
    }
    all = cut(all, type_);
    if (op_ == TUTTI_AVG)
      all = kFormats[type_].is_signed ? static_cast<uint64_t>(as_signed(all, type_) / n_)
                                      : all / static_cast<uint64_t>(n_);
    table_.out[k] = cut(all, type_);
  }

  // n whole numbers whose absolute values add up to `total`, so that every partial sum is exact.
  std::vector<double> parts(uint64_t total) {
    std::vector<double> values(static_cast<size_t>(n_), 0);
    uint64_t left = total;
    for (int turn = 0; turn < n_ && left > 0; ++turn) {
      const uint64_t part = turn == n_ - 1 ? left : below(std::min<uint64_t>(left, 2 * total / n_ + 1) + 1);
      values[(k_rotation_ + static_cast<size_t>(turn)) % values.size()] += static_cast<double>(part);
      left -= part;
    }
    ++k_rotation_;
    return values;
  }

  void float_sum(size_t k) {
    const auto most = static_cast<uint64_t>(most_exact(type_));
    const auto n = static_cast<uint64_t>(n_);
    // avg: the total divides evenly and nothing is negative on the way; otherwise signs vary.
    const uint64_t total = op_ == TUTTI_AVG ? below(most / n + 1) * n : below(most + 1);
    const double sign = op_ == TUTTI_AVG && below(2) ? -1 : 1;
    const std::vector<double> values = parts(total);
    double all = 0;
    for (int r = 0; r < n_; ++r) {
      double y = values[static_cast<size_t>(r)] * sign;
      if (op_ != TUTTI_AVG && below(2)) y = -y;
      all += y;
      const double x = op_ == kPreMulSum ? y / decode(table_.scale[static_cast<size_t>(r)], type_) : y;
      in(r, k) = encode(x == 0 ? 0.0 : x, type_);
    }
    if (op_ == TUTTI_AVG) all /= n_;
    table_.out[k] = encode(all == 0 ? 0.0 : all, type_);
  }

  void float_product(size_t k) {
    double all = 1;
    for (int r = 0; r < n_; ++r) {
      double x = std::ldexp(1, static_cast<int>(below(3)) - 1) * (below(2) ? -1 : 1);
      if (static_cast<size_t>(r) == k % static_cast<size_t>(n_)) x = below(2) ? 3 : -3;
      all *= x;
      in(r, k) = encode(x, type_);
    }
    table_.out[k] = encode(all, type_);
  }

  // Any bits but -0, whose order against 0 is nobody's promise; some columns hold a NaN in one rank.
  void extremum(size_t k) {
    const bool max = op_ == TUTTI_MAX;
    const Format& f = kFormats[type_];
    int best = 0;
    for (int r = 0; r < n_; ++r) {
      uint64_t x = cut(draw(), type_);
      while (floating(type_) && (is_nan(x, type_) || x == uint64_t{1} << (f.exponent + f.mantissa)))
        x = cut(draw(), type_);
      in(r, k) = x;
      const uint64_t b = in(best, k);
      const bool less = floating(type_) ? decode(x, type_) < decode(b, type_)
                        : f.is_signed   ? as_signed(x, type_) < as_signed(b, type_)
                                        : x < b;
      const bool more = floating(type_) ? decode(x, type_) > decode(b, type_)
                        : f.is_signed   ? as_signed(x, type_) > as_signed(b, type_)
                                        : x > b;
      if (max ? more : less) best = r;
    }
    table_.out[k] = in(best, k);
    if (floating(type_) && k % 37 == 5) {
      in(static_cast<int>(k / 37) % n_, k) = low_bits(f.exponent + f.mantissa);  // all ones: a NaN of every type
      table_.nan[k] = true;
    }
  }

  const int type_, op_, n_;
  std::mt19937_64 random_;
  size_t k_rotation_ = 0;
  Table table_;
};

}  // namespace

size_t element_bytes(int type) { return static_cast<size_t>(kFormats[type].bytes); }

bool is_nan(uint64_t bits, int type) {
  const Format& f = kFormats[type];
  if (!floating(type)) return false;
  if (type == TUTTI_FLOAT8_E4M3) return (bits & 0x7f) == 0x7f;
  return field_exponent(bits, f) == low_bits(f.exponent) && (bits & low_bits(f.mantissa)) != 0;
}

const Table& table(int type, int op, int n) {
  static std::mutex& mutex = *new std::mutex;
  static auto& tables = *new std::map<std::tuple<int, int, int>, std::unique_ptr<const Table>>;
  const std::lock_guard<std::mutex> lock(mutex);
  std::unique_ptr<const Table>& kept = tables[{type, op, n}];
  if (kept == nullptr) kept = std::make_unique<const Table>(Maker(type, op, n).make());
  return *kept;
}

}  // namespace conformance
