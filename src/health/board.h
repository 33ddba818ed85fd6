// SPDX-License-Identifier: Apache-2.0
// Board: what each rank of a communicator is doing, where its peers can read it.
//
// One page per rank, written by that rank alone. Ranks of a host read each other's in the shared arena (the control
// page of transports/arena.h); of ranks on other hosts a copy arrives when something is wrong (peer_watch.h). Zeroed
// memory is the board of a rank that has not joined.
//
//   words     what                                                     written
//   0 ..      who: state, pid, rank and n, thread, name                at the start and the end
//   8 ..      how many collectives and messages have ended             at the end of each call
//   16 ..     the wait: since when, in which call, for whom, why       when a call has waited for kWaitMs (health.h)
//   120 ..    the failure: code and text                               once
//   256 ..    the last 32 collectives, by number                       after the post of each
//   384 ..    the last 16 sends and receives                           after the post of each
//   448 ..    free
//
// Memory order: every word is stored with release and loaded with acquire (plain moves on x86-64), which is all that a
// seqlock needs: a call's entry is {number, three words}. The writer stores number 0, the words, the number; a word of
// the new call seen => number 0 or the new number seen afterwards. So a reader that finds the same number before and
// after the words has the words of that call. The wait has a version for the same purpose. State Failed is stored after
// the failure's words. The words of two writers never share a cache line, and nobody reads a board but to explain a
// wait, so the writer's lines stay in its cache: a post costs five stores.
//
// Not here: what is concluded from boards (health.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/atomic.h"
#include "base/status.h"

namespace tutti {

// One call, as far as all ranks must agree on it (or, for a message, its two ends).
struct BoardCall {
  uint64_t number = 0;  // Communicator::posted(); 0: none
  uint8_t coll = 0, type = 0, op = 0, flags = 0;
  int32_t root = 0;       // of a message: the peer
  uint64_t count = 0;     // elements
  uint32_t identity = 0;  // what every slot of the call carries
  uint32_t message = 0;   // of a message: its number among those of this pair and direction

  static constexpr uint8_t kAverage = 1, kPrescaled = 2, kTables = 4, kIsSend = 8;
};
// "all_reduce of 16 float32 (sum)".
std::string describe(const BoardCall& call);

struct Board {
  static constexpr size_t kBytes = 4096, kWords = kBytes / sizeof(uint64_t);
  static constexpr size_t kCollectives = 32, kMessages = 16, kCallWords = 4;
  static constexpr size_t kMaxHops = 8, kHopWords = 11, kMaxFailure = 960, kNameBytes = 24;
  enum State : uint64_t { Joined = 1, Left = 2, Failed = 4, FailureIsLocal = 8 };
  enum Place : size_t {
    kState = 0,
    kPid = 1,
    kRankAndSize = 2,
    kThread = 3,
    kName = 4,
    kCollectivesEnded = 8,
    kMessagesEnded = 9,
    kWaitVersion = 16,
    kWaitSince = 17,
    kWaitCall = 18,
    kWaitFor = 19,
    kHopCount = 20,
    kHops = 32,
    kFailureCode = 120,
    kFailureBytes = 121,
    kFailureText = 122,
    kCollectiveRing = 256,
    kMessageRing = 384,
    kFree = 448,
  };
  uint64_t words[kWords];
};
static_assert(sizeof(Board) == Board::kBytes);
static_assert(Board::kHops + Board::kMaxHops * Board::kHopWords <= Board::kFailureCode);
static_assert(Board::kFailureText + Board::kMaxFailure / 8 <= Board::kCollectiveRing);

// A thread that waits, in which call of which communicator, and the thread it waits for. Several in a row are a chain:
// if its last waits for its first, none of them will ever go on.
struct BoardHop {
  uint64_t thread = 0, waits_for = 0;
  int32_t rank = 0, waits_for_rank = 0;  // in that communicator
  uint64_t comm = 0;                     // the communicator: its tag
  BoardCall call;
  std::array<char, Board::kNameBytes> name{};  // its name, possibly cut
};

// What a rank waits for, once it has waited for a while.
struct BoardWait {
  uint64_t since_ms = 0;  // monotonic clock of that host; 0: it does not wait
  bool message = false;
  uint64_t number = 0;
  int32_t rank = -1;
  std::vector<BoardHop> chain;
};

// A call's entry but its number; alike for calls that differ in nothing that the board tells.
struct BoardEntry {
  uint64_t what = 0, count = 0, tail = 0;

  BoardEntry() = default;
  explicit BoardEntry(const BoardCall& call)
      : what(static_cast<uint64_t>(call.coll) | static_cast<uint64_t>(call.type) << 8 |
             static_cast<uint64_t>(call.op) << 16 | static_cast<uint64_t>(call.flags) << 24 |
             static_cast<uint64_t>(static_cast<uint32_t>(call.root)) << 32),
        count(call.count),
        tail(static_cast<uint64_t>(call.identity) | static_cast<uint64_t>(call.message) << 32) {}
};

// The writer's view of its own page. Calls of post() and ended() are one thread's at a time.
class BoardWriter {
 public:
  BoardWriter() = default;
  explicit BoardWriter(Board* board) : board_(board) {}
  explicit operator bool() const { return board_ != nullptr; }
  const Board* board() const { return board_; }

  void join(int rank, int n, std::string_view name);
  // The thread that is known to make calls.
  void caller(uint64_t thread) { put(Board::kThread, thread); }
  // After the post.
  void post(uint64_t number, const BoardEntry& call, bool message) {
    const size_t at = message ? Board::kMessageRing + number % Board::kMessages * Board::kCallWords
                              : Board::kCollectiveRing + number % Board::kCollectives * Board::kCallWords;
    put(at, 0);
    put(at + 1, call.what);
    put(at + 2, call.count);
    put(at + 3, call.tail);
    put(at, number);
  }
  void post(const BoardCall& call, bool message) { post(call.number, BoardEntry(call), message); }
  void ended(uint64_t number, bool message) { put(message ? Board::kMessagesEnded : Board::kCollectivesEnded, number); }
  void wait(const BoardWait& wait);
  // `local`: the text does not say which rank failed.
  void fail(const Status& failure, bool local);
  void leave() { put(Board::kState, load_acquire(board_->words[Board::kState]) | Board::Left); }

 private:
  void put(size_t at, uint64_t value) { store_release(board_->words[at], value); }
  Board* board_ = nullptr;
};

// One rank's board as read at one moment.
struct RankView {
  bool joined = false, left = false, failed = false, failure_is_local = false;
  int32_t pid = 0, rank = -1, size = 0;
  uint64_t thread = 0;
  std::string name;  // of the communicator, possibly cut
  uint64_t collectives_ended = 0, messages_ended = 0;
  BoardCall last_collective, last_message;  // the latest posted; number 0: none yet
  BoardWait wait;
  Code failure_code = Code::Ok;
  std::string failure;

  bool in_collective() const { return last_collective.number > collectives_ended; }
  bool in_message() const { return last_message.number > messages_ended; }
  // "in all_reduce of 16 float32 (sum), #17", "idle after #16, all_reduce of ...".
  std::string text() const;
};
RankView read_board(const Board& board);
uint64_t board_state(const Board& board);
// The call of that number, if the board still has it.
std::optional<BoardCall> find_collective(const Board& board, uint64_t number);
// The send to (receive from) `peer` that is the `message`th of its pair and direction.
std::optional<BoardCall> find_message(const Board& board, bool is_send, int peer, uint32_t message);
// A copy in which every entry is whole. Moments of the wait are shifted: clocks of two hosts differ.
void copy_board(Board& to, const Board& from, int64_t clock_shift_ms);

// This thread, different from every other thread of the job.
uint64_t this_thread_token();
// Milliseconds of the clock that BoardWait uses.
uint64_t board_clock_ms();

}  // namespace tutti
