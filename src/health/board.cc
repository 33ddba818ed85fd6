// SPDX-License-Identifier: Apache-2.0
// Reading boards, and what is written to them off the fast path (board.h).
#include "health/board.h"

#include <fmt/format.h>
#include <sodium.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "algo/collective.h"
#include "algo/element.h"

namespace tutti {
namespace {

constexpr int kTries = 100;  // a writer is inside an entry for nanoseconds, unless it was stopped there

uint64_t get(const Board& board, size_t at) { return load_acquire(board.words[at]); }

std::optional<BoardCall> unpack(uint64_t number, uint64_t what, uint64_t count, uint64_t tail) {
  BoardCall call;
  call.number = number;
  call.coll = static_cast<uint8_t>(what);
  call.type = static_cast<uint8_t>(what >> 8);
  call.op = static_cast<uint8_t>(what >> 16);
  call.flags = static_cast<uint8_t>(what >> 24);
  call.root = static_cast<int32_t>(what >> 32);
  call.count = count;
  call.identity = static_cast<uint32_t>(tail);
  call.message = static_cast<uint32_t>(tail >> 32);
  return call;
}

// The entry at word `at`, if it holds a call and is whole. A copy from another host is not trusted: what has no name
// is no call.
std::optional<BoardCall> read_call(const Board& board, size_t at) {
  for (int i = 0; i < kTries; ++i) {
    const uint64_t number = get(board, at);
    if (number == 0) return std::nullopt;
    const uint64_t what = get(board, at + 1), count = get(board, at + 2), tail = get(board, at + 3);
    if (get(board, at) != number) continue;
    std::optional<BoardCall> call = unpack(number, what, count, tail);
    const bool known = call->coll < kCollCount && call->type < kDataTypes && call->op < kReduceOps;
    return known ? call : std::nullopt;
  }
  return std::nullopt;
}

BoardCall latest(const Board& board, size_t ring, size_t entries) {
  BoardCall found;
  for (size_t i = 0; i < entries; ++i) {
    const std::optional<BoardCall> call = read_call(board, ring + i * Board::kCallWords);
    if (call && call->number > found.number) found = *call;
  }
  return found;
}

template <size_t kBytes>
std::string text_of(const std::array<char, kBytes>& text) {
  return std::string(text.data(), strnlen(text.data(), kBytes));
}

constexpr uint64_t two(int32_t low, int32_t high) {
  return static_cast<uint32_t>(low) | static_cast<uint64_t>(static_cast<uint32_t>(high)) << 32;
}

BoardWait read_wait(const Board& board) {
  for (int i = 0; i < kTries; ++i) {
    const uint64_t version = get(board, Board::kWaitVersion);
    if (version % 2 != 0) continue;
    BoardWait wait;
    wait.since_ms = get(board, Board::kWaitSince);
    const uint64_t call = get(board, Board::kWaitCall);
    wait.message = call % 2 != 0;
    wait.number = call / 2;
    wait.rank = static_cast<int32_t>(get(board, Board::kWaitFor)) - 1;
    const uint64_t hops = std::min<uint64_t>(get(board, Board::kHopCount), Board::kMaxHops);
    for (uint64_t h = 0; h < hops; ++h) {
      const size_t at = Board::kHops + h * Board::kHopWords;
      BoardHop hop;
      hop.thread = get(board, at);
      hop.waits_for = get(board, at + 1);
      const uint64_t ranks = get(board, at + 2);
      hop.rank = static_cast<int32_t>(ranks);
      hop.waits_for_rank = static_cast<int32_t>(ranks >> 32);
      hop.comm = get(board, at + 3);
      hop.call = *unpack(get(board, at + 4), get(board, at + 5), get(board, at + 6), get(board, at + 7));
      for (size_t w = 0; w < hop.name.size() / 8; ++w) {
        const uint64_t word = get(board, at + 8 + w);
        std::memcpy(hop.name.data() + w * 8, &word, 8);
      }
      wait.chain.push_back(hop);
    }
    if (get(board, Board::kWaitVersion) == version) return wait;
  }
  return {};
}

}  // namespace

std::string describe(const BoardCall& call) {
  const auto coll = static_cast<Coll>(call.coll);
  if (call.coll >= kCollCount || call.type >= kDataTypes || call.op >= kReduceOps) return "an unknown call";
  const bool message = coll == Coll::SendRecv, is_send = (call.flags & BoardCall::kIsSend) != 0;
  const std::string_view what = message ? (is_send ? "send" : "recv") : name(coll);
  std::string text = fmt::format("{}{} of {} {}", what, (call.flags & BoardCall::kTables) != 0 ? "_v" : "", call.count,
                                 type_name(static_cast<DataType>(call.type)));
  if (reduces(coll)) {
    text += fmt::format(" ({})", (call.flags & BoardCall::kPrescaled) != 0 ? "pre-multiplied sum"
                                 : (call.flags & BoardCall::kAverage) != 0 ? "avg"
                                                                           : op_name(static_cast<ReduceOp>(call.op)));
  }
  if (message) text += fmt::format(" {} rank {}", is_send ? "to" : "from", call.root);
  if (rooted(coll)) text += fmt::format(" with root {}", call.root);
  return text;
}

void BoardWriter::join(int rank, int n, std::string_view name) {
  put(Board::kPid, static_cast<uint64_t>(::getpid()));
  put(Board::kRankAndSize, two(rank, n));
  put(Board::kThread, this_thread_token());
  std::array<char, Board::kNameBytes> cut{};
  std::copy_n(name.data(), std::min(name.size(), cut.size()), cut.data());
  for (size_t w = 0; w < cut.size() / 8; ++w) {
    uint64_t word = 0;
    std::memcpy(&word, cut.data() + w * 8, 8);
    put(Board::kName + w, word);
  }
  put(Board::kState, Board::Joined);
}

void BoardWriter::wait(const BoardWait& wait) {
  const uint64_t version = board_->words[Board::kWaitVersion];  // only this thread writes it
  put(Board::kWaitVersion, version + 1);
  put(Board::kWaitSince, wait.since_ms);
  put(Board::kWaitCall, wait.number * 2 + (wait.message ? 1 : 0));
  put(Board::kWaitFor, static_cast<uint64_t>(wait.rank + 1));
  const size_t hops = std::min(wait.chain.size(), Board::kMaxHops);
  put(Board::kHopCount, hops);
  for (size_t h = 0; h < hops; ++h) {
    const BoardHop& hop = wait.chain[h];
    const size_t at = Board::kHops + h * Board::kHopWords;
    put(at, hop.thread);
    put(at + 1, hop.waits_for);
    put(at + 2, two(hop.rank, hop.waits_for_rank));
    put(at + 3, hop.comm);
    put(at + 4, hop.call.number);
    put(at + 5, BoardEntry(hop.call).what);
    put(at + 6, hop.call.count);
    put(at + 7, static_cast<uint64_t>(hop.call.identity) | static_cast<uint64_t>(hop.call.message) << 32);
    for (size_t w = 0; w < hop.name.size() / 8; ++w) {
      uint64_t word = 0;
      std::memcpy(&word, hop.name.data() + w * 8, 8);
      put(at + 8 + w, word);
    }
  }
  put(Board::kWaitVersion, version + 2);
}

void BoardWriter::fail(const Status& failure, bool local) {
  const uint64_t state = get(*board_, Board::kState);
  if ((state & Board::Failed) != 0) return;
  const size_t bytes = std::min(failure.message().size(), Board::kMaxFailure);
  put(Board::kFailureCode, static_cast<uint64_t>(failure.code()));
  put(Board::kFailureBytes, bytes);
  for (size_t w = 0; w * 8 < bytes; ++w) {
    uint64_t word = 0;
    std::memcpy(&word, failure.message().data() + w * 8, std::min<size_t>(8, bytes - w * 8));
    put(Board::kFailureText + w, word);
  }
  put(Board::kState, state | Board::Failed | (local ? Board::FailureIsLocal : uint64_t{0}));  // the text first
}

uint64_t board_state(const Board& board) { return get(board, Board::kState); }

RankView read_board(const Board& board) {
  RankView view;
  const uint64_t state = get(board, Board::kState);
  view.joined = (state & Board::Joined) != 0;
  view.left = (state & Board::Left) != 0;
  view.failed = (state & Board::Failed) != 0;
  view.failure_is_local = (state & Board::FailureIsLocal) != 0;
  view.pid = static_cast<int32_t>(get(board, Board::kPid));
  const uint64_t ranks = get(board, Board::kRankAndSize);
  view.rank = view.joined ? static_cast<int32_t>(ranks) : -1;
  view.size = static_cast<int32_t>(ranks >> 32);
  view.thread = get(board, Board::kThread);
  std::array<char, Board::kNameBytes> name{};
  for (size_t w = 0; w < name.size() / 8; ++w) {
    const uint64_t word = get(board, Board::kName + w);
    std::memcpy(name.data() + w * 8, &word, 8);
  }
  view.name = text_of(name);
  // What has ended before what was posted: a call is never seen as ended that was not seen as posted.
  view.collectives_ended = get(board, Board::kCollectivesEnded);
  view.messages_ended = get(board, Board::kMessagesEnded);
  view.last_collective = latest(board, Board::kCollectiveRing, Board::kCollectives);
  view.last_message = latest(board, Board::kMessageRing, Board::kMessages);
  view.wait = read_wait(board);
  if (view.failed) {
    view.failure_code = static_cast<Code>(get(board, Board::kFailureCode));
    view.failure.resize(std::min<uint64_t>(get(board, Board::kFailureBytes), Board::kMaxFailure));
    for (size_t w = 0; w * 8 < view.failure.size(); ++w) {
      const uint64_t word = get(board, Board::kFailureText + w);
      std::memcpy(view.failure.data() + w * 8, &word, std::min<size_t>(8, view.failure.size() - w * 8));
    }
  }
  return view;
}

std::string RankView::text() const {
  if (!joined) return "has not joined";
  const auto last = [&] {
    std::string text;
    if (last_collective.number > 0) text += fmt::format(" #{}, {}", last_collective.number, describe(last_collective));
    if (last_message.number > 0) {
      text += fmt::format("{} {}", text.empty() ? "" : ", and", describe(last_message));
    }
    return text.empty() ? std::string(", no call yet") : " after" + text;
  };
  if (failed) return fmt::format("failed{}: {}", last(), failure);
  if (left) return fmt::format("left the communicator{}", last());
  if (in_collective()) return fmt::format("in {}, #{}", describe(last_collective), last_collective.number);
  if (in_message()) return fmt::format("in {}", describe(last_message));
  return fmt::format("idle{}", last());
}

std::optional<BoardCall> find_collective(const Board& board, uint64_t number) {
  const std::optional<BoardCall> call =
      read_call(board, Board::kCollectiveRing + number % Board::kCollectives * Board::kCallWords);
  return call && call->number == number ? call : std::nullopt;
}

std::optional<BoardCall> find_message(const Board& board, bool is_send, int peer, uint32_t message) {
  for (size_t i = 0; i < Board::kMessages; ++i) {
    const std::optional<BoardCall> call = read_call(board, Board::kMessageRing + i * Board::kCallWords);
    if (call && call->root == peer && call->message == message && ((call->flags & BoardCall::kIsSend) != 0) == is_send)
      return call;
  }
  return std::nullopt;
}

void copy_board(Board& to, const Board& from, int64_t clock_shift_ms) {
  const auto put = [&](size_t at, uint64_t value) { store_release(to.words[at], value); };
  const uint64_t state = get(from, Board::kState);
  for (size_t at = Board::kPid; at < Board::kWaitVersion; ++at) put(at, get(from, at));
  BoardWait wait = read_wait(from);
  if (wait.since_ms != 0) wait.since_ms += static_cast<uint64_t>(clock_shift_ms);
  BoardWriter(&to).wait(wait);
  for (size_t at = Board::kFailureCode; at < Board::kCollectiveRing; ++at) put(at, get(from, at));
  for (size_t at = Board::kCollectiveRing; at < Board::kFree; at += Board::kCallWords) {
    const std::optional<BoardCall> call = read_call(from, at);
    put(at, 0);
    if (!call) continue;
    put(at + 1, BoardEntry(*call).what);
    put(at + 2, call->count);
    put(at + 3, static_cast<uint64_t>(call->identity) | static_cast<uint64_t>(call->message) << 32);
    put(at, call->number);
  }
  put(Board::kState, state);
}

uint64_t this_thread_token() {
  static const uint64_t process = [] {
    uint64_t random = 0;
    randombytes_buf(&random, sizeof random);
    return random << 32;
  }();
  return process | static_cast<uint32_t>(::gettid());
}

uint64_t board_clock_ms() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1'000'000;
}

}  // namespace tutti
