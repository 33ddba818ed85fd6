// SPDX-License-Identifier: Apache-2.0
// Our declarations of the CUDA driver's interface against cuda.h: does it compile?
#include <cuda.h>

#include <cstddef>
#include <type_traits>

#include "gpu/cuda_run_abi.h"

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

static_assert(static_cast<int>(kCudaOutOfMemory) == static_cast<int>(CUDA_ERROR_OUT_OF_MEMORY));
static_assert(static_cast<int>(kCudaNotInitialized) == static_cast<int>(CUDA_ERROR_NOT_INITIALIZED));
static_assert(static_cast<int>(kCudaNoImageForGpu) == static_cast<int>(CUDA_ERROR_NO_BINARY_FOR_GPU));
static_assert(static_cast<int>(kCudaInvalidContext) == static_cast<int>(CUDA_ERROR_INVALID_CONTEXT));
static_assert(static_cast<int>(kCudaEccUncorrectable) == static_cast<int>(CUDA_ERROR_ECC_UNCORRECTABLE));
static_assert(static_cast<int>(kCudaPeerUnsupported) == static_cast<int>(CUDA_ERROR_PEER_ACCESS_UNSUPPORTED));
static_assert(static_cast<int>(kCudaNvlinkUncorrectable) == static_cast<int>(CUDA_ERROR_NVLINK_UNCORRECTABLE));
static_assert(static_cast<int>(kCudaInvalidHandle) == static_cast<int>(CUDA_ERROR_INVALID_HANDLE));
static_assert(static_cast<int>(kCudaNotFound) == static_cast<int>(CUDA_ERROR_NOT_FOUND));
static_assert(static_cast<int>(kCudaNotReady) == static_cast<int>(CUDA_ERROR_NOT_READY));
static_assert(static_cast<int>(kCudaIllegalAddress) == static_cast<int>(CUDA_ERROR_ILLEGAL_ADDRESS));
static_assert(static_cast<int>(kCudaLaunchOutOfResources) == static_cast<int>(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES));
static_assert(static_cast<int>(kCudaLaunchTimeout) == static_cast<int>(CUDA_ERROR_LAUNCH_TIMEOUT));
static_assert(static_cast<int>(kCudaPeerAlreadyEnabled) == static_cast<int>(CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED));
static_assert(static_cast<int>(kCudaContextDestroyed) == static_cast<int>(CUDA_ERROR_CONTEXT_IS_DESTROYED));
static_assert(static_cast<int>(kCudaAssert) == static_cast<int>(CUDA_ERROR_ASSERT));
static_assert(static_cast<int>(kCudaAlreadyRegistered) == static_cast<int>(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED));
static_assert(static_cast<int>(kCudaNotRegistered) == static_cast<int>(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED));
static_assert(static_cast<int>(kCudaHardwareStackError) == static_cast<int>(CUDA_ERROR_HARDWARE_STACK_ERROR));
static_assert(static_cast<int>(kCudaIllegalInstruction) == static_cast<int>(CUDA_ERROR_ILLEGAL_INSTRUCTION));
static_assert(static_cast<int>(kCudaMisalignedAddress) == static_cast<int>(CUDA_ERROR_MISALIGNED_ADDRESS));
static_assert(static_cast<int>(kCudaInvalidAddressSpace) == static_cast<int>(CUDA_ERROR_INVALID_ADDRESS_SPACE));
static_assert(static_cast<int>(kCudaInvalidPc) == static_cast<int>(CUDA_ERROR_INVALID_PC));
static_assert(static_cast<int>(kCudaLaunchFailed) == static_cast<int>(CUDA_ERROR_LAUNCH_FAILED));
static_assert(static_cast<int>(kCudaNotPermitted) == static_cast<int>(CUDA_ERROR_NOT_PERMITTED));
static_assert(static_cast<int>(kCudaNotSupported) == static_cast<int>(CUDA_ERROR_NOT_SUPPORTED));
static_assert(static_cast<int>(kCudaCaptureUnsupported) == static_cast<int>(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED));
static_assert(static_cast<int>(kCudaCaptureInvalidated) == static_cast<int>(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED));
static_assert(static_cast<int>(kCudaCaptureMerge) == static_cast<int>(CUDA_ERROR_STREAM_CAPTURE_MERGE));
static_assert(static_cast<int>(kCudaCaptureUnmatched) == static_cast<int>(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED));
static_assert(static_cast<int>(kCudaCaptureUnjoined) == static_cast<int>(CUDA_ERROR_STREAM_CAPTURE_UNJOINED));
static_assert(static_cast<int>(kCudaCaptureIsolation) == static_cast<int>(CUDA_ERROR_STREAM_CAPTURE_ISOLATION));
static_assert(static_cast<int>(kCudaCaptureImplicit) == static_cast<int>(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT));
static_assert(static_cast<int>(kCudaCapturedEvent) == static_cast<int>(CUDA_ERROR_CAPTURED_EVENT));
static_assert(static_cast<int>(kCudaCanMapHostMemory) == static_cast<int>(CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY));
static_assert(static_cast<int>(kCudaUnifiedAddressing) == static_cast<int>(CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING));
static_assert(static_cast<int>(kCudaPageableMemoryAccess) ==
              static_cast<int>(CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS));
static_assert(static_cast<int>(kCudaVirtualMemory) ==
              static_cast<int>(CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED));
static_assert(static_cast<int>(kCudaPosixHandles) ==
              static_cast<int>(CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED));
static_assert(static_cast<int>(kCudaRdmaFlushOptions) ==
              static_cast<int>(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_FLUSH_WRITES_OPTIONS));
static_assert(static_cast<int>(kCudaRdmaOrdering) ==
              static_cast<int>(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WRITES_ORDERING));
static_assert(static_cast<int>(kCudaRdmaToOwner) == static_cast<int>(CU_GPU_DIRECT_RDMA_WRITES_ORDERING_OWNER));
static_assert(static_cast<int>(kCudaRdmaToOwner) == static_cast<int>(CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TO_OWNER));
static_assert(static_cast<int>(kCudaRdmaToAll) == static_cast<int>(CU_GPU_DIRECT_RDMA_WRITES_ORDERING_ALL_DEVICES));
static_assert(static_cast<int>(kCudaRdmaFlushByHost) == static_cast<int>(CU_FLUSH_GPU_DIRECT_RDMA_WRITES_OPTION_HOST));
static_assert(static_cast<int>(kCudaRdmaFlushByStream) ==
              static_cast<int>(CU_FLUSH_GPU_DIRECT_RDMA_WRITES_OPTION_MEMOPS));
static_assert(static_cast<int>(kCudaRdmaCurrentContext) ==
              static_cast<int>(CU_FLUSH_GPU_DIRECT_RDMA_WRITES_TARGET_CURRENT_CTX));
static_assert(static_cast<int>(kCudaRangeDmaBuf) == static_cast<int>(CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD));
static_assert(static_cast<int>(kCudaStreamNonBlocking) == static_cast<int>(CU_STREAM_NON_BLOCKING));
static_assert(static_cast<int>(kCudaEventDisableTiming) == static_cast<int>(CU_EVENT_DISABLE_TIMING));
static_assert(static_cast<int>(kCudaHostPortable) == static_cast<int>(CU_MEMHOSTALLOC_PORTABLE));
static_assert(static_cast<int>(kCudaHostMapped) == static_cast<int>(CU_MEMHOSTALLOC_DEVICEMAP));
static_assert(static_cast<int>(kCudaHostRegisterPortable) == static_cast<int>(CU_MEMHOSTREGISTER_PORTABLE));
static_assert(static_cast<int>(kCudaHostRegisterMapped) == static_cast<int>(CU_MEMHOSTREGISTER_DEVICEMAP));
static_assert(static_cast<int>(kCudaManagedGlobal) == static_cast<int>(CU_MEM_ATTACH_GLOBAL));
static_assert(static_cast<int>(kCudaIpcLazyPeer) == static_cast<int>(CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
static_assert(static_cast<int>(kCudaWaitGreaterOrEqual) == static_cast<int>(CU_STREAM_WAIT_VALUE_GEQ));
static_assert(static_cast<int>(kCudaWaitEqual) == static_cast<int>(CU_STREAM_WAIT_VALUE_EQ));
static_assert(static_cast<int>(kCudaNotCapturing) == static_cast<int>(CU_STREAM_CAPTURE_STATUS_NONE));
static_assert(static_cast<int>(kCudaCapturing) == static_cast<int>(CU_STREAM_CAPTURE_STATUS_ACTIVE));
static_assert(static_cast<int>(kCudaCaptureLost) == static_cast<int>(CU_STREAM_CAPTURE_STATUS_INVALIDATED));
static_assert(static_cast<int>(kCudaCaptureGlobal) == static_cast<int>(CU_STREAM_CAPTURE_MODE_GLOBAL));
static_assert(static_cast<int>(kCudaCaptureThread) == static_cast<int>(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
static_assert(static_cast<int>(kCudaCaptureRelaxed) == static_cast<int>(CU_STREAM_CAPTURE_MODE_RELAXED));
static_assert(static_cast<int>(kCudaHostMemory) == static_cast<int>(CU_MEMORYTYPE_HOST));
static_assert(static_cast<int>(kCudaDeviceMemory) == static_cast<int>(CU_MEMORYTYPE_DEVICE));
static_assert(static_cast<int>(kCudaPointerMemoryType) == static_cast<int>(CU_POINTER_ATTRIBUTE_MEMORY_TYPE));
static_assert(static_cast<int>(kCudaPointerDevicePointer) == static_cast<int>(CU_POINTER_ATTRIBUTE_DEVICE_POINTER));
static_assert(static_cast<int>(kCudaPointerIsManaged) == static_cast<int>(CU_POINTER_ATTRIBUTE_IS_MANAGED));
static_assert(static_cast<int>(kCudaPointerDeviceOrdinal) == static_cast<int>(CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL));
static_assert(static_cast<int>(kCudaPointerLegacyIpc) ==
              static_cast<int>(CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE));
static_assert(static_cast<int>(kCudaPointerRangeStart) == static_cast<int>(CU_POINTER_ATTRIBUTE_RANGE_START_ADDR));
static_assert(static_cast<int>(kCudaPointerRangeSize) == static_cast<int>(CU_POINTER_ATTRIBUTE_RANGE_SIZE));
static_assert(static_cast<int>(kCudaPointerHandleTypes) == static_cast<int>(CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES));
static_assert(static_cast<int>(kCudaPinnedAllocation) == static_cast<int>(CU_MEM_ALLOCATION_TYPE_PINNED));
static_assert(static_cast<int>(kCudaPosixFile) == static_cast<int>(CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
static_assert(static_cast<int>(kCudaOnDevice) == static_cast<int>(CU_MEM_LOCATION_TYPE_DEVICE));
static_assert(static_cast<int>(kCudaReadWrite) == static_cast<int>(CU_MEM_ACCESS_FLAGS_PROT_READWRITE));
static_assert(static_cast<int>(kCudaInvalidImage) == static_cast<int>(CUDA_ERROR_INVALID_IMAGE));
static_assert(static_cast<int>(kCudaInvalidPtx) == static_cast<int>(CUDA_ERROR_INVALID_PTX));
static_assert(static_cast<int>(kCudaUnsupportedPtx) == static_cast<int>(CUDA_ERROR_UNSUPPORTED_PTX_VERSION));
static_assert(static_cast<int>(kCudaCooperativeTooLarge) == static_cast<int>(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE));
static_assert(static_cast<int>(kCudaCaptureWrongThread) == static_cast<int>(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD));
static_assert(static_cast<int>(kCudaCooperativeLaunch) == static_cast<int>(CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH));
static_assert(static_cast<int>(kCudaStreamValues64) ==
              static_cast<int>(CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS));
static_assert(static_cast<int>(kCudaFunctionMostThreads) == static_cast<int>(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK));
static_assert(static_cast<int>(kCudaFunctionLocalBytes) == static_cast<int>(CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES));
static_assert(static_cast<int>(kCudaFunctionRegisters) == static_cast<int>(CU_FUNC_ATTRIBUTE_NUM_REGS));
static_assert(static_cast<int>(kCudaLimitStack) == static_cast<int>(CU_LIMIT_STACK_SIZE));
static_assert(static_cast<int>(kCudaLaunchCooperative) == static_cast<int>(CU_LAUNCH_ATTRIBUTE_COOPERATIVE));
static_assert(static_cast<int>(kCudaUserObjectNoSync) == static_cast<int>(CU_USER_OBJECT_NO_DESTRUCTOR_SYNC));
static_assert(static_cast<int>(kCudaGraphMovesReference) == static_cast<int>(CU_GRAPH_USER_OBJECT_MOVE));
static_assert(sizeof(CudaLaunchAttribute) == sizeof(CUlaunchAttribute) &&
              offsetof(CudaLaunchAttribute, value) == offsetof(CUlaunchAttribute, value));
static_assert(sizeof(CudaLaunchConfig) == sizeof(CUlaunchConfig) &&
              offsetof(CudaLaunchConfig, block) == offsetof(CUlaunchConfig, blockDimX) &&
              offsetof(CudaLaunchConfig, shared_bytes) == offsetof(CUlaunchConfig, sharedMemBytes) &&
              offsetof(CudaLaunchConfig, stream) == offsetof(CUlaunchConfig, hStream) &&
              offsetof(CudaLaunchConfig, attributes) == offsetof(CUlaunchConfig, attrs) &&
              offsetof(CudaLaunchConfig, attribute_count) == offsetof(CUlaunchConfig, numAttrs));
static_assert(sizeof(CudaIpcHandle) == sizeof(CUipcMemHandle) && sizeof(CudaAddress) == sizeof(CUdeviceptr));
static_assert(sizeof(CudaLocation) == sizeof(CUmemLocation) && sizeof(CudaAccess) == sizeof(CUmemAccessDesc));
static_assert(sizeof(CudaAllocationProperties) == sizeof(CUmemAllocationProp) &&
              offsetof(CudaAllocationProperties, location) == offsetof(CUmemAllocationProp, location) &&
              offsetof(CudaAllocationProperties, flags) == offsetof(CUmemAllocationProp, allocFlags));
static_assert(std::is_same_v<CudaStreamHandle, CUstream> && std::is_same_v<CudaContext, CUcontext> &&
              std::is_same_v<CudaEventHandle, CUevent> && std::is_same_v<CudaModule, CUmodule> &&
              std::is_same_v<CudaFunction, CUfunction> && std::is_same_v<CudaGraph, CUgraph> &&
              std::is_same_v<CudaGraphExec, CUgraphExec> && std::is_same_v<CudaGraphNode, CUgraphNode>);

}  // namespace tutti::gpu
