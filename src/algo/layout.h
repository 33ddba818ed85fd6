// SPDX-License-Identifier: Apache-2.0
// Layout: where the bytes of a block are, and which part of it a (channel, round, slice) moves.
//
// A user buffer is seen as blocks, in one of three ways:
//
//   Region   one run of `length` bytes (AllReduce, Broadcast, Reduce). Each round takes the next run of
//            blocks * slices * slice_bytes bytes and cuts it into `blocks` equal consecutive blocks.
//   Strided  `blocks` blocks of `length` bytes, `stride` apart (AllGather, ReduceScatter, AllToAll, ...).
//   Table    block b has its own offset and length (the V collectives).
//
// For Strided and Table, round r takes the r-th run of slices * slice_bytes bytes of each block. Channels cut the
// region (or each block) into shares on cache-line boundaries. Sender and receiver of a slice compute the same length
// from the same block, so empty slices are skipped by both without a word.
//
// A packed step (step.h) moves blocks of a Strided layout, in one round of one channel: its slices cut the row of its
// blocks side by side, whatever lies between them in the buffer.
#pragma once

#include <cstdint>

#include "algo/step.h"
#include "base/host_device.h"

namespace tutti {

struct Piece {
  uint64_t offset = 0;  // bytes from the start of the user buffer
  uint64_t bytes = 0;
};

// How a call is cut: equal on all ranks.
struct Tiling {
  int channel = 0, channels = 1;
  int blocks = 1;            // blocks a Region is cut into in each round
  int slices = 1;            // slices of one block in one round; a step of b blocks has b times as many
  uint64_t slice_bytes = 0;  // multiple of kTileAlign
};
inline constexpr uint64_t kTileAlign = 64;

struct Layout {
  enum class Kind : uint8_t { Region, Strided, Table };
  Kind kind = Kind::Region;
  uint64_t length = 0, stride = 0;
  const uint64_t* offsets = nullptr;  // Table: bytes, indexed by block
  const uint64_t* lengths = nullptr;

  TUTTI_HD static constexpr Layout region(uint64_t bytes) { return {Kind::Region, bytes, 0, nullptr, nullptr}; }
  TUTTI_HD static constexpr Layout strided(uint64_t bytes, uint64_t stride) {
    return {Kind::Strided, bytes, stride, nullptr, nullptr};
  }
  TUTTI_HD static constexpr Layout table(const uint64_t* offsets, const uint64_t* lengths) {
    return {Kind::Table, 0, 0, offsets, lengths};
  }

  // Rounds needed for all of this buffer's blocks `count` (0 when there is nothing to move).
  TUTTI_HD constexpr uint64_t rounds(const Tiling& t, int count) const {
    const uint64_t run = t.slices * t.slice_bytes;
    if (kind == Kind::Region) return ceil_div(share(0, length, t).bytes, run * t.blocks);
    uint64_t most = 0;
    for (int b = 0; b < (kind == Kind::Strided ? 1 : count); ++b) {
      const uint64_t need = ceil_div(share(0, block_length(b), t).bytes, run);
      if (need > most) most = need;
    }
    return most;
  }

  // The bytes that slice `slice` of `count` consecutive blocks from `block` moves in round `round`. With count > 1 on a
  // Strided or Table layout the blocks must be adjacent and fit into one round (the planner sees to it).
  TUTTI_HD constexpr Piece piece(const Tiling& t, int block, int count, uint64_t round, int slice) const {
    const uint64_t run = t.slices * t.slice_bytes;
    if (kind == Kind::Region) {
      const Piece mine = share(0, length, t);
      const uint64_t begin = round * run * t.blocks;
      const uint64_t bytes = min(run * t.blocks, mine.bytes > begin ? mine.bytes - begin : 0);
      const uint64_t cut = align_up(ceil_div(bytes, t.blocks));
      const uint64_t lo = min(block * cut, bytes), hi = min((block + count) * cut, bytes);
      return sub(Piece{mine.offset + begin + lo, hi - lo}, slice * t.slice_bytes, t.slice_bytes);
    }
    const Piece mine = share(block_offset(block), block_length(block) * count, t);
    return sub(mine, round * run * count + slice * t.slice_bytes, t.slice_bytes);
  }

  // A whole block, uncut. A Region counts as one.
  TUTTI_HD constexpr Piece whole(int block) const { return {block_offset(block), block_length(block)}; }

  // The bytes of slice `slice` of a packed step, counted from the start of its row of blocks.
  TUTTI_HD constexpr Piece packed_slice(const Tiling& t, const Step& step, int slice) const {
    return sub(Piece{0, length * step.blocks}, slice * t.slice_bytes, t.slice_bytes);
  }
  // Byte `at` of a packed step's row lies in block number `i` of the step, so far from its start; as many bytes of it
  // follow. `block` then tells where that is in a buffer.
  struct PackedPart {
    int i;
    uint64_t within, bytes;
  };
  TUTTI_HD constexpr PackedPart packed_part(uint64_t at) const {
    return {static_cast<int>(at / length), at % length, length - at % length};
  }
  TUTTI_HD constexpr uint64_t offset_in(int block, uint64_t within) const { return block_offset(block) + within; }

 private:
  TUTTI_HD constexpr uint64_t block_offset(int b) const {
    return kind == Kind::Table ? offsets[b] : static_cast<uint64_t>(b) * stride;
  }
  TUTTI_HD constexpr uint64_t block_length(int b) const { return kind == Kind::Table ? lengths[b] : length; }
  TUTTI_HD static constexpr Piece share(uint64_t offset, uint64_t bytes, const Tiling& t) {
    if (t.channels == 1) return {offset, bytes};
    const uint64_t cut = align_up(ceil_div(bytes, t.channels));
    return sub(Piece{offset, bytes}, cut * t.channel, cut);
  }
  TUTTI_HD static constexpr Piece sub(Piece whole, uint64_t begin, uint64_t bytes) {
    if (begin >= whole.bytes) return {whole.offset + whole.bytes, 0};
    return {whole.offset + begin, min(bytes, whole.bytes - begin)};
  }
  TUTTI_HD static constexpr uint64_t min(uint64_t a, uint64_t b) { return a < b ? a : b; }
  // Without dividing where the answer is plain: small calls come here several times.
  TUTTI_HD static constexpr uint64_t ceil_div(uint64_t a, uint64_t b) {
    if (a <= b) return a != 0;
    return b == 1 ? a : (a + b - 1) / b;
  }
  TUTTI_HD static constexpr uint64_t align_up(uint64_t a) { return (a + kTileAlign - 1) / kTileAlign * kTileAlign; }
};

// What a rank's two buffers look like. A side with 0 blocks is not used (its pointer may be null).
struct CollLayout {
  Layout input, output;
  int input_blocks = 0, output_blocks = 0;

  // Rounds of this rank. They may differ between ranks (V forms): where a rank has fewer, its slices would be empty.
  TUTTI_HD constexpr uint64_t rounds(const Tiling& tiling) const {
    const uint64_t in = input_blocks > 0 ? input.rounds(tiling, input_blocks) : 0;
    const uint64_t out = output_blocks > 0 ? output.rounds(tiling, output_blocks) : 0;
    return in > out ? in : out;
  }
};

}  // namespace tutti
