/* SPDX-License-Identifier: Apache-2.0
 *
 * A C99 program that uses the whole API: two ranks in one thread, driven by groups. Ends with 0 when all values are
 * right.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tutti/tutti.h"

#define RANKS 2
#define COUNT 1000

static int g_called_back = 0;
static void on_done(void* user) { *(int*)user += 1; }

static void check(int ok, const char* what, int line) {
  if (ok) return;
  fprintf(stderr, "surface.c:%d: %s: %s\n", line, what, tuttiGetLastError(NULL));
  exit(1);
}
#define CHECK(expression) check((expression), #expression, __LINE__)
#define OK(call) check((call) == TUTTI_SUCCESS, #call, __LINE__)
/* Runs `call` for each rank r in one group. */
#define EACH(call)                        \
  do {                                    \
    OK(tuttiGroupStart());                \
    for (r = 0; r < RANKS; ++r) OK(call); \
    OK(tuttiGroupEnd());                  \
  } while (0)

int main(void) {
  static float send[RANKS][RANKS * COUNT], recv[RANKS][RANKS * COUNT];
  const size_t counts[RANKS] = {300, 200}, displs[RANKS] = {0, 400}, first[RANKS] = {0, 300};
  const size_t to[RANKS][RANKS] = {{10, 20}, {30, 40}}, from[RANKS][RANKS] = {{10, 30}, {20, 40}};
  const size_t places[RANKS] = {0, 100};
  tuttiComm_t comm[RANKS];
  tuttiStream_t stream;
  tuttiEvent_t event;
  tuttiRedOp_t op[RANKS];
  tuttiConfig_t config = TUTTI_CONFIG_INITIALIZER;
  tuttiUniqueId id;
  tuttiComm_t single = NULL, part[RANKS];
  tuttiResult_t state;
  tuttiWindow_t window = NULL;
  void *memory = NULL, *handle = NULL;
  char text[4096];
  tuttiWait_t waits[RANKS];
  int version = 0, number = -2, r, i, excluded = 0;
  const float two = 2.0f;

  OK(tuttiGetVersion(&version));
  CHECK(version == TUTTI_VERSION_CODE);
  CHECK(strlen(tuttiGetErrorString(TUTTI_REMOTE_ERROR)) > 0);
  OK(tuttiCommInitAll(comm, RANKS, NULL));
  for (r = 0; r < RANKS; ++r) {
    OK(tuttiCommCount(comm[r], &number));
    CHECK(number == RANKS);
    OK(tuttiCommRank(comm[r], &number));
    CHECK(number == r);
    OK(tuttiCommDevice(comm[r], &number));
    CHECK(number == TUTTI_DEVICE_CPU);
    OK(tuttiCommGetAsyncError(comm[r], &state));
    CHECK(state == TUTTI_SUCCESS);
    for (i = 0; i < RANKS * COUNT; ++i) send[r][i] = (float)(i + 1000 * r);
  }

  EACH(tuttiAllReduce(send[r], recv[r], COUNT, TUTTI_FLOAT32, TUTTI_SUM, comm[r], NULL));
  for (r = 0; r < RANKS; ++r)
    for (i = 0; i < COUNT; ++i) CHECK(recv[r][i] == (float)(2 * i + 1000));
  EACH(tuttiReduce(send[r], recv[r], COUNT, TUTTI_FLOAT32, TUTTI_MAX, 1, comm[r], NULL));
  for (i = 0; i < COUNT; ++i) CHECK(recv[1][i] == (float)(i + 1000));
  EACH(tuttiBroadcast(send[r], recv[r], COUNT, TUTTI_FLOAT32, 1, comm[r], NULL));
  for (i = 0; i < COUNT; ++i) CHECK(recv[0][i] == (float)(i + 1000));
  EACH(tuttiAllGather(send[r], recv[r], COUNT, TUTTI_FLOAT32, comm[r], NULL));
  for (i = 0; i < COUNT; ++i) CHECK(recv[0][COUNT + i] == (float)(i + 1000));
  EACH(tuttiAllGatherV(send[r], counts[r], recv[r], counts, displs, TUTTI_FLOAT32, comm[r], NULL));
  for (i = 0; i < 200; ++i) CHECK(recv[0][400 + i] == (float)(i + 1000));
  EACH(tuttiReduceScatter(send[r], recv[r], COUNT, TUTTI_FLOAT32, TUTTI_AVG, comm[r], NULL));
  for (i = 0; i < COUNT; ++i) CHECK(recv[1][i] == (float)(COUNT + i + 500));
  EACH(tuttiReduceScatterV(send[r], recv[r], counts, TUTTI_FLOAT32, TUTTI_MIN, comm[r], NULL));
  for (r = 0; r < RANKS; ++r)
    for (i = 0; i < (int)counts[r]; ++i) CHECK(recv[r][i] == (float)(first[r] + (size_t)i));
  EACH(tuttiAllToAll(send[r], recv[r], COUNT, TUTTI_FLOAT32, comm[r], NULL));
  for (i = 0; i < COUNT; ++i) CHECK(recv[1][i] == (float)(COUNT + i) && recv[0][COUNT + i] == (float)(1000 + i));
  EACH(tuttiAllToAllV(send[r], to[r], places, recv[r], from[r], places, TUTTI_FLOAT32, comm[r], NULL));
  for (i = 0; i < 30; ++i) CHECK(recv[0][100 + i] == (float)(1000 + i));
  EACH(tuttiGather(send[r], recv[r], COUNT, TUTTI_FLOAT32, 0, comm[r], NULL));
  for (i = 0; i < COUNT; ++i) CHECK(recv[0][COUNT + i] == (float)(1000 + i));
  EACH(tuttiScatter(send[r], recv[r], COUNT, TUTTI_FLOAT32, 0, comm[r], NULL));
  for (i = 0; i < COUNT; ++i) CHECK(recv[1][i] == (float)(COUNT + i));
  EACH(tuttiBarrier(comm[r], NULL));
  OK(tuttiGroupStart());
  OK(tuttiSend(send[0], COUNT, TUTTI_FLOAT32, 1, comm[0], NULL));
  OK(tuttiRecv(recv[1], COUNT, TUTTI_FLOAT32, 0, comm[1], NULL));
  OK(tuttiGroupEnd());
  for (i = 0; i < COUNT; ++i) CHECK(recv[1][i] == (float)i);

  for (r = 0; r < RANKS; ++r)
    OK(tuttiRedOpCreatePreMulSum(&op[r], &two, TUTTI_FLOAT32, TUTTI_SCALAR_HOST_IMMEDIATE, comm[r]));
  OK(tuttiStreamCreate(&stream));
  OK(tuttiEventCreate(&event));
  EACH(tuttiAllReduce(send[r], recv[r], COUNT, TUTTI_FLOAT32, op[r], comm[r], stream));
  OK(tuttiStreamAddCallback(stream, on_done, &g_called_back));
  OK(tuttiEventRecord(event, stream));
  OK(tuttiStreamWaitEvent(stream, event));
  OK(tuttiEventSynchronize(event));
  CHECK(g_called_back == 1);
  OK(tuttiEventQuery(event));
  OK(tuttiStreamSynchronize(stream));
  OK(tuttiStreamQuery(stream));
  for (i = 0; i < COUNT; ++i) CHECK(recv[1][i] == (float)(4 * i + 2000));
  OK(tuttiEventDestroy(event));
  OK(tuttiStreamDestroy(stream));
  for (r = 0; r < RANKS; ++r) OK(tuttiRedOpDestroy(op[r], comm[r]));

  OK(tuttiMemAlloc(&memory, 65536));
  OK(tuttiCommRegister(comm[0], memory, 65536, &handle));
  OK(tuttiCommDeregister(comm[0], handle));
  CHECK(tuttiCommWindowRegister(comm[0], memory, 65536, &window, 1) == TUTTI_INVALID_ARGUMENT);
  CHECK(tuttiCommWindowDeregister(comm[0], window) == TUTTI_INVALID_ARGUMENT);
  OK(tuttiMemFree(memory));
  OK(tuttiMemAllocDevice(&memory, 65536, TUTTI_DEVICE_CPU));
  OK(tuttiMemFree(memory));
  OK(tuttiExplain(comm[0], "allreduce", COUNT, TUTTI_FLOAT32, text, sizeof text));
  CHECK(strlen(text) > 0);
  CHECK(tuttiCommDump(comm[0], "/no such folder/%r") == TUTTI_SYSTEM_ERROR);
  OK(tuttiCommGetWaits(comm[0], waits, RANKS));

  OK(tuttiGroupStart());
  for (r = 0; r < RANKS; ++r) OK(tuttiCommSplit(comm[r], r == excluded ? TUTTI_SPLIT_NOCOLOR : 0, 0, &part[r], NULL));
  OK(tuttiGroupEnd());
  for (r = 0; r < RANKS; ++r) CHECK((part[r] == NULL) == (r == excluded));
  for (r = 0; r < RANKS; ++r) OK(tuttiCommAbort(part[r]));
  OK(tuttiGroupStart());
  for (r = 0; r < RANKS; ++r) {
    if (r != excluded) OK(tuttiCommShrink(comm[r], &excluded, 1, &part[r], NULL, TUTTI_SHRINK_DEFAULT));
  }
  OK(tuttiGroupEnd());
  for (r = 0; r < RANKS; ++r) OK(tuttiCommDestroy(part[r]));
  OK(tuttiGroupStart());
  for (r = 0; r < RANKS; ++r) OK(tuttiCommFinalize(comm[r]));
  OK(tuttiGroupEnd());
  for (r = 0; r < RANKS; ++r) OK(tuttiCommDestroy(comm[r]));

  OK(tuttiGetUniqueId(&id));
  OK(tuttiCommInitRank(&single, 1, id, 0));
  OK(tuttiCommDestroy(single));
  OK(tuttiGetUniqueId(&id));
  config.commName = "surface";
  OK(tuttiCommInitRankConfig(&single, 1, id, 0, &config));
  OK(tuttiAllReduce(send[0], send[0], COUNT, TUTTI_FLOAT32, TUTTI_PROD, single, NULL));
  OK(tuttiCommDestroy(single));
  CHECK(tuttiCommInitEnv(&single, &config) != TUTTI_SUCCESS || tuttiCommDestroy(single) == TUTTI_SUCCESS);
  puts("surface: all right");
  return 0;
}
