// SPDX-License-Identifier: Apache-2.0
// Checks of NVIDIA GPUs: the driver's two halves, access between GPUs, access by network cards.
#include "gpu/nvml.h"

#include <algorithm>
#include <map>

#include "tools/tutti/doctor/doctor_checks.h"

namespace tutti::doctor {
namespace {

constexpr int32_t kNvidia = 0x10de;

size_t nvidia_on_pci(const Probes& probes) {
  return static_cast<size_t>(std::ranges::count_if(probes.sources.pci, [](const topology::PciEntry& entry) {
    return entry.vendor == kNvidia && (entry.class_code >> 8 == 0x0300 || entry.class_code >> 8 == 0x0302);
  }));
}
std::string module_version(const Probes& probes) { return probes.root.text("/sys/module/nvidia/version").value_or(""); }

}  // namespace

std::vector<Finding> look_at_nvidia_driver(const Probes& probes) {
  const size_t cards = nvidia_on_pci(probes);
  const std::string module = module_version(probes);
  const std::string on_pci = fmt::format("{} NVIDIA GPUs in /sys/bus/pci/devices", cards);
  if (!probes.nvml || (cards == 0 && module.empty() && !probes.nvml->ok()))
    return {cards == 0 ? good("no NVIDIA GPU", on_pci)
                       : found(Severity::Note, "NVML was not asked", on_pci, "run tutti doctor on the machine itself")};
  if (probes.nvml->ok()) {
    const size_t offered = probes.sources.gpus ? probes.sources.gpus->size() : 0;
    std::vector<Finding> findings;
    if (probes.cuda && !probes.cuda->ok())
      findings.push_back(found(Severity::Broken, "NVML works, but the CUDA driver does not", probes.cuda->message(),
                               "install libcuda.so.1 of the same driver version; in a container, "
                               "NVIDIA_DRIVER_CAPABILITIES=compute,utility"));
    if (!module.empty() && !probes.driver_version.empty() && module != probes.driver_version)
      findings.push_back(found(Severity::Broken,
                               "the driver's kernel module and its libraries are of different versions",
                               fmt::format("/sys/module/nvidia/version: {}; NVML: {}", module, probes.driver_version),
                               "reboot, or reload the module, after a driver update"));
    if (findings.empty())
      findings.push_back(good(fmt::format("driver {}, {} GPUs", probes.driver_version, offered), "NVML; " + on_pci));
    return findings;
  }
  if (module.empty())
    return {found(Severity::Broken, fmt::format("{} NVIDIA GPUs, but no driver is loaded", cards),
                  "/sys/module/nvidia is not there; " + on_pci,
                  "install the NVIDIA driver and modprobe nvidia; look at dmesg for why it did not load")};
  return {found(Severity::Broken, "the NVIDIA driver does not answer",
                fmt::format("{}; /sys/module/nvidia/version: {}", probes.nvml->message(), module),
                "reboot or reload the module after a driver update; in a container, start it with the NVIDIA container "
                "toolkit (--gpus all)")};
}

std::vector<Finding> look_at_gpu_peers(const Probes& probes) {
  if (!probes.sources.gpus || probes.sources.gpus->size() < 2) return {good("fewer than two GPUs", "NVML")};
  std::map<std::string, std::vector<std::string>> denied;
  for (const gpu::PeerAttributes& peer : probes.sources.peers) {
    const gpu::PeerAccess worst = peer.write != gpu::PeerAccess::Ok ? peer.write : peer.read;
    if (peer.from < peer.to && worst != gpu::PeerAccess::Ok)
      denied[gpu::name(worst)].push_back(fmt::format("GPU{}-GPU{}", peer.from, peer.to));
  }
  std::vector<Finding> findings;
  for (const auto& [reason, pairs] : denied)
    findings.push_back(found(
        Severity::Slow,
        fmt::format("{} pairs of GPUs cannot reach each other's memory: data goes through the host", pairs.size()),
        fmt::format("nvmlDeviceGetP2PStatus: {}: {}", reason, list_text(pairs)),
        "across sockets this is how the machine is built; else look at IOMMU, ACS and the driver's settings "
        "(nvidia-smi topo -p2p r)"));
  for (const gpu::GpuDevice& device : *probes.sources.gpus) {
    const auto down = std::ranges::count_if(device.links, [](const gpu::NvLink& link) { return !link.active; });
    if (down > 0)
      findings.push_back(found(Severity::Slow,
                               fmt::format("GPU{}: {} of {} NVLinks are down", device.index, down, device.links.size()),
                               "nvmlDeviceGetNvLinkState",
                               "nvidia-smi nvlink -s and dmesg; on NVSwitch machines restart nvidia-fabricmanager"));
    if (device.mig_enabled)
      findings.push_back(found(Severity::Note,
                               fmt::format("GPU{} is cut into instances, which cannot reach each other", device.index),
                               fmt::format("nvmlDeviceGetMigMode; {} instances", device.mig.size()),
                               "nvidia-smi -mig 0, unless that is wanted"));
  }
  if (findings.empty())
    findings.push_back(good("all GPUs reach each other's memory",
                            fmt::format("nvmlDeviceGetP2PStatus of {} pairs", probes.sources.peers.size())));
  return findings;
}

std::vector<Finding> look_at_gpu_direct(const Probes& probes) {
  const bool gpus = probes.sources.gpus && !probes.sources.gpus->empty();
  const bool cards =
      std::ranges::any_of(probes.sources.rdma, [](const topology::RdmaDevice& device) { return !device.software; });
  if (!gpus || !cards) return {good("nothing to connect: no GPU, or no RDMA card", "NVML, /sys/class/infiniband")};
  for (const char* module : {"nvidia_peermem", "nv_peer_mem"})
    if (probes.root.exists(std::string("/sys/module/") + module))
      return {good("network cards can read GPU memory", fmt::format("/sys/module/{} is loaded", module))};
  if (probes.sources.cuda && !probes.sources.cuda->devices.empty()) {
    const auto& devices = probes.sources.cuda->devices;
    if (std::ranges::all_of(devices, &gpu::CudaDeviceFacts::dma_buf))
      return {good("network cards can read GPU memory",
                   "CUDA exports it as dma-buf (CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED)")};
  }
  return {found(Severity::Slow, "network cards cannot read GPU memory: data is staged in the host's",
                "no /sys/module/nvidia_peermem; CUDA does not export dma-buf for every GPU",
                "modprobe nvidia-peermem, or the open kernel modules on Linux 5.12 or newer, which export dma-buf")};
}

}  // namespace tutti::doctor
