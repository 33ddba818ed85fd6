// SPDX-License-Identifier: Apache-2.0
// CudaLauncher: puts one call of all ranks of a communicator on their GPUs, as one launch for each GPU, between the
// work before and after it on the ranks' streams; and keeps what a launch needs until it has ended.
//
//   stream of rank 0   ...work | record -------------.                .- wait | work...
//   stream of rank 1   ...work | wait | kernel of all ranks of the GPU | record | work...
//
// Everything here only enqueues. Why launches cannot wait for each other in a circle: docs/cuda.md.
// Threads: one at a time (CudaTeam's lock), but for stop().
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "comm/cuda_copies.h"
#include "exec/cuda/device_store.h"
#include "exec/cuda/loaded_kernels.h"
#include "exec/cuda/stepped.h"
#include "exec/cuda/work.h"
#include "gpu/cuda_stream.h"
#include "health/board.h"

namespace tutti {

// A GPU of a communicator.
struct TeamDevice {
  gpu::CudaDevicePtr gpu;
  std::unique_ptr<cuda::DeviceStore> store;
  std::shared_ptr<const cuda::LoadedKernels> kernels;
  gpu::OwnedStream side;  // for launches whose ranks' streams all belong to other threads
  std::vector<int> ranks;
};

// One fused call on its way: what has to stay as it is until it has ended. Used again for later calls.
struct CudaFlight {
  using Clock = std::chrono::steady_clock;
  // Of one rank.
  struct Note {
    int rank = 0;
    uint32_t first = 0, count = 0;  // of the reports
    BoardCall call;
    bool message = false;
    bool may_be_refused = false;      // another launch follows, which does what this one did not
    uint64_t number = 0, record = 0;  // Communicator::CallMark
  };

  gpu::PinnedMemory memory;
  uint64_t bytes = 0, used = 0;
  std::vector<gpu::OwnedEvent> done;         // by device; made when first needed
  std::vector<gpu::OwnedEvent> met, copied;  // by device, of copies: the same
  std::vector<size_t> devices;               // where it runs now
  uint64_t* reports = nullptr;
  uint32_t report_count = 0;
  std::vector<Note> notes;
  gpu::OwnedEvent begun;                          // stepped: the work before has ended; made when first needed
  std::vector<cuda::StepWait> waits;              // stepped: all, in the stream's order
  std::shared_ptr<std::atomic<bool>> graph_gone;  // captured: set when the graph and all made of it are gone
  Clock::time_point since;

  template <class T>
  T* take(uint64_t count) {
    T* const at = reinterpret_cast<T*>(static_cast<std::byte*>(memory.get()) + used);
    used += (count * sizeof(T) + 15) / 16 * 16;
    return at;
  }
};

// One rank's part of a call.
struct CudaPart {
  int rank = 0;
  size_t device = 0;
  gpu::CudaStreamHandle stream = nullptr;
  const gpu::OwnedEvent* ready = nullptr;  // not null: the stream is another thread's, which recorded this there
  uint32_t blocks = 0;
  cuda::CudaWork work;  // without its place in the grid, control and reports
};

// Blocks of some parts of a call that make their steps together (stepped.h).
struct CudaStepGroup {
  std::vector<CudaPart*> parts;
  std::vector<cuda::StepWalk> walks;  // of the parts' blocks
  cuda::CudaLaunch launch;            // made by the launcher
  uint32_t blocks = 0;
};

class CudaLauncher {
 public:
  // `devices` outlive this. The control word is made here. `waits_for_others`: for ranks of other processes.
  static Result<std::unique_ptr<CudaLauncher>> create(std::vector<TeamDevice>& devices, bool waits_for_others);
  ~CudaLauncher();

  // The capture that `streams` are part of: all of the same, or none of any.
  Result<std::optional<gpu::CudaCapture>> capture_of(const std::vector<CudaPart>& parts) const;

  // Memory for one call, with room for `table_bytes` that take() hands out, beside what launch() needs.
  Result<CudaFlight*> prepare(uint64_t table_bytes, size_t works, uint32_t blocks);
  // One launch on each GPU, or several that follow each other there, of the same ranks in the same order.
  struct Turn {
    std::vector<CudaPart> parts;
    cuda::KernelProto proto = cuda::KernelProto::Simple;
    unsigned threads = 0, shared_bytes = 0;
  };
  // An error after a part of it has begun to run stops all kernels.
  Status launch(CudaFlight& flight, std::span<Turn> turns, const std::optional<gpu::CudaCapture>& capture);

  // The copies of each part, by copy engines. No copy begins before all streams have come so far, on no stream work
  // goes on before all copies are done.
  Status launch_copies(CudaFlight& flight, std::vector<CudaPart>& parts,
                       const std::vector<std::vector<CudaCopy>>& copies,
                       const std::optional<gpu::CudaCapture>& capture);

  // Stepped: the words that streams wait for, in memory of the host, and as the GPU sees them.
  void use_words(std::byte* words, std::byte* on_gpu, const cuda::PeerWords& layout) {
    words_ = words;
    words_on_gpu_ = on_gpu;
    positions_ = cuda::StepPositions(layout);
    word_count_ = layout.connections();
  }
  // One call of the only rank of this process, or the messages of a group; the groups take turns. While the stream has
  // as much to do as is put there at once this waits, and asks `goes_on`.
  Status launch_stepped(CudaFlight& flight, std::vector<CudaPart>& parts, std::vector<CudaStepGroup>& groups,
                        unsigned threads, unsigned shared_bytes, const std::function<Status()>& goes_on);
  // Stepped: what the flight's stream waits for, if it has come that far.
  const cuda::StepWait* waiting(const CudaFlight& flight) const;

  // Flights that have ended are given to `ended` and used again. An error of the device ends all.
  Status retire(const std::function<void(CudaFlight&)>& ended);
  // On its way: its reports may be read. Null: all have ended.
  const CudaFlight* oldest() const { return flying_.empty() ? nullptr : flying_.front(); }
  // Something is on its way, or may be replayed at any moment.
  bool busy() const { return !flying_.empty() || !captured_.empty(); }
  // What waits in kernels says so in its reports.
  void ask();
  // All kernels of the communicator that wait end, now and later. Any thread.
  void stop();
  bool stopped() const { return load_relaxed(control_->end) != 0; }

  const gpu::CudaStream side(size_t device) const { return {devices_[device].gpu, devices_[device].side.get()}; }

 private:
  struct Tail {  // of the launches on a device
    const gpu::OwnedEvent* done = nullptr;
    uint64_t capture = 0;
  };
  struct Grid {  // of one device
    gpu::CudaStreamHandle stream = nullptr;
    bool ours = false;                           // the side stream
    std::vector<gpu::CudaStreamHandle> joining;  // the other streams of this thread
    std::vector<CudaPart*> parts;
    cuda::CudaLaunch launch;
    uint32_t blocks = 0;
  };

  CudaLauncher(std::vector<TeamDevice>& devices, bool waits_for_others)
      : devices_(devices),
        waits_for_others_(waits_for_others),
        tails_(devices.size()),
        joins_(devices.size()),
        gates_(devices.size()) {}
  // `first_report`: of the flight, moves behind those of these parts.
  std::vector<Grid> cut(CudaFlight& flight, std::vector<CudaPart>& parts, uint32_t& first_report) const;
  gpu::CudaStream stream(size_t device, gpu::CudaStreamHandle handle) const { return {devices_[device].gpu, handle}; }
  // Blocks that the device holds at once; an error if the grid has more.
  Result<int> places_for(const Grid& grid, size_t device, cuda::KernelProto proto, unsigned threads,
                         unsigned shared_bytes) const;
  Status wait_for_work_before(const Grid& grid, size_t device, uint64_t capture);
  Status order_after(const Grid& grid, size_t device, const CudaFlight& flight) const;
  bool waits_beyond(const CudaFlight& flight) const { return waits_for_others_ || flight.devices.size() > 1; }
  Status pass_gate(gpu::CudaStreamHandle on, size_t device, uint32_t blocks, int places, bool captured);
  struct CutTurn {
    const Turn* turn;
    std::vector<Grid> grids;  // by device
  };
  Status make_ready(const std::vector<CutTurn>& turns, size_t device, bool several,
                    const std::optional<gpu::CudaCapture>& capture);
  Status put(const std::vector<CutTurn>& turns, size_t device, CudaFlight& flight, uint64_t capture, bool& begun);
  void gather(CudaStepGroup& group, CudaFlight& flight) const;
  Status put_turn(CudaStepGroup& group, const cuda::StepTurn& turn, const gpu::CudaStream& on, size_t device,
                  CudaFlight& flight, unsigned threads, unsigned shared_bytes);
  Status pace(uint64_t turns, const gpu::CudaStream& on, const std::function<Status()>& goes_on);
  Status put_steps(std::vector<CudaStepGroup>& groups, const gpu::CudaStream& on, size_t device, CudaFlight& flight,
                   unsigned threads, unsigned shared_bytes, const std::function<Status()>& goes_on);
  Status event_on(size_t device, gpu::OwnedEvent& event) const;
  Status meet(const CudaFlight& flight, const std::vector<Grid>& grids, const std::vector<gpu::OwnedEvent>& events);
  Status keep(CudaFlight& flight, const std::optional<gpu::CudaCapture>& capture);

  std::vector<TeamDevice>& devices_;
  const bool waits_for_others_;
  gpu::PinnedMemory control_memory_;
  cuda::CudaControl* control_ = nullptr;
  std::vector<Tail> tails_;             // by device
  std::vector<gpu::OwnedEvent> joins_;  // by device: recorded on one stream, waited for by another, then free again
  std::vector<gpu::OwnedEvent> gates_;  // by device: what other communicators wait for (CudaGate)
  std::byte *words_ = nullptr, *words_on_gpu_ = nullptr;
  uint64_t word_count_ = 0;
  cuda::StepPositions positions_;
  gpu::OwnedEvent paces_[2];                          // stepped: how far a long call has come
  std::vector<std::unique_ptr<CudaFlight>> flights_;  // all there are
  std::deque<CudaFlight*> flying_;
  std::vector<CudaFlight*> captured_, resting_;
};

}  // namespace tutti
