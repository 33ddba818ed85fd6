// SPDX-License-Identifier: Apache-2.0
// The machines. Figures are those of the real models; identities are made up.
#include "tests/fakes/fake_machine.h"

#include <map>

#include "gpu/nvml_abi.h"

namespace tutti::fakes {
namespace {

constexpr uint64_t kGiB = 1ull << 30;

// Eight GPUs with 18 NVLinks each to four switches (4 + 4 + 5 + 5), four GPUs per socket.
FakeDrivers nvswitch8() {
  static constexpr const char* kBus[] = {"00000000:1A:00.0", "00000000:3B:00.0", "00000000:4C:00.0",
                                         "00000000:5D:00.0", "00000000:9A:00.0", "00000000:BB:00.0",
                                         "00000000:CC:00.0", "00000000:DD:00.0"};
  static constexpr const char* kUuid[] = {
      "GPU-a0000000-0000-4000-8000-000000000000", "GPU-a0000000-0000-4000-8000-000000000001",
      "GPU-a0000000-0000-4000-8000-000000000002", "GPU-a0000000-0000-4000-8000-000000000003",
      "GPU-a0000000-0000-4000-8000-000000000004", "GPU-a0000000-0000-4000-8000-000000000005",
      "GPU-a0000000-0000-4000-8000-000000000006", "GPU-a0000000-0000-4000-8000-000000000007"};
  static constexpr const char* kSwitch[] = {"00000000:07:00.0", "00000000:08:00.0", "00000000:09:00.0",
                                            "00000000:0A:00.0"};
  static constexpr int kPerSwitch[] = {4, 4, 5, 5};
  FakeDrivers drivers;
  for (int gpu = 0; gpu < 8; ++gpu) {
    FakeGpu made{"NVIDIA H100 80GB HBM3", kUuid[gpu], kBus[gpu], 0x2330, 9, 0, 80 * kGiB, 5, 16, gpu / 4, 4, {}, 0, {}};
    for (int which = 0; which < 4; ++which)
      for (int k = 0; k < kPerSwitch[which]; ++k) made.links.push_back({gpu::kNvmlEndSwitch, kSwitch[which], true});
    drivers.gpus.push_back(made);
  }
  drivers.nvlink_peers = true;
  drivers.fabric = true;
  return drivers;
}

// Four PCIe cards, two below each socket's switch; no peer access between the sockets.
FakeDrivers pcie4() {
  static constexpr const char* kBus[] = {"00000000:25:00.0", "00000000:26:00.0", "00000000:65:00.0",
                                         "00000000:66:00.0"};
  static constexpr const char* kUuid[] = {
      "GPU-b0000000-0000-4000-8000-000000000000", "GPU-b0000000-0000-4000-8000-000000000001",
      "GPU-b0000000-0000-4000-8000-000000000002", "GPU-b0000000-0000-4000-8000-000000000003"};
  FakeDrivers drivers;
  for (int gpu = 0; gpu < 4; ++gpu)
    drivers.gpus.push_back(
        {"NVIDIA A10", kUuid[gpu], kBus[gpu], 0x2236, 8, 6, 24 * kGiB, 4, 16, gpu / 2, 0, {}, 6, {}});
  drivers.cuda_order = {2, 3, 0, 1};  // CUDA_VISIBLE_DEVICES=2,3,0,1
  drivers.peer.assign(4, std::vector<int>(4, 3));
  for (size_t a = 0; a < 4; ++a)
    for (size_t b = 0; b < 4; ++b)
      if (a / 2 == b / 2) drivers.peer[a][b] = 0;
  return drivers;
}

// One card cut into two instances; two of its twelve links are down, and a hidden fabric behind the rest.
FakeDrivers mig() {
  FakeDrivers drivers;
  FakeGpu gpu{"NVIDIA A100-SXM4-40GB",
              "GPU-c0000000-0000-4000-8000-000000000000",
              "00000000:00:05.0",
              0x20b0,
              8,
              0,
              40 * kGiB,
              4,
              16,
              0,
              3,
              {},
              0,
              {"MIG-c0000000-0000-5000-8000-000000000001", "MIG-c0000000-0000-5000-8000-000000000002"}};
  for (int link = 0; link < 12; ++link) gpu.links.push_back({gpu::kNvmlEndSwitch, nullptr, link < 10});
  drivers.gpus.push_back(gpu);
  return drivers;
}

}  // namespace

const FakeDrivers& fake_drivers(const std::string& machine) {
  static const auto& machines = *new std::map<std::string, FakeDrivers>{
      {"nvswitch8", nvswitch8()},
      {"pcie4", pcie4()},
      {"mig", mig()},
      {"mismatch",
       [] {
         FakeDrivers d;
         d.init_status = gpu::kNvmlLibraryMismatch;
         d.cuda_status = 803;
         return d;
       }()},
      {"nodriver",
       [] {
         FakeDrivers d;
         d.init_status = gpu::kNvmlDriverNotLoaded;
         d.cuda_status = 100;
         return d;
       }()},
      {"deadgpu",
       [] {
         FakeDrivers d = pcie4();
         d.dead_gpu = 1;
         return d;
       }()},
  };
  return machines.at(machine);
}

}  // namespace tutti::fakes
