/* SPDX-License-Identifier: Apache-2.0
 *
 * Tutti: collective communication between ranks on CPUs and GPUs. The whole public C API.
 *
 * C99; needs no CUDA header. Every entry answers: shape, units, aliasing, order, stream, threads, errors, rounding.
 */
#ifndef TUTTI_TUTTI_H_
#define TUTTI_TUTTI_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TUTTI_MAJOR 0
#define TUTTI_MINOR 1
#define TUTTI_PATCH 0
/** One number for comparisons: 10000 * major + 100 * minor + patch. */
#define TUTTI_VERSION_CODE (TUTTI_MAJOR * 10000 + TUTTI_MINOR * 100 + TUTTI_PATCH)

#if defined(__GNUC__)
#define TUTTI_API __attribute__((visibility("default")))
#else
#define TUTTI_API
#endif

typedef struct tuttiComm* tuttiComm_t;
typedef struct tuttiStream* tuttiStream_t;
typedef struct tuttiEvent* tuttiEvent_t;
typedef struct tuttiWindow* tuttiWindow_t;

#define TUTTI_UNIQUE_ID_BYTES 128
typedef struct {
  char internal[TUTTI_UNIQUE_ID_BYTES];
} tuttiUniqueId;

typedef enum {
  TUTTI_SUCCESS = 0,
  TUTTI_CUDA_ERROR = 1,
  TUTTI_SYSTEM_ERROR = 2,
  TUTTI_INTERNAL_ERROR = 3,
  TUTTI_INVALID_ARGUMENT = 4,
  TUTTI_INVALID_USAGE = 5,
  TUTTI_REMOTE_ERROR = 6,
  TUTTI_IN_PROGRESS = 7,
  TUTTI_NUM_RESULTS = 8,
  TUTTI_RESULT_FORCE_32 = 0x7fffffff
} tuttiResult_t;

typedef enum {
  TUTTI_INT8 = 0,
  TUTTI_UINT8 = 1,
  TUTTI_INT32 = 2,
  TUTTI_UINT32 = 3,
  TUTTI_INT64 = 4,
  TUTTI_UINT64 = 5,
  TUTTI_FLOAT16 = 6,
  TUTTI_FLOAT32 = 7,
  TUTTI_FLOAT64 = 8,
  TUTTI_BFLOAT16 = 9,
  TUTTI_FLOAT8_E4M3 = 10,
  TUTTI_FLOAT8_E5M2 = 11,
  TUTTI_NUM_TYPES = 12,
  TUTTI_TYPE_FORCE_32 = 0x7fffffff
} tuttiDataType_t;

typedef enum {
  TUTTI_SUM = 0,
  TUTTI_PROD = 1,
  TUTTI_MAX = 2,
  TUTTI_MIN = 3,
  TUTTI_AVG = 4,
  TUTTI_NUM_OPS = 5,
  /* Values from TUTTI_NUM_OPS on are handles made by tuttiRedOpCreatePreMulSum. */
  TUTTI_OP_FORCE_32 = 0x7fffffff
} tuttiRedOp_t;

typedef enum {
  TUTTI_SCALAR_DEVICE = 0,
  TUTTI_SCALAR_HOST_IMMEDIATE = 1,
  TUTTI_SCALAR_FORCE_32 = 0x7fffffff
} tuttiScalarResidence_t;

#define TUTTI_UNDEFINED_INT (-2147483647 - 1)
#define TUTTI_SPLIT_NOCOLOR (-1)
#define TUTTI_CONFIG_MAGIC 0x74757469u

typedef struct {
  size_t size;      /* sizeof(tuttiConfig_t) of the caller */
  uint32_t magic;   /* TUTTI_CONFIG_MAGIC */
  uint32_t version; /* TUTTI_VERSION_CODE of the caller */
  int blocking;     /* 1 (default): calls return when done or queued. 0: non-blocking */
  int device;       /* CUDA ordinal, or TUTTI_DEVICE_CPU (default for now) */
  int minChannels;  /* restrict the planner; TUTTI_UNDEFINED_INT: free */
  int maxChannels;
  const char* netName;  /* restrict the transports, e.g. "tcp"; NULL: free */
  const char* commName; /* shown in messages and tools; NULL: derived from the unique id */
  int splitShare;       /* split communicators may share their parent's resources */
} tuttiConfig_t;

#define TUTTI_DEVICE_CPU (-1)
#define TUTTI_CONFIG_INITIALIZER                                                                              \
  {                                                                                                           \
    sizeof(tuttiConfig_t), TUTTI_CONFIG_MAGIC, TUTTI_VERSION_CODE, 1, TUTTI_DEVICE_CPU, TUTTI_UNDEFINED_INT,  \
        TUTTI_UNDEFINED_INT, NULL, NULL, TUTTI_UNDEFINED_INT                                                  \
  }

/* ---- version and errors ---- */
TUTTI_API tuttiResult_t tuttiGetVersion(int* version);
TUTTI_API const char* tuttiGetErrorString(tuttiResult_t result);
TUTTI_API const char* tuttiGetLastError(tuttiComm_t comm);

/* ---- communicators ---- */
TUTTI_API tuttiResult_t tuttiGetUniqueId(tuttiUniqueId* id);
TUTTI_API tuttiResult_t tuttiCommInitRank(tuttiComm_t* comm, int nranks, tuttiUniqueId id, int rank);
TUTTI_API tuttiResult_t tuttiCommInitRankConfig(tuttiComm_t* comm, int nranks, tuttiUniqueId id, int rank,
                                                const tuttiConfig_t* config);
/* Reads RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT (and LOCAL_RANK) as torchrun sets them. */
TUTTI_API tuttiResult_t tuttiCommInitEnv(tuttiComm_t* comm, const tuttiConfig_t* config);
/* ndev ranks in the calling process; devices[i] is the device of rank i, NULL: all on the CPU. */
TUTTI_API tuttiResult_t tuttiCommInitAll(tuttiComm_t* comms, int ndev, const int* devices);
TUTTI_API tuttiResult_t tuttiCommSplit(tuttiComm_t comm, int color, int key, tuttiComm_t* newcomm,
                                       const tuttiConfig_t* config);
TUTTI_API tuttiResult_t tuttiCommShrink(tuttiComm_t comm, const int* excludeRanks, int excludeCount, tuttiComm_t* newcomm,
                                        const tuttiConfig_t* config, int shrinkFlags);
TUTTI_API tuttiResult_t tuttiCommFinalize(tuttiComm_t comm);
TUTTI_API tuttiResult_t tuttiCommDestroy(tuttiComm_t comm);
TUTTI_API tuttiResult_t tuttiCommAbort(tuttiComm_t comm);
TUTTI_API tuttiResult_t tuttiCommGetAsyncError(tuttiComm_t comm, tuttiResult_t* asyncError);
TUTTI_API tuttiResult_t tuttiCommCount(tuttiComm_t comm, int* count);
TUTTI_API tuttiResult_t tuttiCommRank(tuttiComm_t comm, int* rank);
TUTTI_API tuttiResult_t tuttiCommDevice(tuttiComm_t comm, int* device);

/* ---- collectives ---- */
TUTTI_API tuttiResult_t tuttiAllReduce(const void* send, void* recv, size_t count, tuttiDataType_t type, tuttiRedOp_t op,
                                       tuttiComm_t comm, tuttiStream_t stream);
TUTTI_API tuttiResult_t tuttiReduce(const void* send, void* recv, size_t count, tuttiDataType_t type, tuttiRedOp_t op,
                                    int root, tuttiComm_t comm, tuttiStream_t stream);
TUTTI_API tuttiResult_t tuttiBroadcast(const void* send, void* recv, size_t count, tuttiDataType_t type, int root,
                                       tuttiComm_t comm, tuttiStream_t stream);
TUTTI_API tuttiResult_t tuttiAllGather(const void* send, void* recv, size_t sendcount, tuttiDataType_t type,
                                       tuttiComm_t comm, tuttiStream_t stream);
TUTTI_API tuttiResult_t tuttiAllGatherV(const void* send, size_t sendcount, void* recv, const size_t* recvcounts,
                                        const size_t* displs, tuttiDataType_t type, tuttiComm_t comm,
                                        tuttiStream_t stream);
TUTTI_API tuttiResult_t tuttiReduceScatter(const void* send, void* recv, size_t recvcount, tuttiDataType_t type,
                                           tuttiRedOp_t op, tuttiComm_t comm, tuttiStream_t stream);
TUTTI_API tuttiResult_t tuttiReduceScatterV(const void* send, void* recv, const size_t* recvcounts,
                                            tuttiDataType_t type, tuttiRedOp_t op, tuttiComm_t comm,
                                            tuttiStream_t stream);
TUTTI_API tuttiResult_t tuttiAllToAll(const void* send, void* recv, size_t count, tuttiDataType_t type, tuttiComm_t comm,
                                      tuttiStream_t stream);
TUTTI_API tuttiResult_t tuttiAllToAllV(const void* send, const size_t* sendcounts, const size_t* sdispls, void* recv,
                                       const size_t* recvcounts, const size_t* rdispls, tuttiDataType_t type,
                                       tuttiComm_t comm, tuttiStream_t stream);
TUTTI_API tuttiResult_t tuttiGather(const void* send, void* recv, size_t sendcount, tuttiDataType_t type, int root,
                                    tuttiComm_t comm, tuttiStream_t stream);
TUTTI_API tuttiResult_t tuttiScatter(const void* send, void* recv, size_t recvcount, tuttiDataType_t type, int root,
                                     tuttiComm_t comm, tuttiStream_t stream);
TUTTI_API tuttiResult_t tuttiBarrier(tuttiComm_t comm, tuttiStream_t stream);
TUTTI_API tuttiResult_t tuttiSend(const void* send, size_t count, tuttiDataType_t type, int peer, tuttiComm_t comm,
                                  tuttiStream_t stream);
TUTTI_API tuttiResult_t tuttiRecv(void* recv, size_t count, tuttiDataType_t type, int peer, tuttiComm_t comm,
                                  tuttiStream_t stream);

/* ---- operators ---- */
TUTTI_API tuttiResult_t tuttiRedOpCreatePreMulSum(tuttiRedOp_t* op, const void* scalar, tuttiDataType_t type,
                                                  tuttiScalarResidence_t residence, tuttiComm_t comm);
TUTTI_API tuttiResult_t tuttiRedOpDestroy(tuttiRedOp_t op, tuttiComm_t comm);

/* ---- groups ---- */
TUTTI_API tuttiResult_t tuttiGroupStart(void);
TUTTI_API tuttiResult_t tuttiGroupEnd(void);

/* ---- streams and events for CPU work ---- */
TUTTI_API tuttiResult_t tuttiStreamCreate(tuttiStream_t* stream);
TUTTI_API tuttiResult_t tuttiStreamDestroy(tuttiStream_t stream);
TUTTI_API tuttiResult_t tuttiStreamSynchronize(tuttiStream_t stream);
TUTTI_API tuttiResult_t tuttiStreamQuery(tuttiStream_t stream);
TUTTI_API tuttiResult_t tuttiStreamWaitEvent(tuttiStream_t stream, tuttiEvent_t event);
TUTTI_API tuttiResult_t tuttiStreamAddCallback(tuttiStream_t stream, void (*callback)(void* user), void* user);
TUTTI_API tuttiResult_t tuttiEventCreate(tuttiEvent_t* event);
TUTTI_API tuttiResult_t tuttiEventDestroy(tuttiEvent_t event);
TUTTI_API tuttiResult_t tuttiEventRecord(tuttiEvent_t event, tuttiStream_t stream);
TUTTI_API tuttiResult_t tuttiEventSynchronize(tuttiEvent_t event);
TUTTI_API tuttiResult_t tuttiEventQuery(tuttiEvent_t event);

/* ---- memory ---- */
TUTTI_API tuttiResult_t tuttiMemAlloc(void** ptr, size_t bytes);
TUTTI_API tuttiResult_t tuttiMemFree(void* ptr);
TUTTI_API tuttiResult_t tuttiCommRegister(tuttiComm_t comm, void* ptr, size_t bytes, void** handle);
TUTTI_API tuttiResult_t tuttiCommDeregister(tuttiComm_t comm, void* handle);
TUTTI_API tuttiResult_t tuttiCommWindowRegister(tuttiComm_t comm, void* ptr, size_t bytes, tuttiWindow_t* window,
                                                int flags);
TUTTI_API tuttiResult_t tuttiCommWindowDeregister(tuttiComm_t comm, tuttiWindow_t window);

/* ---- insight ---- */
/* Writes what the planner would do for this call, all candidates with their predicted cost, as text. */
TUTTI_API tuttiResult_t tuttiExplain(tuttiComm_t comm, const char* collective, size_t count, tuttiDataType_t type,
                                     char* text, size_t textBytes);

#ifdef __cplusplus
}
#endif
#endif /* TUTTI_TUTTI_H_ */
