// SPDX-License-Identifier: Apache-2.0
#include "gpu/cuda_peers.h"

#include <algorithm>
#include <cstring>

namespace tutti::gpu {

Result<CudaIdentity> identify(const CudaRun& cuda, int ordinal) {
  const auto check = [&](int code, const char* call) { return cuda_status(cuda, code, call, ordinal); };
  CudaDevice device = 0;
  TUTTI_TRY(check(cuda.by_ordinal(&device, ordinal), "cuDeviceGet"));
  CudaIdentity identity;
  CudaUuid uuid{};
  char bus[32] = {};
  if (cuda.uuid != nullptr && cuda.uuid(&uuid, device) == kCudaSuccess) {
    std::memcpy(identity.uuid.data(), uuid.bytes, sizeof uuid.bytes);
  } else {
    TUTTI_TRY(check(cuda.bus_id(bus, sizeof bus - 1, device), "cuDeviceGetPCIBusId"));
    std::memcpy(identity.uuid.data(), bus, std::min(sizeof bus, identity.uuid.size()));  // "0000:65:00.0"
  }
  const auto attribute = [&](int which) {
    int value = 0;
    return cuda.attribute(&value, which, device) == kCudaSuccess ? value : 0;
  };
  constexpr int kMemoryClockKhz = 36, kMemoryBusBits = 37;
  identity.multiprocessors = std::max(attribute(kCudaMultiprocessors), 1);
  identity.capability_major = attribute(kCudaCapabilityMajor);
  identity.memory_gbps = 2.0 * attribute(kMemoryClockKhz) * 1e3 * attribute(kMemoryBusBits) / 8 * 1e-9;
  TUTTI_TRY(check(cuda.device_name(identity.name.data(), static_cast<int>(identity.name.size()) - 1, device),
                  "cuDeviceGetName"));
  return identity;
}

bool joined_by_nvlink(const CudaRun& cuda, int ordinal, int other) {
  CudaDevice here = 0, there = 0;
  int atomics = 0;
  return cuda.by_ordinal(&here, ordinal) == kCudaSuccess && cuda.by_ordinal(&there, other) == kCudaSuccess &&
         cuda.peer_attribute(&atomics, kCudaPeerAtomics, here, there) == kCudaSuccess && atomics != 0;
}

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
        "can",
        from->ordinal(), to->ordinal());
  const CudaScope scope(*from);
  TUTTI_TRY(scope.status());
  const int code = cuda.enable_peer(to->handle(), 0);
  if (code == kCudaPeerAlreadyEnabled) return {};
  return from->status(code, "cuCtxEnablePeerAccess");
}

Result<RegisteredMemory> register_host(const CudaDevicePtr& device, void* at, size_t bytes) {
  const CudaScope scope(*device);
  TUTTI_TRY(scope.status());
  const unsigned flags = kCudaHostPortable | kCudaHostMapped;
  TUTTI_TRY(device->status(device->cuda().register_host(at, bytes, flags), "cuMemHostRegister"));
  return RegisteredMemory(device, at);
}

Result<std::byte*> host_address(const CudaDevicePtr& device, void* at) {
  const CudaScope scope(*device);
  TUTTI_TRY(scope.status());
  CudaAddress address = 0;
  TUTTI_TRY(device->status(device->cuda().host_address(&address, at, 0), "cuMemHostGetDevicePointer"));
  return reinterpret_cast<std::byte*>(address);
}

}  // namespace tutti::gpu
