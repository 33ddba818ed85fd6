// SPDX-License-Identifier: Apache-2.0
// CudaBridge: connections of ranks on GPUs whose other end no kernel reaches: ranks of other hosts, and ranks on the
// CPU. Both ends are the transports' own, as between ranks on the CPU, so that the other side need not know.
//
//   kernel                        thread "tutti-carry"                                           any rank
//   SimpleSender -> FIFO in memory of the host -> Transport::progress() -- network --> FIFO -> its receiver
//   SimpleReceiver <- FIFO <- ...
//
// The FIFOs of a network transport lie in memory of this process, those of shm in memory that both ranks map; here they
// are mapped for the GPU too, and the kernel's end is made of their addresses. Nothing is copied on the way: the kernel
// fills the very slots that leave by the network. Slots that are mapped by both ranks need no thread; for networks it
// does what a rank on the CPU does while it waits: Transport::progress(). Where RDMA devices reach the memory of the
// GPU, slots lie there and all else in memory of the host (cuda_direct.h).
//
// The thread sleeps while nothing is on its way. wake() is called with each launch; when nothing has moved for a while,
// no kernel is left, no graph with calls of the communicator exists, and all has left, it sleeps again.
//
// Why that is live and in which order things are seen: docs/cuda.md. Threads: any.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "comm/cuda_seats.h"
#include "exec/cuda/cuda_ends.h"
#include "gpu/cuda_peers.h"

namespace tutti {

class Communicator;

class CudaBridge final : public cuda::CudaEnds::Outside {
 public:
  // Asked of the team by the thread, which holds no lock meanwhile.
  struct Asks {
    std::function<bool()> at_rest;  // no kernel is on its way, and no graph may begin one
    std::function<void(const Status& why)> lost;
  };
  // `seats` outlives this.
  CudaBridge(const CudaSeats& seats, Asks asks) : seats_(seats), asks_(std::move(asks)) {}
  ~CudaBridge() override { end(); }

  // A rank of this process, whose connections are carried until it leaves. Its kernels have ended when it does, or no
  // longer look at them.
  Status enter(int rank, Communicator& comm, const gpu::CudaDevicePtr& gpu);
  void leave(int rank);

  // Something is on its way from now on.
  void wake();
  // All that kernels have put into slots has left. Does not wait.
  bool flushed();
  // The communicator has failed: nothing is carried any more.
  void stop();
  // The first failure of a transport.
  Status failure();
  // Ends the thread. Not under a lock that asks take.
  void end();

  bool serves(int from, int to) const override { return !seats_.linked(from, to); }
  Result<SimpleMemory> sender(int me, int peer, int channel, Use use) override;
  Result<SimpleMemory> receiver(int me, int peer, int channel, Use use) override;

 private:
  struct Carried {  // one rank of this process
    int rank = 0;
    Communicator* comm = nullptr;
    gpu::CudaDevicePtr gpu;
    std::deque<gpu::RegisteredMemory> registered;  // touched by who calls for the rank alone
  };
  struct Made {  // an end, as the host sees it
    SimpleMemory memory;
    std::span<std::byte> mapped;
    bool slots_on_gpu = false;
  };
  template <class Ask>
  Result<SimpleMemory> end_of(int me, int peer, Flow flow, Ask ask);
  Result<std::shared_ptr<GpuSlots>> slots_for(Carried& mine, int peer, Flow flow);
  Carried* find(int rank);
  bool all_left();
  bool carry();
  void run();
  void rest_if_done();

  // The thread takes the lock again and again, and an ordinary mutex would go to it each time: who else wants it
  // knocks, and the thread waits until nobody does.
  std::unique_lock<std::mutex> knock() {
    ++knocking_;
    std::unique_lock lock(mutex_);
    --knocking_;
    return lock;
  }

  const CudaSeats& seats_;
  const Asks asks_;
  std::atomic<int> knocking_{0};
  std::atomic<bool> active_{false};
  std::atomic<uint64_t> wakings_{0};
  std::mutex mutex_;  // of all below, and of the transports of the ranks here; nothing waits under it
  std::condition_variable wakes_;
  std::vector<std::unique_ptr<Carried>> carried_;
  bool stopped_ = false, ends_ = false;
  Status failure_;
  std::thread thread_;
};

}  // namespace tutti
