// SPDX-License-Identifier: Apache-2.0
// carry(): the one loop in which a thread carries calls and waits. Communicator::run carries a lone call with it,
// Batch::run several; what they do about a call that cannot move is their own (Communicator::look).
#pragma once

#include <utility>

#include "exec/cpu/waiter.h"
#include "exec/run_schedule.h"

namespace tutti {

// Until `move` says Done, or `look` says false.
//   move()   moves what can move, without waiting
//   look()   nothing has moved for a while: deadlines, peers, abort. Off the fast path. False: give up
//   sleep()  nothing has moved for long: sleep until something may
//   note(w)  w: the thread waits for somebody (Waiter::waiting); not w: after that, something has moved
// `rounds`: blocked moves in a row before the thread does anything but poll.
template <class Move, class Look, class Sleep, class Note>
inline void carry(Waiter& waiter, int rounds, Move&& move, Look&& look, Sleep&& sleep, Note&& note) {
  for (int blocked = 0;;) {
    const Advance result = move();
    if (result != Advance::Blocked && waiter.waiting()) [[unlikely]]
      note(false);
    if (result == Advance::Done) return;
    if (result == Advance::Progressed) {
      waiter.moved();
      blocked = 0;
      continue;
    }
    if (++blocked < rounds) continue;
    blocked = 0;
    const bool idle_for_long = waiter.idle();
    if (waiter.waiting() && waiter.note_due()) note(true);
    if ((idle_for_long || waiter.looks_due()) && !look()) return;
    if (idle_for_long) sleep();
  }
}

}  // namespace tutti
