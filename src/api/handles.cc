// SPDX-License-Identifier: Apache-2.0
#include "api/handles.h"

#include <pthread.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <unordered_map>

#include "api/memory.h"
#include "comm/cuda_team.h"
#include "group/group.h"

namespace tutti {
namespace {

constexpr size_t kQuarantine = 64;

// Never destroyed: handles may be used while the process ends.
struct Registry {
  std::mutex mutex;
  std::condition_variable made;  // a communicator is no longer Joining
  std::deque<tuttiComm_t> resting;
  std::unordered_map<tuttiStream_t, std::shared_ptr<Stream>> streams;
  std::unordered_map<tuttiEvent_t, std::shared_ptr<Event>> events;
};
Registry& registry() {
  static Registry& only = *[] {
    static Registry* const made = new Registry;
    guard_at_fork(made->mutex);
    // Threads that wait in the parent are not the child's.
    pthread_atfork(nullptr, nullptr, [] { new (&made->made) std::condition_variable; });
    return made;
  }();
  return only;
}

}  // namespace

tuttiComm_t new_comm_handle(int rank, int size, std::shared_ptr<Stream> worker, bool made_by_worker) {
  prepare_barriers();
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  tuttiComm_t handle = nullptr;
  if (all.resting.size() > kQuarantine) {
    handle = all.resting.front();
    all.resting.pop_front();
  } else {
    handle = new tuttiComm;
  }
  handle->process = process_generation();
  handle->rank = rank;
  handle->size = size;
  handle->failure = {};
  handle->worker = std::move(worker);
  handle->made_by_worker = made_by_worker;
  handle->cancelled = std::make_shared<std::atomic<bool>>(false);
  handle->state.store(tuttiComm::State::Joining, std::memory_order_release);
  return handle;
}

bool complete_comm_handle(tuttiComm_t handle, std::shared_ptr<Communicator> made) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  if (handle->state.load(std::memory_order_relaxed) != tuttiComm::State::Joining) return false;
  handle->rank = made->rank();
  handle->size = made->size();
  handle->comm = std::move(made);
  handle->state.store(tuttiComm::State::Live, std::memory_order_release);
  all.made.notify_all();
  return true;
}

bool fail_comm_handle(tuttiComm_t handle, const Status& failure) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  if (handle->state.load(std::memory_order_relaxed) != tuttiComm::State::Joining) return false;
  handle->failure = failure;
  handle->state.store(tuttiComm::State::Failed, std::memory_order_release);
  all.made.notify_all();
  return true;
}

bool change_comm_state(tuttiComm_t handle, tuttiComm::State from, tuttiComm::State to) {
  const std::lock_guard lock(registry().mutex);
  return handle->state.compare_exchange_strong(from, to, std::memory_order_acq_rel);
}

void await_made(tuttiComm_t handle) {
  Registry& all = registry();
  std::unique_lock lock(all.mutex);
  all.made.wait(lock, [&] { return handle->state.load(std::memory_order_relaxed) != tuttiComm::State::Joining; });
}

Result<TakenComm> take_comm_handle(const char* function, tuttiComm_t handle) {
  if (handle == nullptr) return explain_comm_handle(function, handle);
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const auto state = handle->state.load(std::memory_order_relaxed);
  const bool known = state == tuttiComm::State::Joining || state == tuttiComm::State::Live ||
                     state == tuttiComm::State::Finalized || state == tuttiComm::State::Failed;
  if (!known || handle->process != process_generation()) return explain_comm_handle(function, handle);
  TakenComm taken{handle->comm, handle->worker, state == tuttiComm::State::Joining};
  if (taken.joining) handle->cancelled->store(true, std::memory_order_release);
  handle->state.store(tuttiComm::State::Destroyed, std::memory_order_release);
  all.made.notify_all();
  return taken;
}

void await_outside(tuttiComm_t handle) {
  heavy_barrier();
  // A call ends once it has seen what became of the communicator: within milliseconds, or after the copy it is in.
  Waiter waiter(true, 0, false);
  while (handle->inside.load(std::memory_order_acquire) != 0) {
    if (waiter.idle()) waiter.sleep();
  }
}

Result<std::shared_ptr<Communicator>> hold_comm(const char* function, tuttiComm_t handle, bool finalized) {
  if (handle == nullptr) return explain_comm_handle(function, handle);
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const auto state = handle->state.load(std::memory_order_relaxed);
  const bool usable = state == tuttiComm::State::Live || (finalized && state == tuttiComm::State::Finalized);
  if (!usable || handle->process != process_generation()) return explain_comm_handle(function, handle);
  return handle->comm;
}

Result<Condition> comm_condition(const char* function, tuttiComm_t handle) {
  if (handle == nullptr) return explain_comm_handle(function, handle);
  std::shared_ptr<Communicator> comm;
  std::shared_ptr<Stream> worker;
  {
    Registry& all = registry();
    const std::lock_guard lock(all.mutex);
    const auto state = handle->state.load(std::memory_order_relaxed);
    if (handle->process != process_generation()) return explain_comm_handle(function, handle);
    if (state == tuttiComm::State::Joining) return Condition{in_progress()};
    if (state == tuttiComm::State::Failed) return Condition{handle->failure};
    if (state != tuttiComm::State::Live && state != tuttiComm::State::Finalized)
      return explain_comm_handle(function, handle);
    comm = handle->comm;
    worker = handle->worker;
  }
  if (comm->cuda() != nullptr) comm->cuda()->poll();
  if (comm->failed()) return Condition{comm->failure()};
  return Condition{worker != nullptr && !worker->idle() ? in_progress() : Status()};
}

// The communicator and its worker end outside the lock: both may wait for their threads.
void retire_comm_handle(tuttiComm_t handle) {
  std::shared_ptr<Communicator> comm;
  std::shared_ptr<Stream> worker;
  Registry& all = registry();
  {
    const std::lock_guard lock(all.mutex);
    handle->state.store(tuttiComm::State::Destroyed, std::memory_order_release);
    comm = std::move(handle->comm);
    worker = std::move(handle->worker);
    handle->cancelled.reset();
    all.made.notify_all();
  }
  worker.reset();
  comm.reset();
  forget_memory_of(handle);
  const std::lock_guard lock(all.mutex);
  all.resting.push_back(handle);
}

Status explain_comm_handle(const char* function, tuttiComm_t handle) {
  if (handle == nullptr) {
    return invalid_argument("{}: comm is NULL: pass a communicator made by tuttiCommInitRank or its relatives",
                            function);
  }
  switch (handle->state.load(std::memory_order_acquire)) {
    case tuttiComm::State::Destroyed:
      return invalid_argument("{}: comm has been destroyed: do not use it after tuttiCommDestroy", function);
    case tuttiComm::State::Joining:
      return invalid_usage(
          "{}: comm is still being initialised: use it after the tuttiGroupEnd that completes it, or (non-blocking) "
          "once tuttiCommGetAsyncError says that it is done",
          function);
    case tuttiComm::State::Finalized:
      return invalid_usage("{}: comm has been finalized: all that may follow is tuttiCommDestroy", function);
    case tuttiComm::State::Failed:
      return handle->failure;
    case tuttiComm::State::Live:
      break;
    default:
      return invalid_argument("{}: comm is not a communicator: pass one made by tuttiCommInitRank or its relatives",
                              function);
  }
  return invalid_usage(
      "{}: comm was made before this process was forked: a child cannot use its parent's communicators; initialise "
      "after fork, or exec",
      function);
}

namespace {

// A child has its parent's streams and events without the threads that carry them: waiting would be for ever.
Status check_process(const char* function, const char* what, uint64_t process) {
  if (process == process_generation()) return {};
  return invalid_usage("{}: {} was made before this process was forked: make another in the child, or exec", function,
                       what);
}

}  // namespace

tuttiStream_t new_stream_handle(std::shared_ptr<Stream> stream) {
  Registry& all = registry();
  auto* handle = new tuttiStream{stream, process_generation()};
  const std::lock_guard lock(all.mutex);
  all.streams.emplace(handle, std::move(stream));
  return handle;
}

Result<std::shared_ptr<Stream>> find_stream(const char* function, tuttiStream_t handle) {
  if (handle == nullptr) return std::shared_ptr<Stream>();
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const auto found = all.streams.find(handle);
  if (found == all.streams.end()) {
    return invalid_argument(
        "{}: stream is not one made by tuttiStreamCreate, or it has been destroyed: a communicator on the CPU takes "
        "such a stream, or NULL for a blocking call (a cudaStream_t belongs to communicators on CUDA devices)",
        function);
  }
  TUTTI_TRY(check_process(function, "stream", handle->process));
  return found->second;
}

bool is_stream_handle(tuttiStream_t handle) {
  if (handle == nullptr) return false;
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  return all.streams.count(handle) != 0;
}

Result<std::shared_ptr<Stream>> remove_stream(const char* function, tuttiStream_t handle) {
  TUTTI_ASSIGN_OR_RETURN(std::shared_ptr<Stream> stream, find_stream(function, handle));
  if (stream == nullptr) return invalid_argument("{}: stream is NULL: pass one made by tuttiStreamCreate", function);
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  if (all.streams.erase(handle) > 0) delete handle;
  return stream;
}

tuttiEvent_t new_event_handle() {
  Registry& all = registry();
  auto* handle = new tuttiEvent{std::make_shared<Event>(), process_generation()};
  const std::lock_guard lock(all.mutex);
  all.events.emplace(handle, handle->event);
  return handle;
}

Result<std::shared_ptr<Event>> find_event(const char* function, tuttiEvent_t handle) {
  if (handle == nullptr) return invalid_argument("{}: event is NULL: pass one made by tuttiEventCreate", function);
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const auto found = all.events.find(handle);
  if (found == all.events.end())
    return invalid_argument("{}: event is not one made by tuttiEventCreate, or it has been destroyed", function);
  TUTTI_TRY(check_process(function, "event", handle->process));
  return found->second;
}

Status remove_event(const char* function, tuttiEvent_t handle) {
  TUTTI_TRY(find_event(function, handle));
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  if (all.events.erase(handle) > 0) delete handle;
  return {};
}

}  // namespace tutti
