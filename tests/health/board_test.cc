// SPDX-License-Identifier: Apache-2.0
// Boards: what is read is what was written, whole, whoever writes meanwhile, and whatever bytes a copy has.
#include "health/board.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <thread>

#include "algo/collective.h"
#include "algo/element.h"

namespace tutti {
namespace {

BoardCall call_of(uint64_t number) {
  BoardCall call;
  call.number = number;
  call.coll = static_cast<uint8_t>(number % kCollCount);
  call.type = static_cast<uint8_t>(number % kDataTypes);
  call.root = static_cast<int32_t>(number % 1000);
  call.count = number * 3;
  call.identity = static_cast<uint32_t>(number * 7);
  call.message = static_cast<uint32_t>(number * 11);
  return call;
}
void expect_same(const BoardCall& a, const BoardCall& b) {
  EXPECT_EQ(a.number, b.number);
  EXPECT_EQ(a.coll, b.coll);
  EXPECT_EQ(a.type, b.type);
  EXPECT_EQ(a.root, b.root);
  EXPECT_EQ(a.count, b.count);
  EXPECT_EQ(a.identity, b.identity);
  EXPECT_EQ(a.message, b.message);
}

TEST(Board, ZeroedMemoryIsARankThatHasNotJoined) {
  const auto board = std::make_unique<Board>();
  const RankView view = read_board(*board);
  EXPECT_FALSE(view.joined);
  EXPECT_EQ(view.text(), "has not joined");
}

TEST(Board, SaysWhatARankDoes) {
  const auto board = std::make_unique<Board>();
  BoardWriter writer(board.get());
  writer.join(3, 8, "a communicator");
  EXPECT_EQ(read_board(*board).text(), "idle, no call yet");
  BoardCall call;
  call.number = 1;
  call.type = static_cast<uint8_t>(DataType::Float32);
  call.count = 16;
  writer.post(call, false);
  EXPECT_EQ(read_board(*board).text(), "in all_reduce of 16 float32 (sum), #1");
  writer.ended(1, false);
  EXPECT_EQ(read_board(*board).text(), "idle after #1, all_reduce of 16 float32 (sum)");
  call.coll = static_cast<uint8_t>(Coll::SendRecv);
  call.root = 5;
  call.flags = BoardCall::kIsSend;
  writer.post(call, true);
  EXPECT_EQ(read_board(*board).text(), "in send of 16 float32 to rank 5");
  writer.fail(Status(Code::RemoteError, std::string(5000, 'x')), true);
  const RankView view = read_board(*board);
  EXPECT_TRUE(view.failed && view.failure_is_local);
  EXPECT_EQ(view.failure_code, Code::RemoteError);
  EXPECT_EQ(view.failure, std::string(Board::kMaxFailure, 'x'));
  EXPECT_EQ(view.name, "a communicator");
  EXPECT_EQ(view.rank, 3);
  EXPECT_EQ(view.size, 8);
}

TEST(Board, KeepsTheLastCallsByNumber) {
  const auto board = std::make_unique<Board>();
  BoardWriter writer(board.get());
  for (uint64_t number = 1; number <= 100; ++number) writer.post(call_of(number), false);
  EXPECT_FALSE(find_collective(*board, 100 - Board::kCollectives));
  for (uint64_t number = 101 - Board::kCollectives; number <= 100; ++number) {
    const auto found = find_collective(*board, number);
    ASSERT_TRUE(found) << number;
    expect_same(*found, call_of(number));
  }
  EXPECT_FALSE(find_collective(*board, 101));
}

TEST(Board, AnEntryIsReadWholeWhileItsRankGoesOn) {
  const auto board = std::make_unique<Board>();
  // The rank goes on until enough was read: on a busy machine a fixed number of calls can pass before the reader runs.
  std::atomic<bool> enough{false};
  std::thread rank([&] {
    BoardWriter writer(board.get());
    for (uint64_t number = 1; !enough.load(); ++number) writer.post(call_of(number), false);
  });
  for (uint64_t read = 0; read < 20'000 && !HasFailure();) {
    for (uint64_t at = 0; at < Board::kCollectives; ++at) {
      const uint64_t number = load_acquire(board->words[Board::kCollectiveRing + at * Board::kCallWords]);
      const auto found = number != 0 ? find_collective(*board, number) : std::nullopt;
      if (!found) continue;
      expect_same(*found, call_of(number));
      ++read;
    }
  }
  enough.store(true);
  rank.join();
}

TEST(Board, AWaitAndItsChainComeBack) {
  const auto board = std::make_unique<Board>();
  BoardWriter writer(board.get());
  writer.join(0, 2, "c");
  BoardWait wait;
  wait.since_ms = 1000;
  wait.message = true;
  wait.number = 7;
  wait.rank = 1;
  for (uint64_t i = 0; i < 10; ++i) {
    BoardHop hop;
    hop.thread = i;
    hop.waits_for = i + 1;
    hop.comm = 42;
    hop.call = call_of(i + 1);
    wait.chain.push_back(hop);
  }
  writer.wait(wait);
  const auto copy = std::make_unique<Board>();
  copy_board(*copy, *board, 500);
  const BoardWait seen = read_board(*copy).wait;
  EXPECT_EQ(seen.since_ms, 1500u);
  EXPECT_TRUE(seen.message);
  EXPECT_EQ(seen.number, 7u);
  EXPECT_EQ(seen.rank, 1);
  ASSERT_EQ(seen.chain.size(), Board::kMaxHops);
  EXPECT_EQ(seen.chain[3].waits_for, 4u);
  EXPECT_EQ(seen.chain[3].comm, 42u);
  EXPECT_EQ(seen.chain[3].call.count, call_of(4).count);
}

TEST(Board, AnyBytesCanBeCopiedAndRead) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 500; ++i) {
    const auto from = std::make_unique<Board>(), to = std::make_unique<Board>();
    for (uint64_t& word : from->words) word = random() >> random() % 64;
    copy_board(*to, *from, 0);
    EXPECT_FALSE(read_board(*to).text().empty());
    for (const BoardHop& hop : read_board(*to).wait.chain) EXPECT_FALSE(describe(hop.call).empty());
  }
}

}  // namespace
}  // namespace tutti
