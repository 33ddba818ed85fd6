/* SPDX-License-Identifier: Apache-2.0
 * nccl.h compiles on its own, and CUDA's own declaration of a stream may come after it, and takes nothing away. */
#include <nccl.h>

#if defined(EXPECT_CUDA) && !defined(CUDART_VERSION)
#error "CUDA's headers are there and were not included"
#endif
#ifdef EXPECT_CUDA
#include <cuda_runtime.h>
#elif __STDC_VERSION__ >= 201112L
typedef struct CUstream_st* cudaStream_t;
#endif

ncclResult_t all_reduce_on(cudaStream_t stream, ncclComm_t comm, float* data);
ncclResult_t all_reduce_on(cudaStream_t stream, ncclComm_t comm, float* data) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  ncclSimInfo_t simulation = NCCL_SIM_INFO_INITIALIZER;
  ncclUniqueId id;
  if (sizeof id != 128 || config.size != sizeof config || simulation.size != sizeof simulation)
    return ncclInternalError;
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0)
  return ncclAllReduce(data, data, 1, ncclFloat, ncclSum, comm, stream);
#endif
}
