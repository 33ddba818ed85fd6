// SPDX-License-Identifier: Apache-2.0
// The part of the CUDA driver's binary interface that detection uses, in our words. tests/gpu compares the numbers with
// cuda.h where a toolkit is installed; the look-alike of the tests implements the same table.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tutti::gpu {

using CudaDevice = int;
struct CudaUuid {
  char bytes[16];
};

enum CudaResult : int32_t {
  kCudaSuccess = 0,
  kCudaNoDevice = 100,
  kCudaInvalidDevice = 101,
  kCudaInvalidValue = 1,
  kCudaSystemDriverMismatch = 803,  // user library and kernel module are of different versions
};

enum CudaAttribute : int32_t {
  kCudaMultiprocessors = 16,
  kCudaCapabilityMajor = 75,
  kCudaCapabilityMinor = 76,
  kCudaGpuDirectRdma = 116,
  kCudaDmaBuf = 124,
  kCudaMulticast = 132,
  kCudaHostNumaNode = 134,
};
enum CudaPeerAttribute : int32_t { kCudaPeerRank = 1, kCudaPeerAccess = 2, kCudaPeerAtomics = 3 };

#define TUTTI_CUDA_FUNCTIONS(FUNCTION)                                                   \
  FUNCTION(init, cuInit, true, (unsigned))                                               \
  FUNCTION(driver_version, cuDriverGetVersion, true, (int*))                             \
  FUNCTION(count, cuDeviceGetCount, true, (int*))                                        \
  FUNCTION(by_ordinal, cuDeviceGet, true, (CudaDevice*, int))                            \
  FUNCTION(device_name, cuDeviceGetName, true, (char*, int, CudaDevice))                 \
  FUNCTION(bus_id, cuDeviceGetPCIBusId, true, (char*, int, CudaDevice))                  \
  FUNCTION(uuid, cuDeviceGetUuid_v2, false, (CudaUuid*, CudaDevice))                     \
  FUNCTION(memory, cuDeviceTotalMem_v2, true, (size_t*, CudaDevice))                     \
  FUNCTION(attribute, cuDeviceGetAttribute, true, (int*, int, CudaDevice))               \
  FUNCTION(can_access_peer, cuDeviceCanAccessPeer, true, (int*, CudaDevice, CudaDevice)) \
  FUNCTION(peer_attribute, cuDeviceGetP2PAttribute, true, (int*, int, CudaDevice, CudaDevice))

#define TUTTI_CUDA_TYPE(member, symbol, required, parameters) using member##_function = int parameters;
struct CudaFunctions {
  TUTTI_CUDA_FUNCTIONS(TUTTI_CUDA_TYPE)
};
#undef TUTTI_CUDA_TYPE

}  // namespace tutti::gpu
