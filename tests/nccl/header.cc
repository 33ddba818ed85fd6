// SPDX-License-Identifier: Apache-2.0
// nccl.h and the host side of nccl_device.h compile as C++, and CUDA's declaration of a stream may come after them.
#include <nccl.h>

#include <nccl_device.h>

#ifdef EXPECT_CUDA
#include <cuda_runtime.h>
static_assert(sizeof(__half) == 2 && sizeof(__nv_bfloat16) == 2, "programs get these from nccl.h");
#else
typedef struct CUstream_st* cudaStream_t;
#endif

ncclResult_t all_reduce_on(cudaStream_t stream, ncclComm_t comm, float* data);
ncclResult_t all_reduce_on(cudaStream_t stream, ncclComm_t comm, float* data) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  ncclDevCommRequirements_t requirements = NCCL_DEV_COMM_REQUIREMENTS_INITIALIZER;
  if (config.size != sizeof config || requirements.ginContextCount != 4) return ncclInternalError;
  return ncclAllReduce(data, data, 1, ncclFloat, ncclSum, comm, stream);
}
