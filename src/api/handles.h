// SPDX-License-Identifier: Apache-2.0
// Handles: what the opaque pointers of the C API point to, and whether they are alive.
//
// A communicator's handle is a small shell that is never given back to the allocator: a destroyed one still says so
// instead of crashing. Shells are reused, oldest first, once kQuarantine of them are at rest. Streams and events are
// looked up in a set, so that a pointer of another kind (a CUDA stream) is told apart without being followed.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "base/asymmetric_barrier.h"
#include "base/fork.h"
#include "comm/communicator.h"
#include "group/stream.h"
#include "tutti/tutti.h"

// The opaque types of the public header. docs/lifecycle.md draws the states.
struct tuttiComm {
  enum class State : uint32_t {
    Joining = 0x4A4F494E,    // non-blocking, or in a group: being made
    Live = 0x4C495645,       // made; it may have failed since
    Finalized = 0x46494E41,  // tuttiCommFinalize was called
    Failed = 0x4641494C,     // non-blocking: could not be made
    Destroyed = 0x44454144,
  };
  std::atomic<State> state{State::Joining};  // left under the registry's lock
  std::atomic<uint32_t> inside{0};           // 1: the issuing thread is in a call (CommCall)
  uint64_t process = 0;                      // generation: a forked child has another
  int rank = -1, size = 0;
  std::shared_ptr<tutti::Communicator> comm;
  std::shared_ptr<tutti::Stream> worker;  // non-blocking: carries its calls
  bool made_by_worker = false;            // that worker makes it, too, and not its parent's
  tutti::CancelFlag cancelled;            // while it is being made
  tutti::Status failure;                  // why it could not be made
};
struct tuttiStream {
  std::shared_ptr<tutti::Stream> stream;
  uint64_t process = 0;
};
struct tuttiEvent {
  std::shared_ptr<tutti::Event> event;
  uint64_t process = 0;
};

namespace tutti {

// A communicator that is being made. rank and size are -1 and 0 where nobody knows them yet.
tuttiComm_t new_comm_handle(int rank, int size, std::shared_ptr<Stream> worker, bool made_by_worker);
// How making it ended. False: the handle was destroyed meanwhile; whoever makes it retires it, unless its own worker
// does (then who destroyed it waits for the worker).
bool complete_comm_handle(tuttiComm_t handle, std::shared_ptr<Communicator> made);
bool fail_comm_handle(tuttiComm_t handle, const Status& failure);
void retire_comm_handle(tuttiComm_t handle);
// False: it was not in `from`.
bool change_comm_state(tuttiComm_t handle, tuttiComm::State from, tuttiComm::State to);
// Takes a communicator away from all other threads: they find it destroyed. Joining: asks the maker to give up.
struct TakenComm {
  std::shared_ptr<Communicator> comm;
  std::shared_ptr<Stream> worker;
  bool joining = false;
};
Result<TakenComm> take_comm_handle(const char* function, tuttiComm_t handle);
// Blocks while the communicator is being made.
void await_made(tuttiComm_t handle);
// Why a handle that is not ready cannot be used.
Status explain_comm_handle(const char* function, tuttiComm_t handle);

// Ok if calls may be made on the communicator.
inline Status check_comm(const char* function, tuttiComm_t handle) {
  if (handle != nullptr && handle->state.load(std::memory_order_acquire) == tuttiComm::State::Live &&
      handle->process == process_generation()) [[likely]]
    return {};
  return explain_comm_handle(function, handle);
}

// The issuing thread inside a call: what the handle points to stays, whatever other threads do. First the object, then
// check_comm(). It costs two stores; tuttiCommAbort, which is rare, pays for both sides.
class CommCall {
 public:
  explicit CommCall(tuttiComm_t handle) : handle_(handle) {
    if (handle_ == nullptr) return;
    handle_->inside.store(1, std::memory_order_relaxed);
    light_barrier();  // then check_comm() loads the state; pairs with heavy_barrier() in await_outside()
  }
  ~CommCall() {
    if (handle_ != nullptr) handle_->inside.store(0, std::memory_order_release);
  }
  CommCall(const CommCall&) = delete;
  CommCall& operator=(const CommCall&) = delete;

 private:
  const tuttiComm_t handle_;
};
// After the state was changed: until the issuing thread has left the call that it is in.
void await_outside(tuttiComm_t handle);

// For calls that are rare, or come from any thread: a reference. `finalized`: also to one that was finalized.
Result<std::shared_ptr<Communicator>> hold_comm(const char* function, tuttiComm_t handle, bool finalized = false);
// What tuttiCommGetAsyncError tells: Ok, InProgress, or the reason of the failure. The Result fails for what is no
// living communicator.
struct Condition {
  Status status;
};
Result<Condition> comm_condition(const char* function, tuttiComm_t handle);

tuttiStream_t new_stream_handle(std::shared_ptr<Stream> stream);
// Null stream handle: null. Anything that is not a living stream of ours: an error.
Result<std::shared_ptr<Stream>> find_stream(const char* function, tuttiStream_t handle);
// Whether it is a living stream of ours. Any pointer may be asked about.
bool is_stream_handle(tuttiStream_t handle);
Result<std::shared_ptr<Stream>> remove_stream(const char* function, tuttiStream_t handle);
tuttiEvent_t new_event_handle();
Result<std::shared_ptr<Event>> find_event(const char* function, tuttiEvent_t handle);
Status remove_event(const char* function, tuttiEvent_t handle);

}  // namespace tutti
