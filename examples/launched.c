/* SPDX-License-Identifier: Apache-2.0
 * A rank for each process that a launcher has started: tutti run -n 4 -- ./launched, or mpirun, srun, torchrun. */
#include <stdio.h>
#include <tutti/tutti.h>

static int fail(tuttiResult_t result) {
  fprintf(stderr, "%s: %s\n", tuttiGetErrorString(result), tuttiGetLastError(NULL));
  return 1;
}

int main(void) {
  tuttiComm_t comm;
  tuttiResult_t result = tuttiCommInitEnv(&comm, NULL); /* NULL: the defaults, so a rank on the CPU */
  if (result != TUTTI_SUCCESS) return fail(result);
  int rank = 0, ranks = 0;
  tuttiCommRank(comm, &rank);
  tuttiCommCount(comm, &ranks);

  const float mine = (float)(rank + 1);
  float sum = 0;
  result = tuttiAllReduce(&mine, &sum, 1, TUTTI_FLOAT32, TUTTI_SUM, comm, NULL); /* no stream: done when it returns */
  if (result != TUTTI_SUCCESS) return fail(result);
  printf("rank %d of %d: sum %g\n", rank, ranks, sum);

  result = tuttiCommDestroy(comm);
  return result == TUTTI_SUCCESS ? 0 : fail(result);
}
