// SPDX-License-Identifier: Apache-2.0
// Windows: memory of all ranks that each of them maps.
//
//   1 every rank   finds its object; whose object others must map listens for them
//   2 out of band  sizes, offsets, addresses; whether each rank's memory can be shared at all
//   3 one by one   each object goes to the ranks of other processes, which map it
//   4 out of band  everybody has mapped everything: the window lives; otherwise it gains nothing, on all ranks alike
//
// Registration has its place among the calls on every rank, so whether a window lives is known alike to all ranks at
// each call, and may enter plans. Whether the buffers of a call lie in windows is not: the openings say it
// (exec/cpu/rma_lane.h).
//
// Lifetime: a rank unmaps what it mapped; an object's pages live until the last mapping goes, so whoever frees, aborts
// or dies first takes nothing away from a peer that still writes.
#include <algorithm>

#include "base/env.h"
#include "base/log.h"
#include "comm/communicator.h"
#include "comm/exchange.h"
#include "comm/window_passing.h"

namespace tutti {
namespace {

// What each rank says of its part.
struct Part {
  uint64_t address = 0;  // of the part, in the rank's own process
  uint64_t bytes = 0;
  uint64_t offset = 0;        // of the part in its object
  uint64_t object_bytes = 0;  // 0: no memory of tuttiMemAlloc
  uint64_t listens = 0;       // 1: ready to pass its object on
};

}  // namespace

Result<uint32_t> Communicator::register_window(void* base, uint64_t bytes) {
  if (cuda_ != nullptr) return register_cuda_window(base, bytes);
  drain();
  TUTTI_TRY(failure());
  Window window;
  window.base = static_cast<const std::byte*>(base);
  window.bytes = bytes;
  const uint64_t attempt = ++window_attempts_;
  if (n_ == 1 || !summary_.mapped) return 0;  // nobody to share with, or not everybody

  // 1 My part.
  const auto takers = [&](int owner) { return window_takers(*bootstrap_, owner); };
  const std::shared_ptr<SharedMemory> mine = bytes > 0 ? find_shared_memory(base, bytes) : nullptr;
  Part part{reinterpret_cast<uint64_t>(base), bytes};
  UniqueFd listener;
  if (mine != nullptr) {
    part.offset = static_cast<uint64_t>(window.base - mine->base());
    part.object_bytes = mine->bytes();
    part.listens = 1;
    if (takers(rank_).size() > 1) {
      Result<UniqueFd> listening = window_passing(*bootstrap_, takers(rank_), rank_, attempt).listen();
      part.listens = listening.ok();
      if (listening.ok()) listener = std::move(*listening);
      if (!listening.ok())
        log_warn(Subsystem::Transport, "{} rank {}: no window: {}", name_, rank_, listening.status().message());
    }
  }

  // 2 Everybody's.
  TUTTI_ASSIGN_OR_RETURN(const std::vector<Part> parts, exchange_words(*bootstrap_, {}, part));
  for (size_t rank = 0; rank < parts.size(); ++rank) {
    if (parts[rank].object_bytes != 0 && parts[rank].listens != 0) continue;
    log_info(Subsystem::Transport, "{} rank {}: the window gains nothing: that of rank {} is {}", name_, rank_, rank,
             parts[rank].object_bytes == 0 ? "no memory of tuttiMemAlloc" : "not to be passed on");
    return 0;
  }

  // 3 Each object in turn.
  std::vector<std::byte*> bases(static_cast<size_t>(n_));
  Status status;
  for (int owner = 0; owner < n_; ++owner) {
    const Part& theirs = parts[static_cast<size_t>(owner)];
    const std::vector<int> ranks = takers(owner);
    const bool takes_part = std::binary_search(ranks.begin(), ranks.end(), rank_);
    const shm::DescriptorPassing passing = window_passing(*bootstrap_, ranks, owner, attempt);
    const Deadline deadline = Deadline::in_ms(env().init_timeout);
    if (owner == rank_) {
      bases[static_cast<size_t>(owner)] = static_cast<std::byte*>(base);
      window.objects.push_back(mine);
      if (ranks.size() > 1 && status.ok())
        status = passing.serve(std::move(listener), mine->descriptor(), {mine->bytes(), mine->is_file()}, deadline);
      continue;
    }
    if (!takes_part) {
      bases[static_cast<size_t>(owner)] = reinterpret_cast<std::byte*>(theirs.address);
      window.objects.push_back(find_shared_memory(reinterpret_cast<const void*>(theirs.address), theirs.bytes));
      if (window.objects.back() == nullptr && status.ok())
        status = remote_error("rank {} freed the memory of a window while it was being registered", owner);
      continue;
    }
    if (!status.ok()) continue;
    shm::Grant grant{};
    Result<UniqueFd> object = passing.fetch(deadline, grant);
    status = object.status();
    if (!status.ok()) continue;
    // The peer is trusted to be a rank; a size that no mapping would survive is not believed all the same.
    if (grant.bytes != theirs.object_bytes || theirs.offset > grant.bytes ||
        theirs.bytes > grant.bytes - theirs.offset) {
      status = remote_error("rank {} described its window as {} bytes at {} of {}, but passed an object of {} bytes",
                            owner, theirs.bytes, theirs.offset, theirs.object_bytes, grant.bytes);
      continue;
    }
    status = check_shared_object(object->get(), grant.bytes, grant.is_file != 0);
    if (!status.ok()) continue;
    Result<Mapping> mapping = Mapping::shared(object->get(), grant.bytes, "a window");
    status = mapping.status();
    if (!status.ok()) continue;
    mapping->populate();
    bases[static_cast<size_t>(owner)] = mapping->base() + theirs.offset;
    window.mappings.push_back(std::move(*mapping));
  }

  // 4 All of it, on all ranks.
  TUTTI_TRY(exchange_words(*bootstrap_, status, part));
  window.number = memory_.add_window(std::move(bases));
  const uint32_t number = window.number;
  windows_.push_back(std::move(window));
  summary_.windows = true;
  log_info(Subsystem::Transport, "{} rank {}: window {} of {} bytes", name_, rank_, number, bytes);
  return number;
}

void Communicator::deregister_window(uint32_t number) {
  drain();
  if (cuda_ != nullptr) return deregister_cuda_window(number);
  memory_.remove_window(number);
  std::erase_if(windows_, [&](const Window& window) { return window.number == number; });
  summary_.windows = !windows_.empty();
}

const Communicator::Window* Communicator::find_window(const void* address, uint64_t bytes) const {
  const auto* start = static_cast<const std::byte*>(address);
  for (const Window& window : windows_) {
    if (start >= window.base && start < window.base + window.bytes &&
        bytes <= static_cast<uint64_t>(window.base + window.bytes - start))
      return &window;
  }
  return nullptr;
}

}  // namespace tutti
