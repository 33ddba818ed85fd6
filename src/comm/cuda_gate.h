// SPDX-License-Identifier: Apache-2.0
// CudaGate: keeps communicators that span several GPUs from standing in each other's way: the kernels of one on two
// GPUs wait for each other, and so must not wait for places that the kernels of another hold, which wait likewise.
//
// Counts, for each GPU of the process, the blocks that each such communicator may have there at once. While all of them
// fit side by side nothing happens. When they do not, each launch waits for the last ones of the others on the same
// GPU; as all GPUs of a launch are put in line at once (one lock for the process), lines cannot cross.
#pragma once

#include <map>
#include <mutex>
#include <vector>

#include "gpu/cuda_stream.h"

namespace tutti {

class CudaGate {
 public:
  static CudaGate& of_process();
  // Held while a launch is put on all its GPUs.
  std::unique_lock<std::mutex> enter() { return std::unique_lock(mutex_); }

  // Inside: `owner` wants `blocks` of the `places` of this GPU. The events to wait for, none as long as all fit.
  std::vector<const gpu::OwnedEvent*> ask(const void* owner, int device, int blocks, int places);
  // Inside: the end of the owner's last launch there.
  void note(const void* owner, int device, const gpu::OwnedEvent* done);
  // The owner and its events are gone.
  void leave(const void* owner);

 private:
  struct Tenant {
    int blocks = 0;
    const gpu::OwnedEvent* done = nullptr;
  };
  struct House {
    int places = 0;  // as the kernel that fills most of a multiprocessor counts them
    std::map<const void*, Tenant> tenants;
  };
  std::mutex mutex_;
  std::map<int, House> houses_;  // by ordinal
};

}  // namespace tutti
