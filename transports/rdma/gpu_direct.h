// SPDX-License-Identifier: Apache-2.0
// How an RDMA device gets at GPU memory: through a DMA-buf, through nvidia-peermem, or not at all, and then slots are
// staged in pinned host memory. A decision over facts, so that it can be tested and told without a GPU.
#pragma once

#include <cstdint>
#include <string>

namespace tutti {

struct GpuDirectFacts {
  bool driver_exports = false;  // the CUDA driver makes DMA-bufs of this GPU's memory
  bool device_imports = false;  // libibverbs and the device take them (ibv_reg_dmabuf_mr)
  bool peermem = false;         // the kernel module nvidia_peermem is loaded
};

enum class GpuAccess : uint8_t { DmaBuf, Peermem, Staged };

struct GpuDirectChoice {
  GpuAccess access = GpuAccess::Staged;
  std::string why;  // for the log: "DMA-buf", or what is missing and what would help
};

// The best that the facts allow.
GpuDirectChoice choose_gpu_access(const GpuDirectFacts& facts);

// Whether nvidia-peermem is loaded, by the modules' folder (/sys/module).
bool peermem_loaded(const std::string& modules = "/sys/module");

}  // namespace tutti
