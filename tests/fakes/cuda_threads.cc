// SPDX-License-Identifier: Apache-2.0
#include "fakes/cuda_threads.h"

#include <ucontext.h>

#include <algorithm>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "exec/cuda/threads.h"

#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace tutti::cuda {
namespace {

constexpr size_t kStackBytes = 64 << 10;
constexpr int kWarp = 32;

// Threads that meet: the last to arrive opens it for all. Who waits is not woken before.
struct Meeting {
  int threads = 0, arrived = 0;
  uint64_t opened = 0;
  bool all = true, any = false;                  // so far
  bool all_of_last = true, any_of_last = false;  // stays until everybody has met again
};

struct Block {
  uint32_t index = 0;
  int threads = 0;
  Meeting meeting;
  std::vector<Meeting> warps;
  std::unique_ptr<std::byte[]> memory;
};

struct Fiber {
  ucontext_t context = {};
  std::unique_ptr<std::byte[]> stack;
  Block* block = nullptr;
  int thread = 0;
  bool done = false;
  const uint64_t* waits_for = nullptr;  // until this has left `waits_at`
  uint64_t waits_at = 0;
#if defined(__SANITIZE_THREAD__)
  void* tsan = nullptr;
#endif
};

// The grid that this thread of the system runs.
thread_local ucontext_t turns;
thread_local Fiber* current = nullptr;
thread_local const std::function<void()>* body = nullptr;
#if defined(__SANITIZE_THREAD__)
thread_local void* tsan_turns = nullptr;
#endif

void give_way() {
  Fiber* const me = current;
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(tsan_turns, 0);
#endif
  swapcontext(&me->context, &turns);
}

void enter() {
  (*body)();
  current->done = true;
  give_way();
}

void resume(Fiber& fiber) {
  current = &fiber;
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(fiber.tsan, 0);
#endif
  swapcontext(&turns, &fiber.context);
  current = nullptr;
}

void meet(Meeting& meeting, bool mine) {
  meeting.all = meeting.all && mine;
  meeting.any = meeting.any || mine;
  if (++meeting.arrived == meeting.threads) {
    meeting.all_of_last = std::exchange(meeting.all, true);
    meeting.any_of_last = std::exchange(meeting.any, false);
    meeting.arrived = 0;
    ++meeting.opened;
    return;
  }
  current->waits_for = &meeting.opened;
  current->waits_at = meeting.opened;
  give_way();
}

Meeting& my_warp() { return current->block->warps[static_cast<size_t>(current->thread / kWarp)]; }

}  // namespace

int thread_index() { return current->thread; }
int thread_count() { return current->block->threads; }
uint32_t block_index() { return current->block->index; }
void block_barrier() { meet(current->block->meeting, true); }
bool block_all(bool mine) {
  meet(current->block->meeting, mine);
  return current->block->meeting.all_of_last;
}
bool warp_any(bool mine) {
  meet(my_warp(), mine);
  return my_warp().any_of_last;
}
std::byte* block_memory() { return current->block->memory.get(); }
void let_others_run() { give_way(); }

bool run_grid(const Grid& grid, const std::function<void()>& kernel) {
  std::vector<Block> blocks(grid.blocks);
  std::vector<Fiber> fibers(static_cast<size_t>(grid.blocks) * static_cast<size_t>(grid.threads));
  body = &kernel;
#if defined(__SANITIZE_THREAD__)
  tsan_turns = __tsan_get_current_fiber();
#endif
  for (uint32_t b = 0; b < grid.blocks; ++b) {
    Block& block = blocks[b];
    block.index = b;
    block.threads = grid.threads;
    block.meeting.threads = grid.threads;
    for (int left = grid.threads; left > 0; left -= kWarp) block.warps.push_back({.threads = std::min(left, kWarp)});
    block.memory = std::make_unique<std::byte[]>(grid.shared_bytes);
    for (int t = 0; t < grid.threads; ++t) {
      Fiber& fiber = fibers[static_cast<size_t>(b) * static_cast<size_t>(grid.threads) + static_cast<size_t>(t)];
      fiber.block = &block;
      fiber.thread = t;
      fiber.stack = std::make_unique_for_overwrite<std::byte[]>(kStackBytes);
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = kStackBytes;
      makecontext(&fiber.context, enter, 0);
#if defined(__SANITIZE_THREAD__)
      fiber.tsan = __tsan_create_fiber(0);
#endif
    }
  }
  std::vector<Fiber*> left;
  for (Fiber& fiber : fibers) left.push_back(&fiber);
  std::mt19937_64 draw(grid.seed);
  for (uint64_t turn = 0; !left.empty() && turn < grid.patience; ++turn) {
    std::shuffle(left.begin(), left.end(), draw);
    for (Fiber* fiber : left) {
      if (fiber->waits_for != nullptr && *fiber->waits_for == fiber->waits_at) continue;
      fiber->waits_for = nullptr;
      resume(*fiber);
    }
    std::erase_if(left, [](const Fiber* fiber) { return fiber->done; });
    if (grid.goes_on && !grid.goes_on(turn)) break;
  }
#if defined(__SANITIZE_THREAD__)
  for (Fiber& fiber : fibers) __tsan_destroy_fiber(fiber.tsan);
#endif
  return left.empty();
}

}  // namespace tutti::cuda
