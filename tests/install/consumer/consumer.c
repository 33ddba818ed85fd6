/* SPDX-License-Identifier: Apache-2.0
 * A C99 program of another project: header and library are of one version. */
#include <stdio.h>
#include <tutti/tutti.h>

int main(void) {
  int version = 0;
  const tuttiResult_t result = tuttiGetVersion(&version);
  printf("compiled with %d, running with %d: %s\n", TUTTI_VERSION_CODE, version, tuttiGetErrorString(result));
  return result == TUTTI_SUCCESS && version == TUTTI_VERSION_CODE ? 0 : 1;
}
