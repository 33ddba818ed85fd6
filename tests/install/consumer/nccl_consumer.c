/* SPDX-License-Identifier: Apache-2.0
 * A program of another project that was written for NCCL: header and library are of one version. */
#define TUTTI_NCCL_NO_CUDA
#include <nccl.h>
#include <stdio.h>

int main(void) {
  int version = 0;
  const ncclResult_t result = ncclGetVersion(&version);
  printf("compiled with NCCL %d, running with %d: %s\n", NCCL_VERSION_CODE, version, ncclGetErrorString(result));
  return result == ncclSuccess && version == NCCL_VERSION_CODE ? 0 : 1;
}
