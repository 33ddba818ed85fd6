// SPDX-License-Identifier: Apache-2.0
// Every row of the catalog is proven: for each number of ranks up to 64 and some larger odd ones, over shapes (slices,
// rounds, channels, lengths that do not divide, nothing at all), slots, in place and not, both ways of fan-out, roots.
#include <gtest/gtest.h>

#include <ostream>
#include <random>

#include "exec/sim/prove.h"

namespace tutti {

inline void PrintTo(const CatalogRow& row, std::ostream* out) { *out << name(row.coll) << " " << name(row.algo); }

namespace {

constexpr uint64_t kCell = 32;

class Rows : public testing::TestWithParam<CatalogRow> {
 protected:
  const CatalogRow& row() const { return GetParam(); }
  bool single_round() const { return row().needs & kSingleRound; }

  // `runs`: how many slices of one channel there are, in halves; 3 is one slice and a half.
  Proof proof(int n, int root, int slices, int channels, int runs) const {
    Proof proof = proof_of(row(), n, root, slices);
    proof.channels = single_round() ? 1 : channels;
    // A round is blocks * slices slices per channel; a single round holds at most `slices`.
    proof.bytes = single_round() ? std::min(runs, 2 * slices) * kCell : runs * kCell * proof.channels * proof.blocks;
    return proof;
  }

  void expect_proven(const Proof& proof) {
    const Result<ProofStats> result = prove(proof);
    ++proofs_;
    steps_without_data_ = result.ok() ? result->steps_without_data : 0;
    ASSERT_TRUE(result.ok()) << result.status().message() << "\n  root " << proof.root << ", " << proof.bytes
                             << " bytes, " << proof.channels << " channels, " << proof.slices << " slices, "
                             << proof.slots << " slots, in place " << proof.in_place << ", fan-out " << proof.fan_out;
  }
  // Out of place and in place, over fan-out and over pairs.
  void expect_proven_in_all_modes(Proof proof) {
    for (const bool in_place : {false, true}) {
      if (in_place && (proof.coll == Coll::SendRecv || (row().needs & kOutOfPlace))) continue;
      for (const bool fan_out : {true, false}) {
        if (!fan_out && !(row().needs & kFanOut)) continue;
        proof.in_place = in_place;
        proof.fan_out = fan_out;
        ASSERT_NO_FATAL_FAILURE(expect_proven(proof));
      }
    }
  }
  void TearDown() override { RecordProperty("proofs", proofs_); }

  int proofs_ = 0;
  uint64_t steps_without_data_ = 0;  // of the last proof
};

std::vector<int> some_roots(Coll coll, int n) {
  if (!rooted(coll) && coll != Coll::SendRecv) return {0};
  if (n == 1) return {0};
  return n == 2 ? std::vector<int>{0, 1} : std::vector<int>{0, n / 2, n - 1};
}

TEST_P(Rows, OneToEightRanksInAllShapes) {
  for (int n = 1; n <= 8; ++n) {
    if (!row().fits(n)) continue;
    const int roots = rooted(row().coll) || row().coll == Coll::SendRecv ? n : 1;
    for (int root = 0; root < roots; ++root) {
      for (const int slices : {1, 2, 3}) {
        for (const int channels : {1, 2, 3}) {
          if (single_round() && channels > 1) continue;
          for (const int runs : {0, 1, 3, 10, 15}) {
            Proof shape = proof(n, root, slices, channels, runs);
            const int fewest = shape.slots;
            for (const int slots : {fewest, std::max(fewest + 1, 4)}) {
              shape.slots = slots;
              shape.seed = shape.slots * 1000 + runs;
              ASSERT_NO_FATAL_FAILURE(expect_proven_in_all_modes(shape));
            }
          }
        }
      }
    }
  }
}

// Lengths of any number of bytes: shorter than a cache line, one more, one less.
TEST_P(Rows, BytesThatDoNotDivide) {
  for (int n = 1; n <= 5; ++n) {
    if (!row().fits(n)) continue;
    for (const uint64_t bytes : {1, 7, 63, 65, 127, 321, 1001}) {
      for (const int channels : {1, 2}) {
        if (single_round() && (channels > 1 || bytes > 2 * 64)) continue;
        Proof shape = proof(n, n - 1, 2, channels, 1);
        shape.bytes = bytes;
        shape.cell_bytes = 1;
        ASSERT_NO_FATAL_FAILURE(expect_proven_in_all_modes(shape));
      }
    }
  }
}

TEST_P(Rows, NineToSixtyFourRanks) {
  for (int n = 9; n <= 64; ++n) {
    if (!row().fits(n)) continue;
    for (const int root : some_roots(row().coll, n)) {
      Proof shape = proof(n, root, 1 + n % 2, 2, 5 + 2 * (n % 3));
      shape.fixed_orders = n % 8 == 1;
      shape.seed = n;
      ASSERT_NO_FATAL_FAILURE(expect_proven_in_all_modes(shape));
      ASSERT_EQ(steps_without_data_, 0u) << n;
    }
  }
}

TEST_P(Rows, LargeNumbersOfRanks) {
  for (const int n : {65, 97, 127, 128, 193}) {
    if (!row().fits(n)) continue;
    for (const int root : some_roots(row().coll, n)) {
      Proof shape = proof(n, root, 1, n < 128 ? 2 : 1, 3);
      shape.fixed_orders = false;
      shape.seed = n;
      ASSERT_NO_FATAL_FAILURE(expect_proven(shape));
      shape.in_place = row().coll != Coll::SendRecv && !(row().needs & kOutOfPlace);
      shape.fan_out = false;
      ASSERT_NO_FATAL_FAILURE(expect_proven(shape));
    }
  }
}

// Blocks of different lengths, some of them empty.
class RowsWithLengths : public Rows {};

TEST_P(RowsWithLengths, AreProven) {
  const Coll coll = row().coll;
  std::mt19937 random(7);
  for (const int n : {1, 2, 3, 4, 5, 8, 13, 33}) {
    if (!row().fits(n)) continue;
    for (int sample = 0; sample < 6; ++sample) {
      Proof shape = proof(n, 0, 1 + sample % 2, 1 + sample % 3, 1);
      const auto length = [&] { return random() % 3 == 0 ? 0 : random() % 12 * kCell; };
      shape.lengths.resize(coll == Coll::AllToAll ? n * n : n);
      for (uint64_t& bytes : shape.lengths) bytes = sample == 5 ? 0 : length();
      ASSERT_NO_FATAL_FAILURE(expect_proven(shape));
      shape.fan_out = false;
      shape.in_place = true;
      for (int i = 0; coll == Coll::AllToAll && i < n * n; ++i) {  // in place, what comes replaces what goes
        shape.lengths[i] = shape.lengths[std::max(i / n, i % n) * n + std::min(i / n, i % n)];
      }
      ASSERT_NO_FATAL_FAILURE(expect_proven(shape));
    }
  }
}

// One slot fewer than the row asks for is a deadlock: the catalog asks for no more than it needs.
TEST_P(Rows, SlotsAreTheFewest) {
  for (int n = 2; n <= 9; ++n) {
    for (const int slices : {1, 2, 3}) {
      if (!row().fits(n)) continue;
      Proof shape = proof(n, 0, slices, row().needs & kEvenChannels ? 2 : 1, 12);
      if (--shape.slots == 0) continue;
      shape.fan_out = false;  // where everything goes by the same connections
      const Result<ProofStats> result = prove(shape);
      ASSERT_FALSE(result.ok()) << n << " ranks, " << slices << " slices need fewer than " << shape.slots + 1;
      EXPECT_NE(result.status().message().find("deadlock"), std::string::npos) << result.status().message();
    }
  }
}

// What the catalog tells the planner is what the steps do.
TEST_P(Rows, CostsAreWhatTheStepsDo) {
  for (int n = 1; n <= 64; ++n) {
    if (!row().fits(n)) continue;
    Proof shape = proof_of(row(), n, row().coll == Coll::SendRecv ? 1 % n : 0);
    shape.channels = row().needs & kEvenChannels ? 2 : 1;
    shape.bytes = 64 * shape.channels * shape.blocks;
    shape.cell_bytes = 64;
    shape.slice_bytes = 1 << 20;
    shape.fixed_orders = false;
    const bool in_blocks = coll_layout(row().coll, n, 0, 0, 1).input.kind != Layout::Kind::Region;
    const double buffer = static_cast<double>(shape.bytes) * (in_blocks ? n : 1);
    const Result<ProofStats> fan = prove(shape);
    ASSERT_TRUE(fan.ok()) << fan.status().message();
    shape.fan_out = false;
    const Result<ProofStats> pairs = prove(shape);
    ASSERT_TRUE(pairs.ok()) << pairs.status().message();

    const int slack = row().algo == Algo::Doubling || row().algo == Algo::Tree ? row().hops(n) - fan->hops : 0;
    EXPECT_EQ(fan->steps_without_data, 0u) << n;
    EXPECT_EQ(fan->hops + slack, row().hops(n)) << n;
    EXPECT_GE(slack, 0) << n;
    EXPECT_LE(slack, 2) << n;
    EXPECT_DOUBLE_EQ(fan->sent_bytes / buffer, row().sent(n)) << n;
    EXPECT_DOUBLE_EQ(pairs->sent_bytes / buffer, row().sent_pairs(n)) << n;
    EXPECT_DOUBLE_EQ(fan->received_bytes / buffer, row().received(n)) << n;
  }
}

std::string title(const testing::TestParamInfo<CatalogRow>& info) {
  return std::string(name(info.param.coll)) + "_" + std::string(name(info.param.algo));
}

std::vector<CatalogRow> rows_with_lengths() {
  std::vector<CatalogRow> rows;
  for (const CatalogRow& row : catalog()) {
    const bool has_v = row.coll == Coll::AllGather || row.coll == Coll::ReduceScatter || row.coll == Coll::AllToAll;
    if (has_v && !(row.needs & kSingleRound) && !row.has(Proto::Rma)) rows.push_back(row);
  }
  return rows;
}

INSTANTIATE_TEST_SUITE_P(Catalog, Rows, testing::ValuesIn(catalog().begin(), catalog().end()), title);
INSTANTIATE_TEST_SUITE_P(Catalog, RowsWithLengths, testing::ValuesIn(rows_with_lengths()), title);

}  // namespace
}  // namespace tutti
