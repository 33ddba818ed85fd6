// SPDX-License-Identifier: Apache-2.0
// Version, result texts, last error.
#include <pthread.h>

#include "api/checks.h"
#include "api/entry.h"
#include "api/handles.h"

namespace tutti {

static_assert(static_cast<int>(Code::Ok) == TUTTI_SUCCESS && static_cast<int>(Code::CudaError) == TUTTI_CUDA_ERROR &&
              static_cast<int>(Code::SystemError) == TUTTI_SYSTEM_ERROR &&
              static_cast<int>(Code::InternalError) == TUTTI_INTERNAL_ERROR &&
              static_cast<int>(Code::InvalidArgument) == TUTTI_INVALID_ARGUMENT &&
              static_cast<int>(Code::InvalidUsage) == TUTTI_INVALID_USAGE &&
              static_cast<int>(Code::RemoteError) == TUTTI_REMOTE_ERROR &&
              static_cast<int>(Code::InProgress) == TUTTI_IN_PROGRESS);

namespace {

pthread_key_t error_key() {
  static const pthread_key_t key = [] {
    pthread_key_t made{};
    pthread_key_create(&made, [](void* text) { delete static_cast<std::string*>(text); });
    return made;
  }();
  return key;
}

}  // namespace

void set_last_error(const std::string& text) {
  auto* kept = static_cast<std::string*>(pthread_getspecific(error_key()));
  if (kept == nullptr) pthread_setspecific(error_key(), kept = new std::string);
  *kept = text;
}

const char* last_error() {
  const auto* kept = static_cast<const std::string*>(pthread_getspecific(error_key()));
  return kept != nullptr ? kept->c_str() : "";
}

tuttiResult_t report_failure(const Status& status) {
  set_last_error(status.message());
  return static_cast<tuttiResult_t>(status.code());
}

}  // namespace tutti

using namespace tutti;

extern "C" {

tuttiResult_t tuttiGetVersion(int* version) {
  return entry(__func__, [&]() -> Status {
    TUTTI_TRY(check_not_null("tuttiGetVersion", "version", version, "the address of an int"));
    *version = TUTTI_VERSION_CODE;
    return {};
  });
}

const char* tuttiGetErrorString(tuttiResult_t result) {
  switch (result) {
    case TUTTI_SUCCESS:
      return "success";
    case TUTTI_CUDA_ERROR:
      return "a CUDA call failed";
    case TUTTI_SYSTEM_ERROR:
      return "a system call failed";
    case TUTTI_INTERNAL_ERROR:
      return "internal error: please report it";
    case TUTTI_INVALID_ARGUMENT:
      return "invalid argument";
    case TUTTI_INVALID_USAGE:
      return "invalid usage";
    case TUTTI_REMOTE_ERROR:
      return "a peer failed or cannot be reached";
    case TUTTI_IN_PROGRESS:
      return "in progress";
    case TUTTI_NUM_RESULTS:
    case TUTTI_RESULT_FORCE_32:
      break;
  }
  return "unknown result code";
}

const char* tuttiGetLastError(tuttiComm_t comm) {
  if (comm != nullptr) {
    const Result<Condition> condition = comm_condition(__func__, comm);
    if (condition.ok() && !condition->status.ok() && condition->status.code() != Code::InProgress)
      set_last_error(condition->status.message());
  }
  return last_error();
}

}  // extern "C"
