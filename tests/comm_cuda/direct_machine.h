// SPDX-License-Identifier: Apache-2.0
// A machine in which the fake CUDA driver's first GPUs sit beside one look-alike RDMA device, across a CPU from
// another, and across two from a third.
#pragma once

namespace tutti {

inline constexpr const char* kDirectMachine = R"(<system version="1">
  <cpu numaid="0" affinity="ffff" arch="x86_64" vendor="GenuineIntel" familyid="6" modelid="143">
    <pci busid="0000:00:01.0" class="0x060400" link_speed="32.0 GT/s PCIe" link_width="16">
      <pci busid="0000:01:00.0" class="0x030200" link_speed="32.0 GT/s PCIe" link_width="16"><gpu dev="0" sm="90"/></pci>
      <pci busid="0000:02:00.0" class="0x030200" link_speed="32.0 GT/s PCIe" link_width="16"><gpu dev="1" sm="90"/></pci>
      <pci busid="0000:03:00.0" class="0x030200" link_speed="32.0 GT/s PCIe" link_width="16"><gpu dev="2" sm="90"/></pci>
      <pci busid="0000:10:00.0" class="0x020700" link_speed="32.0 GT/s PCIe" link_width="16">
        <nic><net name="fake0" dev="0" speed="100000" port="1" guid="0x1"/></nic>
      </pci>
    </pci>
    <pci busid="0000:11:00.0" class="0x020700" link_speed="32.0 GT/s PCIe" link_width="16">
      <nic><net name="fake1" dev="1" speed="100000" port="1" guid="0x2"/></nic>
    </pci>
  </cpu>
  <cpu numaid="1" affinity="ffff0000" arch="x86_64" vendor="GenuineIntel" familyid="6" modelid="143">
    <pci busid="0000:12:00.0" class="0x020700" link_speed="32.0 GT/s PCIe" link_width="16">
      <nic><net name="fake2" dev="2" speed="100000" port="1" guid="0x3"/></nic>
    </pci>
  </cpu>
</system>
)";

}  // namespace tutti
