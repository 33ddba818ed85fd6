// SPDX-License-Identifier: Apache-2.0
// Health of one rank's communicator: turns a wait into an answer. Reads the boards of all ranks (board.h) while a call
// cannot move, and says what is wrong: a mismatch, a rank that has died, left or failed, ranks that wait for each
// other, a rank that is only late.
//
//   what                       is found by                                           at the latest after
//   mismatch                   every rank that waits, from the boards                kWaitMs + kSettleMs
//   death, on this host        every rank that waits, from the kernel (`alive`)      kDeathMs
//   death, on another host     the neighbours in a tree of sockets, who tell all     see peer_watch.h
//   failure of a rank          every rank that waits, from its board                 kLookMs
//   cycle of waits             every rank of it, from the chains on the boards       kSettleMs after the last has
//   waited late rank                  every rank that waits                                 a warning, then
//   TUTTI_TIMEOUT
//
// Whoever finds something first writes it on its board as its failure, so ranks that exchange nothing with the odd one
// learn it as well, in the same words.
//
// Fast path: post() and ended(), a few stores to lines of our own. All else happens in look(), while nothing moves.
// Threads: those of the communicator; the boards of other communicators are reached through one list of the process.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "bootstrap/bootstrap.h"
#include "health/board.h"
#include "health/peer_watch.h"

namespace tutti {

// A call that cannot move, as its executor sees it.
struct StuckCall {
  BoardCall call;
  bool message = false;
  int mismatched = -1;  // the rank whose slot belongs to another call, if one was seen
  int64_t idle_ms = 0;  // since something moved
};

class Health {
 public:
  static constexpr uint64_t kLookMs = 5;      // between two looks at the boards
  static constexpr uint64_t kWaitMs = 20;     // a call that waits longer says so on its board
  static constexpr uint64_t kDeathMs = 50;    // between two questions to the kernel
  static constexpr uint64_t kAskMs = 100;     // between two requests for the boards of other hosts
  static constexpr uint64_t kSettleMs = 400;  // a finding must have this long to change, or to become complete

  static constexpr uint64_t kSilentMs = 400;  // a rank of another host that was asked and says nothing for so long

  struct Options {
    int rank = 0;
    std::vector<Member> members;
    std::string name;           // of the communicator
    uint64_t tag = 0;           // which tells it from others of the same name
    int64_t timeout_ms = -1;    // TUTTI_TIMEOUT
    int64_t warn_ms = -1;       // TUTTI_WARN_AFTER
    bool check_cycles = false;  // TUTTI_CHECK_CYCLES
  };
  // `pages` by rank: the boards that are mapped; null: on another host. `alive` answers for ranks with a page, once
  // all have joined. `watch` serves the others, and may be null if there are none.
  Health(Options options, std::vector<Board*> pages, std::function<bool(int)> alive);
  ~Health();
  Health(const Health&) = delete;
  // Collective, when there are ranks without a page: connects to the neighbours.
  Status watch_others(Bootstrap& bootstrap, const Deadline& deadline);

  // The fast path.
  void post(uint64_t number, const BoardEntry& call) { board_.post(number, call, false); }
  // A message's number counts with its peer and direction, too: `call.message`, filled in here.
  void post_message(BoardCall call) {
    call.message = ++pairs_[static_cast<size_t>(call.root) * 2 + ((call.flags & BoardCall::kIsSend) != 0)];
    board_.post(call, true);
  }
  void ended(uint64_t number, bool message) {
    board_.ended(number, message);
    if (said_wait_.load(std::memory_order_relaxed)) [[unlikely]]
      stop_waiting();
  }

  // While a call cannot move. Not ok: it never will. `waiting_for` says in words what the executor waits for.
  Status look(StuckCall stuck, const std::function<std::string()>& waiting_for);
  // A transport lost its connection, or a peer's memory is gone. The better explanation, if there is one within a
  // moment.
  Status explain(const Status& lost);
  // What is known of failures and deaths by now. Does not wait.
  Status find_lost();
  // The communicator has failed: all ranks shall know.
  void failed(const Status& why);
  // This rank will make no more calls, in good order.
  void leave();

  // Whether a rank has made this collective, as far as its board is mapped here: of others nothing is known at once,
  // and they count as having made it. A few loads; for who waits anyway.
  bool has_called(int rank, uint64_t number) const {
    if (!mapped_[static_cast<size_t>(rank)]) return true;
    const size_t at = Board::kCollectiveRing + number % Board::kCollectives * Board::kCallWords;
    return load_relaxed(boards_[static_cast<size_t>(rank)]->words[at]) >= number;
  }

  const Board& board_of(int rank) const { return *boards_[static_cast<size_t>(rank)]; }
  const Board& own_board() const { return *board_.board(); }

 private:
  struct Episode {  // of one stuck call
    uint64_t number = 0;
    bool message = false;
    uint64_t since = 0, next_look = 0, next_death = 0, next_ask = 0;
    uint64_t mismatch_since = 0, cycle_since = 0;
    bool warned = false, cycle_said = false;
  };
  struct CallGroup {  // ranks that called the same
    BoardCall call;
    std::vector<int> ranks;
  };
  struct FreeBoards {
    void operator()(Board* boards) const { std::free(boards); }
  };

  Episode& episode(const StuckCall& stuck, uint64_t now);
  Status find_failure();
  Status find_mismatch(const StuckCall& stuck, Episode& episode, uint64_t now);
  std::vector<CallGroup> groups_of(uint64_t number) const;
  Status find_death(bool ask_kernel);
  Status find_left(const StuckCall& stuck) const;
  Status find_cycle(const StuckCall& stuck, Episode& episode, uint64_t now);
  std::string whom(const StuckCall& stuck, const std::string& waiting_for) const;
  std::vector<int> missing(const StuckCall& stuck) const;
  BoardWait say_wait(const StuckCall& stuck, const std::vector<int>& missing, const Episode& episode);
  bool serves_other_waits_of(uint64_t thread) const;
  void stop_waiting();
  std::string text_of(int rank) const { return options_.members[static_cast<size_t>(rank)].text(); }
  std::string activity(int rank) const;
  Status death_of(int rank) const;
  int size() const { return static_cast<int>(boards_.size()); }

  Options options_;
  std::unique_ptr<Board, FreeBoards> local_;  // those that are not mapped
  std::vector<Board*> boards_;
  std::vector<bool> mapped_;
  std::function<bool(int)> alive_;
  BoardWriter board_;
  std::vector<uint32_t> pairs_;  // messages so far by peer and direction
  std::vector<Episode> episodes_;
  std::atomic<bool> said_wait_{false};
  bool said_failure_ = false;
  std::unique_ptr<PeerWatch> watch_;
};

}  // namespace tutti
