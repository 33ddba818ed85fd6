// SPDX-License-Identifier: Apache-2.0
// A look-alike of libnvidia-ml.so.1 and libcuda.so.1 in one file: exports their names and answers from fake_machine.h.
// Every function is declared with the type that src/gpu calls it by, so that both cannot drift apart.
#include <cstdio>
#include <cstring>

#include "gpu/cuda_driver_abi.h"
#include "gpu/nvml_abi.h"
#include "tests/fakes/fake_machine.h"

using namespace tutti::gpu;
using tutti::fakes::FakeDrivers;
using tutti::fakes::FakeGpu;

#define EXPORT extern "C" __attribute__((visibility("default")))
#define DECLARE_NVML(member, symbol, required, parameters) EXPORT NvmlFunctions::member##_function symbol;
#define DECLARE_CUDA(member, symbol, required, parameters) EXPORT CudaFunctions::member##_function symbol;
TUTTI_NVML_FUNCTIONS(DECLARE_NVML)
TUTTI_CUDA_FUNCTIONS(DECLARE_CUDA)

namespace {

const FakeDrivers& machine() {
  static const FakeDrivers& drivers = tutti::fakes::fake_drivers(FAKE_MACHINE);
  return drivers;
}
int started = 0;

NvmlDevice handle_of(const FakeGpu& gpu) { return reinterpret_cast<NvmlDevice>(const_cast<FakeGpu*>(&gpu)); }
const FakeGpu* gpu_of(NvmlDevice device) {
  for (const FakeGpu& gpu : machine().gpus)
    if (handle_of(gpu) == device) return &gpu;
  return nullptr;
}
size_t index_of(const FakeGpu& gpu) { return static_cast<size_t>(&gpu - machine().gpus.data()); }
// A MIG instance's handle is the place of its uuid.
const char* mig_of(NvmlDevice device) {
  for (const FakeGpu& gpu : machine().gpus)
    for (const char* const& uuid : gpu.mig)
      if (reinterpret_cast<const void*>(&uuid) == reinterpret_cast<const void*>(device)) return uuid;
  return nullptr;
}

int write(const char* text, char* out, unsigned size) {
  if (text == nullptr) return kNvmlInvalidArgument;
  if (std::strlen(text) + 1 > size) return 7;  // insufficient size
  std::strcpy(out, text);
  return kNvmlSuccess;
}

void write_pci(const char* bus_id, uint16_t device, NvmlPciInfo* info) {
  *info = {};
  unsigned domain = 0, bus = 0, slot = 0;
  (void)std::sscanf(bus_id, "%x:%x:%x", &domain, &bus, &slot);
  info->domain = domain;
  info->bus = bus;
  info->device = slot;
  info->pci_device_id = static_cast<uint32_t>(device) << 16 | 0x10de;
  std::strcpy(info->bus_id, bus_id);
}

const tutti::fakes::FakeLink* link_of(NvmlDevice device, unsigned index, int* code) {
  const FakeGpu* gpu = gpu_of(device);
  *code = kNvmlSuccess;
  if (gpu != nullptr && index < gpu->links.size()) return &gpu->links[index];
  const size_t told = gpu == nullptr ? 0 : gpu->links.size() + static_cast<size_t>(gpu->missing_links);
  *code = index < told ? kNvmlNotSupported : kNvmlInvalidArgument;
  return nullptr;
}

const FakeGpu* cuda_gpu(CudaDevice device) {
  const auto& order = machine().cuda_order;
  const size_t index = order.empty() ? static_cast<size_t>(device)
                       : static_cast<size_t>(device) < order.size()
                           ? static_cast<size_t>(order[static_cast<size_t>(device)])
                           : machine().gpus.size();
  return device >= 0 && index < machine().gpus.size() ? &machine().gpus[index] : nullptr;
}
int peer_status(const FakeGpu& a, const FakeGpu& b) {
  return machine().peer.empty() ? 0 : machine().peer[index_of(a)][index_of(b)];
}

}  // namespace

int nvmlInit_v2() {
  if (machine().init_status == 0) ++started;
  return machine().init_status;
}
int nvmlShutdown() { return started-- > 0 ? kNvmlSuccess : 1; }
int nvmlSystemGetDriverVersion(char* text, unsigned size) { return write(machine().driver_version, text, size); }
int nvmlSystemGetCudaDriverVersion_v2(int* version) {
  *version = machine().cuda_version;
  return kNvmlSuccess;
}
int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = static_cast<unsigned>(machine().gpus.size());
  return started > 0 ? kNvmlSuccess : 1;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, NvmlDevice* device) {
  if (index >= machine().gpus.size()) return kNvmlInvalidArgument;
  if (static_cast<int>(index) == machine().dead_gpu) return 15;  // GPU is lost
  *device = handle_of(machine().gpus[index]);
  return kNvmlSuccess;
}
int nvmlDeviceGetName(NvmlDevice device, char* text, unsigned size) {
  const FakeGpu* gpu = gpu_of(device);
  return write(gpu != nullptr ? gpu->name : nullptr, text, size);
}
int nvmlDeviceGetUUID(NvmlDevice device, char* text, unsigned size) {
  const FakeGpu* gpu = gpu_of(device);
  return write(gpu != nullptr ? gpu->uuid : mig_of(device), text, size);
}
int nvmlDeviceGetPciInfo_v3(NvmlDevice device, NvmlPciInfo* info) {
  const FakeGpu* gpu = gpu_of(device);
  if (gpu == nullptr) return kNvmlInvalidArgument;
  write_pci(gpu->bus_id, gpu->pci_device, info);
  return kNvmlSuccess;
}
int nvmlDeviceGetCudaComputeCapability(NvmlDevice device, int* major, int* minor) {
  const FakeGpu* gpu = gpu_of(device);
  if (gpu == nullptr) return kNvmlInvalidArgument;
  *major = gpu->major;
  *minor = gpu->minor;
  return kNvmlSuccess;
}
int nvmlDeviceGetMemoryInfo(NvmlDevice device, NvmlMemory* memory) {
  const FakeGpu* gpu = gpu_of(device);
  if (gpu == nullptr) return kNvmlInvalidArgument;
  *memory = {gpu->memory_bytes, gpu->memory_bytes, 0};
  return kNvmlSuccess;
}
int nvmlDeviceGetMaxPcieLinkGeneration(NvmlDevice device, unsigned* generation) {
  *generation = static_cast<unsigned>(gpu_of(device)->pcie_generation);
  return kNvmlSuccess;
}
int nvmlDeviceGetMaxPcieLinkWidth(NvmlDevice device, unsigned* width) {
  *width = static_cast<unsigned>(gpu_of(device)->pcie_width);
  return kNvmlSuccess;
}
int nvmlDeviceGetNumaNodeId(NvmlDevice device, unsigned* node) {
  *node = static_cast<unsigned>(gpu_of(device)->numa_node);
  return kNvmlSuccess;
}
int nvmlDeviceGetNvLinkState(NvmlDevice device, unsigned index, int* active) {
  int code;
  const auto* link = link_of(device, index, &code);
  if (link != nullptr) *active = link->active ? 1 : 0;
  return code;
}
int nvmlDeviceGetNvLinkVersion(NvmlDevice device, unsigned index, unsigned* version) {
  int code;
  if (link_of(device, index, &code) != nullptr) *version = static_cast<unsigned>(gpu_of(device)->link_version);
  return code;
}
int nvmlDeviceGetNvLinkRemotePciInfo_v2(NvmlDevice device, unsigned index, NvmlPciInfo* info) {
  int code;
  const auto* link = link_of(device, index, &code);
  if (link == nullptr) return code;
  write_pci(link->remote != nullptr ? link->remote : "FFFFFFFF:FF:FF.0", 0x22a3, info);
  return kNvmlSuccess;
}
int nvmlDeviceGetNvLinkRemoteDeviceType(NvmlDevice device, unsigned index, int* type) {
  int code;
  const auto* link = link_of(device, index, &code);
  if (link != nullptr) *type = link->end;
  return code;
}
int nvmlDeviceGetP2PStatus(NvmlDevice a, NvmlDevice b, int what, int* status) {
  const FakeGpu *from = gpu_of(a), *to = gpu_of(b);
  if (from == nullptr || to == nullptr) return kNvmlInvalidArgument;
  *status = what == kNvmlPeerNvlink && !machine().nvlink_peers ? 5 : peer_status(*from, *to);
  return kNvmlSuccess;
}
int nvmlDeviceGetMigMode(NvmlDevice device, unsigned* current, unsigned* pending) {
  const FakeGpu* gpu = gpu_of(device);
  if (gpu == nullptr || gpu->major < 8 || gpu->minor != 0) return kNvmlNotSupported;
  *current = *pending = gpu->mig.empty() ? 0 : 1;
  return kNvmlSuccess;
}
int nvmlDeviceGetMaxMigDeviceCount(NvmlDevice, unsigned* count) {
  *count = 7;
  return kNvmlSuccess;
}
int nvmlDeviceGetMigDeviceHandleByIndex(NvmlDevice device, unsigned index, NvmlDevice* instance) {
  const FakeGpu* gpu = gpu_of(device);
  if (gpu == nullptr || index >= gpu->mig.size()) return kNvmlNotFound;
  *instance = reinterpret_cast<NvmlDevice>(const_cast<const char**>(&gpu->mig[index]));
  return kNvmlSuccess;
}
int nvmlDeviceGetGpuFabricInfo(NvmlDevice, NvmlFabricInfo* info) {
  if (!machine().fabric) return kNvmlNotSupported;
  *info = {};
  info->cluster_uuid[0] = 0x5a;
  info->clique_id = 3;
  info->state = kNvmlFabricCompleted;
  return kNvmlSuccess;
}

int cuInit(unsigned) { return machine().cuda_status; }
int cuDriverGetVersion(int* version) {
  *version = machine().cuda_version;
  return kCudaSuccess;
}
int cuDeviceGetCount(int* count) {
  *count = static_cast<int>(machine().cuda_order.empty() ? machine().gpus.size() : machine().cuda_order.size());
  return kCudaSuccess;
}
int cuDeviceGet(CudaDevice* device, int ordinal) {
  *device = ordinal;
  return cuda_gpu(ordinal) != nullptr ? kCudaSuccess : kCudaInvalidDevice;
}
int cuDeviceGetName(char* text, int size, CudaDevice device) {
  return write(cuda_gpu(device)->name, text, static_cast<unsigned>(size));
}
int cuDeviceGetPCIBusId(char* text, int size, CudaDevice device) {
  return write(cuda_gpu(device)->bus_id + 4, text, static_cast<unsigned>(size));  // CUDA writes four digits of domain
}
int cuDeviceGetUuid_v2(CudaUuid* uuid, CudaDevice device) {
  std::memset(uuid, device, sizeof *uuid);
  return kCudaSuccess;
}
int cuDeviceTotalMem_v2(size_t* bytes, CudaDevice device) {
  *bytes = cuda_gpu(device)->memory_bytes;
  return kCudaSuccess;
}
int cuDeviceGetAttribute(int* value, int which, CudaDevice device) {
  const FakeGpu* gpu = cuda_gpu(device);
  if (gpu == nullptr) return kCudaInvalidDevice;
  switch (which) {
    case kCudaCapabilityMajor:
      *value = gpu->major;
      return kCudaSuccess;
    case kCudaCapabilityMinor:
      *value = gpu->minor;
      return kCudaSuccess;
    case kCudaMultiprocessors:
      *value = gpu->major == 9 ? 132 : 72;
      return kCudaSuccess;
    case kCudaGpuDirectRdma:
      *value = gpu->link_version > 0;
      return kCudaSuccess;
    case kCudaDmaBuf:
      *value = 1;
      return kCudaSuccess;
    case kCudaMulticast:
      *value = gpu->major >= 9;
      return kCudaSuccess;
    case kCudaHostNumaNode:
      *value = gpu->numa_node;
      return kCudaSuccess;
  }
  return kCudaInvalidValue;
}
int cuDeviceCanAccessPeer(int* can, CudaDevice a, CudaDevice b) {
  *can = peer_status(*cuda_gpu(a), *cuda_gpu(b)) == 0;
  return kCudaSuccess;
}
int cuDeviceGetP2PAttribute(int* value, int which, CudaDevice a, CudaDevice b) {
  const bool access = peer_status(*cuda_gpu(a), *cuda_gpu(b)) == 0;
  *value = which == kCudaPeerRank      ? (machine().nvlink_peers ? 0 : 1)
           : which == kCudaPeerAtomics ? access && machine().nvlink_peers
                                       : access;
  return kCudaSuccess;
}
