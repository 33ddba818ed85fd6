// SPDX-License-Identifier: Apache-2.0
// nccl.h and the host side of nccl_device.h compile as C++, and CUDA's declaration of a stream may come after them.
#include <nccl.h>

#include <nccl_device.h>

#include <cstddef>

#ifdef EXPECT_CUDA
#include <cuda_runtime.h>
static_assert(sizeof(__half) == 2 && sizeof(__nv_bfloat16) == 2, "programs get these from nccl.h");
#else
typedef struct CUstream_st* cudaStream_t;
#endif

// Layouts that compiled programs rely on, written out: those of NCCL 2.27.7, 2.28.9, 2.29.7 and 2.30.7 on 64 bits.
static_assert(sizeof(ncclUniqueId) == 128 && sizeof(ncclResult_t) == 4 && sizeof(ncclRedOp_t) == 4, "");
static_assert(sizeof(ncclConfig_t) == (NCCL_MINOR == 27 ? 72 : NCCL_MINOR == 28 ? 80 : NCCL_MINOR == 29 ? 88 : 96), "");
static_assert(offsetof(ncclConfig_t, magic) == 8 && offsetof(ncclConfig_t, version) == 12, "");
static_assert(offsetof(ncclConfig_t, blocking) == 16 && offsetof(ncclConfig_t, maxCTAs) == 28, "");
static_assert(offsetof(ncclConfig_t, netName) == 32 && offsetof(ncclConfig_t, splitShare) == 40, "");
static_assert(offsetof(ncclConfig_t, commName) == 48 && offsetof(ncclConfig_t, nvlsCTAs) == 68, "");
static_assert(sizeof(ncclSimInfo_t) == 24 && offsetof(ncclSimInfo_t, estimatedTime) == 16, "");
static_assert(sizeof(ncclWaitSignalDesc_t) == 16 && ncclMaxRedOp == 0x7fffffff, "");
// The host side of the device interface, which is that of 2.30.7.
static_assert(sizeof(ncclTeam_t) == 12 && sizeof(ncclTeamRequirements_t) == 32, "");
static_assert(sizeof(ncclDevResourceRequirements_t) == 56 && sizeof(ncclLLA2AHandle_t) == 8, "");
static_assert(sizeof(ncclDevCommRequirements_t) == 96, "");
static_assert(offsetof(ncclDevCommRequirements_t, lsaMultimem) == 32, "");
static_assert(offsetof(ncclDevCommRequirements_t, ginContextCount) == 60, "");
static_assert(offsetof(ncclDevCommRequirements_t, ginVaSignalsRequired) == 93, "");
static_assert(sizeof(ncclCommProperties_t) == 56 && offsetof(ncclCommProperties_t, deviceApiSupport) == 32, "");
static_assert(offsetof(ncclCommProperties_t, ginType) == 36 && offsetof(ncclCommProperties_t, railedGinType) == 48, "");

ncclResult_t all_reduce_on(cudaStream_t stream, ncclComm_t comm, float* data);
ncclResult_t all_reduce_on(cudaStream_t stream, ncclComm_t comm, float* data) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  ncclDevCommRequirements_t requirements = NCCL_DEV_COMM_REQUIREMENTS_INITIALIZER;
  if (config.size != sizeof config || requirements.ginContextCount != 4) return ncclInternalError;
  return ncclAllReduce(data, data, 1, ncclFloat, ncclSum, comm, stream);
}
