// SPDX-License-Identifier: Apache-2.0
// Collectives, sends and receives, operators, groups and memory of NCCL's interface.
#include "nccl/shim.h"

using namespace tutti;
using namespace tutti::nccl;

namespace {

constexpr unsigned kSimInfoMagic = 0x74685283;  // of NCCL_SIM_INFO_INITIALIZER

// Groups of this thread, counted here as well: one word of static TLS, as in the core.
thread_local int t_open_groups __attribute__((tls_model("initial-exec"))) = 0;

}  // namespace

bool tutti::nccl::group_is_open() { return t_open_groups > 0; }

extern "C" {

ncclResult_t ncclAllReduce(const void* sendbuff, void* recvbuff, size_t count, ncclDataType_t datatype, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  return theirs(tuttiAllReduce(sendbuff, recvbuff, count, ours(datatype), ours(op), ours(comm), ours(stream)));
}

ncclResult_t ncclReduce(const void* sendbuff, void* recvbuff, size_t count, ncclDataType_t datatype, ncclRedOp_t op,
                        int root, ncclComm_t comm, cudaStream_t stream) {
  return theirs(tuttiReduce(sendbuff, recvbuff, count, ours(datatype), ours(op), root, ours(comm), ours(stream)));
}

ncclResult_t ncclReduceScatter(const void* sendbuff, void* recvbuff, size_t recvcount, ncclDataType_t datatype,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return theirs(tuttiReduceScatter(sendbuff, recvbuff, recvcount, ours(datatype), ours(op), ours(comm), ours(stream)));
}

ncclResult_t ncclBroadcast(const void* sendbuff, void* recvbuff, size_t count, ncclDataType_t datatype, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return theirs(tuttiBroadcast(sendbuff, recvbuff, count, ours(datatype), root, ours(comm), ours(stream)));
}

ncclResult_t ncclBcast(void* buff, size_t count, ncclDataType_t datatype, int root, ncclComm_t comm,
                       cudaStream_t stream) {
  return theirs(tuttiBroadcast(buff, buff, count, ours(datatype), root, ours(comm), ours(stream)));
}

ncclResult_t ncclAllGather(const void* sendbuff, void* recvbuff, size_t sendcount, ncclDataType_t datatype,
                           ncclComm_t comm, cudaStream_t stream) {
  return theirs(tuttiAllGather(sendbuff, recvbuff, sendcount, ours(datatype), ours(comm), ours(stream)));
}

ncclResult_t ncclAlltoAll(const void* sendbuff, void* recvbuff, size_t count, ncclDataType_t datatype, ncclComm_t comm,
                          cudaStream_t stream) {
  return theirs(tuttiAllToAll(sendbuff, recvbuff, count, ours(datatype), ours(comm), ours(stream)));
}

ncclResult_t ncclGather(const void* sendbuff, void* recvbuff, size_t count, ncclDataType_t datatype, int root,
                        ncclComm_t comm, cudaStream_t stream) {
  return theirs(tuttiGather(sendbuff, recvbuff, count, ours(datatype), root, ours(comm), ours(stream)));
}

ncclResult_t ncclScatter(const void* sendbuff, void* recvbuff, size_t count, ncclDataType_t datatype, int root,
                         ncclComm_t comm, cudaStream_t stream) {
  return theirs(tuttiScatter(sendbuff, recvbuff, count, ours(datatype), root, ours(comm), ours(stream)));
}

ncclResult_t ncclSend(const void* sendbuff, size_t count, ncclDataType_t datatype, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return theirs(tuttiSend(sendbuff, count, ours(datatype), peer, ours(comm), ours(stream)));
}

ncclResult_t ncclRecv(void* recvbuff, size_t count, ncclDataType_t datatype, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return theirs(tuttiRecv(recvbuff, count, ours(datatype), peer, ours(comm), ours(stream)));
}

ncclResult_t ncclPutSignal(const void*, size_t, ncclDataType_t, int, ncclWindow_t, size_t, int, int, unsigned int,
                           ncclComm_t, cudaStream_t) {
  return refuse(__func__, "there are no one-sided operations; use ncclSend and ncclRecv");
}

ncclResult_t ncclSignal(int, int, int, unsigned int, ncclComm_t, cudaStream_t) {
  return refuse(__func__, "there are no one-sided operations; use ncclSend and ncclRecv");
}

ncclResult_t ncclWaitSignal(int, ncclWaitSignalDesc_t*, ncclComm_t, cudaStream_t) {
  return refuse(__func__, "there are no one-sided operations; use ncclSend and ncclRecv");
}

ncclResult_t ncclRedOpCreatePreMulSum(ncclRedOp_t* op, void* scalar, ncclDataType_t datatype,
                                      ncclScalarResidence_t residence, ncclComm_t comm) {
  tuttiRedOp_t made = TUTTI_SUM;
  const tuttiResult_t result = tuttiRedOpCreatePreMulSum(op != nullptr ? &made : nullptr, scalar, ours(datatype),
                                                         static_cast<tuttiScalarResidence_t>(residence), ours(comm));
  if (result == TUTTI_SUCCESS) *op = static_cast<ncclRedOp_t>(made);
  return theirs(result);
}

ncclResult_t ncclRedOpDestroy(ncclRedOp_t op, ncclComm_t comm) {
  return theirs(tuttiRedOpDestroy(ours(op), ours(comm)));
}

ncclResult_t ncclGroupStart() {
  const tuttiResult_t result = tuttiGroupStart();
  if (result == TUTTI_SUCCESS) ++t_open_groups;
  return theirs(result);
}

ncclResult_t ncclGroupEnd() {
  if (t_open_groups > 0) --t_open_groups;
  return theirs(tuttiGroupEnd());
}

ncclResult_t ncclGroupSimulateEnd(ncclSimInfo_t* simInfo) {
  constexpr size_t kNeeded = offsetof(ncclSimInfo_t, estimatedTime) + sizeof(float);
  const bool usable = simInfo != nullptr && simInfo->magic == kSimInfoMagic && simInfo->size >= kNeeded;
  if (t_open_groups > 0) --t_open_groups;
  double microseconds = 0;
  const tuttiResult_t result = tuttiGroupSimulateEnd(&microseconds);  // closes the group whatever simInfo is
  if (!usable) {
    const char* const function = __func__;
    return theirs(entry(function, [&] {
      return invalid_argument("{}: simInfo is {}: start from NCCL_SIM_INFO_INITIALIZER", function,
                              simInfo == nullptr ? "NULL" : "not initialised");
    }));
  }
  if (result == TUTTI_SUCCESS) simInfo->estimatedTime = static_cast<float>(microseconds);
  return theirs(result);
}

ncclResult_t ncclMemAlloc(void** ptr, size_t size) {
  if (!on_gpus() || ptr == nullptr || size == 0) return theirs(tuttiMemAlloc(ptr, size));
  const char* const function = __func__;
  return theirs(entry(function, [&]() -> Status {
    *ptr = nullptr;
    TUTTI_ASSIGN_OR_RETURN(*ptr, allocate_on_gpu(function, size));
    return {};
  }));
}

ncclResult_t ncclMemFree(void* ptr) { return theirs(tuttiMemFree(ptr)); }

ncclResult_t ncclCommRegister(const ncclComm_t comm, void* buff, size_t size, void** handle) {
  return theirs(tuttiCommRegister(ours(comm), buff, size, handle));
}

ncclResult_t ncclCommDeregister(const ncclComm_t comm, void* handle) {
  return theirs(tuttiCommDeregister(ours(comm), handle));
}

ncclResult_t ncclCommWindowRegister(ncclComm_t comm, void* buff, size_t size, ncclWindow_t* win, int winFlags) {
  // NCCL's flags say how a window is to be used; ours are always collective and symmetric.
  constexpr int kKnown = NCCL_WIN_COLL_SYMMETRIC | NCCL_WIN_STRICT_ORDERING;
  if ((winFlags & ~kKnown) != 0) {
    const char* const function = __func__;
    return theirs(entry(function, [&] {
      return invalid_argument("{}: winFlags is {:#x}: pass NCCL_WIN_DEFAULT or NCCL_WIN_COLL_SYMMETRIC", function,
                              winFlags);
    }));
  }
  return theirs(tuttiCommWindowRegister(ours(comm), buff, size, reinterpret_cast<tuttiWindow_t*>(win), 0));
}

ncclResult_t ncclCommWindowDeregister(ncclComm_t comm, ncclWindow_t win) {
  return theirs(tuttiCommWindowDeregister(ours(comm), reinterpret_cast<tuttiWindow_t>(win)));
}

ncclResult_t ncclWinGetUserPtr(ncclComm_t, ncclWindow_t, void**) {
  return refuse(__func__, "keep the pointer that ncclCommWindowRegister was given");
}

}  // extern "C"

NCCL_TWIN(ncclAllReduce);
NCCL_TWIN(ncclReduce);
NCCL_TWIN(ncclReduceScatter);
NCCL_TWIN(ncclBroadcast);
NCCL_TWIN(ncclBcast);
NCCL_TWIN(ncclAllGather);
NCCL_TWIN(ncclAlltoAll);
NCCL_TWIN(ncclGather);
NCCL_TWIN(ncclScatter);
NCCL_TWIN(ncclSend);
NCCL_TWIN(ncclRecv);
NCCL_TWIN(ncclPutSignal);
NCCL_TWIN(ncclSignal);
NCCL_TWIN(ncclWaitSignal);
NCCL_TWIN(ncclRedOpCreatePreMulSum);
NCCL_TWIN(ncclRedOpDestroy);
NCCL_TWIN(ncclGroupStart);
NCCL_TWIN(ncclGroupEnd);
NCCL_TWIN(ncclGroupSimulateEnd);
NCCL_TWIN(ncclMemAlloc);
NCCL_TWIN(ncclMemFree);
NCCL_TWIN(ncclCommRegister);
NCCL_TWIN(ncclCommDeregister);
NCCL_TWIN(ncclCommWindowRegister);
NCCL_TWIN(ncclCommWindowDeregister);
NCCL_TWIN(ncclWinGetUserPtr);
