// SPDX-License-Identifier: Apache-2.0
// inproc: all ranks of the host are in this process. The arena is process memory, found by the communicator's tag.
//
// create() may be called by the ranks in any order and from any threads; the first allocates, the last one to go frees.
#pragma once

#include <array>
#include <cstddef>
#include <memory>

#include "transports/mapped.h"

namespace tutti {

// What tells communicators apart within a process.
using CommunicatorTag = std::array<std::byte, 16>;
class ProcessArena;

class InprocTransport final : public MappedTransport {
 public:
  static Result<std::unique_ptr<InprocTransport>> create(const CommunicatorTag& tag, HostGroup group,
                                                         const ArenaLayout& layout);
  std::string_view name() const override { return "inproc"; }

 protected:
  Status reserve(uint64_t, uint64_t, std::string_view) override { return {}; }

 private:
  InprocTransport(HostGroup group, const ArenaLayout& layout, std::shared_ptr<ProcessArena> arena);
  std::shared_ptr<ProcessArena> arena_;
};

}  // namespace tutti
