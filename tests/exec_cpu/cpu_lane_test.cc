// SPDX-License-Identifier: Apache-2.0
// Through how many slots a lane goes: its sender decides, by what it knows of the machine, and the receiver follows.
#include "exec/cpu/cpu_lane.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "algo/catalog.h"
#include "exec/cpu/core_map.h"
#include "exec/cpu/lane_run.h"
#include "exec/cpu/slot_stores.h"

namespace tutti {
namespace {

constexpr uint64_t kSlice = 4096, kInFlight = 2, kCycled = 11;

uint64_t g_now, g_line_takes;
uint64_t count_cycles() { return g_now += g_line_takes * (kSlice / kCacheLine); }

// Broadcasts of one slice from rank 0 to rank 1, over a connection in this process.
class OneConnection : public testing::Test {
 protected:
  OneConnection() {
    sends_[0].simple = SimpleSender(memory_);
    receives_[1].simple = SimpleReceiver(memory_, 0);
    ports_[0] = {.send = {nullptr, &sends_[0]}, .receive = {nullptr, nullptr}, .fan_receive = {}};
    ports_[1] = {.send = {nullptr, nullptr}, .receive = {&receives_[1], nullptr}, .fan_receive = {}};
    for (int me : {0, 1}) {
      calls_[me].input = input_.data();
      calls_[me].output = outputs_[me].data();
      calls_[me].layout = coll_layout(Coll::Broadcast, 2, me, 0, kSlice);
      calls_[me].me = me;
      calls_[me].n = 2;
      calls_[me].slot_stores = me == 0 ? &stores_ : &others_stores_;
      calls_[me].push_stores = calls_[me].slot_stores;
    }
  }

  Advance move(int me) {
    if (ended_[me]) {
      lanes_[me].bind(calls_[me]);
      cursors_[me] = {};
    }
    const AnySchedule schedule = make_schedule(Coll::Broadcast, Algo::Ring, {.me = me, .n = 2});
    const Advance moved = run_lane(schedule, lanes_[me], cursors_[me], 1);
    ended_[me] = moved == Advance::Done;
    return moved;
  }
  void send() {
    std::memset(input_.data(), static_cast<int>(sent_++ % 251), kSlice);
    EXPECT_EQ(move(0), Advance::Done);
  }
  void receive() {
    EXPECT_EQ(move(1), Advance::Done);
    const auto expected = static_cast<std::byte>(received_++ % 251);
    EXPECT_EQ(outputs_[1][0], expected);
    EXPECT_EQ(outputs_[1][kSlice - 1], expected);
  }
  // Between how many slots the root goes round after so many calls.
  uint64_t slots_after(int calls, bool root_a_call_ahead = false) {
    if (root_a_call_ahead) send();
    for (int i = 0; i < calls; ++i) send(), receive();
    if (root_a_call_ahead) receive();
    return sends_[0].simple.current_cut().count;
  }

  std::vector<std::byte> fifo_ = std::vector<std::byte>(kSlice + kCycled * kSlice);
  alignas(kCacheLine) TailLine tail_ = {};
  CounterLine head_ = {};
  std::array<SlotDescriptor, SimpleMemory::kMostInFlight> descriptors_ = {};
  SimpleMemory memory_{&tail_, &head_, 1, descriptors_.data(), fifo_.data(), fifo_.size()};
  SendEnd sends_[2];
  ReceiveEnd receives_[2];
  Ports ports_[2];
  SlotStores stores_{count_cycles}, others_stores_{count_cycles};
  LaneCall calls_[2];
  static constexpr Tiling kTiling{.channel = 0, .channels = 1, .blocks = 1, .slices = 1, .slice_bytes = kSlice};
  CpuLane<Proto::Simple> lanes_[2] = {{ports_[0], kTiling, {kSlice, kInFlight}, kCycled, 2},
                                      {ports_[1], kTiling, {kSlice, kInFlight}, kCycled, 2}};
  Cursor cursors_[2];
  bool ended_[2] = {true, true};
  std::array<std::byte, kSlice> input_ = {};
  std::array<std::byte, kSlice> outputs_[2] = {};
  uint64_t sent_ = 0, received_ = 0;
};

TEST_F(OneConnection, GoesThroughManySlotsWhereTheyAreCheap) {
  g_line_takes = 9;
  EXPECT_EQ(slots_after(500), kCycled);
}

TEST_F(OneConnection, GoesThroughFewSlotsWhereTheyAreStreamed) {
  g_line_takes = 90;
  EXPECT_EQ(slots_after(200), kInFlight);
  g_line_takes = 9;  // the machine has become another
  EXPECT_EQ(slots_after(1000), kCycled);
}

TEST_F(OneConnection, GoesThroughFewSlotsWhereTheReaderIsOnThisCore) {
  uint64_t words[2] = {};
  CoreMap cores({&words[0], &words[1]}, 0);
  calls_[0].cores = &cores;
  cores.note_core();
  words[1] = words[0];
  g_line_takes = 90;
  EXPECT_EQ(slots_after(500), kInFlight);
  words[1] = words[0] + 1;
  g_line_takes = 9;
  EXPECT_EQ(slots_after(100), kCycled);
}

// What is in flight when the machine changes stays where it is, and no more are in flight than the plan says.
TEST_F(OneConnection, ChangesItsMindWhenNothingIsInFlight) {
  for (const uint64_t cycles : {9, 90, 9, 90}) {
    g_line_takes = cycles;
    const uint64_t before = slots_after(0);
    EXPECT_EQ(slots_after(2000, true), before == 0 ? kCycled : before) << "a call is always in flight";
    EXPECT_EQ(slots_after(1), cycles == 9 ? kCycled : kInFlight);
  }
  send();
  send();
  EXPECT_EQ(move(0), Advance::Blocked) << "two are in flight";
  receive();
  EXPECT_EQ(move(0), Advance::Done);
}

// Receivers may then take the plan's cut for granted, so a new one waits until the slots of the last are free.
TEST_F(OneConnection, WithoutAChoiceEveryCallHasThePlansCut) {
  CpuLane<Proto::Simple> more[2] = {{ports_[0], kTiling, {kSlice, 4}, 4, 2}, {ports_[1], kTiling, {kSlice, 4}, 4, 2}};
  CpuLane<Proto::Simple> fewer(ports_[0], kTiling, {kSlice, 2}, 2, 2);
  const auto carry = [&](int me, CpuLane<Proto::Simple>& lane) {
    lane.bind(calls_[me]);
    Cursor cursor;
    return run_lane(make_schedule(Coll::Broadcast, Algo::Ring, {.me = me, .n = 2}), lane, cursor, 1);
  };
  EXPECT_EQ(carry(0, more[0]), Advance::Done);
  EXPECT_EQ(carry(0, fewer), Advance::Blocked);
  EXPECT_EQ(carry(1, more[1]), Advance::Done);
  EXPECT_EQ(carry(0, fewer), Advance::Done);
  EXPECT_EQ(sends_[0].simple.current_cut().count, 2u);
}

}  // namespace
}  // namespace tutti
