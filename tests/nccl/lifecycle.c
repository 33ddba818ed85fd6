/* SPDX-License-Identifier: Apache-2.0
 * How communicators come and go in NCCL's interface, on CPU ranks: several at once, split, shrink, grow, groups of
 * initialisations, non-blocking ones, finalize, abort. Usage: lifecycle [ranks] */
#include <limits.h>
#include <sched.h>
#include <stdint.h>

#include "program.h"

/* The sum of `mine` over the communicator. */
static int64_t sum(ncclComm_t comm, int64_t mine) {
  int64_t result = -1;
  OK(ncclAllReduce(&mine, &result, 1, ncclInt64, ncclSum, comm, NULL));
  return result;
}

static void is_rank(ncclComm_t comm, int rank, int n) {
  int me = -1, count = -1;
  OK(ncclCommUserRank(comm, &me));
  OK(ncclCommCount(comm, &count));
  EXPECT(me == rank && count == n);
}

/* Until a non-blocking call is done; gives its result. */
static ncclResult_t done(ncclComm_t comm) {
  ncclResult_t state = ncclInProgress;
  while (state == ncclInProgress) {
    OK(ncclCommGetAsyncError(comm, &state));
    sched_yield();
  }
  return state;
}

static void split_it(ncclComm_t comm, int rank, int n) {
  /* By parity, in reverse order. */
  ncclComm_t half = NULL;
  OK(ncclCommSplit(comm, rank % 2, -rank, &half, NULL));
  const int members = rank % 2 == 0 ? (n + 1) / 2 : n / 2;
  is_rank(half, members - 1 - rank / 2, members);
  int64_t expected = 0;
  for (int r = rank % 2; r < n; r += 2) expected += r;
  EXPECT(sum(half, rank) == expected);
  EXPECT(sum(comm, 1) == n); /* the parent goes on working */

  /* Nobody but rank 0 in the second: the others get none. */
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.splitShare = 1;
  ncclComm_t alone = (ncclComm_t)&config;
  OK(ncclCommSplit(comm, rank == 0 ? 3 : NCCL_SPLIT_NOCOLOR, 0, &alone, &config));
  EXPECT((alone != NULL) == (rank == 0));
  if (alone != NULL) is_rank(alone, 0, 1);
  if (alone != NULL) OK(ncclCommDestroy(alone));
  OK(ncclCommDestroy(half));
}

static void shrink_and_grow(ncclComm_t comm, int rank, int n) {
  if (n < 2) return;
  /* Without the last rank, which does not call. */
  int excluded = n - 1;
  ncclComm_t fewer = NULL;
  if (rank != excluded) {
    OK(ncclCommShrink(comm, &excluded, 1, &fewer, NULL, NCCL_SHRINK_DEFAULT));
    is_rank(fewer, rank, n - 1);
    EXPECT(sum(fewer, 2) == 2 * (n - 1));
  }
  /* And back again: rank 0 of the smaller one makes the id, the last rank is new. */
  ncclUniqueId id;
  ncclComm_t all = NULL;
  if (rank == 0) OK(ncclCommGetUniqueId(fewer, &id));
  OK(ncclBroadcast(&id, &id, sizeof id, ncclUint8, 0, comm, NULL));
  if (rank == excluded) {
    OK(ncclCommGrow(NULL, n, &id, n - 1, &all, NULL));
  } else {
    OK(ncclCommGrow(fewer, n, rank == 0 ? &id : NULL, -1, &all, NULL));
  }
  is_rank(all, rank, n);
  EXPECT(sum(all, rank) == (int64_t)n * (n - 1) / 2);
  OK(ncclCommDestroy(all));
  if (fewer != NULL) OK(ncclCommDestroy(fewer));
}

static void non_blocking(int rank, int n) {
  const ncclUniqueId id = share_id(rank, n);
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclComm_t comm = NULL;
  const ncclResult_t begun = ncclCommInitRankConfig(&comm, n, id, rank, &config);
  EXPECT((begun == ncclInProgress || begun == ncclSuccess) && comm != NULL);
  EXPECT(done(comm) == ncclSuccess);
  is_rank(comm, rank, n);
  int64_t mine = rank, total = -1;
  const ncclResult_t queued = ncclAllReduce(&mine, &total, 1, ncclInt64, ncclSum, comm, NULL);
  EXPECT(queued == ncclInProgress || queued == ncclSuccess);
  EXPECT(done(comm) == ncclSuccess);
  EXPECT(total == (int64_t)n * (n - 1) / 2);
  const ncclResult_t finalizing = ncclCommFinalize(comm);
  EXPECT(finalizing == ncclInProgress || finalizing == ncclSuccess);
  EXPECT(done(comm) == ncclSuccess);
  OK(ncclCommDestroy(comm));
}

static void work(int rank, int n) {
  /* Two communicators that come into being in one group. */
  const ncclUniqueId first = share_id(rank, n);
  const ncclUniqueId second = share_id(rank, n);
  ncclComm_t a = NULL, b = NULL;
  OK(ncclGroupStart());
  OK(ncclCommInitRank(&a, n, first, rank));
  OK(ncclCommInitRank(&b, n, second, n - 1 - rank));
  OK(ncclGroupEnd());
  is_rank(a, rank, n);
  is_rank(b, n - 1 - rank, n);
  EXPECT(sum(a, 1) == n && sum(b, rank) == (int64_t)n * (n - 1) / 2);

  split_it(a, rank, n);
  shrink_and_grow(b, n - 1 - rank, n);
  non_blocking(rank, n);

  OK(ncclCommFinalize(a));
  OK(ncclCommDestroy(a));
  REFUSED(ncclInvalidArgument, ncclCommDestroy(a)); /* what is gone is known to be gone */

  /* Everybody ends it without waiting for the others. */
  OK(ncclCommAbort(b));
}

int main(int argc, char** argv) { return run_ranks(argc > 1 ? atoi(argv[1]) : 3, work); }
