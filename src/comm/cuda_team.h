// SPDX-License-Identifier: Apache-2.0
// CudaTeam: the ranks of one communicator that live in this process, each on a GPU. Brings their calls together and
// launches each call of all of them at once (CudaLauncher), so that no kernel waits for something that is still to be
// launched here. Of ranks in other processes it knows the memory (CudaLinks), or transports carry slots to them
// (CudaBridge); and, while calls are on their way, what their boards say (a thread looks).
//
// One object for all ranks, found by the communicator's tag. A thread brings the calls of one rank or of several (a
// group). What is complete is launched by the thread that brings the last part; a thread whose calls lack those of
// other ranks waits for the threads of these, not for any GPU:
//
//   thread of rank 0   enqueue: no call of rank 1 yet, mark the place in the stream | wait ........ | order the stream
//   thread of rank 1                                             enqueue: complete, launch both     |
//
// Collectives are matched in the order in which each rank calls them; sends and receives by peer and direction, beside
// them. Calls of this process that do not fit each other are seen here, before anything runs.
// Threads: any; each rank's calls from one thread at a time.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "comm/cuda_bridge.h"
#include "comm/cuda_launcher.h"
#include "comm/cuda_links.h"
#include "comm/cuda_sizes.h"
#include "comm/cuda_windows.h"
#include "comm/request.h"
#include "exec/cuda/placed_plan.h"
#include "plan/fabric.h"

namespace tutti {

class Communicator;

// What a thread has brought at once, and how much of it still waits for other ranks.
struct CudaSubmission;

class CudaTeam {
 public:
  struct Options {
    CudaSeats seats;
    int process = 0;  // mine
    Secret secret;
    CommTag tag;
  };
  // Local: every rank calls it. Makes what all share when the first comes.
  static Result<std::shared_ptr<CudaTeam>> join(const Options& options);
  ~CudaTeam();
  // What ranks of other processes need of `rank`, and theirs by rank. One rank of the process connects, before any
  // enters, and blocks until the other processes do.
  gpu::CudaIpcHandle handle_of(int rank) const {
    return links_ != nullptr ? links_->handle_of(rank) : gpu::CudaIpcHandle();
  }
  Status connect(const std::vector<gpu::CudaIpcHandle>& handles, const Deadline& deadline);
  // The rank can be called from now on, until it leaves.
  Status enter(int rank, Communicator& comm);

  const gpu::CudaDevicePtr& gpu_of(int rank) const { return devices_[device_index_[static_cast<size_t>(rank)]].gpu; }
  int device_of(int rank) const { return gpu_of(rank)->ordinal(); }
  // The windows, under the team's lock.
  template <class Act>
  auto with_windows(Act act) {
    const std::lock_guard lock(mutex_);
    const gpu::AllowedWhileCapturing allowed(devices_.front().gpu->cuda());
    return act(*windows_);
  }
  // What the planner has to know.
  void describe_in(Summary& summary) const;

  struct Call {
    int rank = 0;
    gpu::CudaStreamHandle stream = nullptr;
    Request request;
  };
  // In issue order. Launches what is complete. wait() must follow.
  Result<std::shared_ptr<CudaSubmission>> enqueue(std::vector<Call> calls);
  // Until all of it is launched.
  Status wait(CudaSubmission& submission);
  // wait() would return at once.
  bool is_launched(const CudaSubmission& submission);
  // enqueue() may wait for ranks of other processes: it puts a call on its stream step by step, or makes connections.
  bool launching_waits() const { return seats_.stepped() || seats_.bridged(); }

  // Any thread: every kernel and every wait ends; all ranks of the process fail with `why`.
  void stop(const Status& why);
  // Any thread: looks whether something went wrong on the GPUs. Does not wait.
  void poll();
  // Until all that was launched has ended.
  void drain();
  // The rank makes no more calls; nothing of it runs any more on return.
  void leave(int rank);

 private:
  struct Pending {
    Call call;
    const std::byte* input = nullptr;  // as the GPU sees them
    std::byte* output = nullptr;
    gpu::OwnedEvent ready;  // recorded when it had to wait
    uint64_t input_bytes = 0, output_bytes = 0;
    bool waits = false;
    CudaSubmission* by = nullptr;
  };
  friend struct CudaSubmission;
  // What is known of the buffers of a call before it is launched: they are used as in no window; each rank's lie in
  // windows as far as this process sees (the openings tell all); all do, and nobody's output is its input; all do.
  enum class Buffers : uint8_t { Anywhere, Unknown, InWindows, InWindowsInPlace };
  // A plan, and what carries the call where buffers turn out not to allow it.
  struct Planned {
    cuda::PlacedPlan plan;
    std::unique_ptr<cuda::PlacedPlan> otherwise;
  };
  using Set = std::vector<Pending*>;
  struct Message {  // one half is null where its rank is in another process
    Pending *send = nullptr, *receive = nullptr;
    const cuda::PlacedPlan *send_plan = nullptr, *receive_plan = nullptr;
    const Request& request() const { return (send != nullptr ? send : receive)->call.request; }
    uint32_t blocks() const {
      return (send_plan != nullptr ? send_plan->block_count : 0) +
             (receive_plan != nullptr ? receive_plan->block_count : 0);
    }
    template <class Each>
    void for_halves(Each each) const {
      if (send != nullptr) each(*send, send_plan);
      if (receive != nullptr) each(*receive, receive_plan);
    }
  };
  struct Lane {  // messages of one ordered pair
    std::deque<Pending*> sends, receives;
  };
  struct KnownBuffer {  // memory of a device, which that of rank `device` may use
    gpu::CudaAddress start, end;
    int device;
  };

  CudaTeam(std::string tag, const Options& options)
      : tag_(std::move(tag)),
        seats_(options.seats),
        sizes_(CudaSizes::of(seats_)),
        locals_(seats_.ranks_of(options.process)),
        comms_(static_cast<size_t>(seats_.n())),
        queues_(comms_.size()) {}
  Status create(const Options& options);
  Status create_links(const Options& options);
  Status open_peers();
  // Kernels of the rank's GPU use the memory of that device.
  bool maps(int rank, const TeamDevice& device) const {
    return seats_.route(rank, device.ranks.front()).way == CudaRoute::Way::Direct;
  }
  void find_slowest(double& ring, double& any) const;
  void make_fabric();
  // Connections of this process lie in arenas.
  bool linked() const { return seats_.island_of(locals_.front()).processes.size() > 1 || !seats_.all_direct(); }
  void use_ends(std::unique_ptr<cuda::CudaEnds> ends);
  bool is_here(int rank) const { return stores_[index(rank)] != nullptr; }
  Communicator& first_comm() const { return *comms_[index(locals_.front())]; }
  cuda::CudaEnds::Sizes sizes() const {
    return {sizes_.simple_bytes, kLLPayloadBytes, sizes_.line_slots, kLL128PayloadBytes, sizes_.line128_slots};
  }
  size_t index(int rank) const { return static_cast<size_t>(rank); }
  TeamDevice& device(int rank) { return devices_[device_index_[index(rank)]]; }
  int n() const { return static_cast<int>(comms_.size()); }

  Result<const std::byte*> reach(int rank, const void* buffer, const char* which, const Request& request);
  Status resolve(Pending& pending);

  // All under mutex_.
  void match(CudaSubmission& mine);
  void launched(Pending& pending, const CudaFlight* flight, const CudaSubmission& mine, const Status& status);
  Status check_alike(const Set& set) const;
  void match_messages(CudaSubmission& mine);
  Status check_alike(const Message& message) const;
  Status plan_message(Message& message);
  Status launch_collective(Set& set, CudaFlight*& flight);
  Status launch_copies(Set& set, const cuda::PlacedPlan& plan, CudaFlight*& flight);
  Status launch_messages(std::vector<Message>& wave, CudaFlight*& flight);
  Status copy_to_self(Message& message);
  Buffers buffers_of(const Set& set) const;
  Result<const Planned*> plan_of(const Request& request, Buffers buffers);
  Result<Planned> make_planned(const Request& request, Buffers buffers);
  Result<cuda::PlacedPlan> place(const Plan& plan, ScheduleArgs args);
  void open_buffers(cuda::CudaWork& work, const Pending& pending) const;
  Result<const cuda::PlacedPlan*> plan_of_message(const Pending& pending);
  Status finish_stores();
  Result<std::optional<gpu::CudaCapture>> capture_of(const std::vector<CudaPart>& parts) const;
  CudaPart part_of(Pending& pending, const cuda::PlacedPlan& plan, CudaFlight& flight);
  void note(Pending& pending, const Plan& plan, CudaFlight& flight, uint32_t blocks, bool may_be_refused = false);
  void note_empty(const Pending& pending);
  static void note_otherwise(const Set& set, const cuda::PlacedPlan& otherwise, CudaFlight& flight);
  Status look();
  void ended(CudaFlight& flight);
  Status mark_places(CudaSubmission& mine);
  bool queued(const Pending& pending) const;
  std::string missing_for(const CudaSubmission& submission, bool& gone) const;
  void fail(const Status& why);
  void withdraw(CudaSubmission& submission);
  Status look_at_peers();
  bool at_rest();
  void lost(const Status& why);
  Status cause_of(const Status& seen);
  struct Waiting {
    const CudaFlight::Note* note;
    cuda::Report report;
  };
  std::optional<Waiting> waiting(const CudaFlight& flight) const;
  Result<Plan> stepped_plan(const Summary& summary, const Shape& shape, const ScheduleArgs& args) const;
  Status launch_in_steps(CudaFlight& flight, std::vector<CudaPart>& parts, std::vector<CudaStepGroup>& groups,
                         unsigned threads, unsigned shared_bytes);
  void add_walks(CudaStepGroup& group, CudaPart& part, const cuda::PlacedPlan& plan) const;

  void watch();  // in its thread

  const std::string tag_;
  const CudaSeats seats_;
  const CudaSizes sizes_;
  const std::vector<int> locals_;  // ranks of this process
  std::mutex mutex_;
  std::condition_variable changed_;
  Status failure_;
  std::vector<Communicator*> comms_;  // by rank; null: not there, or gone
  std::vector<bool> left_ = std::vector<bool>(comms_.size());
  std::vector<TeamDevice> devices_;
  std::unique_ptr<CudaLinks> links_;    // null: connections between GPUs are in the stores
  std::unique_ptr<CudaBridge> bridge_;  // null: there are no others
  std::unique_ptr<CudaWindowBook> windows_;
  std::vector<size_t> device_index_;        // by rank
  std::vector<cuda::DeviceStore*> stores_;  // by rank; null: of another process
  std::vector<std::byte*> barrier_words_;   // by rank
  std::unique_ptr<cuda::CudaEnds> ends_;
  std::unique_ptr<cuda::ScratchMemory> scratch_;
  std::map<std::tuple<uint64_t, uint64_t, Buffers>, Planned> plans_;                       // by kind and bytes
  std::map<std::tuple<int, int, bool, Proto, uint64_t>, cuda::PlacedPlan> message_plans_;  // rank, peer, sends, cut
  std::vector<KnownBuffer> known_buffers_;
  std::vector<std::deque<Pending*>> queues_;   // collectives, by rank
  std::map<std::pair<int, int>, Lane> lanes_;  // by sender and receiver
  std::unique_ptr<CudaLauncher> launcher_;
  Fabric fabric_;
  Summary message_summary_;  // where ranks are in several processes: all messages by one protocol
  CudaFlight::Clock::time_point asked_{};
  std::thread watcher_;
  std::condition_variable watch_wakes_;
  bool watch_ends_ = false;
  CudaFlight::Clock::time_point peers_asked_{};
};

}  // namespace tutti
