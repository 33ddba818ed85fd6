/* SPDX-License-Identifier: Apache-2.0
 *
 * What the C programs of this folder share. They are written as a user of NCCL would: nothing but <nccl.h>, on ranks
 * that are processes; the id travels through pipes. run_ranks() forks before the first call of the library. */
#ifndef TESTS_NCCL_PROGRAM_H_
#define TESTS_NCCL_PROGRAM_H_

#include <nccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static int g_rank;

#define EXPECT(condition)                                                              \
  do {                                                                                 \
    if (!(condition)) {                                                                \
      fprintf(stderr, "%s:%d: rank %d: %s\n", __FILE__, __LINE__, g_rank, #condition); \
      exit(1);                                                                         \
    }                                                                                  \
  } while (0)

#define OK(call)                                                                         \
  do {                                                                                   \
    const ncclResult_t ok_result = (call);                                               \
    if (ok_result != ncclSuccess) {                                                      \
      fprintf(stderr, "%s:%d: rank %d: %s: %s: %s\n", __FILE__, __LINE__, g_rank, #call, \
              ncclGetErrorString(ok_result), ncclGetLastError(NULL));                    \
      exit(1);                                                                           \
    }                                                                                    \
  } while (0)

/* The call is refused with this code, and the text says something. */
#define REFUSED(code, call)                                                                              \
  do {                                                                                                   \
    const ncclResult_t refused_result = (call);                                                          \
    if (refused_result != (code) || ncclGetLastError(NULL)[0] == '\0') {                                 \
      fprintf(stderr, "%s:%d: rank %d: %s: got %d (%s), text '%s'\n", __FILE__, __LINE__, g_rank, #call, \
              (int)refused_result, ncclGetErrorString(refused_result), ncclGetLastError(NULL));          \
      exit(1);                                                                                           \
    }                                                                                                    \
  } while (0)

/* A pipe to each rank: rank 0 writes the ids, in the order in which the rank reads them. */
static int (*g_pipes)[2];

static ncclUniqueId share_id(int rank, int n) {
  ncclUniqueId id;
  if (rank == 0) {
    OK(ncclGetUniqueId(&id));
    for (int to = 1; to < n; ++to) EXPECT(write(g_pipes[to][1], &id, sizeof id) == (ssize_t)sizeof id);
  } else {
    EXPECT(read(g_pipes[rank][0], &id, sizeof id) == (ssize_t)sizeof id);
  }
  return id;
}

/* Runs work(rank, n) in n processes and exits with failure when one of them fails. */
static int run_ranks(int n, void (*work)(int rank, int n)) {
  g_pipes = calloc((size_t)n, sizeof *g_pipes);
  EXPECT(g_pipes != NULL);
  for (int rank = 1; rank < n; ++rank) EXPECT(pipe(g_pipes[rank]) == 0);
  for (int rank = 1; rank < n; ++rank) {
    const pid_t child = fork();
    EXPECT(child >= 0);
    if (child == 0) {
      g_rank = rank;
      for (int other = 1; other < n; ++other) close(g_pipes[other][1]); /* when rank 0 dies, reading ends */
      work(rank, n);
      _exit(0);
    }
  }
  work(0, n);
  int failures = 0;
  for (int rank = 1; rank < n; ++rank) {
    int status = 0;
    EXPECT(wait(&status) > 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) ++failures;
  }
  return failures;
}

#endif /* TESTS_NCCL_PROGRAM_H_ */
