// SPDX-License-Identifier: Apache-2.0
// NVML, NVIDIA's management library, loaded at run time: which GPUs there are, where they sit, what they are linked to.
//
// No NVIDIA header is needed to build: the few types of its binary interface are declared in nvml_abi.h. Everything is
// copied into plain structs, so that callers hold no driver state. Calls may enter the kernel: never on the hot path.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/pci_address.h"
#include "base/status.h"

namespace tutti::gpu {

struct NvmlApi;

// The other end of an NVLink.
enum class LinkEnd : uint8_t { Gpu, Switch, Cpu, Unknown };

struct NvLink {
  int index = 0;
  bool active = false;
  int version = 0;  // NVLink generation; 0: not told
  LinkEnd end = LinkEnd::Unknown;
  std::optional<PciAddress> remote;  // none where a virtual machine hides the fabric
};

struct MigInstance {
  int index = 0;
  std::string uuid;
};

// Membership in an NVLink domain of several hosts.
struct Fabric {
  std::array<uint8_t, 16> cluster{};
  uint32_t clique = 0;
  bool complete = false;  // registration with the fabric manager has ended and succeeded
};

struct GpuDevice {
  int index = 0;  // NVML's, in PCI order; CUDA's ordinals may differ
  std::string name, uuid;
  PciAddress pci;
  uint16_t pci_vendor = 0, pci_device = 0;
  int capability_major = 0, capability_minor = 0;
  uint64_t memory_bytes = 0;
  int pcie_generation = 0, pcie_width = 0;  // the most that card and slot can do; 0: not told
  std::optional<int> numa_node;             // of the host, where the driver says so
  std::vector<NvLink> links;                // active or not
  bool mig_enabled = false;
  std::vector<MigInstance> mig;
  std::optional<Fabric> fabric;
};

enum class PeerAccess : uint8_t {
  Ok,
  ChipsetNotSupported,
  GpuNotSupported,
  TopologyNotSupported,
  Disabled,
  NotSupported,
  Unknown
};
const char* name(PeerAccess access);

// What a GPU may do to another one's memory, as the driver says.
struct PeerAttributes {
  int from = 0, to = 0;  // NVML indices
  PeerAccess read = PeerAccess::Unknown, write = PeerAccess::Unknown, nvlink = PeerAccess::Unknown,
             atomics = PeerAccess::Unknown;
};

class Nvml {
 public:
  // `path` (TUTTI_NVML_LIBRARY) replaces the driver's library. The error says what is missing and what to do.
  static Result<Nvml> open(std::string_view path = {});
  ~Nvml();
  Nvml(Nvml&&) noexcept;
  Nvml& operator=(Nvml&&) noexcept;

  std::string driver_version() const;  // empty: not told
  int cuda_version() const;            // of the driver: 12040 is 12.4; 0: not told
  // GPUs that do not answer are left out and named in `notes`.
  Result<std::vector<GpuDevice>> devices(std::vector<std::string>& notes) const;
  // All ordered pairs of `devices`.
  std::vector<PeerAttributes> peers(const std::vector<GpuDevice>& devices) const;

 private:
  explicit Nvml(std::shared_ptr<const NvmlApi> api) : api_(std::move(api)) {}
  std::shared_ptr<const NvmlApi> api_;
};

}  // namespace tutti::gpu
