// SPDX-License-Identifier: Apache-2.0
// Layouts: channels, rounds and slices cut every block into pieces that meet each byte exactly once.
#include "algo/layout.h"

#include <gtest/gtest.h>

#include <vector>

#include "algo/catalog.h"

namespace tutti {
namespace {

// How often each byte is met when every channel walks through all rounds, blocks and slices.
std::vector<int> count_bytes(const Layout& layout, int blocks, const Tiling& cut, uint64_t size) {
  std::vector<int> met(size);
  for (int channel = 0; channel < cut.channels; ++channel) {
    Tiling tiling = cut;
    tiling.channel = channel;
    const int all = layout.kind == Layout::Kind::Region ? tiling.blocks : blocks;
    for (uint64_t round = 0; round < layout.rounds(tiling, blocks); ++round) {
      for (int b = 0; b < all; ++b) {
        for (int slice = 0; slice < tiling.slices; ++slice) {
          const Piece piece = layout.piece(tiling, b, 1, round, slice);
          EXPECT_LE(piece.bytes, tiling.slice_bytes);
          for (uint64_t i = 0; i < piece.bytes; ++i) ++met.at(piece.offset + i);
        }
      }
    }
  }
  return met;
}

TEST(Layout, RegionMeetsEachByteOnce) {
  for (const uint64_t bytes : {0, 1, 63, 64, 65, 500, 1000, 4096, 5001}) {
    for (const int channels : {1, 2, 3}) {
      for (const int blocks : {1, 2, 5, 8}) {
        for (const int slices : {1, 3}) {
          const Tiling cut{.channels = channels, .blocks = blocks, .slices = slices, .slice_bytes = 64};
          for (const int times : count_bytes(Layout::region(bytes), 1, cut, bytes)) ASSERT_EQ(times, 1);
        }
      }
    }
  }
}

TEST(Layout, StridedMeetsEachByteOfItsBlocksOnce) {
  for (const uint64_t bytes : {0, 1, 64, 200, 777}) {
    for (const int channels : {1, 2, 5}) {
      for (const uint64_t gap : {0, 100}) {
        const Tiling cut{.channels = channels, .slices = 2, .slice_bytes = 128};
        const std::vector<int> met = count_bytes(Layout::strided(bytes, bytes + gap), 4, cut, 4 * (bytes + gap));
        for (size_t i = 0; i < met.size(); ++i) ASSERT_EQ(met[i], i % (bytes + gap) < bytes ? 1 : 0) << i;
      }
    }
  }
}

TEST(Layout, TableMeetsEachByteOfItsBlocksOnce) {
  const uint64_t offsets[] = {10, 400, 400, 800}, lengths[] = {300, 0, 333, 64};
  for (const int channels : {1, 2, 3}) {
    const Tiling cut{.channels = channels, .slices = 2, .slice_bytes = 64};
    const std::vector<int> met = count_bytes(Layout::table(offsets, lengths), 4, cut, 1000);
    for (size_t i = 0; i < met.size(); ++i) {
      const bool in_block = (i >= 10 && i < 310) || (i >= 400 && i < 733) || (i >= 800 && i < 864);
      ASSERT_EQ(met[i], in_block ? 1 : 0) << i;
    }
  }
}

TEST(Layout, RunsOfBlocksCoverWhatTheirBlocksCover) {
  for (const uint64_t bytes : {100, 1000, 4096, 4097}) {
    const Tiling cut{.channel = 1, .channels = 2, .blocks = 8, .slices = 2, .slice_bytes = 64};
    const Layout region = Layout::region(bytes);
    for (uint64_t round = 0; round < region.rounds(cut, 1); ++round) {
      uint64_t run = 0, single = 0;
      for (int slice = 0; slice < 4 * cut.slices; ++slice) run += region.piece(cut, 4, 4, round, slice).bytes;
      for (int b = 4; b < 8; ++b) {
        for (int slice = 0; slice < cut.slices; ++slice) single += region.piece(cut, b, 1, round, slice).bytes;
      }
      ASSERT_EQ(run, single);
    }
  }
}

TEST(CollLayout, BlocksOfEachSide) {
  EXPECT_EQ(coll_layout(Coll::AllGather, 4, 1, 0, 100).output_blocks, 4);
  EXPECT_EQ(coll_layout(Coll::AllGather, 4, 1, 0, 100).input_blocks, 1);
  EXPECT_EQ(coll_layout(Coll::ReduceScatter, 4, 1, 0, 100).input_blocks, 4);
  EXPECT_EQ(coll_layout(Coll::Gather, 4, 1, 0, 100).output_blocks, 0);
  EXPECT_EQ(coll_layout(Coll::Gather, 4, 0, 0, 100).output_blocks, 4);
  EXPECT_EQ(coll_layout(Coll::Scatter, 4, 1, 0, 100).input_blocks, 0);
  EXPECT_EQ(coll_layout(Coll::Broadcast, 4, 1, 0, 100).input_blocks, 0);
  EXPECT_EQ(coll_layout(Coll::Reduce, 4, 1, 0, 100).output_blocks, 0);
}

TEST(CollLayout, RoundsAreEqualOnAllRanks) {
  const Tiling cut{.channels = 2, .blocks = 1, .slices = 2, .slice_bytes = 64};
  for (int c = 0; c < kCollCount; ++c) {
    const Coll coll = static_cast<Coll>(c);
    for (int me = 0; me < 4; ++me) {
      EXPECT_EQ(coll_layout(coll, 4, me, 1, 1000).rounds(cut), coll_layout(coll, 4, 0, 1, 1000).rounds(cut)) << c;
      EXPECT_EQ(coll_layout(coll, 4, me, 1, 0).rounds(cut), 0u) << c;
    }
  }
  const uint64_t offsets[] = {0, 64, 1064}, lengths[] = {64, 1000, 0};
  for (int me = 0; me < 3; ++me) EXPECT_EQ(all_gather_v_layout(3, me, {offsets, lengths}).rounds(cut), 4u);
}

}  // namespace
}  // namespace tutti
