// SPDX-License-Identifier: Apache-2.0
// Request: one call with checked arguments, before any decision. Built by src/api, kept by a group until its end.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "algo/collective.h"
#include "algo/element.h"
#include "exec/cpu/reduce/reduce.h"
#include "health/board.h"

namespace tutti {

// The counts and displacements of a V collective, in bytes, copied at the call.
struct BlockTables {
  std::vector<uint64_t> in_offsets, in_lengths;  // empty: the input is not cut
  std::vector<uint64_t> out_offsets, out_lengths;
};

// All of a call but its size, its buffers and its factor, as one word that is never 0: what plans are remembered by.
struct CallKind {
  Coll coll = Coll::AllReduce;
  DataType type = DataType::Uint8;
  ReduceOp op = ReduceOp::Sum;
  bool average = false, prescaled = false, tables = false, is_send = false;
  int root = 0;

  constexpr uint64_t word() const {
    return static_cast<uint64_t>(coll) | uint64_t{1} << 8 | static_cast<uint64_t>(tables) << 9 |
           static_cast<uint64_t>(average) << 10 | static_cast<uint64_t>(prescaled) << 11 |
           static_cast<uint64_t>(is_send) << 12 | static_cast<uint64_t>(type) << 16 | static_cast<uint64_t>(op) << 24 |
           static_cast<uint64_t>(static_cast<uint32_t>(root)) << 32;
  }
};

struct Request {
  Coll coll = Coll::AllReduce;
  const void* input = nullptr;
  void* output = nullptr;
  uint64_t count = 0;  // elements of the region or of one block
  DataType type = DataType::Uint8;
  ReduceOp op = ReduceOp::Sum;
  bool average = false;    // Sum, then divided by n
  bool prescaled = false;  // each input multiplied by `scale` first
  bool user_operator = false;
  Scale scale;
  const void* scale_at = nullptr;       // instead of `scale`: an element in memory of a GPU
  int root = 0;                         // SendRecv: the peer
  bool is_send = false;                 // SendRecv only
  std::unique_ptr<BlockTables> tables;  // V collectives only
  uint64_t queued = 0;                  // ticks when it was put into a group or on a stream; 0: never was

  bool point_to_point() const { return coll == Coll::SendRecv; }
  uint64_t bytes() const { return count * element_size(type); }
  uint64_t kind() const {
    return CallKind{coll, type, op, average, prescaled, tables != nullptr, is_send, root}.word();
  }
};

// 24 bits that ranks calling the same thing agree on; carried by every slot.
uint32_t call_identity(const Request& request);
// The same in words that fit the board. Left out: a message's number.
inline BoardCall board_call(const Request& request, uint32_t identity, uint64_t number) {
  BoardCall call;
  call.number = number;
  call.coll = static_cast<uint8_t>(request.coll);
  call.type = static_cast<uint8_t>(request.type);
  call.op = static_cast<uint8_t>(request.op);
  call.flags = static_cast<uint8_t>(
      (request.average ? BoardCall::kAverage : 0) | (request.prescaled ? BoardCall::kPrescaled : 0) |
      (request.tables != nullptr ? BoardCall::kTables : 0) | (request.is_send ? BoardCall::kIsSend : 0));
  call.root = request.root;
  call.count = request.count;
  call.identity = identity;
  return call;
}
// "all_reduce of 16 float32 (sum)", for messages.
inline std::string describe(const Request& request) { return describe(board_call(request, 0, 0)); }

}  // namespace tutti
