// SPDX-License-Identifier: Apache-2.0
// Our declarations of the CUDA driver's interface against cuda.h: does it compile?
#include <cuda.h>

#include "gpu/cuda_driver_abi.h"

namespace tutti::gpu {

static_assert(kCudaSuccess == static_cast<int>(CUDA_SUCCESS));
static_assert(kCudaNoDevice == static_cast<int>(CUDA_ERROR_NO_DEVICE));
static_assert(kCudaInvalidDevice == static_cast<int>(CUDA_ERROR_INVALID_DEVICE));
static_assert(kCudaInvalidValue == static_cast<int>(CUDA_ERROR_INVALID_VALUE));
static_assert(kCudaSystemDriverMismatch == static_cast<int>(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH));
static_assert(kCudaMultiprocessors == static_cast<int>(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT));
static_assert(kCudaCapabilityMajor == static_cast<int>(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR));
static_assert(kCudaCapabilityMinor == static_cast<int>(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR));
static_assert(kCudaGpuDirectRdma == static_cast<int>(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED));
static_assert(kCudaDmaBuf == static_cast<int>(CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED));
static_assert(kCudaMulticast == static_cast<int>(CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED));
static_assert(kCudaHostNumaNode == static_cast<int>(CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID));
static_assert(kCudaPeerRank == static_cast<int>(CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK));
static_assert(kCudaPeerAccess == static_cast<int>(CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED));
static_assert(kCudaPeerAtomics == static_cast<int>(CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED));
static_assert(sizeof(CudaUuid) == sizeof(CUuuid) && sizeof(CudaDevice) == sizeof(CUdevice));

}  // namespace tutti::gpu
