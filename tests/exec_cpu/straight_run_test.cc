// SPDX-License-Identifier: Apache-2.0
// For whom a short call gives its core away: for whatever it will still need from a rank of this core. From which slots
// the readers of a fan-out take its messages.
#include "exec/cpu/straight_run.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "exec/cpu/core_map.h"
#include "tests/exec_cpu/fifo.h"

namespace tutti {
namespace {

constexpr uint32_t kIdentity = 7;

// Rank 0 takes one block from each of ranks 1 (another core) and 2 (this core), one after the other.
class Gathering : public testing::Test {
 protected:
  Gathering() : cores_({&words_[0], &words_[1], &words_[2]}, 0) {
    cores_.note_core();
    words_[1] = words_[0] + 1;
    words_[2] = words_[0];
    MoveList list;
    for (int peer : {1, 2}) {
      const auto begin = static_cast<uint32_t>(list.from.size());
      list.from.push_back({&fifos_[peer - 1].receiver, peer, false});
      Move move;
      move.bytes = 8;
      move.from_begin = begin;
      move.from_count = 1;
      move.keeps = true;
      move.dst_offset = 8 * static_cast<uint64_t>(peer - 1);
      list.moves.push_back(move);
    }
    run_ = std::make_unique<StraightRun>(std::move(list));
    call_.output = reinterpret_cast<std::byte*>(output_);
    call_.identity = kIdentity;
    call_.slot_stores = &slot_stores_;
    run_->bind(call_);
    EXPECT_EQ(run_->run(1), Advance::Blocked);
  }
  void arrives(int peer) { fifos_[peer - 1].sender.publish(kIdentity); }

  uint64_t words_[3] = {}, output_[2] = {};
  CoreMap cores_;
  Fifo fifos_[2];
  SlotStores slot_stores_;
  LaneCall call_;
  std::unique_ptr<StraightRun> run_;
};

TEST_F(Gathering, ARankOfThisCoreIsNeededThoughTheBlockedSliceComesFromAnother) {
  EXPECT_TRUE(run_->waits_beside(cores_));
}

TEST_F(Gathering, WhatIsMissingFromOtherCoresAloneIsNotWorthAYield) {
  arrives(2);
  EXPECT_FALSE(run_->waits_beside(cores_));
}

TEST_F(Gathering, NothingIsNeededAtTheEnd) {
  arrives(1);
  arrives(2);
  Advance last = Advance::Progressed;
  for (int i = 0; i < 4 && last != Advance::Done; ++i) last = run_->run(1);
  EXPECT_EQ(last, Advance::Done);
  EXPECT_FALSE(run_->waits_beside(cores_));
}

// Rank 0 fans out to ranks 1 (another core) and 2 (its own).
TEST(FanOut, ReadersOnTheSendersCoreTakeTheNearSlots) {
  constexpr uint64_t kSlots = 4, kBytes = 8;
  std::vector<std::byte> slots(2 * kSlots * kLLSlotBytes);
  CounterLine heads[2] = {};
  const LLMemory memory{heads, 2, slots.data(), kSlots, slots.data() + kSlots * kLLSlotBytes};
  LLSender far(memory), near(memory.near_slots());
  LLReceiver readers[] = {LLReceiver(memory, 0), LLReceiver(memory, 1)};
  uint64_t words[3] = {};
  const uint64_t input = 1;
  uint64_t outputs[2] = {};

  MoveList posts;
  posts.to = {{&far, -1, false}, {&near, -1, true}};
  Move post;
  post.bytes = kBytes;
  post.src = Buffer::Input;
  post.to_count = 2;
  posts.moves = {post};
  StraightRun root(std::move(posts));
  SlotStores stores;
  const auto call = [&](int me, const CoreMap* cores) {
    LaneCall one;
    one.input = reinterpret_cast<const std::byte*>(&input);
    if (me > 0) one.output = reinterpret_cast<std::byte*>(&outputs[me - 1]);
    one.me = me;
    one.n = 3;
    one.identity = kIdentity;
    one.slot_stores = &stores;
    one.cores = cores;
    return one;
  };
  const auto reader_run = [&](int rank) {
    MoveList takes;
    takes.from = {{&readers[rank - 1], 0, true}};
    Move take;
    take.bytes = kBytes;
    take.from_count = 1;
    take.keeps = true;
    takes.moves = {take};
    return std::make_unique<StraightRun>(std::move(takes));
  };
  const std::unique_ptr<StraightRun> runs[] = {reader_run(1), reader_run(2)};

  for (int round = 0; round < 3; ++round) {
    CoreMap at_root({&words[0], &words[1], &words[2]}, 0);
    at_root.note_core();
    const LaneCall from_root = call(0, &at_root);
    root.bind(from_root);
    std::byte* const near_payload = near.payload();
    EXPECT_EQ(root.run(1), Advance::Done);
    EXPECT_EQ(std::memcmp(near_payload, &input, kBytes), 0);
    near_payload[0] = std::byte{2};  // so that the test sees who takes what
    // In the last round the reader of the own core has moved away.
    for (int rank : {1, 2}) {
      const bool beside = rank == 2 && round < 2;
      CoreMap here({&words[0], &words[1], &words[2]}, rank);
      here.note_core();
      const uint64_t core_of_root = words[0];
      if (!beside) ++words[0];  // to the reader the root is elsewhere
      const LaneCall to_reader = call(rank, &here);
      StraightRun& run = *runs[rank - 1];
      run.bind(to_reader);
      EXPECT_EQ(run.run(1), Advance::Done);
      words[0] = core_of_root;
      EXPECT_EQ(outputs[rank - 1], beside ? 2u : 1u) << "rank " << rank << ", round " << round;
    }
  }
}

}  // namespace
}  // namespace tutti
