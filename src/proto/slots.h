// SPDX-License-Identifier: Apache-2.0
// How one slot is handed over between two lanes: Simple and LL, in memory that both ends map (shared memory, or a local
// staging FIFO that a network transport empties and fills).
//
// Both protocols are FIFOs with 64-bit positions that only grow. One sender; one reader (a pair) or several (fan-out:
// each reader has its own head, a slot is free when all have passed it).
//
//   Simple   shared memory of one FIFO                     who writes
//            line 0         tail, an opening               sender    (release: the slot's bytes, then the tail)
//            line 1..R      head of reader 0..R-1          reader    (release: after its last read of the slot)
//            descriptors    of what is in flight: bytes,   sender    (published by the tail)
//                           identity
//            slots          `capacity` bytes               sender
//     Invariant 0 <= tail - head <= S for each reader, and <= kMostInFlight by the sender's care. A plan cuts the
//     capacity into S slots of its own size; the cut may change only while the FIFO is empty, so the sender drains
//     before it cuts anew (SimpleSender::cut). More slots than are ever in flight are of use all the same: the longer
//     ago a slot was read, the less likely its lines are still in the reader's cache, from which the sender has to
//     fetch them back.
//
//   LL       shared memory of one FIFO
//            line 0..R-1    head of reader 0..R-1          reader
//            slots          kLLSlots slots of kLLSlotBytes sender
//            slot           word 0: the flag; the payload follows it, contiguous
//     The flag is written last (release) and read first (acquire), so flag seen => payload seen, and a message of up to
//     56 bytes is one cache line: data and sequence number travel together. Flags sit at fixed places that never hold
//     payload, and slots are never cleared: the position in the flag grows with every use, so an old flag cannot match.
//     A fan-out may have its slots twice: the same messages at the same positions, each with its flag, the near ones
//     for readers that share the sender's core (LLMemory::near says why). A reader takes each message from whichever it
//     likes; the heads are common, so a position is free in both when all readers have released it.
//
// A flag (and a Simple descriptor) also carries the identity of the call: a hash of what the sender was asked to do. A
// receiver that was asked something else sees the right position with the wrong identity: a mismatch, found for
// nothing.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/atomic.h"
#include "base/host_device.h"

namespace tutti {

inline constexpr uint64_t kLLPayloadBytes = 4096;                       // what the planner may put into a slot
inline constexpr uint64_t kLLSlotBytes = kLLPayloadBytes + kCacheLine;  // + flag; a line more rotates L1 sets
inline constexpr int kPositionBits = 40;                                // of a flag; the rest is identity
inline constexpr uint64_t kPositionMask = (uint64_t{1} << kPositionBits) - 1;

// Flag of the slot at `position` for a call of this identity. Never 0: fresh memory matches nothing.
TUTTI_HD constexpr uint64_t make_flag(uint64_t position, uint32_t identity) {
  return (static_cast<uint64_t>(identity) << kPositionBits) | ((position + 1) & kPositionMask);
}
TUTTI_HD constexpr uint32_t identity_of(uint64_t flag) { return static_cast<uint32_t>(flag >> kPositionBits); }
inline constexpr uint32_t kIdentityMask = (1u << (64 - kPositionBits)) - 1;

// One counter alone in its cache line.
struct alignas(kCacheLine) CounterLine {
  uint64_t value;
};
static_assert(sizeof(CounterLine) == kCacheLine);

// What a rank tells a peer when it opens its buffers: where they are. Addresses are those of the rank's own process, or
// offsets into a window.
struct Opening {
  uint64_t input = 0, output = 0;
  uint32_t input_window = 0, output_window = 0;  // 0: in no window
  uint32_t in_place = 0;                         // 1: the buffers overlap
  uint32_t unused = 0;                           // 1: this call has no input here; 2: no output
  bool operator==(const Opening&) const = default;
};

// Slots of one cut: `count` slots of `bytes` each.
struct SlotCut {
  uint64_t bytes = 0, count = 0;
  TUTTI_HD constexpr bool operator==(const SlotCut& other) const {
    return bytes == other.bytes && count == other.count;
  }
};

// A Simple FIFO's tail, which leaves room in its line for an opening: no more than one is outstanding in a FIFO, so
// that where the buffers are and that they are open travel together. And for the cut of the slots that are not released
// yet: who carries slots without seeing the sender (a transport) learns it there.
struct alignas(kCacheLine) TailLine {
  uint64_t value;
  uint64_t flag;  // of the opening: make_flag(position, identity)
  Opening opening;
  SlotCut cut;
};
static_assert(sizeof(TailLine) == kCacheLine);

struct SlotDescriptor {
  uint64_t bytes;
  uint64_t flag;  // make_flag(position, identity)
};

// Where the parts of one Simple FIFO lie; the same for both ends.
struct SimpleMemory {
  TailLine* tail = nullptr;
  CounterLine* heads = nullptr;  // one per reader
  int readers = 0;
  SlotDescriptor* descriptors = nullptr;  // kMostInFlight
  std::byte* slots = nullptr;
  uint64_t capacity = 0;

  static constexpr uint64_t kMostInFlight = 64;
};

struct LLMemory {
  CounterLine* heads = nullptr;
  int readers = 0;
  std::byte* slots = nullptr;
  uint64_t slot_count = 0;  // power of two
  // Slots for readers on the sender's core; null: all read the same. Where a line that another core has read is read on
  // the sender's core as well, the sender's next store to it takes up to 8 times as long (docs/performance.md); a
  // second copy costs a few stores to lines that never leave the core.
  std::byte* near = nullptr;

  // As the sender of the near slots sees it.
  LLMemory near_slots() const { return {heads, readers, near, slot_count, nullptr}; }
};

TUTTI_HD inline uint64_t slowest_head(const CounterLine* heads, int readers) {
  uint64_t slowest = load_acquire(heads[0].value);
  for (int r = 1; r < readers; ++r) {
    const uint64_t head = load_acquire(heads[r].value);
    if (head < slowest) slowest = head;
  }
  return slowest;
}

class SimpleSender {
 public:
  SimpleSender() = default;
  TUTTI_HD explicit SimpleSender(const SimpleMemory& memory) : memory_(memory) {}
  const SimpleMemory& memory() const { return memory_; }

  // Prepares for slots of this cut. False: the readers still hold slots of another cut; ask again.
  TUTTI_HD bool cut(SlotCut wanted) {
    if (cut_ == wanted) return true;
    if (next_ != seen_ && next_ != (seen_ = slowest_head(memory_.heads, memory_.readers))) return false;
    cut_ = wanted;
    memory_.tail->cut = wanted;  // nobody looks at it: all is released. Visible with the next tail
    return true;
  }
  // The same where slots are told of by the tail (SimpleReceiver::cut_as_sent): while they are in flight the last cut
  // does as well, if its slots are of that size and at least so many.
  bool cut(SlotCut liked, uint64_t least) { return cut(liked) || (cut_.bytes == liked.bytes && cut_.count >= least); }
  TUTTI_HD const SlotCut& current_cut() const { return cut_; }
  TUTTI_HD bool has_room() { return has_room(cut_.count); }
  // With no more than `most` slots in flight, of however many there are.
  TUTTI_HD bool has_room(uint64_t most) {
    if (next_ - seen_ < most) return true;
    seen_ = slowest_head(memory_.heads, memory_.readers);  // acquire: pairs with SimpleReceiver::release
    return next_ - seen_ < most;
  }
  TUTTI_HD std::byte* slot() const { return memory_.slots + next_ % cut_.count * cut_.bytes; }
  // Tells the slots in flight apart, whatever the cut: 0 .. kMostInFlight - 1.
  TUTTI_HD uint64_t place() const { return next_ % SimpleMemory::kMostInFlight; }
  // Release: the slot's bytes and descriptor are visible no later than the new tail. Pairs with SimpleReceiver::ready.
  TUTTI_HD void publish(uint64_t bytes, uint32_t identity) {
    memory_.descriptors[next_ % SimpleMemory::kMostInFlight] = {bytes, make_flag(next_, identity)};
    store_release(memory_.tail->value, ++next_);
  }
  // Rma: publishes where my buffers are, in a slot without bytes. The FIFO is drained; it is again when all readers
  // have left. Release: what I wrote to my buffers before is visible to who sees them open. Pairs with
  // SimpleReceiver::ready.
  TUTTI_HD void open(const Opening& mine, uint32_t identity) {
    memory_.tail->flag = make_flag(next_, identity);
    memory_.tail->opening = mine;
    store_release(memory_.tail->value, ++next_);
  }
  // Acquire: what the readers did with my buffers, and wrote to them, is done. Pairs with SimpleReceiver::release.
  TUTTI_HD bool drained() { return next_ == seen_ || next_ == (seen_ = slowest_head(memory_.heads, memory_.readers)); }

 private:
  SimpleMemory memory_;
  SlotCut cut_;
  uint64_t next_ = 0;  // slots published so far
  uint64_t seen_ = 0;  // slowest head, when last looked
};

class SimpleReceiver {
 public:
  SimpleReceiver() = default;
  TUTTI_HD SimpleReceiver(const SimpleMemory& memory, int reader) : memory_(memory), head_(&memory.heads[reader]) {}
  const SimpleMemory& memory() const { return memory_; }

  TUTTI_HD void cut(SlotCut wanted) { cut_ = wanted; }
  // After ready(): as the sender has cut them. It may cut anew only when I have released all, so what is not released
  // is of the cut that the tail was published with.
  void cut_as_sent() { cut_ = memory_.tail->cut; }
  // Acquire: slots below the returned tail may be read. Pairs with SimpleSender::publish.
  TUTTI_HD bool ready() {
    if (next_ != seen_) return true;
    seen_ = load_acquire(memory_.tail->value);
    return next_ != seen_;
  }
  // How many slots may be read now, for who looks further than the next one (`ahead`, below).
  TUTTI_HD uint64_t readable() {
    seen_ = load_acquire(memory_.tail->value);
    return seen_ - next_;
  }
  TUTTI_HD const SlotDescriptor& descriptor(uint64_t ahead = 0) const {
    return memory_.descriptors[(next_ + ahead) % SimpleMemory::kMostInFlight];
  }
  TUTTI_HD bool matches(uint32_t identity) const { return descriptor().flag == awaited_flag(identity); }
  // The next slot is an opening by a call of this identity.
  TUTTI_HD bool opens(uint32_t identity) const { return memory_.tail->flag == make_flag(next_, identity); }
  TUTTI_HD const Opening& opening() const { return memory_.tail->opening; }
  // As SimpleSender::place.
  TUTTI_HD uint64_t place(uint64_t ahead = 0) const { return (next_ + ahead) % SimpleMemory::kMostInFlight; }
  // What the next slot has to carry to belong to a call of this identity.
  TUTTI_HD uint64_t awaited_flag(uint32_t identity) const { return make_flag(next_, identity); }
  TUTTI_HD const std::byte* slot(uint64_t ahead = 0) const {
    return memory_.slots + (next_ + ahead) % cut_.count * cut_.bytes;
  }
  // Release: my reads of the slot are done before the sender may see it as free. Pairs with SimpleSender::has_room.
  TUTTI_HD void release() { store_release(head_->value, ++next_); }

 private:
  SimpleMemory memory_;
  CounterLine* head_ = nullptr;
  SlotCut cut_;
  uint64_t next_ = 0;  // slots released so far
  uint64_t seen_ = 0;  // tail, when last looked
};

class LLSender {
 public:
  LLSender() = default;
  explicit LLSender(const LLMemory& memory) : memory_(memory) {}

  bool has_room() {
    if (next_ - seen_ < memory_.slot_count) return true;
    seen_ = slowest_head(memory_.heads, memory_.readers);
    return next_ - seen_ < memory_.slot_count;
  }
  std::byte* payload() const { return slot() + sizeof(uint64_t); }
  // Release: payload first, flag last. Pairs with LLReceiver::ready.
  void publish(uint32_t identity) {
    store_release(*reinterpret_cast<uint64_t*>(slot()), make_flag(next_, identity));
    ++next_;
  }

 private:
  std::byte* slot() const { return memory_.slots + (next_ & (memory_.slot_count - 1)) * kLLSlotBytes; }
  LLMemory memory_;
  uint64_t next_ = 0, seen_ = 0;
};

class LLReceiver {
 public:
  LLReceiver() = default;
  LLReceiver(const LLMemory& memory, int reader)
      : memory_(memory), slots_(memory.slots), head_(&memory.heads[reader]) {}

  // From where the next message is taken, before ready() is asked for it.
  void take_near(bool near) { slots_ = near && memory_.near != nullptr ? memory_.near : memory_.slots; }
  // Acquire: flag seen => payload seen. Pairs with LLSender::publish.
  bool ready(uint32_t identity) const { return load_acquire(flag()) == make_flag(next_, identity); }
  // The slot has been published, but by a call of another identity.
  bool mismatched(uint32_t identity) const {
    const uint64_t seen = load_acquire(flag());
    return seen != make_flag(next_, identity) && (seen & kPositionMask) == ((next_ + 1) & kPositionMask);
  }
  const std::byte* payload() const { return slot() + sizeof(uint64_t); }
  // Credit goes back in batches: a quarter of the slots at a time, so that the sender's line is rarely disturbed. The
  // sender may then see as used up to slot_count / 4 - 1 slots that are free; it never sees as free one that is used.
  void release() {
    ++next_;
    if ((next_ & (memory_.slot_count / 4 - 1)) == 0) store_release(head_->value, next_);
  }

 private:
  const std::byte* slot() const { return slots_ + (next_ & (memory_.slot_count - 1)) * kLLSlotBytes; }
  const uint64_t& flag() const { return *reinterpret_cast<const uint64_t*>(slot()); }
  LLMemory memory_;
  const std::byte* slots_ = nullptr;  // of the two, if there are
  CounterLine* head_ = nullptr;
  uint64_t next_ = 0;
};

}  // namespace tutti
