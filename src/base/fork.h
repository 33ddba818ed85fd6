// SPDX-License-Identifier: Apache-2.0
// What becomes of the library in a forked child.
//
//   locks         fork copies one thread: a lock that another thread holds at that moment would stay locked for ever
//                 in the child. All locks that a child may meet are taken before the fork and given back on both sides.
//   descriptors   closed in the child. It cannot use them, and as long as it had them, peers would not see the end of
//                 a rank whose child lives on, and a port would stay open that nobody serves.
//   objects       stay as they are and are refused: their process_generation() is another.
#pragma once

#include <cstdint>
#include <mutex>

namespace tutti {

// For locks that live as long as the process. While one of them is held no other is taken, so their order is free.
void guard_at_fork(std::mutex& lock);

// Every descriptor of the library (UniqueFd calls these).
void note_descriptor(int fd);
void forget_descriptor(int fd);

// Grows by one in every forked child.
uint64_t process_generation();

}  // namespace tutti
