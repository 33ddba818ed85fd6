// SPDX-License-Identifier: Apache-2.0
// PeerWatch: news between ranks of different hosts, even while they are busy outside the library: who has died, and,
// when asked, everybody's board.
//
// The ranks of a communicator that spans hosts keep a binary tree of sockets of its own (the parent of rank r is
// (r - 1) / 2), so three each. What a rank has to say goes to all its neighbours, and from each on to its others: a
// tree has no cycle, so everybody gets it once. If a rank dies, each of its neighbours sees the end of the socket, so
// every part that the tree falls into has the news.
//
//   Pulse   origin, page  what I am doing                 to neighbours alone, at most every kPulseMs, if it has changed
//   Ask     origin        send your boards
//   Board   origin, page  what I am doing                 the answer; and unasked at a failure and when leaving
//   Dead    rank, page    its socket ended, and it had not said that it leaves; what it did when last heard
//
// The pulse is there for the dead, who can no longer be asked: their neighbours tell what they did last. A rank of the
// same host reads it off the board itself.
//
// One thread per process serves all communicators that need it, and there is none otherwise: a rank that computes must
// pass on the news, and no signal, no timer and no peer can do that for it. It blocks all signals, sleeps in poll(2)
// until a socket has something, and never touches a slot. Communicators of one host need no watch: they read each
// other's boards and ask the kernel (transports/shm/life_lock.h).
//
// A host that vanishes without a word from its kernel (power, cable) ends no socket: that is found by TUTTI_TIMEOUT.
#pragma once

#include <memory>
#include <vector>

#include "bootstrap/bootstrap.h"
#include "health/board.h"

namespace tutti {

inline constexpr uint32_t kPurposeWatch = 8;

class PeerWatch {
 public:
  struct Boards {
    std::vector<Board*> pages;  // by rank
    std::vector<bool> mapped;   // by rank: the rank writes this page itself; the others are copies, written here
  };
  static constexpr uint64_t kPulseMs = 250;
  // Collective. The boards outlive the watch.
  static Result<std::unique_ptr<PeerWatch>> open(Bootstrap& bootstrap, Boards boards, const Deadline& deadline);
  // What was announced has left before this returns, if it leaves at all.
  ~PeerWatch();

  // Everybody shall send its board. Returns at once.
  void ask();
  // My board has news for all. Returns at once.
  void announce();
  bool dead(int rank) const;
  // When the last board of that rank came (board_clock_ms()); 0: never.
  uint64_t heard_ms(int rank) const;

  struct Group;

 private:
  explicit PeerWatch(std::unique_ptr<Group> group);
  std::unique_ptr<Group> group_;
};

}  // namespace tutti
