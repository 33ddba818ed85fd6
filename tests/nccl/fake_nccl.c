/* SPDX-License-Identifier: Apache-2.0
 * Stands for another vendor's libnccl.so.2 in tests of living beside one: it has the names, and says which it is. */
#include <nccl.h>

enum { kFakeVersion = 21805 };

ncclResult_t ncclGetVersion(int* version) {
  *version = kFakeVersion;
  return ncclSuccess;
}
const char* ncclGetErrorString(ncclResult_t result) { return result == ncclSuccess ? "fake success" : "fake failure"; }
const char* ncclGetLastError(ncclComm_t comm) { return comm == NULL ? "fake: no error" : "fake: no communicator"; }
ncclResult_t ncclGroupStart(void) { return ncclInternalError; }
ncclResult_t ncclGroupEnd(void) { return ncclInternalError; }
ncclResult_t ncclCommInitAll(ncclComm_t* comm, int ndev, const int* devlist) {
  (void)devlist;
  for (int i = 0; i < ndev; ++i) comm[i] = NULL;
  return ncclInternalError;
}
/* Whoever lets a call of its own out reaches this. */
int tuttiCommCount(void* comm, int* count) {
  (void)comm;
  *count = -1;
  return ncclInternalError;
}
