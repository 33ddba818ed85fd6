// SPDX-License-Identifier: Apache-2.0
// CudaLinks: the memory of a team's connections that other processes use too, and theirs that it uses; where GPUs
// cannot map each other's memory, also in one process.
//
//   create()    every process: the arena of each of its ranks, with guests (peer_arena.h), and its handle; the first
//               process makes the object of host memory (the words that streams wait for, ends of GPUs between which
//               nobody relays) and listens
//   exchange    out of band: all handles
//   connect()   every process: maps the object, takes its lock there, and opens the others' arenas on each of its GPUs
//   end         closes what it has opened, lets the lock go; what others still have open is kept until they let go
//               of theirs, or die: the kernel says so (LifeLock)
//
// Nothing is opened, closed or pinned in between. Threads: one at a time.
#pragma once

#include <memory>
#include <vector>

#include "bootstrap/bootstrap.h"
#include "comm/cuda_sizes.h"
#include "exec/cuda/cuda_ends.h"
#include "transports/remote/shared_memory.h"
#include "transports/shm/descriptor_passing.h"
#include "transports/shm/life_lock.h"

namespace tutti {

class CudaLinks {
 public:
  struct Device {
    gpu::CudaDevicePtr gpu;
    cuda::DeviceStore* store = nullptr;
    std::vector<int> ranks;  // of this process
  };
  struct Options {
    const CudaSeats* seats = nullptr;
    int process = 0;  // mine, in one of the islands: all that is said here is of that one
    CudaSizes sizes;
    Secret secret;
    CommTag tag;
    std::vector<Device> devices;
  };
  // All that has a handle in it is zeroed when the stores have finished.
  static Result<std::unique_ptr<CudaLinks>> create(Options options);
  ~CudaLinks();

  // What other processes of the island open; zero where they need not.
  gpu::CudaIpcHandle handle_of(int rank) const { return handles_[static_cast<size_t>(rank)]; }
  // `handles` by rank. Blocks until the first process has served all, or until the deadline.
  Status connect(const std::vector<gpu::CudaIpcHandle>& handles, const Deadline& deadline);

  // After connect().
  cuda::CudaEnds::Shared shared() const { return {map_, arenas_, words_, island().ranks, seen_}; }
  // While this process has memory of a window open that its owners must not free (cuda_windows.h).
  Status hold_window(uint32_t window) { return lent_.lock.also(window_lock(window, my_number())); }
  void let_go_of_window(uint32_t window) { lent_.lock.release(window_lock(window, my_number())); }
  bool window_held_by_others(uint32_t window) const;
  // The words of a rank of this process, as the host and as its GPU see them; stepped.
  const cuda::PeerWords& word_layout() const { return words_; }
  std::byte* words(int rank) const { return object_ + words_at(rank); }
  std::byte* words_on_gpu(int rank) const {
    return seen_[static_cast<size_t>(rank)].words[static_cast<size_t>(island().number_of(rank))];
  }

 private:
  // What peers may still use when this ends.
  struct Lent {
    std::vector<gpu::DeviceMemory> arenas;
    std::shared_ptr<SharedMemory> object;
    LifeLock lock;
    std::vector<int> others;  // numbers of the other processes in the lock
    bool in_use() const;
  };
  struct Departed;  // of the whole process: Lent of links that have ended

  explicit CudaLinks(Options options);
  bool here(int rank) const { return options_.seats->of(rank).process == options_.process; }
  const CudaSeats::Island& island() const { return options_.seats->island_of(options_.process); }
  bool several_processes() const { return island().processes.size() > 1; }
  size_t n() const { return static_cast<size_t>(options_.seats->n()); }
  int my_number() const { return island().number_of_process(options_.process); }
  // Windows count from 1: after the locks of the processes themselves.
  int window_lock(uint32_t window, int number) const {
    return static_cast<int>(window) * static_cast<int>(island().processes.size()) + number;
  }
  uint64_t words_at(int rank) const { return static_cast<uint64_t>(island().number_of(rank)) * words_.bytes(); }
  uint64_t words_bytes() const;
  uint64_t object_bytes() const;
  shm::DescriptorPassing passing() const;
  Status share_object(const Deadline& deadline);
  Result<std::byte*> arena_of(int rank, const Device& device, const gpu::CudaIpcHandle& handle);
  Status open_arenas(const Device& device, const std::vector<gpu::CudaIpcHandle>& handles);

  Options options_;
  cuda::PeerMap map_;
  std::vector<cuda::PeerArena> arenas_;  // by number, the host's last
  cuda::PeerWords words_;
  std::vector<gpu::CudaIpcHandle> handles_;  // by rank
  std::vector<gpu::CudaAddress> own_;        // by rank: arenas of this process
  std::vector<cuda::CudaEnds::Seen> seen_;   // by rank
  UniqueFd listener_;
  Mapping mapping_;  // of the object, where another process made it
  std::byte* object_ = nullptr;
  gpu::RegisteredMemory registered_;
  std::vector<gpu::OpenedMemory> opened_;
  Lent lent_;
  bool locked_ = false;
};

}  // namespace tutti
