// SPDX-License-Identifier: Apache-2.0
// The few functions of the CUDA driver that measuring needs, loaded at run time: memory, streams, events and graphs of
// devices. No CUDA header is needed to build, and no driver to run on CPUs. device.h is what the rest of perf sees.
#pragma once

#include <cstddef>
#include <cstdint>

#include "perf/outcome.h"

namespace tutti::perf {

// FUNCTION(member, the driver's symbol, parameters); all return the driver's error code.
#define PERF_CUDA_FUNCTIONS(FUNCTION)                                                           \
  FUNCTION(init, cuInit, (unsigned))                                                            \
  FUNCTION(count, cuDeviceGetCount, (int*))                                                     \
  FUNCTION(name, cuDeviceGetName, (char*, int, int))                                            \
  FUNCTION(bus_id, cuDeviceGetPCIBusId, (char*, int, int))                                      \
  FUNCTION(memory, cuDeviceTotalMem_v2, (size_t*, int))                                         \
  FUNCTION(retain, cuDevicePrimaryCtxRetain, (void**, int))                                     \
  FUNCTION(release, cuDevicePrimaryCtxRelease_v2, (int))                                        \
  FUNCTION(push, cuCtxPushCurrent_v2, (void*))                                                  \
  FUNCTION(pop, cuCtxPopCurrent_v2, (void**))                                                   \
  FUNCTION(can_access_peer, cuDeviceCanAccessPeer, (int*, int, int))                            \
  FUNCTION(enable_peer, cuCtxEnablePeerAccess, (void*, unsigned))                               \
  FUNCTION(error_name, cuGetErrorName, (int, const char**))                                     \
  FUNCTION(error_text, cuGetErrorString, (int, const char**))                                   \
  FUNCTION(allocate, cuMemAlloc_v2, (unsigned long long*, size_t))                              \
  FUNCTION(free, cuMemFree_v2, (unsigned long long))                                            \
  FUNCTION(allocate_host, cuMemHostAlloc, (void**, size_t, unsigned))                           \
  FUNCTION(free_host, cuMemFreeHost, (void*))                                                   \
  FUNCTION(copy, cuMemcpyAsync, (unsigned long long, unsigned long long, size_t, void*))        \
  FUNCTION(set, cuMemsetD8Async, (unsigned long long, unsigned char, size_t, void*))            \
  FUNCTION(stream_create, cuStreamCreateWithPriority, (void**, unsigned, int))                  \
  FUNCTION(stream_destroy, cuStreamDestroy_v2, (void*))                                         \
  FUNCTION(stream_synchronize, cuStreamSynchronize, (void*))                                    \
  FUNCTION(stream_wait, cuStreamWaitEvent, (void*, void*, unsigned))                            \
  FUNCTION(event_create, cuEventCreate, (void**, unsigned))                                     \
  FUNCTION(event_destroy, cuEventDestroy_v2, (void*))                                           \
  FUNCTION(event_record, cuEventRecord, (void*, void*))                                         \
  FUNCTION(capture_begin, cuStreamBeginCapture_v2, (void*, int))                                \
  FUNCTION(capture_end, cuStreamEndCapture, (void*, void**))                                    \
  FUNCTION(graph_instantiate, cuGraphInstantiateWithFlags, (void**, void*, unsigned long long)) \
  FUNCTION(graph_launch, cuGraphLaunch, (void*, void*))                                         \
  FUNCTION(graph_exec_destroy, cuGraphExecDestroy, (void*))                                     \
  FUNCTION(graph_destroy, cuGraphDestroy, (void*))

struct Cuda {
#define PERF_CUDA_MEMBER(member, symbol, parameters) int(*member) parameters = nullptr;
  PERF_CUDA_FUNCTIONS(PERF_CUDA_MEMBER)
#undef PERF_CUDA_MEMBER
  int (*free_memory)(size_t* free, size_t* total) = nullptr;  // cuMemGetInfo_v2; null where it is missing
  int devices = 0;

  // Loads and initialises libcuda.so.1, or what TUTTI_CUDA_LIBRARY names, once; never unloaded. At least one device.
  static Outcome load(const Cuda** cuda);
  // Success, or "CALL on CUDA device N: NAME, TEXT".
  Outcome checked(int code, const char* call, int device) const;
};

}  // namespace tutti::perf
