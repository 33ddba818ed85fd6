// SPDX-License-Identifier: Apache-2.0
// See cuda_driver.h.
#include "gpu/cuda_driver.h"

#include "base/dynamic_library.h"
#include "gpu/cuda_driver_abi.h"

namespace tutti::gpu {
namespace {

struct CudaApi {
#define TUTTI_CUDA_MEMBER(member, symbol, required, parameters) CudaFunctions::member##_function* member = nullptr;
  TUTTI_CUDA_FUNCTIONS(TUTTI_CUDA_MEMBER)
#undef TUTTI_CUDA_MEMBER
};

int attribute(const CudaApi& api, CudaDevice device, CudaAttribute which, int fallback = 0) {
  int value = 0;
  return api.attribute(&value, which, device) == kCudaSuccess ? value : fallback;
}

Result<CudaDeviceFacts> read_device(const CudaApi& api, int ordinal, CudaDevice& device) {
  if (const int code = api.by_ordinal(&device, ordinal); code != kCudaSuccess)
    return system_error("CUDA device {} does not answer (error {})", ordinal, code);
  CudaDeviceFacts facts;
  facts.ordinal = ordinal;
  char text[128] = {};
  if (api.device_name(text, sizeof text - 1, device) == kCudaSuccess) facts.name = text;
  if (api.bus_id(text, sizeof text - 1, device) == kCudaSuccess) facts.pci = PciAddress::parse(text);
  size_t bytes = 0;
  if (api.memory(&bytes, device) == kCudaSuccess) facts.memory_bytes = bytes;
  facts.capability_major = attribute(api, device, kCudaCapabilityMajor);
  facts.capability_minor = attribute(api, device, kCudaCapabilityMinor);
  facts.multiprocessors = attribute(api, device, kCudaMultiprocessors);
  facts.gpu_direct_rdma = attribute(api, device, kCudaGpuDirectRdma) != 0;
  facts.dma_buf = attribute(api, device, kCudaDmaBuf) != 0;
  facts.multicast = attribute(api, device, kCudaMulticast) != 0;
  if (const int node = attribute(api, device, kCudaHostNumaNode, -1); node >= 0) facts.host_numa_node = node;
  return facts;
}

}  // namespace

Result<CudaMachine> read_cuda_machine(std::string_view path) {
  const auto library = DynamicLibrary::open(path, {"libcuda.so.1"});
  if (!library.ok()) return system_error("the CUDA driver {}", library.status().message());
  CudaApi api;
  const char* missing = nullptr;
#define TUTTI_CUDA_BIND(member, symbol, required, parameters) \
  if (!library->bind(#symbol, api.member) && (required)) missing = #symbol;
  TUTTI_CUDA_FUNCTIONS(TUTTI_CUDA_BIND)
#undef TUTTI_CUDA_BIND
  if (missing != nullptr)
    return system_error("{} lacks {}: it is too old or not the CUDA driver", library->name(), missing);

  CudaMachine machine;
  if (const int code = api.init(0); code != kCudaSuccess) {
    if (code == kCudaNoDevice) return machine;  // no GPU, or CUDA_VISIBLE_DEVICES hides all
    if (code == kCudaSystemDriverMismatch)
      return system_error(
          "the CUDA driver: {} and the loaded NVIDIA kernel module are of different driver versions: reboot or reload "
          "the module after a driver update; in a container, mount the host's driver libraries",
          library->name());
    return system_error("the CUDA driver: cuInit failed with error {}", code);
  }
  (void)api.driver_version(&machine.driver_version);
  int count = 0;
  if (const int code = api.count(&count); code != kCudaSuccess)
    return system_error("the CUDA driver cannot count devices (error {})", code);
  std::vector<CudaDevice> handles;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    CudaDevice device = 0;
    TUTTI_ASSIGN_OR_RETURN(CudaDeviceFacts facts, read_device(api, ordinal, device));
    machine.devices.push_back(std::move(facts));
    handles.push_back(device);
  }
  for (int from = 0; from < count; ++from) {
    for (int to = 0; to < count; ++to) {
      if (from == to) continue;
      CudaPeerFacts peer{from, to, false, false, 0};
      const CudaDevice a = handles[static_cast<size_t>(from)], b = handles[static_cast<size_t>(to)];
      int value = 0;
      peer.access = api.can_access_peer(&value, a, b) == kCudaSuccess && value != 0;
      peer.atomics = api.peer_attribute(&value, kCudaPeerAtomics, a, b) == kCudaSuccess && value != 0;
      if (api.peer_attribute(&value, kCudaPeerRank, a, b) == kCudaSuccess) peer.performance_rank = value;
      machine.peers.push_back(peer);
    }
  }
  return machine;
}

}  // namespace tutti::gpu
