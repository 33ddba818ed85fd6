// SPDX-License-Identifier: Apache-2.0
// What the files of the shim share: NCCL's types as ours, a name for the twin of each function, and refusals.
//
// The shim is thin on purpose: handles, codes, types and operators of NCCL are those of tutti.h (tests/abi and
// tests/nccl hold them together), so a call is a cast and a call. What is not so simple has a file of its own:
// configurations (config.h), variables (variables.h).
#pragma once

// All of the interface is implemented, whatever version is reported; CUDA's types are not needed for it.
#define TUTTI_NCCL_MINOR 30
#define TUTTI_NCCL_NO_CUDA 1
#pragma GCC visibility push(default)
#include <nccl.h>
#pragma GCC visibility pop

#include "api/entry.h"
#include "nccl/gpus.h"
#include "tutti/tutti.h"

// The second name of a function of the interface, under which tools reach it when they wrap the first.
#define NCCL_TWIN(name) \
  extern "C" __attribute__((visibility("default"), alias(#name))) decltype(name) p##name  // NOLINT

namespace tutti::nccl {

static_assert(sizeof(ncclUniqueId) == sizeof(tuttiUniqueId));
static_assert(ncclInProgress == static_cast<int>(TUTTI_IN_PROGRESS) &&
              ncclFloat8e5m2 == static_cast<int>(TUTTI_FLOAT8_E5M2) && ncclAvg == static_cast<int>(TUTTI_AVG) &&
              ncclNumOps == static_cast<int>(TUTTI_NUM_OPS));
static_assert(ncclScalarHostImmediate == static_cast<int>(TUTTI_SCALAR_HOST_IMMEDIATE));
static_assert(NCCL_SPLIT_NOCOLOR == TUTTI_SPLIT_NOCOLOR && NCCL_CONFIG_UNDEF_INT == TUTTI_UNDEFINED_INT);

inline ncclResult_t theirs(tuttiResult_t result) { return static_cast<ncclResult_t>(result); }
inline tuttiComm_t ours(ncclComm_t comm) { return reinterpret_cast<tuttiComm_t>(comm); }
inline tuttiComm_t* ours(ncclComm_t* comm) { return reinterpret_cast<tuttiComm_t*>(comm); }
inline tuttiDataType_t ours(ncclDataType_t type) { return static_cast<tuttiDataType_t>(type); }
inline tuttiRedOp_t ours(ncclRedOp_t op) { return static_cast<tuttiRedOp_t>(op); }

// On GPUs a stream is what it says. CUDA's default streams, NULL and the handles 1 (legacy) and 2 (per thread), are the
// calling thread on the CPU; any other value is a tuttiStream_t there or, as the core finds out without following it, an
// error.
inline tuttiStream_t ours(cudaStream_t stream) {
  const auto value = reinterpret_cast<uintptr_t>(stream);
  return value <= 2 && !on_gpus() ? nullptr : reinterpret_cast<tuttiStream_t>(value);
}

// Before what can be a program's first call: tells the log about version and variables, once; fails when the
// environment does not parse.
Status start();

// Counts what this thread has open, for calls that cannot be in a group.
bool group_is_open();

// InvalidUsage with a text: "FUNCTION: not available in Tutti's libnccl: WHY".
ncclResult_t refuse(const char* function, const char* why);

}  // namespace tutti::nccl
