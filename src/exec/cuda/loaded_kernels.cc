// SPDX-License-Identifier: Apache-2.0
#include "exec/cuda/loaded_kernels.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <mutex>

#include "exec/cuda/kernel_images.h"

namespace tutti::cuda {
namespace {

struct Loaded {
  std::mutex mutex;
  std::map<const gpu::CudaContextOwner*, std::weak_ptr<const LoadedKernels>> by_device;
};

}  // namespace

std::string kernel_name(KernelProto proto) {
  return fmt::format("tutti_{}", kKernelProtoNames[static_cast<int>(proto)]);
}

Result<std::shared_ptr<const LoadedKernels>> LoadedKernels::on(const gpu::CudaDevicePtr& device) {
  static Loaded& loaded = *new Loaded;
  const std::lock_guard lock(loaded.mutex);
  // An entry whose kernels are gone is replaced, also where another device's owner has its address now.
  std::weak_ptr<const LoadedKernels>& known = loaded.by_device[device.get()];
  if (auto kernels = known.lock()) return kernels;
  std::shared_ptr<LoadedKernels> kernels(new LoadedKernels(device));
  TUTTI_TRY(kernels->load());
  known = kernels;
  return std::shared_ptr<const LoadedKernels>(kernels);
}

Status LoadedKernels::load() {
  int most_local = 0;
  for (int p = 0; p < kKernelProtos; ++p) {
    const auto proto = static_cast<KernelProto>(p);
    TUTTI_ASSIGN_OR_RETURN(gpu::CudaModuleOwner module,
                           gpu::CudaModuleOwner::load(device_, kernel_image(proto), kernel_architectures()));
    modules_[p] = std::make_unique<gpu::CudaModuleOwner>(std::move(module));
    TUTTI_ASSIGN_OR_RETURN(kernels_[p], modules_[p]->kernel(kernel_name(proto)));
    most_local = std::max(most_local, kernels_[p].local_bytes);
  }
  return gpu::reserve_local_memory(device_, most_local);
}

Status launch(const LoadedKernels& kernels, KernelProto proto, const gpu::CudaStream& stream, unsigned blocks,
              unsigned threads, unsigned shared_bytes, const CudaLaunch& what) {
  return gpu::launch(stream, kernels.kernel(proto), {blocks, threads, shared_bytes, what.moves == 0}, &what);
}

}  // namespace tutti::cuda
