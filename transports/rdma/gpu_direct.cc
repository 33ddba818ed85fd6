// SPDX-License-Identifier: Apache-2.0
// See gpu_direct.h.
#include "transports/rdma/gpu_direct.h"

#include <unistd.h>

namespace tutti {

GpuDirectChoice choose_gpu_access(const GpuDirectFacts& facts) {
  if (facts.driver_exports && facts.device_imports) return {GpuAccess::DmaBuf, "GPU memory through DMA-buf"};
  const std::string missing = !facts.driver_exports ? "the CUDA driver exports no DMA-buf of this GPU"
                                                    : "libibverbs or the device takes no DMA-buf";
  if (facts.peermem) return {GpuAccess::Peermem, "GPU memory through nvidia-peermem: " + missing};
  return {GpuAccess::Staged, "GPU memory staged through pinned host memory: " + missing +
                                 ", and nvidia-peermem is not loaded (modprobe nvidia-peermem)"};
}

bool peermem_loaded(const std::string& modules) {
  for (const char* name : {"/nvidia_peermem", "/nv_peer_mem"})
    if (::access((modules + name).c_str(), F_OK) == 0) return true;
  return false;
}

}  // namespace tutti
