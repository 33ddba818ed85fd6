/* SPDX-License-Identifier: Apache-2.0
 *
 * Tutti: collective communication between ranks on CPUs and GPUs. The whole public C API.
 *
 * C99; needs no CUDA header. Every entry answers, in this order: shape, units, aliasing, order, stream, threads,
 * errors, rounding; a call that is not a collective answers those that apply. Four things hold everywhere:
 *
 *   Results   Each call returns a code; tuttiGetLastError() has the text, which names the argument and the remedy. An
 *             argument error starts nothing, leaves the arguments alone and the communicator usable.
 *   Threads   One thread per communicator at a time (tuttiCommGetAsyncError and tuttiCommAbort: any thread, any time);
 *             different communicators are independent. Group state and last-error text belong to a thread.
 *   Devices   What is said of streams and buffers holds for ranks on the CPU. On a CUDA device a stream is a cudaStream_t
 *             (cast to tuttiStream_t; NULL: the device's default stream), buffers are memory that the device can use
 *             (its own, managed, or registered host memory), and every call only enqueues: the calls of all ranks of
 *             the process become one launch, ordered with the work of each rank's stream. One thread that has several
 *             ranks calls for all of them in one group; threads that have one each wait in a call until the others have
 *             made theirs. Calls on a stream that is captured are captured, if one group holds those of all ranks;
 *             graphs go before the communicators in them, and their replays are ordered with other calls of the
 *             communicator by the program's streams alone.
 *   fork      A child of fork() gets TUTTI_INVALID_USAGE from what its parent made. Fork before the first call.
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

/* Opaque handles. One that was destroyed, or is of another kind, is detected where it still can be. */
typedef struct tuttiComm* tuttiComm_t;     /* one rank's membership in a communicator */
typedef struct tuttiStream* tuttiStream_t; /* a queue of work on a worker thread; NULL: the calling thread */
typedef struct tuttiEvent* tuttiEvent_t;   /* a mark in a stream */
typedef struct tuttiWindow* tuttiWindow_t; /* memory that peers access directly */

/** Names one communicator to be: made by one rank, carried to the others by the program (opaque, a secret). */
#define TUTTI_UNIQUE_ID_BYTES 128
typedef struct {
  char internal[TUTTI_UNIQUE_ID_BYTES];
} tuttiUniqueId;

typedef enum {
  TUTTI_SUCCESS = 0,
  TUTTI_CUDA_ERROR = 1,       /* a CUDA call failed */
  TUTTI_SYSTEM_ERROR = 2,     /* the operating system refused: memory, descriptors, sockets, permission */
  TUTTI_INTERNAL_ERROR = 3,   /* a defect of this library */
  TUTTI_INVALID_ARGUMENT = 4, /* one argument is wrong by itself, or a dead handle; nothing was started */
  TUTTI_INVALID_USAGE = 5,    /* a call in a wrong state, or not available in this version */
  TUTTI_REMOTE_ERROR = 6,     /* a peer died, left, never came, or called something else */
  TUTTI_IN_PROGRESS = 7,      /* not finished yet */
  TUTTI_NUM_RESULTS = 8,
  TUTTI_RESULT_FORCE_32 = 0x7fffffff
} tuttiResult_t;

/** Element types; sizes are those of the name. fp8 is OCP E4M3 (no infinities) and E5M2. */
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

/**
 * Operators, valid for every type.
 *
 * Rounding  Integers wrap modulo 2^bits; integer avg is the wrapped sum divided by n, rounded toward zero. avg divides
 *           the sum once, at the end. min and max: a NaN in any input gives NaN. float16, bfloat16 and fp8 are reduced
 *           in float32 and rounded to nearest even once per hop; fp8 results beyond the largest finite value become
 *           that value. No fused multiply-add is formed. Same inputs, n, plan and library version: the same bits, on
 *           every rank that receives the result and from run to run.
 */
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

/** Where a scalar lives. On the CPU both are host memory, and both are read when the operator is made. For ranks on a
 *  CUDA device, that of TUTTI_SCALAR_DEVICE is memory of the device, read whenever an operation with it runs. */
typedef enum {
  TUTTI_SCALAR_DEVICE = 0,
  TUTTI_SCALAR_HOST_IMMEDIATE = 1,
  TUTTI_SCALAR_FORCE_32 = 0x7fffffff
} tuttiScalarResidence_t;

/** Configuration value "not set". */
#define TUTTI_UNDEFINED_INT (-2147483647 - 1)
/** Colour of a rank that takes part in tuttiCommSplit and joins no new communicator. */
#define TUTTI_SPLIT_NOCOLOR (-1)
/** Flags of tuttiCommShrink: let what is pending end first; or drop it, since the communicator has failed. */
#define TUTTI_SHRINK_DEFAULT 0
#define TUTTI_SHRINK_ABORT 1
#define TUTTI_CONFIG_MAGIC 0x74757469u

/**
 * Options of a communicator. Start from TUTTI_CONFIG_INITIALIZER and change fields: size, magic and version say which
 * fields the caller knows, so a program built against an older header goes on working. Equal on all ranks, except
 * device and commName.
 */
typedef struct {
  size_t size;      /* sizeof(tuttiConfig_t) of the caller */
  uint32_t magic;   /* TUTTI_CONFIG_MAGIC */
  uint32_t version; /* TUTTI_VERSION_CODE of the caller */
  int blocking;     /* 1 (default): calls return when done or queued. 0: what would wait returns TUTTI_IN_PROGRESS */
  int device;       /* CUDA ordinal of this rank, or TUTTI_DEVICE_CPU (default); of a split or shrink: the parent's */
  int minChannels;  /* restrict the planner; TUTTI_UNDEFINED_INT: free */
  int maxChannels;
  const char* netName;    /* restrict the transports, e.g. "tcp"; NULL: free */
  const char* commName;   /* shown in messages and tools; NULL: derived from the unique id */
  int splitShare;         /* accepted and without effect: a split is cheap, and lives on when its parent ends */
  const char* algorithms; /* restrict the planner, as TUTTI_ALGO does, e.g. "all_reduce:ring,tree"; NULL: TUTTI_ALGO */
  const char* protocols;  /* the same for TUTTI_PROTO, e.g. "simple,ll" */
  const char* nics;       /* NICs that may carry data between hosts, as TUTTI_NICS says it; NULL: TUTTI_NICS */
} tuttiConfig_t;

#define TUTTI_DEVICE_CPU (-1)
#define TUTTI_CONFIG_INITIALIZER                                                                             \
  {                                                                                                          \
    sizeof(tuttiConfig_t), TUTTI_CONFIG_MAGIC, TUTTI_VERSION_CODE, 1, TUTTI_DEVICE_CPU, TUTTI_UNDEFINED_INT, \
        TUTTI_UNDEFINED_INT, NULL, NULL, TUTTI_UNDEFINED_INT, NULL, NULL, NULL                               \
  }

/* ---- version and errors ---- */

/**
 * Writes TUTTI_VERSION_CODE of the library that is loaded, which may differ from the header's.
 *
 * Threads   Any thread, any time.
 * Errors    TUTTI_INVALID_ARGUMENT: version is NULL.
 */
TUTTI_API tuttiResult_t tuttiGetVersion(int* version);

/**
 * The name and meaning of a result code, e.g. "invalid argument". Never NULL; a number that is no code says so.
 *
 * Aliasing  The text is constant and lives as long as the library.
 * Threads   Any thread, any time.
 */
TUTTI_API const char* tuttiGetErrorString(tuttiResult_t result);

/**
 * The text of the last failure: what failed, on what, and what to try. Never NULL; empty when nothing has failed.
 *
 * Shape     comm NULL: the last failure of the calling thread. Otherwise the last failure of that communicator, also of
 *           operations on streams.
 * Aliasing  The text belongs to the library and lives until the calling thread's next call into it.
 * Threads   Any thread, any time. A handle that is no communicator counts as NULL.
 */
TUTTI_API const char* tuttiGetLastError(tuttiComm_t comm);

/* ---- communicators ---- */

/**
 * Makes the identity of a communicator to be: one rank calls this and gives the bytes to all the others, by a channel
 * that keeps them from strangers, since they contain the secret that admits to the communicator.
 *
 * Shape     One id makes one communicator. The process that called this must live until all ranks have joined.
 * Threads   Any thread, any time. Opens a listening socket.
 * Errors    TUTTI_INVALID_ARGUMENT: id is NULL. TUTTI_SYSTEM_ERROR: no usable network interface; the text says which
 *           were seen (TUTTI_SOCKET_IFNAME chooses).
 */
TUTTI_API tuttiResult_t tuttiGetUniqueId(tuttiUniqueId* id);

/**
 * Joins a communicator of `nranks` ranks as `rank`, on the CPU, with the default configuration.
 *
 * Shape     1 <= nranks, 0 <= rank < nranks; each rank is used once; id and nranks are the same on all ranks. The ranks
 *           may be processes, threads, or both; one thread joins as several ranks in one group, or by tuttiCommInitAll.
 * Order     Collective: returns when all ranks have called.
 * Threads   Blocks the calling thread, TUTTI_INIT_TIMEOUT (2 min) at most. Inside a group it is recorded, and *comm is
 *           valid after the group's end.
 * Errors    *comm is NULL after any failure. TUTTI_INVALID_ARGUMENT: comm NULL, nranks or rank out of range, id not
 *           made by tuttiGetUniqueId, an environment variable that does not parse. TUTTI_REMOTE_ERROR: a rank is
 *           missing, used twice, or differs in nranks, library version or configuration: the text names it, on every
 *           rank concerned.
 */
TUTTI_API tuttiResult_t tuttiCommInitRank(tuttiComm_t* comm, int nranks, tuttiUniqueId id, int rank);

/**
 * tuttiCommInitRank with a configuration.
 *
 * Shape     config NULL: the defaults. config->device: each rank on the CPU or on a CUDA device, on any hosts; several
 *           on one device if you like. Where several processes share a device, all ranks are on devices of one host.
 * Order     Collective: returns when all ranks have called. config->blocking 0: returns TUTTI_IN_PROGRESS at once;
 *           *comm is valid for tuttiCommGetAsyncError and tuttiCommAbort, for the rest once the former says TUTTI_SUCCESS.
 * Threads   As tuttiCommInitRank. config and its strings are copied. A non-blocking communicator has a worker thread,
 *           on which its calls with stream NULL run in issue order after they have returned TUTTI_IN_PROGRESS: their
 *           buffers must live until tuttiCommGetAsyncError no longer says TUTTI_IN_PROGRESS. On a CUDA device a call
 *           returns TUTTI_SUCCESS once it is on its stream; TUTTI_IN_PROGRESS if calls of other ranks of the process
 *           are missing, or something is under way: then it is there when tuttiCommGetAsyncError says TUTTI_SUCCESS,
 *           and what the program puts on the stream before may run before it. A call on the per-thread default
 *           stream, which the worker cannot name, waits.
 * Errors    As tuttiCommInitRank; and TUTTI_INVALID_ARGUMENT: size, magic or version are not those of
 *           TUTTI_CONFIG_INITIALIZER, a field out of range. TUTTI_INVALID_USAGE: a mixture of devices that
 *           config->device excludes. TUTTI_CUDA_ERROR: no driver, no such device, no memory. Non-blocking: what goes
 *           wrong later is what tuttiCommGetAsyncError says; then *comm still has to be aborted or destroyed.
 */
TUTTI_API tuttiResult_t tuttiCommInitRankConfig(tuttiComm_t* comm, int nranks, tuttiUniqueId id, int rank,
                                                const tuttiConfig_t* config);

/**
 * Joins the communicator of all processes of a launcher: tutti run, torchrun, Open MPI's and MPICH's mpirun, srun.
 *
 * Shape     The innermost launcher counts. RANK and WORLD_SIZE say who we are, MASTER_ADDR and MASTER_PORT where rank 0
 *           listens, LOCAL_RANK (optional) which rank of this host we are; else PMIx, PMI-1 or srun's own variables say
 *           so. Without a store of the launcher's (PMIx, PMI-1) TUTTI_JOB_SECRET, the same text on all ranks,
 *           authenticates the rendezvous; without it one warning says that strangers could join. config NULL: the
 *           defaults.
 * Order     Collective: returns when all ranks have called; through a launcher's store the first call of a process does
 *           so even with config->blocking 0. Call it once at a time per job.
 * Threads   As tuttiCommInitRank.
 * Errors    As tuttiCommInitRankConfig; the text names the variable that does not parse (TUTTI_INVALID_ARGUMENT) or is
 *           missing (TUTTI_INVALID_USAGE).
 */
TUTTI_API tuttiResult_t tuttiCommInitEnv(tuttiComm_t* comm, const tuttiConfig_t* config);

/**
 * Joins a communicator whose ranks meet at an address that all of them know, instead of an id that one has made.
 *
 * Shape     address is "host:port" or "[IPv6]:port" and the same on all ranks; rank 0 runs on that host, where it opens
 *           the port (or one of the three after it). nranks, rank and config as in tuttiCommInitRankConfig.
 *           TUTTI_JOB_SECRET, the same text on all ranks, authenticates the rendezvous; without it one warning says that
 *           strangers could join.
 * Order     Collective: returns when all ranks have called. Call it once at a time per address.
 * Threads   As tuttiCommInitRank.
 * Errors    As tuttiCommInitRankConfig; and TUTTI_INVALID_ARGUMENT: address does not parse. TUTTI_SYSTEM_ERROR: the host
 *           has no address, or rank 0 cannot open the port.
 */
TUTTI_API tuttiResult_t tuttiCommInitAddress(tuttiComm_t* comm, int nranks, const char* address, int rank,
                                             const tuttiConfig_t* config);

/**
 * Makes a communicator whose ranks all belong to the calling process: comms[i] is rank i of `ndev`.
 *
 * Shape     comms holds ndev handles; devices holds a CUDA ordinal for each (one may appear several times) or
 *           TUTTI_DEVICE_CPU, NULL: all on the CPU.
 * Order     Local: needs no other process.
 * Threads   One thread may drive several of the ranks: it issues their operations in one group (see tuttiGroupStart),
 *           because a lone blocking call of one rank would wait for the others for ever.
 * Errors    Every comms[i] is NULL after a failure. TUTTI_INVALID_ARGUMENT: comms NULL, ndev < 1, a negative device.
 *           Of devices: as tuttiCommInitRankConfig.
 */
TUTTI_API tuttiResult_t tuttiCommInitAll(tuttiComm_t* comms, int ndev, const int* devices);

/**
 * Divides a communicator: the ranks with equal `color` form a new one, ranked by `key`, then by their rank in `comm`.
 *
 * Shape     color >= 0, or TUTTI_SPLIT_NOCOLOR: takes part, gets *newcomm == NULL. config NULL, or a field that
 *           is not set: as the parent; the name derives from the parent's. Parent and child live and end independently.
 * Order     Collective over comm: returns when all of its ranks have called. Operations of comm may be pending. Several
 *           splits of a communicator in one group are made in issue order. comm non-blocking: returns
 *           TUTTI_IN_PROGRESS at once, and tuttiCommGetAsyncError(*newcomm) tells when it is done.
 * Threads   As tuttiCommInitRank. tuttiCommAbort(comm) from another thread ends the wait.
 * Errors    *newcomm is NULL after any failure. TUTTI_INVALID_ARGUMENT: newcomm NULL, color below -1, config as in
 *           tuttiCommInitRankConfig. TUTTI_INVALID_USAGE: the ranks of a colour differ in configuration (the text names
 *           them). TUTTI_REMOTE_ERROR: a rank has failed or did not come within TUTTI_INIT_TIMEOUT. comm stays usable
 *           for operations.
 */
TUTTI_API tuttiResult_t tuttiCommSplit(tuttiComm_t comm, int color, int key, tuttiComm_t* newcomm,
                                       const tuttiConfig_t* config);

/**
 * Makes a communicator of the ranks of `comm` without those in excludeRanks, in their order; also after a failure.
 *
 * Shape     excludeRanks holds excludeCount ranks of comm, in any order, the same on all callers; 0 of them is legal.
 *           shrinkFlags TUTTI_SHRINK_DEFAULT: waits for what is pending on comm, which goes on living.
 *           TUTTI_SHRINK_ABORT: comm has failed, or shall: what is pending is dropped, and comm answers every call with
 *           an error; destroy it. config as in tuttiCommSplit.
 * Order     Collective over the ranks that stay; the excluded ones do not call, and nothing is needed of them. comm
 *           non-blocking: returns TUTTI_IN_PROGRESS at once, as tuttiCommSplit does.
 * Threads   As tuttiCommInitRank. tuttiCommAbort(comm) from another thread ends the wait.
 * Errors    *newcomm is NULL after any failure; call again, with more ranks excluded if more have failed.
 *           TUTTI_INVALID_ARGUMENT: newcomm NULL, a rank or flag out of range, config as in tuttiCommInitRankConfig.
 *           TUTTI_INVALID_USAGE: the caller excludes itself, or the ranks exclude different ones (the text names both).
 *           TUTTI_REMOTE_ERROR: a rank that should stay cannot be reached or did not come within TUTTI_INIT_TIMEOUT.
 */
TUTTI_API tuttiResult_t tuttiCommShrink(tuttiComm_t comm, const int* excludeRanks, int excludeCount,
                                        tuttiComm_t* newcomm, const tuttiConfig_t* config, int shrinkFlags);

/**
 * Waits until the operations of all ranks are done and all ranks have called; after it comm can only be destroyed.
 *
 * Order     Collective over comm. In a group: after the group's operations. comm non-blocking: returns
 *           TUTTI_IN_PROGRESS at once, and tuttiCommGetAsyncError tells when it is done. Optional: tuttiCommDestroy
 *           alone waits for this rank's operations, but not for the other ranks.
 * Threads   One thread per communicator at a time. tuttiCommAbort from another thread ends the wait.
 * Errors    TUTTI_INVALID_ARGUMENT: no communicator. TUTTI_INVALID_USAGE: finalized before. TUTTI_REMOTE_ERROR: a rank
 *           has failed or did not come within TUTTI_INIT_TIMEOUT; a communicator that has failed returns its reason.
 */
TUTTI_API tuttiResult_t tuttiCommFinalize(tuttiComm_t comm);

/**
 * Waits for this rank's queued operations, releases the communicator and ends the life of the handle.
 *
 * Shape     comm NULL: does nothing. Legal in every state: a communicator that has failed is released without waiting
 *           for any rank, one that is still being made once that has ended.
 * Order     Every rank destroys its handle, in any order, without waiting for the others to do so.
 * Threads   No other call may use comm meanwhile or later. Not inside a group.
 * Errors    TUTTI_INVALID_ARGUMENT: no communicator, or destroyed already (detected where it still can be).
 */
TUTTI_API tuttiResult_t tuttiCommDestroy(tuttiComm_t comm);

/**
 * Releases the communicator at once: frees threads that wait in it, drops queued operations, waits for no rank.
 *
 * Shape     comm NULL: does nothing. Legal in every state, also while comm is being made. When it has returned, no
 *           thread of the library touches buffers of comm's operations any more. Other communicators are not concerned.
 * Order     Local. The other ranks find out as they do when this rank fails.
 * Threads   Any thread, also while another thread is inside a call of comm: that call returns TUTTI_INVALID_USAGE.
 *           comm is no handle any more afterwards.
 * Errors    TUTTI_INVALID_ARGUMENT: no communicator, or destroyed already (detected where it still can be).
 */
TUTTI_API tuttiResult_t tuttiCommAbort(tuttiComm_t comm);

/**
 * Writes the state of a communicator: TUTTI_SUCCESS, the code of its first failure after queueing (of an operation on a
 * stream, or of a peer), or TUTTI_IN_PROGRESS while a non-blocking call is under way. tuttiGetLastError has the text.
 *
 * Threads   Any thread, any time before destroy or abort.
 * Errors    TUTTI_INVALID_ARGUMENT: no communicator, or asyncError is NULL.
 */
TUTTI_API tuttiResult_t tuttiCommGetAsyncError(tuttiComm_t comm, tuttiResult_t* asyncError);

/**
 * Writes the number of ranks of a communicator.
 *
 * Threads   Any thread, any time before destroy.
 * Errors    TUTTI_INVALID_ARGUMENT: no communicator, or count is NULL.
 */
TUTTI_API tuttiResult_t tuttiCommCount(tuttiComm_t comm, int* count);

/**
 * Writes the calling rank: 0 <= *rank < count.
 *
 * Threads   Any thread, any time before destroy.
 * Errors    TUTTI_INVALID_ARGUMENT: no communicator, or rank is NULL.
 */
TUTTI_API tuttiResult_t tuttiCommRank(tuttiComm_t comm, int* rank);

/**
 * Writes the device of the calling rank: a CUDA ordinal or TUTTI_DEVICE_CPU.
 *
 * Threads   Any thread, any time before destroy.
 * Errors    TUTTI_INVALID_ARGUMENT: no communicator, or device is NULL.
 */
TUTTI_API tuttiResult_t tuttiCommDevice(tuttiComm_t comm, int* device);

/* ---- collectives ---- */

/**
 * Reduce `count` elements from every rank with `op`; every rank receives the full result.
 *
 * Shape     send and recv each hold `count` elements of `type`; recv[i] = op over all ranks of send[i].
 * Units     `count` is in elements. 0 is legal, still needs every rank to call, and then buffers may be NULL.
 * Aliasing  recv == send (in place) or disjoint; partial overlap is TUTTI_INVALID_ARGUMENT. Otherwise send is
 *           unchanged.
 * Order     All ranks issue the operations of a communicator in the same order with the same arguments (buffers aside);
 *           they run in issue order, even on different streams.
 * Stream    NULL: blocks, runs in the calling thread, returns when the buffers are reusable and nothing owed to a peer
 *           needs this thread. A tuttiStream_t: returns once queued, runs in stream order on the stream's worker; the
 *           buffers must live until then. In a group: starts at the group's end.
 * Threads   One thread per communicator at a time; communicators are independent of each other.
 * Errors    TUTTI_INVALID_ARGUMENT, TUTTI_INVALID_USAGE: nothing was queued. TUTTI_REMOTE_ERROR: a peer failed, the
 *           communicator is lost. Failures after queueing appear in tuttiCommGetAsyncError().
 * Rounding  As tuttiRedOp_t says: the same bits on every rank, and from run to run for the same n, plan and version.
 */
TUTTI_API tuttiResult_t tuttiAllReduce(const void* send, void* recv, size_t count, tuttiDataType_t type,
                                       tuttiRedOp_t op, tuttiComm_t comm, tuttiStream_t stream);

/**
 * Reduce `count` elements from every rank with `op`; rank `root` receives the result.
 *
 * Shape     send holds `count` elements of `type` on every rank; at the root recv[i] = op over all ranks of send[i].
 *           recv is used at the root only (elsewhere NULL or anything, untouched). 0 <= root < n.
 * Units     `count` is in elements. 0 is legal, still needs every rank to call, and then buffers may be NULL.
 * Aliasing  At the root recv == send (in place) or disjoint; partial overlap is TUTTI_INVALID_ARGUMENT.
 * Order     All ranks issue the operations of a communicator in the same order with the same arguments (buffers aside);
 *           they run in issue order, even on different streams.
 * Stream    NULL: blocks, runs in the calling thread, returns when the buffers are reusable and nothing owed to a peer
 *           needs this thread. A tuttiStream_t: returns once queued, runs in stream order on the stream's worker; the
 *           buffers must live until then. In a group: starts at the group's end.
 * Threads   One thread per communicator at a time; communicators are independent of each other.
 * Errors    TUTTI_INVALID_ARGUMENT, TUTTI_INVALID_USAGE: nothing was queued. TUTTI_REMOTE_ERROR: a peer failed, the
 *           communicator is lost. Failures after queueing appear in tuttiCommGetAsyncError().
 * Rounding  As tuttiRedOp_t says: the same bits from run to run for the same n, root, plan and library version.
 */
TUTTI_API tuttiResult_t tuttiReduce(const void* send, void* recv, size_t count, tuttiDataType_t type, tuttiRedOp_t op,
                                    int root, tuttiComm_t comm, tuttiStream_t stream);

/**
 * Copy `count` elements from rank `root` to every rank, the root itself included.
 *
 * Shape     recv[i] = send[i] of the root; recv holds `count` elements of `type` on every rank. send is used at the
 *           root only (elsewhere NULL or anything). 0 <= root < n.
 * Units     `count` is in elements. 0 is legal, still needs every rank to call, and then buffers may be NULL.
 * Aliasing  At the root recv == send (in place) or disjoint; partial overlap is TUTTI_INVALID_ARGUMENT.
 * Order     All ranks issue the operations of a communicator in the same order with the same arguments (buffers aside);
 *           they run in issue order, even on different streams.
 * Stream    NULL: blocks, runs in the calling thread, returns when the buffers are reusable and nothing owed to a peer
 *           needs this thread. A tuttiStream_t: returns once queued, runs in stream order on the stream's worker; the
 *           buffers must live until then. In a group: starts at the group's end.
 * Threads   One thread per communicator at a time; communicators are independent of each other.
 * Errors    TUTTI_INVALID_ARGUMENT, TUTTI_INVALID_USAGE: nothing was queued. TUTTI_REMOTE_ERROR: a peer failed, the
 *           communicator is lost. Failures after queueing appear in tuttiCommGetAsyncError().
 * Rounding  None: bytes are copied.
 */
TUTTI_API tuttiResult_t tuttiBroadcast(const void* send, void* recv, size_t count, tuttiDataType_t type, int root,
                                       tuttiComm_t comm, tuttiStream_t stream);

/**
 * Collect `sendcount` elements from every rank on every rank, in rank order.
 *
 * Shape     send holds `sendcount` elements of `type`, recv n * sendcount; recv[r * sendcount + i] = send[i] of rank r.
 * Units     `sendcount` is in elements. 0 is legal, still needs every rank to call, and then buffers may be NULL.
 * Aliasing  send == recv + rank * sendcount (in place) or disjoint from all of recv; other overlap is
 *           TUTTI_INVALID_ARGUMENT.
 * Order     All ranks issue the operations of a communicator in the same order with the same arguments (buffers aside);
 *           they run in issue order, even on different streams.
 * Stream    NULL: blocks, runs in the calling thread, returns when the buffers are reusable and nothing owed to a peer
 *           needs this thread. A tuttiStream_t: returns once queued, runs in stream order on the stream's worker; the
 *           buffers must live until then. In a group: starts at the group's end.
 * Threads   One thread per communicator at a time; communicators are independent of each other.
 * Errors    TUTTI_INVALID_ARGUMENT, TUTTI_INVALID_USAGE: nothing was queued. TUTTI_REMOTE_ERROR: a peer failed, the
 *           communicator is lost. Failures after queueing appear in tuttiCommGetAsyncError().
 * Rounding  None: bytes are copied.
 */
TUTTI_API tuttiResult_t tuttiAllGather(const void* send, void* recv, size_t sendcount, tuttiDataType_t type,
                                       tuttiComm_t comm, tuttiStream_t stream);

/**
 * Collect a different number of elements from every rank on every rank.
 *
 * Shape     recv[displs[r] + i] = send[i] of rank r, i < recvcounts[r]. recvcounts and displs hold n numbers each, read
 *           before the call returns. sendcount == recvcounts[rank]. recvcounts is the same on all ranks, displs is this
 *           rank's own. What lies between the blocks stays untouched.
 * Units     Counts and displacements are in elements of `type`. 0 is legal for any rank, and for all.
 * Aliasing  send == recv + displs[rank] (in place) or disjoint from every block; blocks of recv are disjoint. Other
 *           overlap is TUTTI_INVALID_ARGUMENT.
 * Order     All ranks issue the operations of a communicator in the same order with the same arguments (buffers aside);
 *           they run in issue order, even on different streams.
 * Stream    NULL: blocks, runs in the calling thread, returns when the buffers are reusable and nothing owed to a peer
 *           needs this thread. A tuttiStream_t: returns once queued, runs in stream order on the stream's worker; the
 *           buffers must live until then. In a group: starts at the group's end.
 * Threads   One thread per communicator at a time; communicators are independent of each other.
 * Errors    TUTTI_INVALID_ARGUMENT, TUTTI_INVALID_USAGE: nothing was queued. TUTTI_REMOTE_ERROR: a peer failed, the
 *           communicator is lost. Failures after queueing appear in tuttiCommGetAsyncError().
 * Rounding  None: bytes are copied.
 */
TUTTI_API tuttiResult_t tuttiAllGatherV(const void* send, size_t sendcount, void* recv, const size_t* recvcounts,
                                        const size_t* displs, tuttiDataType_t type, tuttiComm_t comm,
                                        tuttiStream_t stream);

/**
 * Reduce with `op`, and leave block r of the result on rank r.
 *
 * Shape     send holds n * recvcount elements of `type`, recv recvcount; recv[i] = op over all ranks of send[rank *
 *           recvcount + i].
 * Units     `recvcount` is in elements. 0 is legal, still needs every rank to call, and then buffers may be NULL.
 * Aliasing  recv == send + rank * recvcount (in place; the rest of send may be overwritten) or disjoint from all of
 *           send; other overlap is TUTTI_INVALID_ARGUMENT.
 * Order     All ranks issue the operations of a communicator in the same order with the same arguments (buffers aside);
 *           they run in issue order, even on different streams.
 * Stream    NULL: blocks, runs in the calling thread, returns when the buffers are reusable and nothing owed to a peer
 *           needs this thread. A tuttiStream_t: returns once queued, runs in stream order on the stream's worker; the
 *           buffers must live until then. In a group: starts at the group's end.
 * Threads   One thread per communicator at a time; communicators are independent of each other.
 * Errors    TUTTI_INVALID_ARGUMENT, TUTTI_INVALID_USAGE: nothing was queued. TUTTI_REMOTE_ERROR: a peer failed, the
 *           communicator is lost. Failures after queueing appear in tuttiCommGetAsyncError().
 * Rounding  As tuttiRedOp_t says: the same bits from run to run for the same n, plan and library version.
 */
TUTTI_API tuttiResult_t tuttiReduceScatter(const void* send, void* recv, size_t recvcount, tuttiDataType_t type,
                                           tuttiRedOp_t op, tuttiComm_t comm, tuttiStream_t stream);

/**
 * Reduce with `op`, and leave a block of its own length on each rank.
 *
 * Shape     The blocks lie one after the other: with first = recvcounts[0] + ... + recvcounts[rank - 1], recv[i] = op
 *           over all ranks of send[first + i], i < recvcounts[rank]. recvcounts holds n numbers, the same on all ranks,
 *           read before the call returns; send holds their sum.
 * Units     recvcounts is in elements of `type`. 0 is legal for any rank, and for all.
 * Aliasing  recv == send + first (in place; the rest of send may be overwritten) or disjoint from all of send; other
 *           overlap is TUTTI_INVALID_ARGUMENT.
 * Order     All ranks issue the operations of a communicator in the same order with the same arguments (buffers aside);
 *           they run in issue order, even on different streams.
 * Stream    NULL: blocks, runs in the calling thread, returns when the buffers are reusable and nothing owed to a peer
 *           needs this thread. A tuttiStream_t: returns once queued, runs in stream order on the stream's worker; the
 *           buffers must live until then. In a group: starts at the group's end.
 * Threads   One thread per communicator at a time; communicators are independent of each other.
 * Errors    TUTTI_INVALID_ARGUMENT, TUTTI_INVALID_USAGE: nothing was queued. TUTTI_REMOTE_ERROR: a peer failed, the
 *           communicator is lost. Failures after queueing appear in tuttiCommGetAsyncError().
 * Rounding  As tuttiRedOp_t says: the same bits from run to run for the same n, plan and library version.
 */
TUTTI_API tuttiResult_t tuttiReduceScatterV(const void* send, void* recv, const size_t* recvcounts,
                                            tuttiDataType_t type, tuttiRedOp_t op, tuttiComm_t comm,
                                            tuttiStream_t stream);

/**
 * Every rank sends a block of its own to every rank.
 *
 * Shape     send and recv each hold n * count elements of `type`; recv[r * count + i] = send[rank * count + i] of rank
 *           r.
 * Units     `count` is in elements. 0 is legal, still needs every rank to call, and then buffers may be NULL.
 * Aliasing  recv == send (in place) or disjoint; partial overlap is TUTTI_INVALID_ARGUMENT.
 * Order     All ranks issue the operations of a communicator in the same order with the same arguments (buffers aside);
 *           they run in issue order, even on different streams.
 * Stream    NULL: blocks, runs in the calling thread, returns when the buffers are reusable and nothing owed to a peer
 *           needs this thread. A tuttiStream_t: returns once queued, runs in stream order on the stream's worker; the
 *           buffers must live until then. In a group: starts at the group's end.
 * Threads   One thread per communicator at a time; communicators are independent of each other.
 * Errors    TUTTI_INVALID_ARGUMENT, TUTTI_INVALID_USAGE: nothing was queued. TUTTI_REMOTE_ERROR: a peer failed, the
 *           communicator is lost. Failures after queueing appear in tuttiCommGetAsyncError().
 * Rounding  None: bytes are copied.
 */
TUTTI_API tuttiResult_t tuttiAllToAll(const void* send, void* recv, size_t count, tuttiDataType_t type,
                                      tuttiComm_t comm, tuttiStream_t stream);

/**
 * Every rank sends a block of its own, of any length, to every rank.
 *
 * Shape     recv[rdispls[r] + i] = send[sdispls'[rank] + i] with the sdispls' of rank r, i < recvcounts[r]. The four
 *           tables hold n numbers each, are this rank's own, and are read before the call returns. sendcounts[p] here
 *           equals recvcounts[rank] on rank p. What lies between the blocks of recv stays untouched.
 * Units     Counts and displacements are in elements of `type`. 0 is legal for any pair, and for all.
 * Aliasing  Never in place: each block of recv is disjoint from every other block of recv and of send, else
 *           TUTTI_INVALID_ARGUMENT. Blocks of send may overlap each other.
 * Order     All ranks issue the operations of a communicator in the same order with the same arguments (buffers aside);
 *           they run in issue order, even on different streams.
 * Stream    NULL: blocks, runs in the calling thread, returns when the buffers are reusable and nothing owed to a peer
 *           needs this thread. A tuttiStream_t: returns once queued, runs in stream order on the stream's worker; the
 *           buffers must live until then. In a group: starts at the group's end.
 * Threads   One thread per communicator at a time; communicators are independent of each other.
 * Errors    TUTTI_INVALID_ARGUMENT, TUTTI_INVALID_USAGE: nothing was queued. TUTTI_REMOTE_ERROR: a peer failed, the
 *           communicator is lost. Failures after queueing appear in tuttiCommGetAsyncError().
 * Rounding  None: bytes are copied.
 */
TUTTI_API tuttiResult_t tuttiAllToAllV(const void* send, const size_t* sendcounts, const size_t* sdispls, void* recv,
                                       const size_t* recvcounts, const size_t* rdispls, tuttiDataType_t type,
                                       tuttiComm_t comm, tuttiStream_t stream);

/**
 * Collect `sendcount` elements from every rank on rank `root`, in rank order.
 *
 * Shape     send holds `sendcount` elements of `type`; at the root recv[r * sendcount + i] = send[i] of rank r. recv is
 *           used at the root only (elsewhere NULL or anything, untouched). 0 <= root < n.
 * Units     `sendcount` is in elements. 0 is legal, still needs every rank to call, and then buffers may be NULL.
 * Aliasing  At the root send == recv + root * sendcount (in place) or disjoint from all of recv; other overlap is
 *           TUTTI_INVALID_ARGUMENT.
 * Order     All ranks issue the operations of a communicator in the same order with the same arguments (buffers aside);
 *           they run in issue order, even on different streams.
 * Stream    NULL: blocks, runs in the calling thread, returns when the buffers are reusable and nothing owed to a peer
 *           needs this thread. A tuttiStream_t: returns once queued, runs in stream order on the stream's worker; the
 *           buffers must live until then. In a group: starts at the group's end.
 * Threads   One thread per communicator at a time; communicators are independent of each other.
 * Errors    TUTTI_INVALID_ARGUMENT, TUTTI_INVALID_USAGE: nothing was queued. TUTTI_REMOTE_ERROR: a peer failed, the
 *           communicator is lost. Failures after queueing appear in tuttiCommGetAsyncError().
 * Rounding  None: bytes are copied.
 */
TUTTI_API tuttiResult_t tuttiGather(const void* send, void* recv, size_t sendcount, tuttiDataType_t type, int root,
                                    tuttiComm_t comm, tuttiStream_t stream);

/**
 * Rank `root` gives a block of `recvcount` elements to every rank, in rank order.
 *
 * Shape     At the root send holds n * recvcount elements of `type`; recv[i] = send[rank * recvcount + i] of the root.
 *           send is used at the root only (elsewhere NULL or anything). 0 <= root < n.
 * Units     `recvcount` is in elements. 0 is legal, still needs every rank to call, and then buffers may be NULL.
 * Aliasing  At the root recv == send + root * recvcount (in place) or disjoint from all of send; other overlap is
 *           TUTTI_INVALID_ARGUMENT.
 * Order     All ranks issue the operations of a communicator in the same order with the same arguments (buffers aside);
 *           they run in issue order, even on different streams.
 * Stream    NULL: blocks, runs in the calling thread, returns when the buffers are reusable and nothing owed to a peer
 *           needs this thread. A tuttiStream_t: returns once queued, runs in stream order on the stream's worker; the
 *           buffers must live until then. In a group: starts at the group's end.
 * Threads   One thread per communicator at a time; communicators are independent of each other.
 * Errors    TUTTI_INVALID_ARGUMENT, TUTTI_INVALID_USAGE: nothing was queued. TUTTI_REMOTE_ERROR: a peer failed, the
 *           communicator is lost. Failures after queueing appear in tuttiCommGetAsyncError().
 * Rounding  None: bytes are copied.
 */
TUTTI_API tuttiResult_t tuttiScatter(const void* send, void* recv, size_t recvcount, tuttiDataType_t type, int root,
                                     tuttiComm_t comm, tuttiStream_t stream);

/**
 * No rank leaves before every rank has entered.
 *
 * Order     All ranks issue the operations of a communicator in the same order; they run in issue order, even on
 *           different streams.
 * Stream    NULL: blocks in the calling thread. A tuttiStream_t: what follows in the stream starts after every rank's
 *           stream has reached its barrier. In a group: starts at the group's end.
 * Threads   One thread per communicator at a time; communicators are independent of each other.
 * Errors    TUTTI_INVALID_ARGUMENT, TUTTI_INVALID_USAGE: nothing was queued. TUTTI_REMOTE_ERROR: a peer failed, the
 *           communicator is lost. Failures after queueing appear in tuttiCommGetAsyncError().
 */
TUTTI_API tuttiResult_t tuttiBarrier(tuttiComm_t comm, tuttiStream_t stream);

/**
 * Send `count` elements to rank `peer`, which calls tuttiRecv.
 *
 * Shape     send holds `count` elements of `type`; peer has the same count and type. 0 <= peer < n. peer == rank is
 *           legal when the matching receive is in the same group, else TUTTI_INVALID_USAGE.
 * Units     `count` is in elements. 0 is legal, and still needs its receive; then send may be NULL.
 * Aliasing  send must not overlap what a receive of the same group writes. send is unchanged.
 * Order     The sends of one rank to another match that rank's receives in issue order, with equal count and type; they
 *           take part in the communicator's issue order. Send and receive in one group when they wait for each other
 *           (exchange, pipelines in a ring): members of a group advance together.
 * Stream    NULL: blocks, runs in the calling thread, returns when the buffers are reusable and nothing owed to a peer
 *           needs this thread. A tuttiStream_t: returns once queued, runs in stream order on the stream's worker; the
 *           buffers must live until then. In a group: starts at the group's end. May complete before its receive is
 *           posted: do not rely on it.
 * Threads   One thread per communicator at a time; communicators are independent of each other.
 * Errors    TUTTI_INVALID_ARGUMENT, TUTTI_INVALID_USAGE: nothing was queued. TUTTI_REMOTE_ERROR: a peer failed, the
 *           communicator is lost. Failures after queueing appear in tuttiCommGetAsyncError().
 * Rounding  None: bytes are copied.
 */
TUTTI_API tuttiResult_t tuttiSend(const void* send, size_t count, tuttiDataType_t type, int peer, tuttiComm_t comm,
                                  tuttiStream_t stream);

/**
 * Receive `count` elements from rank `peer`, which calls tuttiSend.
 *
 * Shape     recv holds `count` elements of `type`; peer sends the same count and type. 0 <= peer < n. peer == rank is
 *           legal when the matching send is in the same group, else TUTTI_INVALID_USAGE.
 * Units     `count` is in elements. 0 is legal, and still needs its send; then recv may be NULL.
 * Aliasing  recv must not overlap any other buffer of the same group.
 * Order     The sends of one rank to another match that rank's receives in issue order, with equal count and type; they
 *           take part in the communicator's issue order. Send and receive in one group when they wait for each other
 *           (exchange, pipelines in a ring): members of a group advance together.
 * Stream    NULL: blocks, runs in the calling thread, returns when the buffers are reusable and nothing owed to a peer
 *           needs this thread. A tuttiStream_t: returns once queued, runs in stream order on the stream's worker; the
 *           buffers must live until then. In a group: starts at the group's end.
 * Threads   One thread per communicator at a time; communicators are independent of each other.
 * Errors    TUTTI_INVALID_ARGUMENT, TUTTI_INVALID_USAGE: nothing was queued. TUTTI_REMOTE_ERROR: a peer failed, the
 *           communicator is lost. Failures after queueing appear in tuttiCommGetAsyncError().
 * Rounding  None: bytes are copied.
 */
TUTTI_API tuttiResult_t tuttiRecv(void* recv, size_t count, tuttiDataType_t type, int peer, tuttiComm_t comm,
                                  tuttiStream_t stream);

/* ---- operators ---- */

/**
 * Makes an operator of this communicator: every input is multiplied by a scalar of this rank, then summed.
 *
 * Shape     *scalar is one element of `type`; each rank has its own. *op is usable with `type` and `comm` only.
 * Aliasing  The scalar is read now and not needed afterwards.
 * Order     Local. But operators are known by their place: all ranks create and destroy them in the same order.
 * Threads   One thread per communicator at a time.
 * Errors    TUTTI_INVALID_ARGUMENT: op, scalar or comm NULL, type or residence out of range.
 * Rounding  The product is rounded with the sum of its hop for float16, bfloat16 and fp8 (float32 inside), to the type
 *           otherwise; integers wrap.
 */
TUTTI_API tuttiResult_t tuttiRedOpCreatePreMulSum(tuttiRedOp_t* op, const void* scalar, tuttiDataType_t type,
                                                  tuttiScalarResidence_t residence, tuttiComm_t comm);

/**
 * Ends the life of an operator. Operations that were queued with it still complete. tuttiCommDestroy destroys all.
 *
 * Threads   One thread per communicator at a time.
 * Errors    TUTTI_INVALID_ARGUMENT: not an operator of comm, or a built-in one, or destroyed already.
 */
TUTTI_API tuttiResult_t tuttiRedOpDestroy(tuttiRedOp_t op, tuttiComm_t comm);

/* ---- groups ---- */

/**
 * Opens a group in the calling thread: operations until the matching tuttiGroupEnd are recorded, and start together.
 *
 * Shape     Groups nest: only the outermost end starts anything. A group may hold operations of several communicators,
 *           of several ranks of one communicator that one thread drives, and collectives next to sends and receives.
 * Order     Within a communicator, members run as if issued one after the other, except that sends and receives advance
 *           together; members of different communicators advance together.
 * Threads   Group state belongs to the thread.
 * Errors    A call that fails inside a group poisons it: later members are ignored, its end returns the first error and
 *           starts nothing; the communicators stay usable.
 */
TUTTI_API tuttiResult_t tuttiGroupStart(void);

/**
 * Closes a group. The outermost end starts what was recorded.
 *
 * Stream    Members with stream NULL: blocks and runs them in the calling thread, all together, until all are done.
 *           Members on streams are queued.
 * Threads   The thread that opened the group.
 * Errors    TUTTI_INVALID_USAGE: no group is open. The outermost end of a poisoned group returns the first error, and
 *           nothing was started. A nested end returns TUTTI_SUCCESS.
 */
TUTTI_API tuttiResult_t tuttiGroupEnd(void);

/**
 * Closes a group without starting anything, and writes how long the outermost group would take.
 *
 * Shape     *microseconds: the planner's predictions for the members of each communicator one after the other; of several
 *           communicators, which advance together, the longest. 0 for a nested group, which is only closed.
 * Order     Local: needs no other rank.
 * Threads   The thread that opened the group.
 * Errors    As tuttiGroupEnd; and TUTTI_INVALID_ARGUMENT: microseconds is NULL. TUTTI_INVALID_USAGE: the group makes or
 *           ends communicators. The group is closed and nothing is started in any case.
 */
TUTTI_API tuttiResult_t tuttiGroupSimulateEnd(double* microseconds);

/* ---- streams and events for CPU work ---- */

/**
 * Makes a stream: a queue whose work runs in order on a worker thread of the library (which blocks all signals).
 *
 * Threads   A stream may be used from several threads; each call is one step of its order.
 * Errors    TUTTI_INVALID_ARGUMENT: stream is NULL. TUTTI_SYSTEM_ERROR: no thread could be started.
 */
TUTTI_API tuttiResult_t tuttiStreamCreate(tuttiStream_t* stream);

/**
 * Waits for the stream's queued work, then ends the life of the handle.
 *
 * Threads   No other call may use the stream meanwhile or later. Not from a callback.
 * Errors    TUTTI_INVALID_ARGUMENT: no stream, or destroyed already.
 */
TUTTI_API tuttiResult_t tuttiStreamDestroy(tuttiStream_t stream);

/**
 * Waits until everything queued before this call is done.
 *
 * Threads   Any thread, except the stream's own callbacks.
 * Errors    TUTTI_INVALID_ARGUMENT: no stream. Otherwise the first failure of the work waited for, which
 *           tuttiCommGetAsyncError of its communicator keeps.
 */
TUTTI_API tuttiResult_t tuttiStreamSynchronize(tuttiStream_t stream);

/**
 * TUTTI_SUCCESS when everything queued is done, else TUTTI_IN_PROGRESS. Never blocks.
 *
 * Threads   Any thread.
 * Errors    As tuttiStreamSynchronize.
 */
TUTTI_API tuttiResult_t tuttiStreamQuery(tuttiStream_t stream);

/**
 * What is queued on `stream` after this call starts after the work that `event` marks now.
 *
 * Shape     An event that was never recorded marks nothing. Recording it again later does not move this wait.
 * Stream    Returns once queued.
 * Threads   Any thread.
 * Errors    TUTTI_INVALID_ARGUMENT: no stream, no event.
 */
TUTTI_API tuttiResult_t tuttiStreamWaitEvent(tuttiStream_t stream, tuttiEvent_t event);

/**
 * Queues a call of `callback(user)`, made by the stream's worker when everything queued before is done.
 *
 * Shape     Called once, also after a failure. It must return soon, and must not call this library except
 *           tuttiEventQuery, tuttiStreamQuery, tuttiCommGetAsyncError and tuttiGetLastError.
 * Stream    Returns once queued; what is queued later waits for the callback's return.
 * Threads   Any thread.
 * Errors    TUTTI_INVALID_ARGUMENT: no stream, or callback is NULL.
 */
TUTTI_API tuttiResult_t tuttiStreamAddCallback(tuttiStream_t stream, void (*callback)(void* user), void* user);

/**
 * Makes an event, which marks nothing yet and counts as done.
 *
 * Threads   Any thread.
 * Errors    TUTTI_INVALID_ARGUMENT: event is NULL.
 */
TUTTI_API tuttiResult_t tuttiEventCreate(tuttiEvent_t* event);

/**
 * Ends the life of an event. Waits that were queued on it still hold.
 *
 * Threads   No other call may use the event meanwhile or later.
 * Errors    TUTTI_INVALID_ARGUMENT: no event, or destroyed already.
 */
TUTTI_API tuttiResult_t tuttiEventDestroy(tuttiEvent_t event);

/**
 * Makes `event` mark everything queued on `stream` so far; it is done when that is done.
 *
 * Shape     Recording again moves the mark. stream NULL: done at once, since blocking calls have ended.
 * Stream    Returns once queued.
 * Threads   Any thread.
 * Errors    TUTTI_INVALID_ARGUMENT: no event, no stream.
 */
TUTTI_API tuttiResult_t tuttiEventRecord(tuttiEvent_t event, tuttiStream_t stream);

/**
 * Waits until the work that `event` marks is done.
 *
 * Threads   Any thread, except callbacks.
 * Errors    TUTTI_INVALID_ARGUMENT: no event.
 */
TUTTI_API tuttiResult_t tuttiEventSynchronize(tuttiEvent_t event);

/**
 * TUTTI_SUCCESS when the work that `event` marks is done, else TUTTI_IN_PROGRESS. Never blocks.
 *
 * Threads   Any thread.
 * Errors    As tuttiEventSynchronize.
 */
TUTTI_API tuttiResult_t tuttiEventQuery(tuttiEvent_t event);

/* ---- memory ---- */

/**
 * Allocates memory that collectives and, once registered, peers access best: page-aligned, zeroed, shareable.
 *
 * Units     bytes. 0 is legal: *ptr is then NULL.
 * Aliasing  Free it with tuttiMemFree only. After fork it is not the child's.
 * Threads   Any thread.
 * Errors    TUTTI_INVALID_ARGUMENT: ptr is NULL. TUTTI_SYSTEM_ERROR: no memory, or /dev/shm is full where it is needed.
 */
TUTTI_API tuttiResult_t tuttiMemAlloc(void** ptr, size_t bytes);

/**
 * Allocates memory of a CUDA device that peers can map, in the same process and in others: what windows of ranks on
 * devices are best made of. It is mapped by the driver's virtual memory management and can be exported.
 *
 * Shape     device: a CUDA ordinal, as in tuttiConfig_t; TUTTI_DEVICE_CPU: as tuttiMemAlloc. The memory is of that
 *           device, whichever is current, and usable by all devices of the process that reach it. It is not zeroed.
 * Units     bytes, of which the device gives the next multiple of its granularity (2 MiB on devices known so far); that
 *           is the alignment, too. 0 is legal: *ptr is then NULL.
 * Aliasing  Free it with tuttiMemFree only. After fork it is the parent's.
 * Threads   Any thread; also while one of its streams is captured. May make the device's primary context.
 * Errors    *ptr is NULL after any but the first. TUTTI_INVALID_ARGUMENT: ptr is NULL, device is below
 *           TUTTI_DEVICE_CPU. TUTTI_CUDA_ERROR: no driver, no such device, no memory; or device and driver cannot map
 *           memory for other processes (cudaMalloc's will do for windows then).
 */
TUTTI_API tuttiResult_t tuttiMemAllocDevice(void** ptr, size_t bytes, int device);

/**
 * Frees memory of tuttiMemAlloc or tuttiMemAllocDevice. NULL: does nothing. No queued operation may still use it; what
 * is still registered as a window stays with the library until the window has ended.
 *
 * Threads   Any thread.
 * Errors    TUTTI_INVALID_ARGUMENT: ptr is not the start of such memory. TUTTI_INVALID_USAGE: it is a device's, and of
 *           the parent of this forked process.
 */
TUTTI_API tuttiResult_t tuttiMemFree(void* ptr);

/**
 * Tells a communicator that [ptr, ptr + bytes) will be used again and again. Never needed, sometimes faster.
 *
 * Shape     Any memory; that of tuttiMemAlloc and tuttiMemAllocDevice gains most. *handle ends it.
 * Order     Local: needs no other rank, and ranks may register different memory.
 * Threads   One thread per communicator at a time.
 * Errors    TUTTI_INVALID_ARGUMENT: comm, ptr or handle is NULL, bytes is 0 or runs past the end of the address space.
 */
TUTTI_API tuttiResult_t tuttiCommRegister(tuttiComm_t comm, void* ptr, size_t bytes, void** handle);

/**
 * Ends a registration. No queued operation may still use the memory. tuttiCommDestroy ends all.
 *
 * Threads   One thread per communicator at a time.
 * Errors    TUTTI_INVALID_ARGUMENT: comm or handle is NULL, or handle is no registration of comm.
 */
TUTTI_API tuttiResult_t tuttiCommDeregister(tuttiComm_t comm, void* handle);

/**
 * Makes memory of every rank one window: peers read and write it where it is, so that nothing is copied in between.
 *
 * Shape     [ptr, ptr + bytes) is memory of tuttiMemAlloc, or of a rank's GPU: one allocation of tuttiMemAllocDevice,
 *           of cudaMalloc, or of cuMemCreate with a POSIX handle type; flags is 0. The sizes of the ranks may differ.
 *           A call uses windows when all its buffers on all ranks lie in them, at any place, and it pays; otherwise it
 *           works as without. Other memory is legal and gains nothing (the log says on which rank).
 * Order     Collective over comm, in its place among the operations. In a group: done at the group's end.
 * Stream    Waits for all operations issued before.
 * Threads   One thread per communicator at a time.
 * Errors    TUTTI_INVALID_ARGUMENT: comm or window is NULL, flags is not 0, ptr is NULL or runs past the end of the
 *           address space with bytes > 0. TUTTI_REMOTE_ERROR: a rank is missing or failed.
 */
TUTTI_API tuttiResult_t tuttiCommWindowRegister(tuttiComm_t comm, void* ptr, size_t bytes, tuttiWindow_t* window,
                                                int flags);

/**
 * Ends a window. tuttiCommDestroy ends all. The memory may be freed then, whether or not peers have ended theirs; that
 * of cudaMalloc, which other processes had open, only after this call, or when all ranks have destroyed comm.
 *
 * Order     Collective over comm, in its place among the operations; waits for no other rank, but for windows in memory
 *           of cudaMalloc until the other processes have ended theirs (no longer than TUTTI_TIMEOUT).
 * Stream    Waits for all operations issued before.
 * Threads   One thread per communicator at a time.
 * Errors    TUTTI_INVALID_ARGUMENT: window is no window of comm, or ended already.
 */
TUTTI_API tuttiResult_t tuttiCommWindowDeregister(tuttiComm_t comm, tuttiWindow_t window);

/* ---- insight ---- */

/**
 * Writes what the planner would do for a call, as text: all candidates with their predicted cost, and the choice.
 *
 * Shape     collective is a name as in TUTTI_ALGO ("allreduce", "broadcast", ...; letter case does not matter). text
 *           receives at most textBytes bytes, always ends with NUL, and is cut when it does not fit.
 * Units     count as in the call that is asked about, in elements of `type`.
 * Order     Local: starts nothing and needs no other rank.
 * Threads   One thread per communicator at a time.
 * Errors    TUTTI_INVALID_ARGUMENT: comm or text is NULL, textBytes is 0, collective is no name (the text lists them),
 *           type out of range.
 */
TUTTI_API tuttiResult_t tuttiExplain(tuttiComm_t comm, const char* collective, size_t count, tuttiDataType_t type,
                                     char* text, size_t textBytes);

/**
 * Writes the last 1,024 operations of this rank on `comm` to a file, as JSON: what, when queued, started and ended, how
 * many bytes, by which algorithm. `tutti trace` makes one picture of the files of all ranks.
 *
 * Shape     path may hold %h (host), %p (process), %r (rank), %c (communicator's name) and %% (a %). NULL: the path of
 *           TUTTI_DUMP_FILE. The file is replaced as a whole; its mode is 0600.
 * Order     Local: needs no other rank and disturbs no operation that is under way.
 * Threads   Any thread, any time before destroy; blocks for as long as writing the file takes.
 * Errors    TUTTI_INVALID_ARGUMENT: no communicator, or path is NULL and TUTTI_DUMP_FILE is not set.
 *           TUTTI_SYSTEM_ERROR: the file cannot be written.
 */
TUTTI_API tuttiResult_t tuttiCommDump(tuttiComm_t comm, const char* path);

/** How this rank has waited for another: see tuttiCommGetWaits. */
typedef struct {
  uint64_t waits;        /* how often */
  double seconds;        /* for how long in all */
  double longestSeconds; /* the longest of them */
} tuttiWait_t;

/**
 * Writes for each rank how often and how long this rank has waited for it since the communicator was made: who is late
 * has large numbers on all others. Counted are waits that outlast the polls with which a thread begins to wait (some
 * 50 us; with more ranks than cores: in which the others of its core had one turn of some 50 us, or several), so
 * counting costs nothing while ranks are punctual.
 *
 * Shape     waits receives `nranks` entries, in rank order; nranks is the communicator's number of ranks.
 * Order     Local: needs no other rank.
 * Threads   Any thread, any time before destroy; a wait under way is counted when it ends.
 * Errors    TUTTI_INVALID_ARGUMENT: no communicator, waits is NULL, nranks is another number.
 */
TUTTI_API tuttiResult_t tuttiCommGetWaits(tuttiComm_t comm, tuttiWait_t* waits, int nranks);

#ifdef __cplusplus
}
#endif
#endif /* TUTTI_TUTTI_H_ */
