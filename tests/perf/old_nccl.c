/* SPDX-License-Identifier: Apache-2.0
 * A library of NCCL's interface as its older versions have it: no error text, no all-to-all, gather, scatter, no memory
 * of its own, no barrier, no streams. For --library. */
#include <tutti/tutti.h>

#define EXPORT __attribute__((visibility("default")))

EXPORT tuttiResult_t ncclGetVersion(int* version) {
  *version = 21205;
  return TUTTI_SUCCESS;
}
EXPORT const char* ncclGetErrorString(tuttiResult_t result) { return tuttiGetErrorString(result); }
EXPORT tuttiResult_t ncclGetUniqueId(tuttiUniqueId* id) { return tuttiGetUniqueId(id); }
EXPORT tuttiResult_t ncclCommInitRank(tuttiComm_t* comm, int n, tuttiUniqueId id, int rank) {
  return tuttiCommInitRank(comm, n, id, rank);
}
EXPORT tuttiResult_t ncclCommDestroy(tuttiComm_t comm) { return tuttiCommDestroy(comm); }
EXPORT tuttiResult_t ncclGroupStart(void) { return tuttiGroupStart(); }
EXPORT tuttiResult_t ncclGroupEnd(void) { return tuttiGroupEnd(); }
EXPORT tuttiResult_t ncclAllReduce(const void* send, void* recv, size_t count, tuttiDataType_t type, tuttiRedOp_t op,
                                   tuttiComm_t comm, tuttiStream_t stream) {
  return tuttiAllReduce(send, recv, count, type, op, comm, stream);
}
EXPORT tuttiResult_t ncclAllGather(const void* send, void* recv, size_t count, tuttiDataType_t type, tuttiComm_t comm,
                                   tuttiStream_t stream) {
  return tuttiAllGather(send, recv, count, type, comm, stream);
}
EXPORT tuttiResult_t ncclReduceScatter(const void* send, void* recv, size_t count, tuttiDataType_t type,
                                       tuttiRedOp_t op, tuttiComm_t comm, tuttiStream_t stream) {
  return tuttiReduceScatter(send, recv, count, type, op, comm, stream);
}
EXPORT tuttiResult_t ncclBroadcast(const void* send, void* recv, size_t count, tuttiDataType_t type, int root,
                                   tuttiComm_t comm, tuttiStream_t stream) {
  return tuttiBroadcast(send, recv, count, type, root, comm, stream);
}
EXPORT tuttiResult_t ncclReduce(const void* send, void* recv, size_t count, tuttiDataType_t type, tuttiRedOp_t op,
                                int root, tuttiComm_t comm, tuttiStream_t stream) {
  return tuttiReduce(send, recv, count, type, op, root, comm, stream);
}
EXPORT tuttiResult_t ncclSend(const void* send, size_t count, tuttiDataType_t type, int peer, tuttiComm_t comm,
                              tuttiStream_t stream) {
  return tuttiSend(send, count, type, peer, comm, stream);
}
EXPORT tuttiResult_t ncclRecv(void* recv, size_t count, tuttiDataType_t type, int peer, tuttiComm_t comm,
                              tuttiStream_t stream) {
  return tuttiRecv(recv, count, type, peer, comm, stream);
}
EXPORT tuttiResult_t ncclRedOpCreatePreMulSum(tuttiRedOp_t* op, void* scalar, tuttiDataType_t type,
                                              tuttiScalarResidence_t residence, tuttiComm_t comm) {
  return tuttiRedOpCreatePreMulSum(op, scalar, type, residence, comm);
}
EXPORT tuttiResult_t ncclRedOpDestroy(tuttiRedOp_t op, tuttiComm_t comm) { return tuttiRedOpDestroy(op, comm); }
