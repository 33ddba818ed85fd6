// SPDX-License-Identifier: Apache-2.0
#include "api/handles.h"

#include <pthread.h>

#include <deque>
#include <mutex>
#include <unordered_map>

namespace tutti {
namespace {

constexpr size_t kQuarantine = 64;

std::atomic<uint64_t> g_process_generation{1};

// Never destroyed: handles may be used while the process ends.
struct Registry {
  std::mutex mutex;
  std::deque<tuttiComm_t> resting;
  std::unordered_map<tuttiStream_t, std::shared_ptr<Stream>> streams;
  std::unordered_map<tuttiEvent_t, std::shared_ptr<Event>> events;
};
Registry& registry() {
  static Registry& only = *[] {
    pthread_atfork(nullptr, nullptr, [] { g_process_generation.fetch_add(1, std::memory_order_relaxed); });
    return new Registry;
  }();
  return only;
}

}  // namespace

uint64_t process_generation() { return g_process_generation.load(std::memory_order_relaxed); }

tuttiComm_t new_comm_handle(int rank, int size) {
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
  handle->state.store(tuttiComm::State::Joining, std::memory_order_release);
  return handle;
}

void retire_comm_handle(tuttiComm_t handle) {
  handle->state.store(tuttiComm::State::Destroyed, std::memory_order_release);
  handle->comm.reset();
  Registry& all = registry();
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
      return invalid_usage("{}: comm is still being initialised: use it after the tuttiGroupEnd that completes it",
                           function);
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
