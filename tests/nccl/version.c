/* SPDX-License-Identifier: Apache-2.0
 * A program that was linked with some libnccl.so.2: prints the version of the one it got at run time. */
#include <nccl.h>
#include <stdio.h>

int main(void) {
  int version = 0;
  const ncclResult_t result = ncclGetVersion(&version);
  printf("%d\n", version);
  return result == ncclSuccess ? 0 : 1;
}
