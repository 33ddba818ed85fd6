// SPDX-License-Identifier: Apache-2.0
#include "comm/cuda_bridge.h"

#include <sched.h>

#include <algorithm>
#include <chrono>

#include "base/atomic.h"
#include "base/log.h"
#include "base/thread.h"
#include "comm/communicator.h"
#include "comm/cuda_direct.h"

namespace tutti {
namespace {

using Clock = std::chrono::steady_clock;

// Looks while nothing moves: at first all the time, then giving the core away, then now and then. What ends a wait is
// often a store of a GPU, which wakes nobody. Chosen: a launch and the first slice take some ten microseconds, and a
// kernel may stand behind the application's own for as long as it likes.
constexpr int kPolls = 200;
constexpr auto kYieldFor = std::chrono::milliseconds(1);
constexpr auto kShortestSleep = std::chrono::microseconds(20), kLongestSleep = std::chrono::microseconds(200);
// Between two questions whether anything is still on its way.
constexpr auto kAskEvery = std::chrono::milliseconds(2);

class Idling {
 public:
  void moved() { polls_ = 0; }
  // True: it is time to ask.
  bool pause() {
    if (polls_ == 0) {
      since_ = asked_ = Clock::now();
      sleep_ = kShortestSleep;
    }
    if (++polls_ < kPolls) {
      cpu_relax();
      return false;
    }
    const auto now = Clock::now();
    if (now - since_ < kYieldFor) {
      sched_yield();
    } else {
      std::this_thread::sleep_for(sleep_);
      sleep_ = std::min(sleep_ * 2, std::chrono::microseconds(kLongestSleep));
    }
    if (now - asked_ < kAskEvery) return false;
    asked_ = now;
    return true;
  }

 private:
  int polls_ = 0;
  Clock::time_point since_, asked_;
  std::chrono::microseconds sleep_ = kShortestSleep;
};

// The same memory as the GPU sees it; slots that are its own it sees already.
SimpleMemory moved(SimpleMemory memory, std::ptrdiff_t by, bool slots_on_gpu) {
  const auto move = [by](auto*& at) {
    at = reinterpret_cast<std::remove_reference_t<decltype(at)>>(reinterpret_cast<std::byte*>(at) + by);
  };
  move(memory.tail);
  move(memory.heads);
  move(memory.descriptors);
  if (!slots_on_gpu) move(memory.slots);
  return memory;
}

}  // namespace

Status CudaBridge::enter(int rank, Communicator& comm, const gpu::CudaDevicePtr& gpu) {
  const std::unique_lock lock = knock();
  carried_.push_back(std::make_unique<Carried>(Carried{rank, &comm, gpu, {}}));
  if (thread_.joinable() || !comm.connections().has_network()) return {};
  TUTTI_ASSIGN_OR_RETURN(thread_,
                         start_thread("tutti-carry", "a thread that carries slots of GPUs", [this] { run(); }));
  return {};
}

void CudaBridge::leave(int rank) {
  std::unique_ptr<Carried> gone;  // its memory is unmapped without the lock: the driver may wait for the device
  const std::unique_lock lock = knock();
  const auto at = std::find_if(carried_.begin(), carried_.end(), [rank](const auto& one) { return one->rank == rank; });
  if (at == carried_.end()) return;
  gone = std::move(*at);
  carried_.erase(at);
}

// With rest_if_done(): either this sees that the thread rests, or the thread sees the waking (both are sequentially
// consistent), so that none is lost and most cost no lock.
void CudaBridge::wake() {
  ++wakings_;
  if (active_) return;
  const std::unique_lock lock = knock();
  active_ = true;
  wakes_.notify_all();
}

void CudaBridge::stop() {
  const std::unique_lock lock = knock();
  stopped_ = true;
}

Status CudaBridge::failure() {
  const std::unique_lock lock = knock();
  return failure_;
}

void CudaBridge::end() {
  {
    const std::unique_lock lock = knock();
    ends_ = true;
    wakes_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

// ---- ends ----

CudaBridge::Carried* CudaBridge::find(int rank) {
  for (const auto& one : carried_) {
    if (one->rank == rank) return one.get();
  }
  return nullptr;
}

// Memory of its GPU, if the transport wants that and it can be had. Without the lock but for the question.
Result<std::shared_ptr<GpuSlots>> CudaBridge::slots_for(Carried& mine, int peer, Flow flow) {
  uint64_t bytes = 0;
  {
    const std::unique_lock lock = knock();
    bytes = mine.comm->connections().wants_gpu_slots(peer, flow);
  }
  if (bytes == 0) return std::shared_ptr<GpuSlots>();
  Result<std::shared_ptr<GpuSlots>> made = make_gpu_slots(mine.gpu, bytes);
  if (made.ok()) return made;
  log_info(Subsystem::Transport, "rank {}: slots between it and rank {} are staged in memory of the host: {}",
           mine.rank, peer, made.status().message());
  return std::shared_ptr<GpuSlots>();
}

// The driver is called without the lock: it may wait for a kernel, which may wait for the thread.
template <class Ask>
Result<SimpleMemory> CudaBridge::end_of(int me, int peer, Flow flow, Ask ask) {
  Carried* mine = nullptr;
  {
    const std::unique_lock lock = knock();
    mine = find(me);
  }
  if (mine == nullptr) return error(Code::InternalError, "rank {} has left, and asks for a connection", me);
  TUTTI_ASSIGN_OR_RETURN(std::shared_ptr<GpuSlots> slots, slots_for(*mine, peer, flow));
  Made made;
  {
    const std::unique_lock lock = knock();
    TUTTI_ASSIGN_OR_RETURN(made, ask(mine->comm->connections(), slots));
  }
  slots.reset();  // also without the lock, if it was not taken
  Result<gpu::RegisteredMemory> registered = gpu::register_host(mine->gpu, made.mapped.data(), made.mapped.size());
  if (!registered.ok())
    return error(registered.status().code(),
                 "CUDA device {} cannot use the slots that go between rank {} and rank {} ({} bytes of the host): {}; "
                 "raise the limit on locked memory (ulimit -l)",
                 mine->gpu->ordinal(), me, peer, made.mapped.size(), registered.status().message());
  mine->registered.push_back(std::move(*registered));
  TUTTI_ASSIGN_OR_RETURN(std::byte* const on_gpu, gpu::host_address(mine->gpu, made.mapped.data()));
  return moved(made.memory, on_gpu - made.mapped.data(), made.slots_on_gpu);
}

Result<SimpleMemory> CudaBridge::sender(int me, int peer, int channel, Use use) {
  return end_of(me, peer, Flow::Out, [=](Connections& from, const std::shared_ptr<GpuSlots>& slots) -> Result<Made> {
    TUTTI_ASSIGN_OR_RETURN(const SendEnd* const end, from.send_end_on_gpu(peer, channel, use, slots));
    return Made{end->simple.memory(), end->mapped, end->slots_on_gpu};
  });
}

Result<SimpleMemory> CudaBridge::receiver(int me, int peer, int channel, Use use) {
  return end_of(me, peer, Flow::In, [=](Connections& from, const std::shared_ptr<GpuSlots>& slots) -> Result<Made> {
    TUTTI_ASSIGN_OR_RETURN(const ReceiveEnd* const end, from.receive_end_on_gpu(peer, channel, use, slots));
    return Made{end->simple.memory(), end->mapped, end->slots_on_gpu};
  });
}

// ---- the thread ----

// Under mutex_.
bool CudaBridge::all_left() {
  return std::all_of(carried_.begin(), carried_.end(),
                     [](const auto& one) { return one->comm->connections().flushed(); });
}

bool CudaBridge::flushed() {
  const std::unique_lock lock = knock();
  return stopped_ || all_left();
}

// True: something moved.
bool CudaBridge::carry() {
  bool moved = false;
  Status lost;
  {
    const std::lock_guard lock(mutex_);
    if (stopped_) return false;
    for (const auto& one : carried_) {
      const Result<bool> carried = one->comm->connections().progress();
      if (!carried.ok()) {
        failure_ = lost = carried.status();
        stopped_ = true;
        break;
      }
      moved |= *carried;
    }
  }
  if (!lost.ok()) asks_.lost(lost);
  return moved;
}

void CudaBridge::rest_if_done() {
  const uint64_t before = wakings_;
  {
    const std::lock_guard lock(mutex_);
    if (!all_left()) return;
  }
  if (!asks_.at_rest()) return;
  active_ = false;
  if (wakings_ != before) active_ = true;
}

void CudaBridge::run() {
  Idling idling;
  for (;;) {
    while (knocking_ > 0) sched_yield();
    {
      std::unique_lock lock(mutex_);
      if (ends_) return;
      if (!active_ || stopped_) {
        wakes_.wait(lock, [this] { return (active_ && !stopped_) || ends_; });
        idling.moved();
        continue;
      }
    }
    if (carry()) {
      idling.moved();
    } else if (idling.pause()) {
      rest_if_done();
    }
  }
}

}  // namespace tutti
