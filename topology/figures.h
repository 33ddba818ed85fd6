// SPDX-License-Identifier: Apache-2.0
// What is known of products when a source gives no figure: GB/s per NVLink, per PCIe lane, between sockets; latencies.
// Readers and detection take their Source::Table and Source::Assumed figures here and nowhere else.
#pragma once

#include <string>
#include <string_view>

#include "topology/graph.h"

namespace tutti::topology {

// One NVLink of a GPU of this compute capability (x 10), per direction.
Figure nvlink_gbps(int32_t sm);
// One xGMI link of an AMD GPU ("906", "gfx942"), per direction.
Figure xgmi_gbps(std::string_view gcn);
// A PCIe link as sysfs and topology files write it: "16.0 GT/s PCIe", width 16. Unknown speed: generation 3; unknown
// width or 0: 16 lanes; the source is then Assumed. Any number before " GT/s" counts, whatever follows it.
Figure pcie_gbps(std::string_view speed, int32_t width, Source stated);
// What is between two NUMA nodes of this processor.
Figure inter_socket_gbps(const CpuInfo& cpu);
// A network port of this speed in Mb/s; <= 0: 10 Gb/s is assumed.
Figure network_gbps(double speed_mbps, Source stated);
// What ranks that share one GPU, or the memory of one NUMA node, exchange.
Figure local_gbps(const Node& device);
// One way over a link of this kind.
Figure link_latency_us(LinkKind kind);

}  // namespace tutti::topology
