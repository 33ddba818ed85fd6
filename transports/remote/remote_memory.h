// SPDX-License-Identifier: Apache-2.0
// RemoteMemory: how a rank gets at the buffers that peers of its host have opened to it.
//
//   same process      the address as it is
//   in a window       memory that both map (tuttiMemAlloc, registered by all ranks together)
//   other process     the kernel copies (process_vm_readv): one copy, no mapping. Reading only: nobody but its owner
//   ever
//                     writes memory that was not made to be shared.
//
// Whether the kernel copies between two processes is tried at initialisation, by reading a random number that the peer
// has told: Yama, seccomp, user and process namespaces can all forbid it, and a process id of another namespace may
// name somebody else.
//
// Threads: probe before any thread calls; read() and find() are const.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace tutti {

// What a rank tells its peers before the attempt; trivially copyable, for an all-gather.
struct MemoryProbe {
  uint64_t address = 0;  // of a word that holds `word`
  uint64_t word = 0;
  int64_t process = 0;
};

struct RemoteAddress {
  std::byte* mapped = nullptr;  // null: the kernel has to copy from `address`
  uint64_t address = 0;
};

class RemoteMemory {
 public:
  RemoteMemory() = default;
  // `same_process[r]`: rank r is in this process. `processes[r]`: its process id, 0 if it is on another host.
  RemoteMemory(std::vector<bool> same_process, std::vector<pid_t> processes)
      : same_process_(std::move(same_process)), processes_(std::move(processes)) {}

  bool same_process(int rank) const { return same_process_[static_cast<size_t>(rank)]; }

  // Windows, numbered from 1; base[r] is where rank r's part is mapped here (null: nowhere).
  uint32_t add_window(std::vector<std::byte*> bases);
  void remove_window(uint32_t window) { windows_[window - 1].clear(); }

  // Where `address` of rank `rank` is: an offset if it lies in a window (number > 0).
  RemoteAddress find(int rank, uint32_t window, uint64_t address) const {
    if (window != 0) return {windows_[window - 1][static_cast<size_t>(rank)] + address, 0};
    if (same_process(rank)) return {reinterpret_cast<std::byte*>(address), 0};
    return {nullptr, address};
  }
  bool has_window(uint32_t window) const {
    return window == 0 || (window <= windows_.size() && !windows_[window - 1].empty());
  }

  // Copies through the kernel. An error says that the peer is gone, or what the kernel refused.
  Status read(int rank, void* to, uint64_t address, uint64_t bytes) const;

 private:
  std::vector<bool> same_process_;
  std::vector<pid_t> processes_;
  std::vector<std::vector<std::byte*>> windows_;
};

// The number to be read, and where. It lives as long as the process: a peer may try late.
MemoryProbe offer_probe();
// Tries to read each peer's number; empty: all can be read. Otherwise why not, for the log.
std::string try_probes(std::span<const MemoryProbe> probes, const std::vector<bool>& try_rank);

}  // namespace tutti
