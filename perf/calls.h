// SPDX-License-Identifier: Apache-2.0
// The calls that are measured, behind one signature.
#pragma once

#include "perf/collectives.h"
#include "perf/library.h"
#include "tutti/tutti.h"

namespace tutti::perf {

struct Call {
  const void* send = nullptr;
  void* recv = nullptr;
  size_t count = 0;
  tuttiDataType_t type = TUTTI_FLOAT32;
  size_t type_bytes = 4;
  tuttiRedOp_t op = TUTTI_SUM;
  Place place{};
  tuttiComm_t comm = nullptr;
  tuttiStream_t stream = nullptr;
  const VCounts* v = nullptr;  // alltoallv only
};

using CallFunction = tuttiResult_t (*)(const Library&, const Call&);
// Where the library lacks the collective: a group of sends and receives, as nccl-tests has it.
CallFunction call_of(Kind kind, const Library& library);
const char* call_name(Kind kind);  // without the library's prefix

}  // namespace tutti::perf
