/* SPDX-License-Identifier: Apache-2.0
 * Every collective of NCCL's interface on CPU ranks, values checked, on two communicators at once; operators, groups,
 * in place, zero counts, streams, and what is to be refused. Usage: collectives [ranks] */
#include <stdint.h>
#include <string.h>

#include "program.h"

enum { kCount = 1003 };

/* What rank `rank` contributes at place i: small, so that sums and products are exact in every type. */
static int value(int rank, int i) { return (rank + 1) * (i % 7) + 1; }

static void fill(int32_t* buffer, int count, int rank) {
  for (int i = 0; i < count; ++i) buffer[i] = value(rank, i);
}

static int32_t combined(ncclRedOp_t op, int n, int i) {
  int32_t result = value(0, i);
  for (int rank = 1; rank < n; ++rank) {
    const int32_t next = value(rank, i);
    if (op == ncclSum || op == ncclAvg) result += next;
    if (op == ncclProd) result *= next;
    if (op == ncclMax && next > result) result = next;
    if (op == ncclMin && next < result) result = next;
  }
  return op == ncclAvg ? result / n : result;
}

static void reductions(ncclComm_t comm, int rank, int n) {
  int32_t* send = malloc(sizeof(int32_t) * kCount * (size_t)n);
  int32_t* recv = malloc(sizeof(int32_t) * kCount * (size_t)n);
  for (int op = ncclSum; op <= ncclAvg; ++op) {
    fill(send, kCount, rank);
    OK(ncclAllReduce(send, recv, kCount, ncclInt32, (ncclRedOp_t)op, comm, NULL));
    for (int i = 0; i < kCount; ++i) EXPECT(recv[i] == combined((ncclRedOp_t)op, n, i));
    OK(pncclAllReduce(send, send, kCount, ncclInt32, (ncclRedOp_t)op, comm, NULL)); /* in place, by the other name */
    EXPECT(memcmp(send, recv, sizeof(int32_t) * kCount) == 0);

    for (int root = 0; root < n; ++root) {
      fill(send, kCount, rank);
      memset(recv, 0x55, sizeof(int32_t) * kCount);
      OK(ncclReduce(send, recv, kCount, ncclInt32, (ncclRedOp_t)op, root, comm, NULL));
      for (int i = 0; i < kCount; ++i) EXPECT(recv[i] == (rank == root ? combined((ncclRedOp_t)op, n, i) : 0x55555555));
    }

    fill(send, kCount * n, rank);
    OK(ncclReduceScatter(send, recv, kCount, ncclInt32, (ncclRedOp_t)op, comm, NULL));
    for (int i = 0; i < kCount; ++i) EXPECT(recv[i] == combined((ncclRedOp_t)op, n, rank * kCount + i));
  }
  free(send);
  free(recv);
}

static void copies(ncclComm_t comm, int rank, int n) {
  int32_t* send = malloc(sizeof(int32_t) * kCount * (size_t)n);
  int32_t* recv = malloc(sizeof(int32_t) * kCount * (size_t)n);
  for (int root = 0; root < n; ++root) {
    fill(send, kCount * n, rank);
    OK(ncclBroadcast(send, recv, kCount, ncclInt32, root, comm, NULL));
    for (int i = 0; i < kCount; ++i) EXPECT(recv[i] == value(root, i));
    fill(recv, kCount, rank);
    OK(ncclBcast(recv, kCount, ncclInt32, root, comm, NULL));
    for (int i = 0; i < kCount; ++i) EXPECT(recv[i] == value(root, i));

    OK(ncclGather(send, recv, kCount, ncclInt32, root, comm, NULL));
    for (int from = 0; rank == root && from < n; ++from)
      for (int i = 0; i < kCount; ++i) EXPECT(recv[from * kCount + i] == value(from, i));
    OK(ncclScatter(send, recv, kCount, ncclInt32, root, comm, NULL));
    for (int i = 0; i < kCount; ++i) EXPECT(recv[i] == value(root, rank * kCount + i));
  }
  fill(send, kCount * n, rank);
  OK(ncclAllGather(send, recv, kCount, ncclInt32, comm, NULL));
  for (int from = 0; from < n; ++from)
    for (int i = 0; i < kCount; ++i) EXPECT(recv[from * kCount + i] == value(from, i));
  OK(ncclAlltoAll(send, recv, kCount, ncclInt32, comm, NULL));
  for (int from = 0; from < n; ++from)
    for (int i = 0; i < kCount; ++i) EXPECT(recv[from * kCount + i] == value(from, rank * kCount + i));

  /* Around the ring: everybody sends before anybody could have received. */
  OK(ncclGroupStart());
  OK(ncclSend(send, kCount, ncclInt32, (rank + 1) % n, comm, NULL));
  OK(ncclRecv(recv, kCount, ncclInt32, (rank + n - 1) % n, comm, NULL));
  OK(ncclGroupEnd());
  for (int i = 0; i < kCount; ++i) EXPECT(recv[i] == value((rank + n - 1) % n, i));
  free(send);
  free(recv);
}

static void types(ncclComm_t comm, int n) {
#define ALL_REDUCE_ONES(type, nccl_type, one, sum)                    \
  do {                                                                \
    type send[5], recv[5];                                            \
    for (int i = 0; i < 5; ++i) send[i] = (type)(one);                \
    OK(ncclAllReduce(send, recv, 5, nccl_type, ncclSum, comm, NULL)); \
    for (int i = 0; i < 5; ++i) EXPECT(recv[i] == (type)(sum));       \
  } while (0)
  ALL_REDUCE_ONES(int8_t, ncclInt8, 1, n);
  ALL_REDUCE_ONES(uint8_t, ncclUint8, 1, n);
  ALL_REDUCE_ONES(int32_t, ncclInt, 1, n);
  ALL_REDUCE_ONES(uint32_t, ncclUint32, 1, n);
  ALL_REDUCE_ONES(int64_t, ncclInt64, 1, n);
  ALL_REDUCE_ONES(uint64_t, ncclUint64, 1, n);
  ALL_REDUCE_ONES(float, ncclFloat, 0.5f, 0.5f * (float)n);
  ALL_REDUCE_ONES(double, ncclDouble, 0.25, 0.25 * n);
#undef ALL_REDUCE_ONES
  /* The small floats by their bits: zero stays zero, and the maximum of 1.0 and nothing else is 1.0. */
  uint16_t half = 0x3c00, brain = 0x3f80;
  uint8_t e4m3 = 0x38, e5m2 = 0x3c;
  OK(ncclAllReduce(&half, &half, 1, ncclHalf, ncclMax, comm, NULL));
  OK(ncclAllReduce(&brain, &brain, 1, ncclBfloat16, ncclMax, comm, NULL));
  OK(ncclAllReduce(&e4m3, &e4m3, 1, ncclFloat8e4m3, ncclMax, comm, NULL));
  OK(ncclAllReduce(&e5m2, &e5m2, 1, ncclFloat8e5m2, ncclMax, comm, NULL));
  EXPECT(half == 0x3c00 && brain == 0x3f80 && e4m3 == 0x38 && e5m2 == 0x3c);
}

static void operators(ncclComm_t comm, int rank, int n) {
  double factor = rank + 2, send = 3, recv = 0, expected = 0;
  ncclRedOp_t op;
  for (int r = 0; r < n; ++r) expected += 3.0 * (r + 2);
  OK(ncclRedOpCreatePreMulSum(&op, &factor, ncclDouble, ncclScalarHostImmediate, comm));
  EXPECT(op >= ncclNumOps);
  factor = 99; /* was read */
  OK(ncclAllReduce(&send, &recv, 1, ncclDouble, op, comm, NULL));
  EXPECT(recv == expected);
  REFUSED(ncclInvalidArgument, ncclAllReduce(&send, &recv, 1, ncclFloat, op, comm, NULL));
  OK(ncclRedOpDestroy(op, comm));
  REFUSED(ncclInvalidArgument, ncclAllReduce(&send, &recv, 1, ncclDouble, op, comm, NULL));
}

/* Members of one group on two communicators, collectives next to a send and a receive. */
static void group(ncclComm_t a, ncclComm_t b, int rank, int n) {
  int64_t x = rank, y = rank + 100, sum = -1, most = -1, got = -1;
  OK(ncclGroupStart());
  OK(ncclGroupStart());
  OK(ncclAllReduce(&x, &sum, 1, ncclInt64, ncclSum, a, NULL));
  OK(ncclGroupEnd());
  OK(ncclAllReduce(&y, &most, 1, ncclInt64, ncclMax, b, NULL));
  OK(ncclSend(&y, 1, ncclInt64, (rank + 1) % n, b, NULL));
  OK(ncclRecv(&got, 1, ncclInt64, (rank + n - 1) % n, b, NULL));
  EXPECT(sum == -1); /* nothing starts before the end */
  OK(ncclGroupEnd());
  EXPECT(sum == (int64_t)n * (n - 1) / 2 && most == 99 + n && got == 100 + (rank + n - 1) % n);

  /* A member that is wrong makes the end start nothing. */
  sum = -1;
  OK(ncclGroupStart());
  OK(ncclAllReduce(&x, &sum, 1, ncclInt64, ncclSum, a, NULL));
  REFUSED(ncclInvalidArgument, ncclBroadcast(&x, &y, 1, ncclInt64, n, a, NULL));
  REFUSED(ncclInvalidArgument, ncclGroupEnd());
  EXPECT(sum == -1);
}

static void refusals(ncclComm_t comm, int n) {
  int32_t x = 7, y = 0;
  int number = 0;
  ncclSimInfo_t simulation = NCCL_SIM_INFO_INITIALIZER;
  REFUSED(ncclInvalidArgument, ncclAllReduce(&x, &y, 1, (ncclDataType_t)99, ncclSum, comm, NULL));
  REFUSED(ncclInvalidArgument, ncclAllReduce(&x, NULL, 1, ncclInt32, ncclSum, comm, NULL));
  REFUSED(ncclInvalidArgument, ncclReduce(&x, &y, 1, ncclInt32, ncclSum, n, comm, NULL));
  REFUSED(ncclInvalidArgument, ncclAllReduce(&x, &y, 1, ncclInt32, ncclSum, NULL, NULL));
  REFUSED(ncclInvalidArgument, ncclCommCount(comm, NULL));
  /* A stream of somebody else: told apart without being followed. */
  REFUSED(ncclInvalidArgument, ncclAllReduce(&x, &y, 1, ncclInt32, ncclSum, comm, (cudaStream_t)&number));
  REFUSED(ncclInvalidArgument, ncclAllReduce(&x, &y, 1, ncclInt32, ncclSum, comm, (cudaStream_t)(uintptr_t)0xdead0));
  REFUSED(ncclInvalidUsage, ncclGroupSimulateEnd(&simulation)); /* no group is open */
  REFUSED(ncclInvalidArgument, ncclGroupSimulateEnd(NULL));

  /* A simulated end starts nothing, says how long it would take, and is an end. */
  OK(ncclGroupStart());
  OK(ncclAllReduce(&x, &x, 1, ncclInt32, ncclSum, comm, NULL));
  OK(ncclGroupSimulateEnd(&simulation));
  EXPECT(n == 1 ? simulation.estimatedTime >= 0 : simulation.estimatedTime > 0);
  EXPECT(x == 7);
  REFUSED(ncclInvalidUsage, ncclGroupEnd());
}

static void work(int rank, int n) {
  const ncclUniqueId first = share_id(rank, n);
  ncclComm_t a, b;
  OK(ncclCommInitRank(&a, n, first, rank));
  ncclUniqueId ids[2] = {share_id(rank, n), first};
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.commName = "second";
  config.minCTAs = 1;
  config.maxCTAs = 8;
  OK(ncclCommInitRankScalable(&b, n, rank, 2, ids, &config));

  int count = -1, me = -1, device = 0;
  ncclResult_t state = ncclInternalError;
  OK(ncclCommCount(a, &count));
  OK(ncclCommUserRank(a, &me));
  OK(ncclCommCuDevice(a, &device));
  OK(ncclCommGetAsyncError(a, &state));
  EXPECT(count == n && me == rank && device == -1 && state == ncclSuccess);

  reductions(a, rank, n);
  copies(b, rank, n);
  types(a, n);
  operators(b, rank, n);
  group(a, b, rank, n);
  refusals(a, n);

  /* The default streams of CUDA are this thread here. */
  int32_t one = 1, sum = 0;
  for (uintptr_t stream = 0; stream <= 2; ++stream) {
    OK(ncclAllReduce(&one, &sum, 1, ncclInt32, ncclSum, a, (cudaStream_t)stream));
    EXPECT(sum == n);
  }
  OK(ncclAllReduce(NULL, NULL, 0, ncclInt32, ncclSum, a, NULL));

  void *memory = NULL, *handle = NULL;
  OK(ncclMemAlloc(&memory, 1 << 20));
  OK(ncclCommRegister(a, memory, 1 << 20, &handle));
  fill(memory, kCount, rank);
  OK(ncclAllReduce(memory, memory, kCount, ncclInt32, ncclSum, a, NULL));
  for (int i = 0; i < kCount; ++i) EXPECT(((int32_t*)memory)[i] == combined(ncclSum, n, i));
  OK(ncclCommDeregister(a, handle));
  OK(ncclMemFree(memory));

  OK(ncclCommDestroy(a));
  OK(ncclCommDestroy(b));
}

int main(int argc, char** argv) { return run_ranks(argc > 1 ? atoi(argv[1]) : 3, work); }
