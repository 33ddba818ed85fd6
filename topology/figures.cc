// SPDX-License-Identifier: Apache-2.0
#include "topology/figures.h"

#include <algorithm>
#include <charconv>

namespace tutti::topology {
namespace {

Figure table(double value) { return {value, Source::Table}; }
Figure assumed(double value) { return {value, Source::Assumed}; }

bool is(const CpuInfo& cpu, std::string_view vendor) { return cpu.vendor.find(vendor) != std::string::npos; }

}  // namespace

// What one NVLink carries of payload, per direction: 80 % of the signalling rate where packets have the old format,
// more since Hopper. These are the published peak figures of NCCL's model, against which users compare.
Figure nvlink_gbps(int32_t sm) {
  if (sm < 60) return assumed(20);
  if (sm < 70) return table(18);               // Pascal, NVLink 1
  if (sm == 86 || sm == 89) return table(12);  // GA102 and kin: links of half the width
  if (sm < 90) return table(20);               // Volta, Ampere: NVLink 2 and 3
  if (sm < 100) return table(20.6);            // Hopper: NVLink 4
  if (sm < 120) return table(40.1);            // Blackwell: NVLink 5
  return assumed(40.1);
}

Figure xgmi_gbps(std::string_view gcn) {
  if (gcn.starts_with("gfx")) gcn.remove_prefix(3);
  if (gcn == "906" || gcn == "908") return table(24);                    // MI50, MI60, MI100
  if (gcn == "910" || gcn == "90a") return table(36);                    // MI200
  if (gcn.starts_with("94") || gcn.starts_with("95")) return table(48);  // MI300
  return assumed(24);
}

Figure pcie_gbps(std::string_view speed, int32_t width, Source stated) {
  struct Generation {
    double gigatransfers, gbps_per_lane;
  };
  // Payload after 8b/10b (the first two) or 128b/130b coding and packet headers: units of 100 Mb/s per lane 15, 30, 60,
  // 120, 240, 480, as NCCL's model has them.
  constexpr Generation kGenerations[] = {{2.5, 15.0 / 80}, {5, 30.0 / 80},   {8, 60.0 / 80},
                                         {16, 120.0 / 80}, {32, 240.0 / 80}, {64, 480.0 / 80}};
  double gigatransfers = 0;
  std::from_chars(speed.data(), speed.data() + speed.size(), gigatransfers);
  double per_lane = 0;
  for (const Generation& row : kGenerations)
    if (gigatransfers == row.gigatransfers) per_lane = row.gbps_per_lane;
  const bool known = per_lane > 0 && width > 0;
  if (per_lane == 0) per_lane = kGenerations[2].gbps_per_lane;
  if (width <= 0) width = 16;
  return {per_lane * std::min(width, 32), known ? stated : Source::Assumed};
}

Figure inter_socket_gbps(const CpuInfo& cpu) {
  if (cpu.arch == "ppc64" || cpu.arch == "ppc64le") return table(32);
  if (cpu.arch == "arm64" || cpu.arch == "aarch64") return table(6);
  if (is(cpu, "AMD")) {
    // Both ways in which files count AMD's families: the CPUID family, and 15 + (extended family << 4).
    const int32_t family = cpu.family >= 143 ? 15 + (cpu.family - 15) / 16 : cpu.family;
    if (family >= 26) return table(32);                         // Zen 5
    if (family == 25) return table(24);                         // Zen 3 and 4
    return {16, family > 0 ? Source::Table : Source::Assumed};  // Zen 1 and 2
  }
  if (is(cpu, "Intel") && cpu.family == 6) {
    if (cpu.model >= 207) return table(40);  // Emerald Rapids and later
    if (cpu.model >= 143) return table(22);  // Sapphire Rapids
    if (cpu.model >= 85) return table(10);   // Skylake to Ice Lake
    return table(6);                         // Broadwell and before
  }
  return assumed(10);
}

Figure network_gbps(double speed_mbps, Source stated) {
  if (!(speed_mbps > 0)) return assumed(10000 / 8000.0);
  return {speed_mbps / 8000, stated};
}

// A copy inside the memory of a GPU moves about half of what its memory does (reads and writes; A100: 1.5 TB/s); one
// core copies 10 to 25 GB/s in a NUMA node's memory. Usual values: `tutti tune` measures the machine at hand.
Figure local_gbps(const Node& device) { return assumed(device.kind == NodeKind::Gpu ? 750 : 20); }

// Usual one-way times of such hops, not measured on the machine at hand: they order paths of equal bandwidth.
Figure link_latency_us(LinkKind kind) {
  switch (kind) {
    case LinkKind::NvLink:
      return assumed(0.3);
    case LinkKind::C2C:
      return assumed(0.2);
    case LinkKind::Xgmi:
      return assumed(0.3);
    case LinkKind::Pcie:
      return assumed(0.25);
    case LinkKind::InterSocket:
      return assumed(0.15);
    case LinkKind::Network:
      return assumed(1);
  }
  return {};
}

}  // namespace tutti::topology
