// SPDX-License-Identifier: Apache-2.0
#include "gpu/cuda_shared.h"

namespace tutti::gpu {
namespace {

// The allocation's handle, to be released. 0: it was not made by cuMemCreate, or the driver is too old to tell.
CudaMemoryHandle handle_of(const CudaRun& cuda, const void* at) {
  CudaMemoryHandle handle = 0;
  if (cuda.memory_handle == nullptr || cuda.memory_handle(&handle, const_cast<void*>(at)) != kCudaSuccess) return 0;
  return handle;
}

}  // namespace

Result<Sharing> sharing_of(const CudaDevicePtr& device, const void* at, const PointerKind& kind) {
  if (!kind.on_device) return Sharing::None;
  if (kind.managed) return Sharing::Managed;
  if (kind.device != device->ordinal()) return Sharing::None;
  if (kind.ipc) return Sharing::Ipc;
  const CudaScope scope(*device);
  TUTTI_TRY(scope.status());
  const CudaMemoryHandle handle = handle_of(device->cuda(), at);
  if (handle == 0) return Sharing::Alone;
  TUTTI_TRY(device->status(device->cuda().memory_release(handle), "cuMemRelease"));
  return Sharing::Mapped;
}

Result<UniqueFd> export_mapped(const CudaDevicePtr& device, const void* at) {
  const CudaScope scope(*device);
  TUTTI_TRY(scope.status());
  const CudaRun& cuda = device->cuda();
  const CudaMemoryHandle handle = handle_of(cuda, at);
  if (handle == 0) return error(Code::InternalError, "the memory is none of cuMemCreate");
  int fd = -1;
  const Status exported =
      device->status(cuda.memory_export(&fd, handle, kCudaPosixFile, 0), "cuMemExportToShareableHandle");
  (void)cuda.memory_release(handle);
  TUTTI_TRY(exported);
  return UniqueFd(fd);
}

Status give_access(const CudaDevicePtr& owner, CudaAddress start, size_t bytes, const std::vector<int>& to) {
  const CudaScope scope(*owner);
  TUTTI_TRY(scope.status());
  std::vector<CudaAccess> access(to.size());
  for (size_t i = 0; i < to.size(); ++i) access[i].location.id = to[i];
  return owner->status(owner->cuda().memory_access(start, bytes, access.data(), access.size()), "cuMemSetAccess");
}

}  // namespace tutti::gpu
