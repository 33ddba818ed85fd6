// SPDX-License-Identifier: Apache-2.0
// CallNote: what the books (the board, the flight recorder) keep of a call besides its number and its times. Calls that
// differ in nothing but their buffers share one, so that a short call of a known kind copies a few words.
#pragma once

#include "health/board.h"
#include "observe/recorder.h"

namespace tutti {

struct CallNote {
  BoardCall call;  // numbers 0
  BoardEntry board;
  CallWords record;
  bool message = false;  // a send or a receive
};

}  // namespace tutti
