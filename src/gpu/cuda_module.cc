// SPDX-License-Identifier: Apache-2.0
#include "gpu/cuda_module.h"

namespace tutti::gpu {
namespace {

bool no_image_fits(int code) {
  return code == kCudaNoImageForGpu || code == kCudaInvalidImage || code == kCudaInvalidPtx ||
         code == kCudaUnsupportedPtx;
}

Status no_image(const CudaContextOwner& device, int code, std::string_view built_for) {
  const int major = device.attribute(kCudaCapabilityMajor), minor = device.attribute(kCudaCapabilityMinor);
  if (built_for.empty())
    return error(
        Code::CudaError,
        "this build of Tutti has no CUDA kernels (nvcc was not found, or TUTTI_CUDA=OFF): build it with the CUDA "
        "toolkit and -D TUTTI_CUDA_ARCHITECTURES={}{} for CUDA device {}",
        major, minor, device.ordinal());
  return error(Code::CudaError,
               "no kernel of this build fits CUDA device {} (sm_{}{}): it was built for {} (error {} of "
               "cuModuleLoadData); build Tutti with -D TUTTI_CUDA_ARCHITECTURES={}{}, or install a newer driver where "
               "the build has PTX",
               device.ordinal(), major, minor, built_for, code, major, minor);
}

}  // namespace

Result<CudaModuleOwner> CudaModuleOwner::load(const CudaDevicePtr& device, std::span<const unsigned char> image,
                                              std::string_view built_for) {
  const CudaScope scope(*device);
  TUTTI_TRY(scope.status());
  CudaModule module = nullptr;
  const int code = device->cuda().module_load(&module, image.data());
  if (no_image_fits(code)) return no_image(*device, code, built_for);
  TUTTI_TRY(device->status(code, "cuModuleLoadData"));
  CudaModuleOwner made(device);
  made.module_ = {device, module};
  return made;
}

Result<CudaKernel> CudaModuleOwner::kernel(const std::string& name) const {
  const CudaScope scope(*device_);
  TUTTI_TRY(scope.status());
  const CudaRun& cuda = device_->cuda();
  CudaKernel kernel;
  const int code = cuda.module_function(&kernel.function, module_.get(), name.c_str());
  if (code == kCudaNotFound)
    return error(Code::CudaError, "this build of Tutti has no CUDA kernel {}: build it with all types and operators",
                 name);
  TUTTI_TRY(device_->status(code, "cuModuleGetFunction"));
  const auto read = [&](int which, int& value) {
    return device_->status(cuda.function_attribute(&value, which, kernel.function), "cuFuncGetAttribute");
  };
  TUTTI_TRY(read(kCudaFunctionMostThreads, kernel.most_threads));
  TUTTI_TRY(read(kCudaFunctionRegisters, kernel.registers));
  TUTTI_TRY(read(kCudaFunctionLocalBytes, kernel.local_bytes));
  return kernel;
}

Status launch(const CudaStream& stream, const CudaKernel& kernel, const GridShape& shape, const void* parameter) {
  const CudaContextOwner& device = *stream.device();
  const CudaScope scope(device);
  TUTTI_TRY(scope.status());
  CudaLaunchAttribute cooperative;
  cooperative.id = kCudaLaunchCooperative;
  cooperative.value.cooperative = 1;
  CudaLaunchConfig config;
  config.grid[0] = shape.blocks;
  config.block[0] = shape.threads;
  config.shared_bytes = shape.shared_bytes;
  config.stream = stream.handle();
  config.attributes = &cooperative;
  config.attribute_count = shape.all_at_once ? 1 : 0;
  void* parameters[] = {const_cast<void*>(parameter)};
  device.note_kernel_of_ours();
  return device.status(device.cuda().launch(&config, kernel.function, parameters, nullptr), "cuLaunchKernelEx");
}

Result<int> most_blocks_at_once(const CudaDevicePtr& device, const CudaKernel& kernel, unsigned threads,
                                unsigned shared_bytes) {
  const CudaScope scope(*device);
  TUTTI_TRY(scope.status());
  int each = 0;
  TUTTI_TRY(device->status(device->cuda().occupancy(&each, kernel.function, static_cast<int>(threads), shared_bytes),
                           "cuOccupancyMaxActiveBlocksPerMultiprocessor"));
  return each * device->attribute(kCudaMultiprocessors);
}

Status reserve_local_memory(const CudaDevicePtr& device, int bytes_per_thread) {
  const CudaScope scope(*device);
  TUTTI_TRY(scope.status());
  size_t now = 0;
  const auto wanted = static_cast<size_t>(bytes_per_thread);
  TUTTI_TRY(device->status(device->cuda().limit(&now, kCudaLimitStack), "cuCtxGetLimit"));
  if (now >= wanted) return {};
  return device->status(device->cuda().set_limit(kCudaLimitStack, wanted), "cuCtxSetLimit");
}

}  // namespace tutti::gpu
