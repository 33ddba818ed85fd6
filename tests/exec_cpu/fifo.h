// SPDX-License-Identifier: Apache-2.0
// A connection of LL slots with one reader, both ends in this process.
#pragma once

#include <cstddef>
#include <memory>

#include "proto/slots.h"

namespace tutti {

struct Fifo {
  static constexpr uint64_t kSlots = 4;
  std::unique_ptr<std::byte[]> slots{new std::byte[kSlots * kLLSlotBytes]()};
  CounterLine head{};
  LLMemory memory{&head, 1, slots.get(), kSlots};
  LLSender sender{memory};
  LLReceiver receiver{memory, 0};
};

}  // namespace tutti
