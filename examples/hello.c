/* SPDX-License-Identifier: Apache-2.0
 * Two ranks in one process add their numbers: each gets 1 + 2. */
#include <stdio.h>
#include <tutti/tutti.h>

static int fail(tuttiResult_t result) {
  fprintf(stderr, "%s: %s\n", tuttiGetErrorString(result), tuttiGetLastError(NULL));
  return 1;
}

int main(void) {
  tuttiComm_t comm[2];
  float send[2] = {1, 2}, recv[2];
  tuttiResult_t result = tuttiCommInitAll(comm, 2, NULL); /* NULL: both ranks on the CPU */
  if (result != TUTTI_SUCCESS) return fail(result);

  tuttiGroupStart(); /* one thread speaks for both ranks: a group carries their calls together */
  for (int rank = 0; rank < 2; ++rank)
    tuttiAllReduce(&send[rank], &recv[rank], 1, TUTTI_FLOAT32, TUTTI_SUM, comm[rank], NULL);
  result = tuttiGroupEnd();
  if (result != TUTTI_SUCCESS) return fail(result);

  for (int rank = 0; rank < 2; ++rank) printf("rank %d of 2: sum %g\n", rank, recv[rank]);
  for (int rank = 0; rank < 2; ++rank) tuttiCommDestroy(comm[rank]);
  return 0;
}
