// SPDX-License-Identifier: Apache-2.0
// Communicator: the ranks that call together, as one of them sees it. Holds the bootstrap's results, the connections,
// the plans made so far, and the order in which calls run.
//
// Made by join.cc (children too); run.cc carries calls out. A lone blocking call is one look-up, one bind and the loop:
// nothing there allocates, locks, or enters the kernel unless it waits. Calls run in issue order: each takes a ticket
// when issued and starts when all tickets before it are done, whatever thread carries it.
//
// Threads: one at a time issues calls; the thread that carries a call may be another (a stream's worker). abort()
// may be called, and failure() be read, from anywhere.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/ticks.h"
#include "bootstrap/bootstrap.h"
#include "comm/call_note.h"
#include "comm/connections.h"
#include "comm/job_graph.h"
#include "comm/request.h"
#include "comm/shelves.h"
#include "exec/cpu/lane_set.h"
#include "exec/cpu/waiter.h"
#include "health/health.h"
#include "observe/observed.h"
#include "plan/plan.h"
#include "transports/remote/remote_memory.h"
#include "transports/remote/shared_memory.h"

namespace tutti {

class CudaTeam;

inline constexpr int kCpuDevice = -1;  // TUTTI_DEVICE_CPU

struct CommOptions {
  int device = kCpuDevice;                 // or a CUDA ordinal
  int min_channels = 0, max_channels = 0;  // 0: free
  std::string transports;                  // empty: TUTTI_TRANSPORTS
  std::string algorithms, protocols;       // empty: TUTTI_ALGO, TUTTI_PROTO
  std::string nics;                        // empty: TUTTI_NICS
  std::string name;                        // empty: derived from the communicator's tag, or from the parent's name
  CancelFlag cancelled;                    // set by another thread: gives up making the communicator; may be null
};

class Communicator {
 public:
  // Collective over all ranks. `rendezvous` says where the ranks meet.
  static Result<std::unique_ptr<Communicator>> join(JoinOptions rendezvous, const CommOptions& options);
  // Collective over the parent; null for a rank of negative colour. The child lives on its own.
  static Result<std::unique_ptr<Communicator>> split(Communicator& parent, int color, int key,
                                                     const CommOptions& options);
  // Collective over the ranks that stay; `excluded` is ascending, without doubles and without this rank. The parent
  // may have failed.
  static Result<std::unique_ptr<Communicator>> shrink(Communicator& parent, const std::vector<int>& excluded,
                                                      const CommOptions& options);
  ~Communicator();

  // What was asked for when it was made: where a child's options come from.
  const CommOptions& options() const { return options_; }

  int rank() const { return rank_; }
  int size() const { return n_; }
  const std::string& name() const { return name_; }
  const Summary& summary() const { return summary_; }
  // What calls are planned by whose buffers lie in windows, if there are any.
  Summary summary_in_windows() const;
  // What is connected to what, equal on all ranks.
  const JobGraph& job_graph() const { return job_graph_; }
  bool oversubscribed() const { return summary_.ranks_per_core > 1; }

  // A kind of collective that has been called.
  struct Known {
    std::unique_ptr<LaneSet> lanes;
    CallNote note;  // of straight ones
  };

  // A kind of message that has been sent or received. One that fits an LL slot has its end of the connection here, the
  // sender's or the receiver's, which is all that ShortMessages need.
  struct KnownMessage {
    LaneSet* lanes = nullptr;
    LLSender* to = nullptr;
    LLReceiver* from = nullptr;
    CallNote note;
    bool is_short() const { return to != nullptr || from != nullptr; }
  };

  // Carries one call to its end in this thread.
  Status run(const Request& request);

  // The same for a call that is made alone, in its turn, and whose kind is known to be short, or any kind of a rank
  // without peers. begin_straight() posts it and returns what is known of it, or null: then nothing has happened, and
  // run() is the way. run_straight() follows.
  Known* begin_straight(uint64_t kind, uint64_t bytes, const void* input, void* output, Advance& first) {
    if (failed_.load(std::memory_order_relaxed) || !at_rest()) [[unlikely]]
      return nullptr;
    Known* const known = shelves_.find(with_windows(kind), bytes);
    if (known == nullptr || !known->lanes->straight()) return nullptr;
    if (n_ == 1) [[unlikely]] {
      known->lanes->restart(input, output);  // nobody waits for it: carried once it is in the books
      return known;
    }
    first = known->lanes->begin_straight(input, output);
    return known;
  }
  Status run_straight(Known& known, Advance first);
  // Null: not seen yet, or no short one. Valid until the next call of a new kind.
  const KnownMessage* find_short_message(uint64_t kind, uint64_t bytes) {
    const KnownMessage* const known = peer_shelves_.find(with_windows(kind), bytes);
    return known != nullptr && known->is_short() ? known : nullptr;
  }
  // The planner's time for one call, in microseconds. Carries nothing out.
  Result<double> predict(const Request& request) const;

  // Tickets: the place of a call (or of calls submitted together) in the issue order.
  uint64_t issue() { return issued_++; }
  uint64_t issued() const { return issued_; }
  // Once the communicator has failed there is no order any more: everybody whose turn it is must look at failed().
  bool turn(uint64_t ticket) const { return completed_.load(std::memory_order_acquire) == ticket || failed(); }
  // A call issued now would have its turn at once.
  bool at_rest() const { return turn(issued_); }
  void complete(uint64_t ticket) {
    if (completed_.load(std::memory_order_relaxed) <= ticket) completed_.store(ticket + 1, std::memory_order_release);
  }
  // A batch that has begun to carry calls of this communicator, until it has ended: its thread may touch buffers.
  void begin_carrying() { carried_.fetch_add(1, std::memory_order_relaxed); }
  void end_carrying() { carried_.fetch_sub(1, std::memory_order_release); }
  // Until no batch touches a buffer any more: after a failure, soon. Any thread.
  void settle() const;
  // Until all issued calls have ended, or the communicator has failed and settled.
  void drain();

  // Collective: after the calls of all ranks have ended. A failure is the communicator's.
  Status finalize();
  // Any thread: every wait in this communicator ends, and every call returns that it was aborted.
  void abort();

  // What waiting over a network has learnt; for the thread that works for the communicator. Null: it does not wait for
  // one alone.
  CoreDemand* core_demand() { return connections_.only_network() ? &core_demand_ : nullptr; }

  // Binds the next collective call. The returned lanes stay valid until the next call of this kind.
  // `lends`: until everything has left this rank, no other call writes its buffers.
  Result<LaneSet*> start_collective(const Request& request, bool lends);
  // The lanes that start_collective() would bind, if a call of this kind has been made before.
  LaneSet* known_collective(const Request& request);
  // The same for one send or receive; lanes of different peers and directions run side by side.
  Result<const KnownMessage*> start_point_to_point(const Request& request, bool lends);
  // The moments of each call, lone or in a group, for all that keeps books on calls. A call begins with start_*():
  // nothing may be added there, it is paid in full. posted() comes once its first slots are with the peers: what is
  // done there costs little while theirs travel. It returns the call's number and its record: collectives of a
  // communicator are numbered from 1 on, alike on all ranks, and sends and receives likewise on each rank for itself.
  struct CallMark {
    uint64_t number = 0;
    uint64_t record = 0;  // of the flight recorder
    uint64_t started = 0;
  };
  CallMark posted(const CallNote& note, uint64_t queued) { return posted(note, queued, ticks()); }
  CallMark posted(const CallNote& note, uint64_t queued, uint64_t now);
  CallMark posted(const Request& request, uint32_t identity, const Plan& plan) {
    return posted(note_of(request, identity, plan), request.queued);
  }
  void ended(bool message, const CallMark& mark) {
    health_->ended(mark.number, message);
    observed_->recorder.end(mark.record, ticks());
  }
  // A short call that never waited beyond its first polls. Reading the counter takes longer than all the rest of this,
  // and the next call waits for it, so its end is recorded as its start.
  void ended_at_once(bool message, const CallMark& mark) {
    health_->ended(mark.number, message);
    observed_->recorder.end(mark.record, mark.started);
  }
  // carry()'s note(): whom this rank waits for, since when (ticks), and for how long it did.
  void waits(const LaneSet& lanes, bool message, const CallMark& mark, uint64_t since);
  void waits_for(int peer, int more, uint64_t since);
  void waits_no_longer();
  // A look around while `lanes` of this call cannot move: the peers' mismatch, deadlines, abort.
  Status look(const LaneSet& lanes, const BoardCall& call, const Waiter& waiter);
  // For who carries calls on GPUs: the same of a call that cannot move there, and of no call in particular (whether a
  // peer has failed or died).
  Status look_at_stuck(const StuckCall& stuck, const std::function<std::string()>& waiting_for) {
    return health_->look(stuck, waiting_for);
  }
  Status ask_peers() { return health_->find_lost(); }
  Status explain_lost(const Status& lost) { return health_->explain(lost); }
  // Moves what has to go through networks; an error is explained as well as this rank can.
  Result<bool> progress_network();
  // For a thread that waits for this communicator alone.
  void sleep(Waiter& waiter);
  // Such a thread's, for calls on mapped memory.
  Waiter make_waiter() const { return Waiter(oversubscribed(), poll_count_, false); }
  // `peer` is not known to be on this thread's core.
  bool reads_away(int peer) const { return !oversubscribed() || !cores_.beside_me(peer); }
  // How often to look before yielding, when a message from or to `peer` is what is missing.
  int polls_for(int peer, const Waiter& waiter) {
    if (!oversubscribed() || poll_count_ > 0) return waiter.polls();
    cores_.note_core();
    return cores_.beside_me(peer) ? Waiter::kPollsBeside : Waiter::kPollsMessage;
  }

  // Collective (windows.cc). The window's number, alike on all ranks; 0: some rank's memory cannot be shared, nothing
  // is gained.
  Result<uint32_t> register_window(void* base, uint64_t bytes);
  void deregister_window(uint32_t number);

  // What carries the calls of a rank on a GPU; null: the rank is on the CPU.
  CudaTeam* cuda() const { return cuda_.get(); }
  int device() const { return options_.device; }

  SlotStores& slot_stores() { return slot_stores_; }
  Connections& connections() { return connections_; }
  const Observed& observed() const { return *observed_; }
  // The buffer of a barrier, which is an AllReduce of one word.
  uint64_t* barrier_word() { return &barrier_word_; }

  bool failed() const { return failed_.load(std::memory_order_relaxed); }
  // The first failure of a call that had started; every later call returns it. Ok while there is none.
  Status failure() const;
  void fail(const Status& status);

  // User operators (pre-multiplied sums): handles are indices from TUTTI_NUM_OPS on.
  struct UserOperator {
    bool live = false;
    DataType type = DataType::Float32;
    Scale scale{};
    const void* scale_at = nullptr;  // instead: an element in memory of the GPU
  };
  int add_operator(const UserOperator& made);
  const UserOperator* find_operator(int index) const;
  bool remove_operator(int index);

 private:
  Communicator() = default;
  struct Configuration;
  static Result<std::unique_ptr<Communicator>> configure(const CommOptions& options, Configuration& configuration);
  // From the bootstrap's results to connections; collective over its ranks.
  Status establish(std::unique_ptr<Bootstrap> bootstrap, const Configuration& configuration);
  static Result<std::unique_ptr<Communicator>> adopt(Communicator& parent, Result<std::unique_ptr<Bootstrap>> bootstrap,
                                                     std::unique_ptr<Communicator> child,
                                                     const Configuration& configuration);
  Status aborted() const;

  // What is planned alike: windows come and go at the same place among the calls on all ranks.
  uint64_t with_windows(uint64_t kind) const {
    constexpr int kWindowsBit = 13;  // free in CallKind::word()
    return kind | static_cast<uint64_t>(summary_.windows) << kWindowsBit;
  }
  uint64_t kind_of(const Request& request) const { return with_windows(request.kind()); }
  struct Window {
    uint32_t number = 0;
    const std::byte* base = nullptr;  // mine
    uint64_t bytes = 0;
    std::vector<Mapping> mappings;                       // of peers in other processes
    std::vector<std::shared_ptr<SharedMemory>> objects;  // of peers in this process, and mine
  };
  // The living window that holds [address, address + bytes); null if there is none.
  const Window* find_window(const void* address, uint64_t bytes) const;

  // The same of memory of GPUs (cuda_windows.cc).
  Result<uint32_t> register_cuda_window(void* base, uint64_t bytes);
  void deregister_cuda_window(uint32_t number);
  void end_cuda_window(uint32_t number);

  Result<Known*> make_lanes(const Request& request, uint64_t key);
  CallNote note_of(const Request& request, uint32_t identity, const Plan& plan) const;
  Result<KnownMessage> make_message(const Request& request);
  Result<std::unique_ptr<LaneSet>> build(const Plan& plan, const Request& request, Use use);
  void begin(LaneSet& lanes, const Request& request, bool lends);
  Status begin_observation(std::string id);
  Status start_health(std::vector<Board*> pages, std::function<bool(int)> alive);
  // Moves the call and the network. Done: ended, or failed with `status`.
  Advance move(LaneSet& lanes, int polls, Status& status);
  // The rest of run_straight() for a rank without peers, whose calls may be long.
  Status run_alone(Known& known);
  // A lone call in its turn.
  Status run_message(const Request& request, Waiter& waiter);
  Status run_collective(const Request& request, Waiter& waiter);
  // From the first posts of a call to its end.
  void carry_on(LaneSet& lanes, const CallNote& note, uint64_t queued, Waiter& waiter, Advance first, Status& status);
  // How often a call that is waiting looks before it yields.
  int polls(LaneSet& lanes, const Waiter& waiter);

  int rank_ = 0, n_ = 1;
  std::string name_;
  CommOptions options_;
  CancelFlag cancelled_;
  Summary summary_;
  JobGraph job_graph_;
  CoreDemand core_demand_;
  int poll_count_ = 0;
  SlotStores slot_stores_, push_stores_;
  // Destroyed in reverse: plans before connections, connections before the sockets of the bootstrap.
  std::unique_ptr<Bootstrap> bootstrap_;
  Connections connections_;
  std::unique_ptr<Health> health_;
  RemoteMemory memory_;
  std::vector<Window> windows_;
  uint64_t window_attempts_ = 0;
  CoreMap cores_;
  Shelves<Known> shelves_;
  // Sends and receives: lanes by peer, direction and cut, which many sizes share; remembered by size as well.
  Shelves<KnownMessage> peer_shelves_;
  std::unordered_map<uint64_t, std::unique_ptr<LaneSet>> peer_lanes_;
  uint64_t barrier_word_ = 0;
  uint64_t collectives_ = 0, messages_ = 0;  // posted so far
  uint64_t issued_ = 0;
  std::atomic<uint64_t> completed_{0};
  std::atomic<int> carried_{0};
  std::atomic<bool> failed_{false};
  mutable std::mutex failure_mutex_;
  Status failure_;
  std::vector<UserOperator> operators_;
  std::unique_ptr<Observed> observed_;
  uint64_t waiting_since_ = 0;  // ticks
  Watch watch_;
  std::shared_ptr<CudaTeam> cuda_;
};

}  // namespace tutti
