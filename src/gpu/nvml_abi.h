// SPDX-License-Identifier: Apache-2.0
// The part of NVML's binary interface that we use, in our words: types as the library lays them out, and its functions
// by name. Included by nvml.cc and by the look-alike of the tests, so that both sides agree.
//
// The interface only grows: a function that changes gets a new name (the suffix _v2), so what is declared here stays
// right. Functions that older drivers lack are optional.
#pragma once

#include <cstdint>

namespace tutti::gpu {

struct NvmlDeviceBody;
using NvmlDevice = NvmlDeviceBody*;

enum NvmlReturn : int32_t {
  kNvmlSuccess = 0,
  kNvmlInvalidArgument = 2,
  kNvmlNotSupported = 3,
  kNvmlNoPermission = 4,
  kNvmlNotFound = 6,
  kNvmlDriverNotLoaded = 9,
  kNvmlLibraryMismatch = 18,  // user library and kernel module are of different versions
  kNvmlUnknown = 999,
};

struct NvmlPciInfo {
  char bus_id_legacy[16];
  uint32_t domain, bus, device;
  uint32_t pci_device_id;  // device << 16 | vendor
  uint32_t pci_subsystem_id;
  char bus_id[32];
};
static_assert(sizeof(NvmlPciInfo) == 68);

struct NvmlMemory {
  unsigned long long total, free, used;
};

struct NvmlFabricInfo {
  uint8_t cluster_uuid[16];
  int32_t status;
  uint32_t clique_id;
  uint8_t state;
};
static_assert(sizeof(NvmlFabricInfo) == 28);
inline constexpr uint8_t kNvmlFabricCompleted = 3;

enum NvmlLinkEnd : int32_t { kNvmlEndGpu = 0, kNvmlEndNpu = 1, kNvmlEndSwitch = 2, kNvmlEndUnknown = 255 };
enum NvmlPeerIndex : int32_t { kNvmlPeerRead = 0, kNvmlPeerWrite = 1, kNvmlPeerNvlink = 2, kNvmlPeerAtomics = 3 };

// NVML_FUNCTION(member, symbol, required, parameters)
#define TUTTI_NVML_FUNCTIONS(FUNCTION)                                                                    \
  FUNCTION(init, nvmlInit_v2, true, ())                                                                   \
  FUNCTION(shutdown, nvmlShutdown, true, ())                                                              \
  FUNCTION(driver_version, nvmlSystemGetDriverVersion, false, (char*, unsigned))                          \
  FUNCTION(cuda_version, nvmlSystemGetCudaDriverVersion_v2, false, (int*))                                \
  FUNCTION(count, nvmlDeviceGetCount_v2, true, (unsigned*))                                               \
  FUNCTION(by_index, nvmlDeviceGetHandleByIndex_v2, true, (unsigned, NvmlDevice*))                        \
  FUNCTION(device_name, nvmlDeviceGetName, false, (NvmlDevice, char*, unsigned))                          \
  FUNCTION(uuid, nvmlDeviceGetUUID, false, (NvmlDevice, char*, unsigned))                                 \
  FUNCTION(pci, nvmlDeviceGetPciInfo_v3, true, (NvmlDevice, NvmlPciInfo*))                                \
  FUNCTION(capability, nvmlDeviceGetCudaComputeCapability, false, (NvmlDevice, int*, int*))               \
  FUNCTION(memory, nvmlDeviceGetMemoryInfo, false, (NvmlDevice, NvmlMemory*))                             \
  FUNCTION(pcie_generation, nvmlDeviceGetMaxPcieLinkGeneration, false, (NvmlDevice, unsigned*))           \
  FUNCTION(pcie_width, nvmlDeviceGetMaxPcieLinkWidth, false, (NvmlDevice, unsigned*))                     \
  FUNCTION(numa_node, nvmlDeviceGetNumaNodeId, false, (NvmlDevice, unsigned*))                            \
  FUNCTION(link_state, nvmlDeviceGetNvLinkState, false, (NvmlDevice, unsigned, int*))                     \
  FUNCTION(link_version, nvmlDeviceGetNvLinkVersion, false, (NvmlDevice, unsigned, unsigned*))            \
  FUNCTION(link_remote, nvmlDeviceGetNvLinkRemotePciInfo_v2, false, (NvmlDevice, unsigned, NvmlPciInfo*)) \
  FUNCTION(link_end, nvmlDeviceGetNvLinkRemoteDeviceType, false, (NvmlDevice, unsigned, int*))            \
  FUNCTION(peer_status, nvmlDeviceGetP2PStatus, false, (NvmlDevice, NvmlDevice, int, int*))               \
  FUNCTION(mig_mode, nvmlDeviceGetMigMode, false, (NvmlDevice, unsigned*, unsigned*))                     \
  FUNCTION(mig_most, nvmlDeviceGetMaxMigDeviceCount, false, (NvmlDevice, unsigned*))                      \
  FUNCTION(mig_by_index, nvmlDeviceGetMigDeviceHandleByIndex, false, (NvmlDevice, unsigned, NvmlDevice*)) \
  FUNCTION(fabric, nvmlDeviceGetGpuFabricInfo, false, (NvmlDevice, NvmlFabricInfo*))

#define TUTTI_NVML_TYPE(member, symbol, required, parameters) using member##_function = int parameters;
struct NvmlFunctions {
  TUTTI_NVML_FUNCTIONS(TUTTI_NVML_TYPE)
};
#undef TUTTI_NVML_TYPE

}  // namespace tutti::gpu
