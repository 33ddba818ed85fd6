// SPDX-License-Identifier: Apache-2.0
// The calls of the library that are measured, behind one signature.
#pragma once

#include "perf/collectives.h"
#include "perf/outcome.h"
#include "tutti/tutti.h"

namespace tutti::perf {

struct Call {
  const void* send = nullptr;
  void* recv = nullptr;
  size_t count = 0;
  tuttiDataType_t type = TUTTI_FLOAT32;
  tuttiRedOp_t op = TUTTI_SUM;
  Place place{};
  tuttiComm_t comm = nullptr;
  tuttiStream_t stream = nullptr;
  const VCounts* v = nullptr;  // alltoallv only
};

using CallFunction = tuttiResult_t (*)(const Call&);
CallFunction call_of(Kind kind);
const char* call_name(Kind kind);

// Success, or `what` and the texts the library has for the result.
Outcome checked(tuttiResult_t result, const char* what, tuttiComm_t comm);

}  // namespace tutti::perf
