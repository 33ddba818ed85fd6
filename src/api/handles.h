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

#include "comm/communicator.h"
#include "group/stream.h"
#include "tutti/tutti.h"

// The opaque types of the public header.
struct tuttiComm {
  enum class State : uint32_t { Joining = 0x4A4F494E, Live = 0x4C495645, Failed = 0x4641494C, Destroyed = 0x44454144 };
  std::atomic<State> state{State::Joining};
  uint64_t process = 0;  // generation: a forked child has another
  int rank = -1, size = 0;
  std::shared_ptr<tutti::Communicator> comm;
  tutti::Status failure;  // why joining failed
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

// Grows by one in every forked child.
uint64_t process_generation();

tuttiComm_t new_comm_handle(int rank, int size);
void retire_comm_handle(tuttiComm_t handle);
// Why a handle that is not ready cannot be used.
Status explain_comm_handle(const char* function, tuttiComm_t handle);

// Ok if calls may be made on the communicator.
inline Status check_comm(const char* function, tuttiComm_t handle) {
  if (handle != nullptr && handle->state.load(std::memory_order_acquire) == tuttiComm::State::Live &&
      handle->process == process_generation()) [[likely]]
    return {};
  return explain_comm_handle(function, handle);
}

tuttiStream_t new_stream_handle(std::shared_ptr<Stream> stream);
// Null stream handle: null. Anything that is not a living stream of ours: an error.
Result<std::shared_ptr<Stream>> find_stream(const char* function, tuttiStream_t handle);
Result<std::shared_ptr<Stream>> remove_stream(const char* function, tuttiStream_t handle);
tuttiEvent_t new_event_handle();
Result<std::shared_ptr<Event>> find_event(const char* function, tuttiEvent_t handle);
Status remove_event(const char* function, tuttiEvent_t handle);

}  // namespace tutti
