// SPDX-License-Identifier: Apache-2.0
// LL and LL128: slots made of lines that carry their own flags, written and read by the threads of CUDA blocks. No
// thread waits for another of its block, no fence is needed: who sees a line's flag has the line's data.
//
//     memory of one FIFO                                          who writes
//     line 0..R-1   head of reader 0..R-1                         reader   (release: after its block's last read)
//     slots         `slot_count` slots of `slot_bytes` bytes      sender
//
//   LL      a line is 16 bytes, two words of {data, flag}, each of which is seen whole or not at all
//
//               byte 0        4        8        12       16
//                    | data 0 | flag   | data 1 | flag   |
//
//           Line 0 of a slot carries the call's identity instead of data, so that a mismatch is seen. The flag is the
//           low 32 bits of the position + 1.
//
//   LL128   a line is 128 bytes: 15 words of data, and make_flag(position, identity) of slots.h in the last word. Eight
//           neighbouring threads of a warp move a line with one instruction, 16 bytes each.
//
//               word 0   1   2        13  14  15
//                    |   thread 0  | ... | 14 | flag |
//
//           Condition: such an access must be seen whole. It is where the line is in the memory of a GPU, this one or
//           one behind NVLink only; a PCI bus or host memory may deliver it in pieces (ll128_holds).
//
// Lines are never cleared. A slot is used again only when all readers have passed it, and a line that a short slice
// left alone keeps an old flag. Old flags cannot match: those of LL128 do not repeat within 2^40 positions. Those of LL
// repeat after 2^32, so once in 2^30 positions the sender writes every line of each slot (refreshes()):
//     Invariant: no flag in a slot is older than 2^30 + slot_count positions.
// A FIFO carries slots of one of the two forms only: each connection has one for each.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/atomic.h"
#include "base/host_device.h"
#include "proto/slots.h"

namespace tutti {

inline constexpr uint64_t kLLLineBytes = 16, kLLLineData = 8;
inline constexpr uint64_t kLL128LineBytes = 128, kLL128LineData = 120;
inline constexpr int kLL128Threads = 8;  // of a warp, one line
// What the planner puts into a slot of LL128: a line for each eight threads of a full block.
inline constexpr uint64_t kLL128PayloadBytes = 64 * kLL128LineData;
inline constexpr int kRefreshBits = 30;

// The payload that fits into a slot, and the slot that a payload needs (whole cache lines of 128 bytes).
TUTTI_HD constexpr uint64_t ll_payload(uint64_t slot_bytes) { return (slot_bytes / kLLLineBytes - 1) * kLLLineData; }
TUTTI_HD constexpr uint64_t ll128_payload(uint64_t slot_bytes) { return slot_bytes / kLL128LineBytes * kLL128LineData; }
TUTTI_HD constexpr uint64_t ll_slot_bytes(uint64_t payload) {
  const uint64_t lines = (payload + kLLLineData - 1) / kLLLineData + 1;
  return (lines * kLLLineBytes + kLL128LineBytes - 1) / kLL128LineBytes * kLL128LineBytes;
}
TUTTI_HD constexpr uint64_t ll128_slot_bytes(uint64_t payload) {
  return (payload + kLL128LineData - 1) / kLL128LineData * kLL128LineBytes;
}

// Where the lines of a connection are, seen from the GPU that writes and from the one that reads them.
struct LinePath {
  bool in_gpu_memory = false;   // not in host memory
  bool nvlink_or_same = false;  // both GPUs are one, or only NVLink is between them
  int writer_capability_major = 0, reader_capability_major = 0;
};
// Whether a line of LL128 written by one instruction is seen whole there: from compute capability 7 on.
TUTTI_HD constexpr bool ll128_holds(const LinePath& path) {
  constexpr int kFirstMajor = 7;
  return path.in_gpu_memory && path.nvlink_or_same && path.writer_capability_major >= kFirstMajor &&
         path.reader_capability_major >= kFirstMajor;
}

struct LineMemory {
  CounterLine* heads = nullptr;
  int readers = 0;
  std::byte* slots = nullptr;  // aligned to 128 bytes
  uint64_t slot_bytes = 0;     // a multiple of 128
  uint64_t slot_count = 0;     // a power of two
};

TUTTI_HD constexpr uint32_t ll_flag(uint64_t position) { return static_cast<uint32_t>(position + 1); }
TUTTI_HD constexpr WordPair ll_line(uint64_t data, uint32_t flag) {
  const uint64_t high = static_cast<uint64_t>(flag) << 32;
  return {{(data & 0xffffffff) | high, data >> 32 | high}};
}
TUTTI_HD constexpr bool ll_carries(const WordPair& line, uint32_t flag) {
  return line.word[0] >> 32 == flag && line.word[1] >> 32 == flag;
}
TUTTI_HD constexpr uint64_t ll_data(const WordPair& line) { return (line.word[0] & 0xffffffff) | line.word[1] << 32; }

// The positions of one FIFO; one thread at a time uses it.
class LineSender {
 public:
  LineSender() = default;
  TUTTI_HD explicit LineSender(const LineMemory& memory, uint64_t position = 0)
      : memory_(memory), next_(position), seen_(position) {}

  // Acquire: the readers' last reads of the slot are done. Pairs with LineReceiver::release.
  TUTTI_HD bool has_room() {
    if (next_ - seen_ < memory_.slot_count) return true;
    seen_ = slowest_head(memory_.heads, memory_.readers);
    return next_ - seen_ < memory_.slot_count;
  }
  TUTTI_HD uint64_t position() const { return next_; }
  TUTTI_HD uint64_t slot_bytes() const { return memory_.slot_bytes; }
  TUTTI_HD std::byte* slot() const { return memory_.slots + (next_ & (memory_.slot_count - 1)) * memory_.slot_bytes; }
  // LL: every line of this slot has to be written, those after the payload too.
  TUTTI_HD bool refreshes() const {
    return (next_ & ((uint64_t{1} << kRefreshBits) - 1)) < memory_.slot_count && next_ >= memory_.slot_count;
  }
  TUTTI_HD void advance() { ++next_; }

 private:
  LineMemory memory_;
  uint64_t next_ = 0, seen_ = 0;
};

class LineReceiver {
 public:
  LineReceiver() = default;
  TUTTI_HD LineReceiver(const LineMemory& memory, int reader, uint64_t position = 0)
      : memory_(memory), head_(&memory.heads[reader]), next_(position) {}

  TUTTI_HD uint64_t position() const { return next_; }
  TUTTI_HD const std::byte* slot() const {
    return memory_.slots + (next_ & (memory_.slot_count - 1)) * memory_.slot_bytes;
  }
  // Release: my block's reads of the slot are done. Pairs with LineSender::has_room.
  TUTTI_HD void release() { store_release(head_->value, ++next_); }

 private:
  LineMemory memory_;
  CounterLine* head_ = nullptr;
  uint64_t next_ = 0;
};

}  // namespace tutti
