// SPDX-License-Identifier: Apache-2.0
// Library: the functions that are measured: ours, or (--library PATH) those of another library that exports NCCL's
// interface, in the same program. Types, enumerators and handles of include/tutti/tutti.h have NCCL's layout and
// values, so one table serves both.
#pragma once

#include <memory>
#include <string>

#include "perf/outcome.h"
#include "tutti/tutti.h"

namespace tutti::perf {

// FUNCTION(name, NCCL's symbol): ours is tutti + name.
#define PERF_NEEDED_FUNCTIONS(FUNCTION)                    \
  FUNCTION(GetVersion, ncclGetVersion)                     \
  FUNCTION(GetErrorString, ncclGetErrorString)             \
  FUNCTION(GetUniqueId, ncclGetUniqueId)                   \
  FUNCTION(CommInitRank, ncclCommInitRank)                 \
  FUNCTION(CommDestroy, ncclCommDestroy)                   \
  FUNCTION(GroupStart, ncclGroupStart)                     \
  FUNCTION(GroupEnd, ncclGroupEnd)                         \
  FUNCTION(AllReduce, ncclAllReduce)                       \
  FUNCTION(AllGather, ncclAllGather)                       \
  FUNCTION(ReduceScatter, ncclReduceScatter)               \
  FUNCTION(Broadcast, ncclBroadcast)                       \
  FUNCTION(Reduce, ncclReduce)                             \
  FUNCTION(Send, ncclSend)                                 \
  FUNCTION(Recv, ncclRecv)                                 \
  FUNCTION(RedOpCreatePreMulSum, ncclRedOpCreatePreMulSum) \
  FUNCTION(RedOpDestroy, ncclRedOpDestroy)
// Null where they are missing: what older versions lack, and what NCCL does not have at all (then the symbol is ours,
// which our libnccl.so.2 exports too).
#define PERF_OPTIONAL_FUNCTIONS(FUNCTION)                  \
  FUNCTION(GetLastError, ncclGetLastError)                 \
  FUNCTION(AllToAll, ncclAlltoAll)                         \
  FUNCTION(Gather, ncclGather)                             \
  FUNCTION(Scatter, ncclScatter)                           \
  FUNCTION(MemAlloc, ncclMemAlloc)                         \
  FUNCTION(MemAllocDevice, tuttiMemAllocDevice)            \
  FUNCTION(MemFree, ncclMemFree)                           \
  FUNCTION(CommRegister, ncclCommRegister)                 \
  FUNCTION(CommDeregister, ncclCommDeregister)             \
  FUNCTION(CommWindowRegister, ncclCommWindowRegister)     \
  FUNCTION(CommWindowDeregister, ncclCommWindowDeregister) \
  FUNCTION(AllToAllV, tuttiAllToAllV)                      \
  FUNCTION(Barrier, tuttiBarrier)                          \
  FUNCTION(StreamCreate, tuttiStreamCreate)                \
  FUNCTION(StreamSynchronize, tuttiStreamSynchronize)      \
  FUNCTION(StreamDestroy, tuttiStreamDestroy)

class Library {
 public:
  static const Library& own();
  // Loaded with RTLD_LOCAL and never unloaded.
  static Outcome open(const std::string& path, std::unique_ptr<const Library>* library);

  bool is_own() const { return path_.empty(); }
  const std::string& path() const { return path_; }
  // "tuttiAllReduce", "ncclAllReduce".
  std::string name(const char* function) const { return (is_own() ? "tutti" : "nccl") + std::string(function); }
  // Joins on `device`: NCCL's interface takes the one that is current.
  tuttiResult_t join(tuttiComm_t* comm, int n, const tuttiUniqueId& id, int rank, int device) const;
  // Success, or the function and the texts the library has for the result.
  Outcome checked(tuttiResult_t result, const char* function, tuttiComm_t comm) const;

#define PERF_MEMBER(function, symbol) decltype(&::tutti##function) function = nullptr;
  PERF_NEEDED_FUNCTIONS(PERF_MEMBER)
  PERF_OPTIONAL_FUNCTIONS(PERF_MEMBER)
#undef PERF_MEMBER

 private:
  std::string path_;
};

}  // namespace tutti::perf
