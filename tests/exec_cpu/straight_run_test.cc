// SPDX-License-Identifier: Apache-2.0
// For whom a short call gives its core away: for whatever it will still need from a rank of this core.
#include "exec/cpu/straight_run.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
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
      list.from.push_back({&fifos_[peer - 1].receiver, peer});
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

}  // namespace
}  // namespace tutti
