// SPDX-License-Identifier: Apache-2.0
// CudaWindowBook: the windows of a team, memory of GPUs that kernels and copies of peers use where it is.
//
//   register    every rank: what its memory is (WindowPart) goes round; each process opens the others' on each of its
//               GPUs, once; when all have done so the window lives, on all ranks alike
//   calls       which window a buffer lies in, and the table by which kernels find that of a peer
//   end         the first rank of a process that ends a window ends it for the process, whose calls that used it have
//               all ended (no call runs without all of its ranks): it closes what it had opened and lets its lock go.
//               Memory that others opened by an IPC handle must not be freed before they have closed it: each rank
//               waits for their locks (held()). Mapped memory lives on until the last mapping goes.
//
// Numbers are chosen alike on all ranks: registrations and ends have their places among the calls, so that everybody
// has the same windows when one is added.
// Threads: one at a time (CudaTeam's lock).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "comm/cuda_launcher.h"
#include "comm/cuda_links.h"
#include "gpu/cuda_shared.h"

namespace tutti {

// What a rank says of its memory.
struct WindowPart {
  uint64_t address = 0, bytes = 0;            // in the rank's own process
  uint64_t start = 0, object_bytes = 0;       // of the allocation
  gpu::Sharing sharing = gpu::Sharing::None;  // None: peers cannot use it
  uint8_t listens = 0;                        // Mapped, several processes: ready to pass it on
  gpu::CudaIpcHandle handle{};                // Ipc, several processes
};

class CudaWindowBook {
 public:
  // All outlive this. `links`: null where all ranks are in this process and reach each other.
  CudaWindowBook(const CudaSeats& seats, int process, std::vector<TeamDevice>& devices,
                 std::vector<size_t> device_of_rank, CudaLinks* links);
  ~CudaWindowBook();

  // Alike on all ranks: GPUs of this communicator can use each other's buffers.
  bool possible() const;

  // Mine, as far as this rank knows; sharing None: for a reason that the log should say.
  struct Mine {
    WindowPart part;
    UniqueFd exported;  // Mapped, several processes
    const char* lacks = "";
  };
  Result<Mine> look_at(int rank, void* base, uint64_t bytes) const;

  // Registration number `attempt` of all ranks, once all parts are usable. Opens what `rank`'s process has not opened
  // yet; `objects` by rank: descriptors of Mapped parts. The number, alike on all ranks.
  Result<uint32_t> open(uint64_t attempt, const std::vector<WindowPart>& parts, const std::vector<UniqueFd>& objects);
  // Everybody has opened it. Another rank of the process may have ended it since.
  void live(uint32_t number);

  // What a process had open, and what of its own it has kept. Closed when it goes; may wait for a GPU: without locks.
  struct Opened;
  using Remains = std::vector<std::shared_ptr<const Opened>>;
  // The end of a window, also of one that never came to live. Where it is `locked` let_go() has to follow, once what
  // was open is closed.
  struct Ended {
    bool locked = false;
    Remains opened;
  };
  Ended end(uint32_t number);
  void let_go(uint32_t number) { links_->let_go_of_window(number); }
  // Another process may still have memory open that is a rank's here, by an IPC handle.
  bool held(uint32_t number) const;
  // `rank` has waited. When all of the process have the number is free.
  void leave(uint32_t number, int rank);
  // Of a registration that failed on some rank: its number is free, in every process.
  void forget(uint32_t number) { entries_.erase(number); }

  bool any() const;
  // Whether this process sees the buffers of all ranks.
  bool sees_all() const { return links_ == nullptr; }
  struct Place {
    uint32_t number = 0;
    uint64_t offset = 0;
  };
  // Number 0: [at, at + bytes) does not lie in a window of that rank.
  Place find(int rank, const void* at, uint64_t bytes) const;
  // The table for kernels of a device.
  cuda::CudaWindows table(size_t device) const { return {tables_[device], capacity_, links_ == nullptr}; }

 private:
  struct Entry {
    uint64_t attempt = 0;
    bool lives = false, ended = false;
    bool waits = false;  // some part went out by an IPC handle
    std::vector<WindowPart> parts;
    Remains opened;
    std::vector<int> left;  // ranks of this process that have ended it
  };
  bool here(int rank) const { return seats_.of(rank).process == process_; }
  uint64_t n() const { return static_cast<uint64_t>(seats_.n()); }
  uint32_t free_number() const;
  Status reserve(uint32_t number);
  Status place(Entry& entry, uint32_t number, const std::vector<UniqueFd>& objects);
  Result<gpu::CudaAddress> address_on(size_t device, int owner, const WindowPart& part, const UniqueFd& object,
                                      Entry& entry);
  std::vector<int> ordinals() const;

  const CudaSeats& seats_;
  const int process_;
  std::vector<TeamDevice>& devices_;
  const std::vector<size_t> device_of_rank_;
  const std::vector<int> locals_;
  CudaLinks* const links_;
  std::map<uint32_t, std::unique_ptr<Entry>> entries_;
  std::vector<uint64_t*> tables_;  // by device: [number * n + rank]
  uint32_t capacity_ = 0;
  std::vector<uint64_t> rows_;  // of each device after the other, what is in the tables
};

}  // namespace tutti
