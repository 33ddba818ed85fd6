// SPDX-License-Identifier: Apache-2.0
// See nvml.h.
#include "gpu/nvml.h"

#include <cstring>
#include <utility>

#include "base/dynamic_library.h"
#include "gpu/nvml_abi.h"

namespace tutti::gpu {

struct NvmlApi {
#define TUTTI_NVML_MEMBER(member, symbol, required, parameters) NvmlFunctions::member##_function* member = nullptr;
  TUTTI_NVML_FUNCTIONS(TUTTI_NVML_MEMBER)
#undef TUTTI_NVML_MEMBER
  DynamicLibrary library;
  bool started = false;

  ~NvmlApi() {
    if (started) shutdown();
  }
};

namespace {

// No GPU has more NVLinks than this; it ends the look through a library that answers for ever.
constexpr unsigned kMostLinks = 128;

std::string why(const std::string& library, int code) {
  if (code == kNvmlDriverNotLoaded)
    return "the NVIDIA kernel module is not loaded: load it (modprobe nvidia), or ignore this on a machine without "
           "GPUs";
  if (code == kNvmlLibraryMismatch)
    return fmt::format(
        "{} and the loaded NVIDIA kernel module are of different driver versions: reboot or reload the module after a "
        "driver update; in a container, mount the host's driver libraries",
        library);
  if (code == kNvmlNoPermission) return "no permission to open /dev/nvidiactl: give this user or container the device";
  return fmt::format("nvmlInit failed with error {}", code);
}

PeerAccess access_of(int status) {
  return status >= 0 && status < static_cast<int>(PeerAccess::Unknown) ? static_cast<PeerAccess>(status)
                                                                       : PeerAccess::Unknown;
}

PciAddress address_of(const NvmlPciInfo& info) {
  char text[sizeof info.bus_id + 1] = {};
  std::memcpy(text, info.bus_id, sizeof info.bus_id);
  if (const auto parsed = PciAddress::parse(text)) return *parsed;
  return {info.domain, static_cast<uint8_t>(info.bus), static_cast<uint8_t>(info.device), 0};
}

LinkEnd end_of(int type) {
  switch (type) {
    case kNvmlEndGpu:
      return LinkEnd::Gpu;
    case kNvmlEndNpu:
      return LinkEnd::Cpu;
    case kNvmlEndSwitch:
      return LinkEnd::Switch;
  }
  return LinkEnd::Unknown;
}

std::vector<NvLink> links_of(const NvmlApi& api, NvmlDevice device) {
  std::vector<NvLink> links;
  if (api.link_state == nullptr) return links;
  for (unsigned index = 0; index < kMostLinks; ++index) {
    int active = 0;
    const int code = api.link_state(device, index, &active);
    if (code == kNvmlInvalidArgument) break;  // past the last link
    if (code != kNvmlSuccess) continue;       // a link that this board does not wire
    NvLink link{static_cast<int>(index), active != 0, 0, LinkEnd::Unknown, std::nullopt};
    unsigned version = 0;
    if (api.link_version != nullptr && api.link_version(device, index, &version) == kNvmlSuccess)
      link.version = static_cast<int>(version);
    int end = kNvmlEndUnknown;
    if (link.active && api.link_end != nullptr && api.link_end(device, index, &end) == kNvmlSuccess)
      link.end = end_of(end);
    NvmlPciInfo remote{};
    if (link.active && api.link_remote != nullptr && api.link_remote(device, index, &remote) == kNvmlSuccess) {
      const PciAddress address = address_of(remote);
      // A hidden fabric answers with all ones or with nothing.
      const bool told = address.domain < 0xfffff && address != PciAddress{};
      if (told) link.remote = address;
    }
    links.push_back(link);
  }
  return links;
}

void read_mig(const NvmlApi& api, NvmlDevice handle, GpuDevice& device) {
  unsigned current = 0, pending = 0, most = 0;
  if (api.mig_mode == nullptr || api.mig_mode(handle, &current, &pending) != kNvmlSuccess || current == 0) return;
  device.mig_enabled = true;
  if (api.mig_most == nullptr || api.mig_by_index == nullptr || api.mig_most(handle, &most) != kNvmlSuccess) return;
  for (unsigned index = 0; index < most; ++index) {
    NvmlDevice instance = nullptr;
    if (api.mig_by_index(handle, index, &instance) != kNvmlSuccess) continue;  // a slot without an instance
    char uuid[96] = {};
    if (api.uuid != nullptr) (void)api.uuid(instance, uuid, sizeof uuid - 1);
    device.mig.push_back({static_cast<int>(index), uuid});
  }
}

Result<GpuDevice> read_device(const NvmlApi& api, unsigned index) {
  NvmlDevice handle = nullptr;
  if (const int code = api.by_index(index, &handle); code != kNvmlSuccess)
    return system_error("GPU {} does not answer (NVML error {}): see dmesg for Xid messages", index, code);
  NvmlPciInfo pci{};
  if (const int code = api.pci(handle, &pci); code != kNvmlSuccess)
    return system_error("GPU {} does not say where it is (NVML error {}): see dmesg for Xid messages", index, code);
  GpuDevice device;
  device.index = static_cast<int>(index);
  device.pci = address_of(pci);
  device.pci_vendor = static_cast<uint16_t>(pci.pci_device_id & 0xffff);
  device.pci_device = static_cast<uint16_t>(pci.pci_device_id >> 16);
  char text[128] = {};
  if (api.device_name != nullptr && api.device_name(handle, text, sizeof text - 1) == kNvmlSuccess) device.name = text;
  if (api.uuid != nullptr && api.uuid(handle, text, sizeof text - 1) == kNvmlSuccess) device.uuid = text;
  int major = 0, minor = 0;
  if (api.capability != nullptr && api.capability(handle, &major, &minor) == kNvmlSuccess) {
    device.capability_major = major;
    device.capability_minor = minor;
  }
  NvmlMemory memory{};
  if (api.memory != nullptr && api.memory(handle, &memory) == kNvmlSuccess) device.memory_bytes = memory.total;
  unsigned number = 0;
  if (api.pcie_generation != nullptr && api.pcie_generation(handle, &number) == kNvmlSuccess)
    device.pcie_generation = static_cast<int>(number);
  if (api.pcie_width != nullptr && api.pcie_width(handle, &number) == kNvmlSuccess)
    device.pcie_width = static_cast<int>(number);
  if (api.numa_node != nullptr && api.numa_node(handle, &number) == kNvmlSuccess)
    device.numa_node = static_cast<int>(number);
  device.links = links_of(api, handle);
  read_mig(api, handle, device);
  NvmlFabricInfo fabric{};
  if (api.fabric != nullptr && api.fabric(handle, &fabric) == kNvmlSuccess && fabric.state != 0) {
    Fabric known;
    std::memcpy(known.cluster.data(), fabric.cluster_uuid, known.cluster.size());
    known.clique = fabric.clique_id;
    known.complete = fabric.state == kNvmlFabricCompleted && fabric.status == kNvmlSuccess;
    device.fabric = known;
  }
  return device;
}

}  // namespace

const char* name(PeerAccess access) {
  switch (access) {
    case PeerAccess::Ok:
      return "ok";
    case PeerAccess::ChipsetNotSupported:
      return "not supported by the chipset";
    case PeerAccess::GpuNotSupported:
      return "not supported by the GPU";
    case PeerAccess::TopologyNotSupported:
      return "not supported across these PCIe roots";
    case PeerAccess::Disabled:
      return "disabled by the driver's settings";
    case PeerAccess::NotSupported:
      return "not supported";
    case PeerAccess::Unknown:
      return "unknown";
  }
  return "unknown";
}

Nvml::~Nvml() = default;
Nvml::Nvml(Nvml&&) noexcept = default;
Nvml& Nvml::operator=(Nvml&&) noexcept = default;

Result<Nvml> Nvml::open(std::string_view path) {
  auto api = std::make_shared<NvmlApi>();
  auto library = DynamicLibrary::open(path, {"libnvidia-ml.so.1", "libnvidia-ml.so"});
  if (!library.ok()) return system_error("NVML {}", library.status().message());
  api->library = std::move(*library);
  const char* missing = nullptr;
#define TUTTI_NVML_BIND(member, symbol, required, parameters) \
  if (!api->library.bind(#symbol, api->member) && (required)) missing = #symbol;
  TUTTI_NVML_FUNCTIONS(TUTTI_NVML_BIND)
#undef TUTTI_NVML_BIND
  if (missing != nullptr)
    return system_error("{} lacks {}: it is older than driver 450 or not NVML", api->library.name(), missing);
  if (const int code = api->init(); code != kNvmlSuccess)
    return system_error("NVML: {}", why(api->library.name(), code));
  api->started = true;
  return Nvml(std::move(api));
}

std::string Nvml::driver_version() const {
  char text[96] = {};
  if (api_->driver_version == nullptr || api_->driver_version(text, sizeof text - 1) != kNvmlSuccess) return {};
  return text;
}

int Nvml::cuda_version() const {
  int version = 0;
  if (api_->cuda_version == nullptr || api_->cuda_version(&version) != kNvmlSuccess) return 0;
  return version;
}

Result<std::vector<GpuDevice>> Nvml::devices(std::vector<std::string>& notes) const {
  unsigned count = 0;
  if (const int code = api_->count(&count); code != kNvmlSuccess)
    return system_error("NVML cannot count the GPUs (error {})", code);
  std::vector<GpuDevice> found;
  for (unsigned index = 0; index < count; ++index) {
    auto device = read_device(*api_, index);
    if (device.ok())
      found.push_back(std::move(*device));
    else
      notes.push_back(device.status().message());
  }
  return found;
}

std::vector<PeerAttributes> Nvml::peers(const std::vector<GpuDevice>& devices) const {
  std::vector<PeerAttributes> all;
  std::vector<NvmlDevice> handles;
  for (const GpuDevice& device : devices) {
    NvmlDevice handle = nullptr;
    (void)api_->by_index(static_cast<unsigned>(device.index), &handle);
    handles.push_back(handle);
  }
  const auto ask = [&](NvmlDevice from, NvmlDevice to, NvmlPeerIndex what) {
    int status = 0;
    if (api_->peer_status == nullptr || api_->peer_status(from, to, what, &status) != kNvmlSuccess)
      return PeerAccess::Unknown;
    return access_of(status);
  };
  for (size_t from = 0; from < devices.size(); ++from) {
    for (size_t to = 0; to < devices.size(); ++to) {
      if (from == to || handles[from] == nullptr || handles[to] == nullptr) continue;
      all.push_back({devices[from].index, devices[to].index, ask(handles[from], handles[to], kNvmlPeerRead),
                     ask(handles[from], handles[to], kNvmlPeerWrite), ask(handles[from], handles[to], kNvmlPeerNvlink),
                     ask(handles[from], handles[to], kNvmlPeerAtomics)});
    }
  }
  return all;
}

}  // namespace tutti::gpu
