// SPDX-License-Identifier: Apache-2.0
// Streams and events for CPU work.
#include "api/checks.h"
#include "api/entry.h"
#include "api/handles.h"

using namespace tutti;

namespace {

Result<std::shared_ptr<Stream>> need_stream(const char* function, tuttiStream_t handle) {
  TUTTI_TRY(check_not_null(function, "stream", handle, "a stream made by tuttiStreamCreate"));
  return find_stream(function, handle);
}

}  // namespace

extern "C" {

tuttiResult_t tuttiStreamCreate(tuttiStream_t* stream) {
  return entry(__func__, [&]() -> Status {
    TUTTI_TRY(check_not_null("tuttiStreamCreate", "stream", stream, "the address of a tuttiStream_t"));
    TUTTI_ASSIGN_OR_RETURN(std::shared_ptr<Stream> made, Stream::create());
    *stream = new_stream_handle(std::move(made));
    return {};
  });
}

tuttiResult_t tuttiStreamDestroy(tuttiStream_t stream) {
  return entry(__func__, [&]() -> Status {
    TUTTI_ASSIGN_OR_RETURN(const std::shared_ptr<Stream> removed, remove_stream("tuttiStreamDestroy", stream));
    return removed->synchronize();
  });
}

tuttiResult_t tuttiStreamSynchronize(tuttiStream_t stream) {
  return entry(__func__, [&]() -> Status {
    TUTTI_ASSIGN_OR_RETURN(const std::shared_ptr<Stream> found, need_stream("tuttiStreamSynchronize", stream));
    return found->synchronize();
  });
}

tuttiResult_t tuttiStreamQuery(tuttiStream_t stream) {
  bool idle = false;
  const tuttiResult_t result = entry(__func__, [&]() -> Status {
    TUTTI_ASSIGN_OR_RETURN(const std::shared_ptr<Stream> found, need_stream("tuttiStreamQuery", stream));
    idle = found->idle();
    return {};
  });
  return result == TUTTI_SUCCESS && !idle ? TUTTI_IN_PROGRESS : result;
}

tuttiResult_t tuttiStreamWaitEvent(tuttiStream_t stream, tuttiEvent_t event) {
  return entry(__func__, [&]() -> Status {
    TUTTI_ASSIGN_OR_RETURN(const std::shared_ptr<Stream> waiting, need_stream("tuttiStreamWaitEvent", stream));
    TUTTI_ASSIGN_OR_RETURN(std::shared_ptr<Event> awaited, find_event("tuttiStreamWaitEvent", event));
    waiting->enqueue([awaited, generation = awaited->recorded()]() -> Status {
      awaited->wait(generation);
      return {};
    });
    return {};
  });
}

tuttiResult_t tuttiStreamAddCallback(tuttiStream_t stream, void (*callback)(void* user), void* user) {
  return entry(__func__, [&]() -> Status {
    TUTTI_ASSIGN_OR_RETURN(const std::shared_ptr<Stream> found, need_stream("tuttiStreamAddCallback", stream));
    TUTTI_TRY(
        check_not_null("tuttiStreamAddCallback", "callback", reinterpret_cast<const void*>(callback), "a function"));
    found->enqueue([callback, user]() -> Status {
      callback(user);
      return {};
    });
    return {};
  });
}

tuttiResult_t tuttiEventCreate(tuttiEvent_t* event) {
  return entry(__func__, [&]() -> Status {
    TUTTI_TRY(check_not_null("tuttiEventCreate", "event", event, "the address of a tuttiEvent_t"));
    *event = new_event_handle();
    return {};
  });
}

tuttiResult_t tuttiEventDestroy(tuttiEvent_t event) {
  return entry(__func__, [&]() -> Status { return remove_event("tuttiEventDestroy", event); });
}

tuttiResult_t tuttiEventRecord(tuttiEvent_t event, tuttiStream_t stream) {
  return entry(__func__, [&]() -> Status {
    TUTTI_ASSIGN_OR_RETURN(std::shared_ptr<Event> recorded, find_event("tuttiEventRecord", event));
    TUTTI_ASSIGN_OR_RETURN(const std::shared_ptr<Stream> found, find_stream("tuttiEventRecord", stream));
    const uint64_t generation = recorded->record();
    if (found == nullptr) {  // blocking calls have ended already
      recorded->reach(generation);
      return {};
    }
    found->enqueue([recorded, generation]() -> Status {
      recorded->reach(generation);
      return {};
    });
    return {};
  });
}

tuttiResult_t tuttiEventSynchronize(tuttiEvent_t event) {
  return entry(__func__, [&]() -> Status {
    TUTTI_ASSIGN_OR_RETURN(const std::shared_ptr<Event> found, find_event("tuttiEventSynchronize", event));
    found->wait(found->recorded());
    return {};
  });
}

tuttiResult_t tuttiEventQuery(tuttiEvent_t event) {
  bool reached = false;
  const tuttiResult_t result = entry(__func__, [&]() -> Status {
    TUTTI_ASSIGN_OR_RETURN(const std::shared_ptr<Event> found, find_event("tuttiEventQuery", event));
    reached = found->reached(found->recorded());
    return {};
  });
  return result == TUTTI_SUCCESS && !reached ? TUTTI_IN_PROGRESS : result;
}

}  // extern "C"
