// SPDX-License-Identifier: Apache-2.0
// What a program can ask about a communicator at work: its last operations, and for whom it waits.
#include "api/checks.h"
#include "api/entry.h"
#include "api/handles.h"
#include "base/env.h"
#include "base/ticks.h"
#include "observe/observed.h"

using namespace tutti;

extern "C" {

tuttiResult_t tuttiCommDump(tuttiComm_t comm, const char* path) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_TRY(check_comm(function, comm));
    const std::string pattern = path != nullptr ? path : env().dump_file;
    if (pattern.empty()) {
      return invalid_argument("{}: path is {}: pass the file to write, or set TUTTI_DUMP_FILE and pass NULL", function,
                              path == nullptr ? "NULL and TUTTI_DUMP_FILE is not set" : "empty");
    }
    return write_dump(comm->comm->observed(), DumpReason::Request, pattern).status();
  });
}

tuttiResult_t tuttiCommGetWaits(tuttiComm_t comm, tuttiWait_t* waits, int nranks) {
  const char* const function = __func__;
  return entry(function, [&]() -> Status {
    TUTTI_TRY(check_comm(function, comm));
    TUTTI_TRY(check_not_null(function, "waits", waits, "room for one tuttiWait_t per rank"));
    const Arrivals& arrivals = comm->comm->observed().arrivals;
    if (nranks != arrivals.ranks()) {
      return invalid_argument("{}: nranks is {}: pass the communicator's number of ranks, {}", function, nranks,
                              arrivals.ranks());
    }
    const double rate = read_tick_clock().ticks_per_second;
    for (int rank = 0; rank < nranks; ++rank) {
      const Arrivals::Late late = arrivals.of(rank);
      waits[rank] = {late.calls, static_cast<double>(late.ticks) / rate, static_cast<double>(late.longest) / rate};
    }
    return {};
  });
}

}  // extern "C"
