// SPDX-License-Identifier: Apache-2.0
// The emulation of blocks itself.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "exec/cuda/threads.h"
#include "fakes/cuda_threads.h"

namespace tutti::cuda {
namespace {

TEST(Blocks, EveryThreadOfEveryBlockRuns) {
  std::vector<int> seen(3 * 64);
  ASSERT_TRUE(run_grid({.blocks = 3, .threads = 64}, [&] {
    ++seen[block_index() * static_cast<uint32_t>(thread_count()) + static_cast<uint32_t>(thread_index())];
  }));
  EXPECT_EQ(seen, std::vector<int>(3 * 64, 1));
}

TEST(Blocks, ABarrierOpensWhenAllHaveArrived) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    int arrived = 0, early = 0;
    ASSERT_TRUE(run_grid({.threads = 64, .seed = seed}, [&] {
      for (int round = 1; round <= 3; ++round) {
        ++arrived;
        block_barrier();
        early += arrived < 64 * round;
        block_barrier();
      }
    }));
    EXPECT_EQ(early, 0) << "seed " << seed;
  }
}

TEST(Blocks, VotesAreOfTheirBlockOrWarp) {
  int wrong = 0;
  ASSERT_TRUE(run_grid({.blocks = 2, .threads = 64}, [&] {
    const bool second_warp = thread_index() >= 32;
    wrong += warp_any(thread_index() == 40) != second_warp;
    wrong += block_all(block_index() == 1 || thread_index() != 7) != (block_index() == 1);
    wrong += warp_any(false);
  }));
  EXPECT_EQ(wrong, 0);
}

// The flag's neighbour in its pair is the word that is most easily read too early.
TEST(Blocks, WhoSeesTheFlagOfALineSeesItsLine) {
  WordPair last = {};
  std::atomic<bool> ended = false;
  std::thread writer([&] {
    for (uint64_t flag = 1; !ended; ++flag) store_pair(last, {{flag, flag}});
  });
  while (load_acquire(last.word[1]) == 0) std::this_thread::yield();
  int early = 0;
  EXPECT_TRUE(run_grid({.threads = 1}, [&] {
    for (int look = 0; look < 20'000'000; ++look) {
      const WordPair seen = load_line_part(last, true);
      early += seen.word[0] < seen.word[1];
    }
  }));
  ended = true;
  writer.join();
  EXPECT_EQ(early, 0);
}

TEST(Blocks, WhoStandsStillIsNoticed) {
  EXPECT_FALSE(run_grid({.threads = 32, .patience = 100}, [&] {
    if (thread_index() != 0) block_barrier();
    while (thread_index() == 0) let_others_run();
  }));
}

}  // namespace
}  // namespace tutti::cuda
