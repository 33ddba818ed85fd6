// SPDX-License-Identifier: Apache-2.0
// Slots are streamed where writing them is dear, and only those that another core reads are asked.
#include "exec/cpu/slot_stores.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <utility>

#include "exec/cpu/core_map.h"
#include "exec/cpu/straight_run.h"
#include "tests/exec_cpu/fifo.h"

namespace tutti {
namespace {

constexpr uint64_t kSlice = 4096;
constexpr uint64_t kDear = 90, kCheap = 9;  // cycles for a line

uint64_t g_now, g_line_takes;
// As if a slice had been written since the last reading.
uint64_t count_cycles() { return g_now += g_line_takes * (kSlice / kCacheLine); }

// Writes slices, to this core in turn with another one if asked. How many of the last 100 that another core reads were
// streamed.
int streamed(SlotStores& stores, int slices, uint64_t cycles, bool own_core_between) {
  int count = 0;
  for (int i = 0; i < slices; ++i) {
    if (own_core_between) {
      g_line_takes = kCheap;
      EXPECT_FALSE(stores.stream(kSlice, [] { return false; }));
      stores.settle(kSlice);
    }
    g_line_takes = cycles;
    const bool stream = stores.stream(kSlice, [] { return true; });
    stores.settle(kSlice);
    if (i >= slices - 100) count += stream ? 1 : 0;
  }
  return count;
}

TEST(SlotStores, WhatIsCheapIsNotStreamed) {
  SlotStores stores(count_cycles);
  EXPECT_EQ(streamed(stores, 2000, kCheap, false), 0);
}

TEST(SlotStores, WhatIsDearIsStreamed) {
  SlotStores stores(count_cycles);
  EXPECT_GE(streamed(stores, 300, kDear, false), 100);
}

TEST(SlotStores, SlotsOfThisCoreSayNothingAboutThoseOfAnother) {
  SlotStores stores(count_cycles);
  EXPECT_GE(streamed(stores, 300, kDear, true), 100);
}

TEST(SlotStores, AMachineThatChangesIsFollowed) {
  SlotStores stores(count_cycles);
  EXPECT_EQ(streamed(stores, 300, kCheap, false), 0);
  EXPECT_GE(streamed(stores, 200, kDear, false), 97);
  EXPECT_EQ(streamed(stores, 1000, kCheap, false), 0);
}

// A slice of a megabyte is not given to a trial whole.
TEST(SlotStores, ATrialTakesNoMoreThanItNeeds) {
  constexpr uint64_t kBytes = 1 << 20;
  SlotStores stores(count_cycles);
  g_line_takes = kDear;  // of the kSlice bytes that are counted: all the more for a trial's
  uint64_t ordinary = 0, streamed = 0, trials = 0;
  for (int i = 0; i < 100; ++i) {
    uint64_t written = 0;
    stores.write(
        kBytes, [] { return true; },
        [&](uint64_t at, uint64_t bytes, bool stream) {
          EXPECT_EQ(at, written);
          written += bytes;
          (stream ? streamed : ordinary) += bytes;
          trials += bytes < kBytes && at > 0 ? 1 : 0;
        });
    ASSERT_EQ(written, kBytes);
  }
  EXPECT_EQ(ordinary + streamed, 100 * kBytes);
  EXPECT_GT(trials, 0u);
  EXPECT_LT(trials, 10u);
}

// A short call with one message to each of ranks 1 (another core) and 2 (this core).
TEST(SlotStores, ARankOfThisCoreIsKnownByTheCoreMap) {
  uint64_t words[3] = {};
  CoreMap cores({&words[0], &words[1], &words[2]}, 0);
  const std::byte input[kSlice] = {};
  for (const int peer : {1, 2}) {
    Fifo fifo;
    MoveList list;
    list.to.push_back({&fifo.sender, peer});
    Move move;
    move.bytes = kSlice;
    move.src = Buffer::Input;
    move.own = 0;
    move.to_count = 1;
    list.moves.push_back(move);
    StraightRun run(std::move(list));
    SlotStores stores(count_cycles);
    LaneCall call;
    call.input = input;
    call.slot_stores = &stores;
    call.cores = &cores;
    cores.note_core();
    words[1] = words[0] + 1;
    words[2] = words[0];
    g_line_takes = kDear;
    for (int i = 0; i < 100; ++i) {
      run.bind(call);
      ASSERT_EQ(run.run(1), Advance::Done);
      ASSERT_TRUE(fifo.receiver.ready(call.identity));
      fifo.receiver.release();
    }
    EXPECT_EQ(stores.stream_reduced(kSlice, [] { return true; }), peer == 1);
  }
}

TEST(CoreMap, BeforeARankKnowsItsOwnCoreNobodyIsBesideIt) {
  uint64_t words[2] = {};
  CoreMap cores({&words[0], &words[1]}, 0);
  EXPECT_FALSE(cores.beside_me(1));
  cores.note_core();
  EXPECT_FALSE(cores.beside_me(1));
  words[1] = words[0];
  EXPECT_TRUE(cores.beside_me(1));
}

}  // namespace
}  // namespace tutti
