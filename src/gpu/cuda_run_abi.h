// SPDX-License-Identifier: Apache-2.0
// The part of the CUDA driver's binary interface that running on a device uses, in our words; what detection uses is in
// cuda_driver_abi.h. tests/gpu compares the numbers and layouts with cuda.h where a toolkit is installed; the fake
// driver of the tests implements the same table.
#pragma once

#include <cstddef>
#include <cstdint>

#include "gpu/cuda_driver_abi.h"

// The driver's objects, named as cuda.h names them: a handle of the user is the same type as one of ours.
struct CUctx_st;
struct CUstream_st;
struct CUevent_st;
struct CUmod_st;
struct CUfunc_st;
struct CUgraph_st;
struct CUgraphExec_st;
struct CUgraphNode_st;
struct CUuserObject_st;

namespace tutti::gpu {

using CudaContext = CUctx_st*;
using CudaStreamHandle = CUstream_st*;
using CudaEventHandle = CUevent_st*;
using CudaModule = CUmod_st*;
using CudaFunction = CUfunc_st*;
using CudaGraph = CUgraph_st*;
using CudaGraphExec = CUgraphExec_st*;
using CudaGraphNode = CUgraphNode_st*;
using CudaAddress = unsigned long long;
using CudaMemoryHandle = unsigned long long;

enum CudaRunResult : int32_t {
  kCudaOutOfMemory = 2,
  kCudaNotInitialized = 3,
  kCudaInvalidImage = 200,
  kCudaNoImageForGpu = 209,
  kCudaInvalidPtx = 218,
  kCudaUnsupportedPtx = 222,
  kCudaInvalidContext = 201,
  kCudaEccUncorrectable = 214,
  kCudaPeerUnsupported = 217,
  kCudaNvlinkUncorrectable = 220,
  kCudaInvalidHandle = 400,
  kCudaNotFound = 500,
  kCudaNotReady = 600,
  kCudaIllegalAddress = 700,
  kCudaLaunchOutOfResources = 701,
  kCudaLaunchTimeout = 702,
  kCudaPeerAlreadyEnabled = 704,
  kCudaContextDestroyed = 709,
  kCudaAssert = 710,
  kCudaAlreadyRegistered = 712,
  kCudaNotRegistered = 713,
  kCudaHardwareStackError = 714,
  kCudaIllegalInstruction = 715,
  kCudaMisalignedAddress = 716,
  kCudaInvalidAddressSpace = 717,
  kCudaInvalidPc = 718,
  kCudaLaunchFailed = 719,
  kCudaCooperativeTooLarge = 720,
  kCudaNotPermitted = 800,
  kCudaNotSupported = 801,
  kCudaCaptureUnsupported = 900,
  kCudaCaptureInvalidated = 901,
  kCudaCaptureMerge = 902,
  kCudaCaptureUnmatched = 903,
  kCudaCaptureUnjoined = 904,
  kCudaCaptureIsolation = 905,
  kCudaCaptureImplicit = 906,
  kCudaCapturedEvent = 907,
  kCudaCaptureWrongThread = 908,
};

enum CudaRunAttribute : int32_t {
  kCudaCanMapHostMemory = 19,
  kCudaUnifiedAddressing = 41,
  kCudaPageableMemoryAccess = 88,
  kCudaCooperativeLaunch = 95,
  kCudaVirtualMemory = 102,
  kCudaPosixHandles = 103,
  kCudaRdmaFlushOptions = 117,  // CudaRdmaFlush
  kCudaRdmaOrdering = 118,      // CudaRdmaScope
  kCudaStreamValues64 = 122,
};
// Writes of network cards: for whom they need no flush (0: for nobody), and how they are flushed.
enum CudaRdmaScope : int32_t { kCudaRdmaToOwner = 100, kCudaRdmaToAll = 200 };
enum CudaRdmaFlush : int32_t { kCudaRdmaFlushByHost = 1, kCudaRdmaFlushByStream = 2 };
inline constexpr int32_t kCudaRdmaCurrentContext = 0;  // what cuFlushGPUDirectRDMAWrites flushes
inline constexpr int32_t kCudaRangeDmaBuf = 1;         // of cuMemGetHandleForAddressRange
enum CudaFunctionAttribute : int32_t {
  kCudaFunctionMostThreads = 0,
  kCudaFunctionLocalBytes = 3,
  kCudaFunctionRegisters = 4,
};
inline constexpr int kCudaLimitStack = 0;

inline constexpr unsigned kCudaStreamNonBlocking = 1;
inline constexpr unsigned kCudaEventDisableTiming = 2;
inline constexpr unsigned kCudaHostPortable = 1, kCudaHostMapped = 2;
inline constexpr unsigned kCudaHostRegisterPortable = 1, kCudaHostRegisterMapped = 2;
inline constexpr unsigned kCudaManagedGlobal = 1;
inline constexpr unsigned kCudaIpcLazyPeer = 1;
inline constexpr unsigned kCudaWaitGreaterOrEqual = 0, kCudaWaitEqual = 1;
// Two values of a stream handle that name no object: the legacy stream (as null does) and this thread's own.
inline constexpr uintptr_t kCudaLegacyStream = 1, kCudaPerThreadStream = 2;

enum CudaCaptureStatus : int32_t { kCudaNotCapturing = 0, kCudaCapturing = 1, kCudaCaptureLost = 2 };
enum CudaCaptureMode : int32_t { kCudaCaptureGlobal = 0, kCudaCaptureThread = 1, kCudaCaptureRelaxed = 2 };

enum CudaMemoryType : uint32_t { kCudaHostMemory = 1, kCudaDeviceMemory = 2 };
enum CudaPointerAttribute : int32_t {
  kCudaPointerMemoryType = 2,
  kCudaPointerDevicePointer = 3,
  kCudaPointerIsManaged = 8,
  kCudaPointerDeviceOrdinal = 9,
  kCudaPointerLegacyIpc = 10,
  kCudaPointerRangeStart = 11,
  kCudaPointerRangeSize = 12,
  kCudaPointerHandleTypes = 14,
};

// cuLaunchKernelEx
inline constexpr int32_t kCudaLaunchCooperative = 2;
struct CudaLaunchAttribute {
  int32_t id = 0;
  int32_t unused = 0;
  union {
    char bytes[64];
    int32_t cooperative;
  } value = {};
};
struct CudaLaunchConfig {
  unsigned grid[3] = {1, 1, 1}, block[3] = {1, 1, 1};
  unsigned shared_bytes = 0;
  CudaStreamHandle stream = nullptr;
  CudaLaunchAttribute* attributes = nullptr;
  unsigned attribute_count = 0;
};

// A reference of a graph, and of all that is made from it, to something of ours.
using CudaUserObject = CUuserObject_st*;
inline constexpr unsigned kCudaUserObjectNoSync = 1, kCudaGraphMovesReference = 1;

struct CudaIpcHandle {
  char reserved[64];
};

inline constexpr int32_t kCudaPinnedAllocation = 1, kCudaPosixFile = 1, kCudaOnDevice = 1, kCudaReadWrite = 3;
struct CudaLocation {
  int32_t type = kCudaOnDevice;
  int32_t id = 0;
};
struct CudaAllocationProperties {
  int32_t type = kCudaPinnedAllocation;
  int32_t handle_types = kCudaPosixFile;
  CudaLocation location;
  void* windows = nullptr;
  struct {
    unsigned char compression = 0, gpu_direct_rdma = 0;
    unsigned short usage = 0;
    unsigned char reserved[4] = {};
  } flags;
};
struct CudaAccess {
  CudaLocation location;
  int32_t flags = kCudaReadWrite;
};

using CudaHostFunction = void (*)(void*);

#define TUTTI_CUDA_RUN_FUNCTIONS(FUNCTION)                                                                             \
  FUNCTION(error_name, cuGetErrorName, true, (int, const char**))                                                      \
  FUNCTION(error_text, cuGetErrorString, true, (int, const char**))                                                    \
  FUNCTION(primary_retain, cuDevicePrimaryCtxRetain, true, (CudaContext*, CudaDevice))                                 \
  FUNCTION(primary_release, cuDevicePrimaryCtxRelease_v2, true, (CudaDevice))                                          \
  FUNCTION(context_push, cuCtxPushCurrent_v2, true, (CudaContext))                                                     \
  FUNCTION(context_pop, cuCtxPopCurrent_v2, true, (CudaContext*))                                                      \
  FUNCTION(context_current, cuCtxGetCurrent, true, (CudaContext*))                                                     \
  FUNCTION(context_device, cuCtxGetDevice, true, (CudaDevice*))                                                        \
  FUNCTION(context_synchronize, cuCtxSynchronize, true, ())                                                            \
  FUNCTION(limit, cuCtxGetLimit, true, (size_t*, int))                                                                 \
  FUNCTION(set_limit, cuCtxSetLimit, true, (int, size_t))                                                              \
  FUNCTION(enable_peer, cuCtxEnablePeerAccess, true, (CudaContext, unsigned))                                          \
  FUNCTION(priorities, cuCtxGetStreamPriorityRange, true, (int*, int*))                                                \
  FUNCTION(module_load, cuModuleLoadData, true, (CudaModule*, const void*))                                            \
  FUNCTION(module_unload, cuModuleUnload, true, (CudaModule))                                                          \
  FUNCTION(module_function, cuModuleGetFunction, true, (CudaFunction*, CudaModule, const char*))                       \
  FUNCTION(occupancy, cuOccupancyMaxActiveBlocksPerMultiprocessor, true, (int*, CudaFunction, int, size_t))            \
  FUNCTION(function_attribute, cuFuncGetAttribute, true, (int*, int, CudaFunction))                                    \
  FUNCTION(launch, cuLaunchKernelEx, true, (const CudaLaunchConfig*, CudaFunction, void**, void**))                    \
  FUNCTION(launch_host, cuLaunchHostFunc, true, (CudaStreamHandle, CudaHostFunction, void*))                           \
  FUNCTION(allocate, cuMemAlloc_v2, true, (CudaAddress*, size_t))                                                      \
  FUNCTION(free, cuMemFree_v2, true, (CudaAddress))                                                                    \
  FUNCTION(allocate_async, cuMemAllocAsync, false, (CudaAddress*, size_t, CudaStreamHandle))                           \
  FUNCTION(free_async, cuMemFreeAsync, false, (CudaAddress, CudaStreamHandle))                                         \
  FUNCTION(allocate_managed, cuMemAllocManaged, true, (CudaAddress*, size_t, unsigned))                                \
  FUNCTION(allocate_host, cuMemHostAlloc, true, (void**, size_t, unsigned))                                            \
  FUNCTION(free_host, cuMemFreeHost, true, (void*))                                                                    \
  FUNCTION(register_host, cuMemHostRegister_v2, true, (void*, size_t, unsigned))                                       \
  FUNCTION(unregister_host, cuMemHostUnregister, true, (void*))                                                        \
  FUNCTION(host_address, cuMemHostGetDevicePointer_v2, true, (CudaAddress*, void*, unsigned))                          \
  FUNCTION(address_range, cuMemGetAddressRange_v2, true, (CudaAddress*, size_t*, CudaAddress))                         \
  FUNCTION(range_handle, cuMemGetHandleForAddressRange, false, (void*, CudaAddress, size_t, int, unsigned long long))  \
  FUNCTION(flush_rdma_writes, cuFlushGPUDirectRDMAWrites, false, (int, int))                                           \
  FUNCTION(pointer_attribute, cuPointerGetAttribute, true, (void*, int, CudaAddress))                                  \
  FUNCTION(copy_async, cuMemcpyAsync, true, (CudaAddress, CudaAddress, size_t, CudaStreamHandle))                      \
  FUNCTION(copy, cuMemcpy, true, (CudaAddress, CudaAddress, size_t))                                                   \
  FUNCTION(set_async, cuMemsetD8Async, true, (CudaAddress, unsigned char, size_t, CudaStreamHandle))                   \
  FUNCTION(ipc_export, cuIpcGetMemHandle, true, (CudaIpcHandle*, CudaAddress))                                         \
  FUNCTION(ipc_open, cuIpcOpenMemHandle_v2, true, (CudaAddress*, CudaIpcHandle, unsigned))                             \
  FUNCTION(ipc_close, cuIpcCloseMemHandle, true, (CudaAddress))                                                        \
  FUNCTION(memory_granularity, cuMemGetAllocationGranularity, true, (size_t*, const CudaAllocationProperties*, int))   \
  FUNCTION(memory_reserve, cuMemAddressReserve, true, (CudaAddress*, size_t, size_t, CudaAddress, unsigned long long)) \
  FUNCTION(memory_unreserve, cuMemAddressFree, true, (CudaAddress, size_t))                                            \
  FUNCTION(memory_create, cuMemCreate, true,                                                                           \
           (CudaMemoryHandle*, size_t, const CudaAllocationProperties*, unsigned long long))                           \
  FUNCTION(memory_release, cuMemRelease, true, (CudaMemoryHandle))                                                     \
  FUNCTION(memory_map, cuMemMap, true, (CudaAddress, size_t, size_t, CudaMemoryHandle, unsigned long long))            \
  FUNCTION(memory_unmap, cuMemUnmap, true, (CudaAddress, size_t))                                                      \
  FUNCTION(memory_access, cuMemSetAccess, true, (CudaAddress, size_t, const CudaAccess*, size_t))                      \
  FUNCTION(memory_export, cuMemExportToShareableHandle, true, (void*, CudaMemoryHandle, int, unsigned long long))      \
  FUNCTION(memory_import, cuMemImportFromShareableHandle, true, (CudaMemoryHandle*, void*, int))                       \
  FUNCTION(memory_handle, cuMemRetainAllocationHandle, false, (CudaMemoryHandle*, void*))                              \
  FUNCTION(stream_create, cuStreamCreateWithPriority, true, (CudaStreamHandle*, unsigned, int))                        \
  FUNCTION(stream_destroy, cuStreamDestroy_v2, true, (CudaStreamHandle))                                               \
  FUNCTION(stream_context, cuStreamGetCtx, true, (CudaStreamHandle, CudaContext*))                                     \
  FUNCTION(stream_query, cuStreamQuery, true, (CudaStreamHandle))                                                      \
  FUNCTION(stream_synchronize, cuStreamSynchronize, true, (CudaStreamHandle))                                          \
  FUNCTION(stream_wait_event, cuStreamWaitEvent, true, (CudaStreamHandle, CudaEventHandle, unsigned))                  \
  FUNCTION(stream_wait_value, cuStreamWaitValue64_v2, true, (CudaStreamHandle, CudaAddress, uint64_t, unsigned))       \
  FUNCTION(stream_write_value, cuStreamWriteValue64_v2, true, (CudaStreamHandle, CudaAddress, uint64_t, unsigned))     \
  FUNCTION(event_create, cuEventCreate, true, (CudaEventHandle*, unsigned))                                            \
  FUNCTION(event_destroy, cuEventDestroy_v2, true, (CudaEventHandle))                                                  \
  FUNCTION(event_record, cuEventRecord, true, (CudaEventHandle, CudaStreamHandle))                                     \
  FUNCTION(event_query, cuEventQuery, true, (CudaEventHandle))                                                         \
  FUNCTION(event_synchronize, cuEventSynchronize, true, (CudaEventHandle))                                             \
  FUNCTION(capture_begin, cuStreamBeginCapture_v2, true, (CudaStreamHandle, int))                                      \
  FUNCTION(capture_end, cuStreamEndCapture, true, (CudaStreamHandle, CudaGraph*))                                      \
  FUNCTION(capture_info, cuStreamGetCaptureInfo_v2, true,                                                              \
           (CudaStreamHandle, CudaCaptureStatus*, uint64_t*, CudaGraph*, const CudaGraphNode**, size_t*))              \
  FUNCTION(capture_mode, cuThreadExchangeStreamCaptureMode, true, (int*))                                              \
  FUNCTION(graph_instantiate, cuGraphInstantiateWithFlags, true, (CudaGraphExec*, CudaGraph, unsigned long long))      \
  FUNCTION(graph_launch, cuGraphLaunch, true, (CudaGraphExec, CudaStreamHandle))                                       \
  FUNCTION(graph_exec_destroy, cuGraphExecDestroy, true, (CudaGraphExec))                                              \
  FUNCTION(graph_destroy, cuGraphDestroy, true, (CudaGraph))                                                           \
  FUNCTION(user_object, cuUserObjectCreate, true, (CudaUserObject*, void*, CudaHostFunction, unsigned, unsigned))      \
  FUNCTION(user_object_release, cuUserObjectRelease, true, (CudaUserObject, unsigned))                                 \
  FUNCTION(graph_retain, cuGraphRetainUserObject, true, (CudaGraph, CudaUserObject, unsigned, unsigned))

#define TUTTI_CUDA_TYPE(member, symbol, required, parameters) using member##_function = int parameters;
struct CudaRunFunctions {
  TUTTI_CUDA_RUN_FUNCTIONS(TUTTI_CUDA_TYPE)
};
#undef TUTTI_CUDA_TYPE

}  // namespace tutti::gpu
