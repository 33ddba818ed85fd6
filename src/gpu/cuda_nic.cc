// SPDX-License-Identifier: Apache-2.0
#include "gpu/cuda_nic.h"

#include <unistd.h>

#include "gpu/cuda_stream.h"

namespace tutti::gpu {

NicFacts nic_facts(const CudaContextOwner& device) {
  NicFacts facts;
  facts.dma_buf = device.attribute(kCudaDmaBuf) != 0 && device.cuda().range_handle != nullptr;
  facts.peer_memory = device.attribute(kCudaGpuDirectRdma) != 0;
  facts.ordered = device.attribute(kCudaRdmaOrdering) >= kCudaRdmaToOwner;
  facts.flushes = (device.attribute(kCudaRdmaFlushOptions) & kCudaRdmaFlushByHost) != 0 &&
                  device.cuda().flush_rdma_writes != nullptr;
  facts.capability_major = device.attribute(kCudaCapabilityMajor);
  return facts;
}

std::string bus_id(const CudaContextOwner& device) {
  char text[32] = {};
  CudaDevice which = 0;
  const CudaRun& cuda = device.cuda();
  if (cuda.by_ordinal(&which, device.ordinal()) != kCudaSuccess) return {};
  return cuda.bus_id(text, sizeof text - 1, which) == kCudaSuccess ? std::string(text) : std::string();
}

Result<NicMemory> NicMemory::create(const CudaDevicePtr& device, size_t bytes) {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  NicMemory made;
  made.device_ = device;
  made.size_ = (bytes + page - 1) / page * page;
  // The driver aligns to less than a page.
  TUTTI_ASSIGN_OR_RETURN(made.memory_, allocate_device(device, made.size_ + page));
  made.address_ = (made.memory_.get() + page - 1) / page * page;
  return made;
}

Result<UniqueFd> NicMemory::dma_buf() const {
  const CudaScope scope(*device_);
  TUTTI_TRY(scope.status());
  int fd = -1;
  TUTTI_TRY(device_->status(device_->cuda().range_handle(&fd, address_, size_, kCudaRangeDmaBuf, 0),
                            "cuMemGetHandleForAddressRange"));
  return UniqueFd(fd);
}

Status flush_card_writes(const CudaDevicePtr& device) {
  const AllowedWhileCapturing allowed(device->cuda());
  const CudaScope scope(*device);
  TUTTI_TRY(scope.status());
  return device->status(device->cuda().flush_rdma_writes(kCudaRdmaCurrentContext, kCudaRdmaToOwner),
                        "cuFlushGPUDirectRDMAWrites");
}

}  // namespace tutti::gpu
