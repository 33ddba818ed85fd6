// SPDX-License-Identifier: Apache-2.0
// The C boundary: a Status becomes a result code plus a text that tuttiGetLastError finds.
#pragma once

#include <new>
#include <string>

#include "base/status.h"
#include "group/group.h"
#include "tutti/tutti.h"

namespace tutti {

// Keeps the text for this thread until its next failure.
void set_last_error(const std::string& text);
const char* last_error();

tuttiResult_t report_failure(const Status& status);

// Runs the body of an entry point. A failure inside a group poisons it. No exception leaves: memory may run out.
template <class Body>
tuttiResult_t entry(const char* function, Body&& body) {
  Status status;
  try {
    status = body();
  } catch (const std::bad_alloc&) {
    status = system_error("{}: out of memory", function);
  }
  if (status.ok()) [[likely]]
    return TUTTI_SUCCESS;
  if (status.code() == Code::InProgress) return TUTTI_IN_PROGRESS;  // a non-blocking call has been queued
  poison_group(status);
  return report_failure(status);
}

}  // namespace tutti
