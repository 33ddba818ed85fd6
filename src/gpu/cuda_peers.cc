// SPDX-License-Identifier: Apache-2.0
#include "gpu/cuda_peers.h"

namespace tutti::gpu {

Status open_peer(const CudaDevicePtr& from, const CudaDevicePtr& to) {
  const CudaRun& cuda = from->cuda();
  CudaDevice mine = 0, theirs = 0;
  TUTTI_TRY(from->status(cuda.by_ordinal(&mine, from->ordinal()), "cuDeviceGet"));
  TUTTI_TRY(to->status(cuda.by_ordinal(&theirs, to->ordinal()), "cuDeviceGet"));
  int can = 0;
  TUTTI_TRY(from->status(cuda.can_access_peer(&can, mine, theirs), "cuDeviceCanAccessPeer"));
  if (can == 0)
    return invalid_usage(
        "CUDA devices {} and {} cannot reach each other's memory (nvidia-smi topo -p2p r shows why): use devices that "
        "can; "
        "going through host memory is not available in this version",
        from->ordinal(), to->ordinal());
  const CudaScope scope(*from);
  TUTTI_TRY(scope.status());
  const int code = cuda.enable_peer(to->handle(), 0);
  if (code == kCudaPeerAlreadyEnabled) return {};
  return from->status(code, "cuCtxEnablePeerAccess");
}

}  // namespace tutti::gpu
