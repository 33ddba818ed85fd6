// SPDX-License-Identifier: Apache-2.0
// What happens once: NCCL_* variables become known to the environment table when the library is loaded, and are told to
// the log with the version when it is first used.
#include <mutex>

#include "base/env.h"
#include "base/log.h"
#include "nccl/shim.h"
#include "nccl/variables.h"

namespace tutti::nccl {
namespace {

// Before any entry can read the environment. Sets a pointer and does nothing else.
__attribute__((constructor)) void know_the_variables() {
  set_env_fallback([](const char* name) { return translate(name, environment_variable); });
}

std::string version_text() {
  const int version = env().nccl_version;
  return fmt::format("NCCL version {}.{}.{} (Tutti {}.{}.{})", version / 10000, version / 100 % 100, version % 100,
                     TUTTI_MAJOR, TUTTI_MINOR, TUTTI_PATCH);
}

void announce() {
  const std::string debug = environment_variable("NCCL_DEBUG").value_or("");
  if (debug == "VERSION" || debug == "version") {  // a level of NCCL's that shows nothing else
    log_line(LogLevel::Info, Subsystem::Init, version_text());
  } else {
    log_info(Subsystem::Init, "{}", version_text());
  }
  for (const Notice& notice : notices(environment_names("NCCL_"), environment_variable)) {
    if (notice.warn) {
      log_warn(Subsystem::Init, "{}", notice.text);
    } else {
      log_info(Subsystem::Init, "{}", notice.text);
    }
  }
}

}  // namespace

Status start() {
  TUTTI_TRY(env_status());
  static std::once_flag once;
  std::call_once(once, announce);
  return {};
}

ncclResult_t refuse(const char* function, const char* why) {
  return theirs(
      entry(function, [&] { return invalid_usage("{}: not available in Tutti's libnccl: {}", function, why); }));
}

}  // namespace tutti::nccl

using namespace tutti;
using namespace tutti::nccl;

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  return theirs(entry(__func__, [&]() -> Status {
    if (version == nullptr) return invalid_argument("ncclGetVersion: version is NULL: pass the address of an int");
    TUTTI_TRY(env_status());
    *version = env().nccl_version;
    return {};
  }));
}

const char* ncclGetErrorString(ncclResult_t result) {
  if (result == ncclTimeout) return "timed out";
  return tuttiGetErrorString(static_cast<tuttiResult_t>(result));
}

const char* ncclGetLastError(ncclComm_t comm) { return tuttiGetLastError(ours(comm)); }

void ncclResetDebugInit() {
  log_warn(Subsystem::Api, "ncclResetDebugInit: the settings of the log are read once and stay as they are");
}

}  // extern "C"

NCCL_TWIN(ncclGetVersion);
NCCL_TWIN(ncclGetErrorString);
NCCL_TWIN(ncclGetLastError);
NCCL_TWIN(ncclResetDebugInit);
