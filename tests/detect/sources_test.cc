// SPDX-License-Identifier: Apache-2.0
// Each source of detection alone, on trees written here.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/fakes/tree.h"
#include "topology/detect/cpu.h"
#include "topology/detect/hwloc_source.h"
#include "topology/detect/net.h"
#include "topology/detect/pci.h"
#include "topology/detect/rdma.h"
#include "topology/detect/virtual_machine.h"

namespace tutti::topology {
namespace {

using fakes::Tree;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(SystemRoot, ReadsBelowItsRootAndNothingElse) {
  Tree tree;
  tree.file("/sys/a", "text \n\n")
      .file("/sys/n", "0x1f rest\n")
      .directory("/sys/d/eth10")
      .directory("/sys/d/eth9")
      .directory("/sys/d/eth1");
  tree.link("/sys/link", "/sys/d/eth9");
  const SystemRoot root(tree.root());
  EXPECT_EQ(root.text("/sys/a"), "text");
  EXPECT_EQ(root.text("/sys/none"), std::nullopt);
  EXPECT_EQ(root.text("/sys/d"), std::nullopt);
  EXPECT_EQ(root.number("/sys/n"), 31);
  EXPECT_EQ(root.number("/sys/a"), std::nullopt);
  EXPECT_THAT(root.list("/sys/d"), ElementsAre("eth1", "eth9", "eth10"));
  EXPECT_TRUE(root.list("/sys/none").empty());
  EXPECT_EQ(root.resolve("/sys/link"), "/sys/d/eth9");
  EXPECT_EQ(root.resolve("/sys/.."), std::nullopt) << "the root itself is no device";
  EXPECT_EQ(root.resolve("/sys/../.."), std::nullopt) << "out of the root";
}

TEST(SystemRoot, NumbersCountInNames) {
  EXPECT_TRUE(natural_less("mlx5_2", "mlx5_10"));
  EXPECT_FALSE(natural_less("mlx5_10", "mlx5_2"));
  EXPECT_TRUE(natural_less("a", "a1"));
  EXPECT_FALSE(natural_less("a1", "a1"));
  EXPECT_NE(natural_less("a01", "a1"), natural_less("a1", "a01"));
}

TEST(Pci, ALinkRunsAtWhatBothOfItsEndsCanDo) {
  Tree tree;
  tree.pci("pci0000:20/0000:20:00.0", "0x060400", "0x8086", "0x0001", 0, "16.0 GT/s PCIe", "16");
  const std::string card =
      tree.pci("pci0000:20/0000:20:00.0/0000:21:00.0", "0x030200", "0x10de", "0x2330", 0, "32.0 GT/s PCIe", "16");
  tree.file(card + "/current_link_speed", "2.5 GT/s PCIe\n");  // at rest
  const auto entries = read_pci(SystemRoot(tree.root()));
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[1].link_speed, "16.0 GT/s PCIe");
  EXPECT_EQ(entries[1].link_width, 16);
  EXPECT_EQ(entries[1].current_speed, "2.5 GT/s PCIe");
  EXPECT_EQ(entries[1].root, "pci0000:20");
  EXPECT_THAT(entries[1].bridges, ElementsAre(*PciAddress::parse("0000:20:00.0")));
  EXPECT_TRUE(entries[0].bridge());
  EXPECT_EQ(entries[1].class_code, 0x030200);
}

TEST(Pci, NonsenseOfTheKernelIsNoFigure) {
  Tree tree;
  const std::string card = tree.pci("pci0000:00/0000:00:05.0", "0x030200", "0x10de", "0x2330", -1, "Unknown", "0");
  tree.file(card + "/vendor", "garbage\n").file("/sys/bus/pci/devices/not-an-address", "");
  const auto entries = read_pci(SystemRoot(tree.root()));
  ASSERT_EQ(entries.size(), 1u);
  EXPECT_EQ(entries[0].link_speed, "");
  EXPECT_EQ(entries[0].link_width, 0);
  EXPECT_EQ(entries[0].vendor, -1);
  EXPECT_EQ(entries[0].numa_node, -1);
  EXPECT_EQ(giga_transfers("8.0 GT/s PCIe"), 8);
  EXPECT_EQ(giga_transfers("16 GT/s"), 16);
  EXPECT_EQ(giga_transfers("fast"), 0);
}

TEST(Cpu, NodesPackagesCachesAndWhatIsAllowed) {
  Tree tree;
  tree.file("/proc/cpuinfo",
            "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 1\nmodel name\t: AMD EPYC 7763 "
            "64-Core Processor\n");
  tree.file("/proc/self/status", "Name:\tx\nCpus_allowed_list:\t1-2\n");
  for (int cpu = 0; cpu < 4; ++cpu) {
    const std::string at = "/sys/devices/system/cpu/cpu" + std::to_string(cpu);
    tree.file(at + "/topology/physical_package_id", std::to_string(cpu / 2) + "\n");
    tree.file(at + "/cache/index0/level", "1\n").file(at + "/cache/index0/type", "Instruction\n");
    tree.file(at + "/cache/index3/level", "3\n")
        .file(at + "/cache/index3/type", "Unified\n")
        .file(at + "/cache/index3/size", "32768K\n");
    tree.file(at + "/cache/index3/shared_cpu_list", cpu < 2 ? "0-1\n" : "2-3\n");
  }
  tree.file("/sys/devices/system/node/node0/cpulist", "0-1\n")
      .file("/sys/devices/system/node/node0/distance", "10 32\n");
  tree.file("/sys/devices/system/node/node0/meminfo", "Node 0 MemTotal:       1048576 kB\nNode 0 MemFree: 5 kB\n");
  tree.file("/sys/devices/system/node/node1/cpulist", "2-3\n")
      .file("/sys/devices/system/node/node1/distance", "32 10\n");
  const CpuView view = read_cpus(SystemRoot(tree.root()));
  ASSERT_EQ(view.nodes.size(), 2u);
  EXPECT_EQ(view.nodes[0].memory_bytes, 1ull << 30);
  EXPECT_EQ(view.nodes[1].cpus.list(), "2-3");
  EXPECT_EQ(view.nodes[1].package, 1);
  EXPECT_THAT(view.nodes[0].distances, ElementsAre(10, 32));
  EXPECT_EQ(view.allowed.list(), "1-2");
  ASSERT_EQ(view.caches.size(), 1u);
  EXPECT_EQ(view.caches[0].bytes, 32ull << 20);
  EXPECT_EQ(view.caches[0].count, 2);
  EXPECT_EQ(view.vendor, "AuthenticAMD");
  EXPECT_EQ(view.family, 25);
  EXPECT_EQ(view.model, 1);
  EXPECT_EQ(view.arch, "x86_64");
}

TEST(Cpu, AMachineThatShowsNothingHasOneNode) {
  Tree tree;
  tree.file("/proc/self/status", "Cpus_allowed_list:\t0-7\n").file("/proc/meminfo", "MemTotal:  2048 kB\n");
  const CpuView view = read_cpus(SystemRoot(tree.root()));
  ASSERT_EQ(view.nodes.size(), 1u);
  EXPECT_EQ(view.nodes[0].cpus.count(), 8u);
  EXPECT_EQ(view.nodes[0].memory_bytes, 2048u * 1024);
  EXPECT_EQ(read_cpus(SystemRoot(tree.root() + "/none")).nodes.size(), 1u);
}

TEST(Net, CardsVirtualOnesAndWhatIsBehindThem) {
  Tree tree;
  const std::string card = tree.pci("pci0000:20/0000:20:00.0/0000:23:00.0", "0x020000", "0x1af4", "0x1041", 0);
  tree.file(card + "/virtio5/net/eth0/type", "1\n")
      .file(card + "/virtio5/net/eth0/speed", "-1\n")
      .file(card + "/virtio5/net/eth0/operstate", "up\n");
  tree.link(card + "/virtio5/net/eth0/device", card + "/virtio5")
      .link("/sys/class/net/eth0", card + "/virtio5/net/eth0");
  const std::string vmbus = "/sys/devices/LNXSYSTM:00/VMBUS:00/f8615163/net/eth1";
  tree.file(vmbus + "/type", "1\n")
      .file(vmbus + "/speed", "50000\n")
      .file(vmbus + "/operstate", "unknown\n")
      .file(vmbus + "/carrier", "1\n");
  tree.link(vmbus + "/device", "/sys/devices/LNXSYSTM:00/VMBUS:00/f8615163").link("/sys/class/net/eth1", vmbus);
  const std::string bond = "/sys/devices/virtual/net/bond0";
  tree.file(bond + "/type", "1\n")
      .file(bond + "/bonding/slaves", "eth0 eth1\n")
      .file(bond + "/operstate", "up\n")
      .link("/sys/class/net/bond0", bond);
  tree.file("/sys/devices/virtual/net/lo/type", "772\n").link("/sys/class/net/lo", "/sys/devices/virtual/net/lo");

  const auto found = read_interfaces(SystemRoot(tree.root()));
  ASSERT_EQ(found.size(), 3u) << "all but lo";
  EXPECT_EQ(found[0].name, "bond0");
  EXPECT_FALSE(found[0].hardware);
  EXPECT_THAT(found[0].parts, ElementsAre("eth0", "eth1"));
  EXPECT_EQ(found[1].pci->text(), "0000:23:00.0") << "through virtio";
  EXPECT_EQ(found[1].speed_mbps, -1);
  EXPECT_TRUE(found[1].up);
  EXPECT_TRUE(found[2].hardware);
  EXPECT_FALSE(found[2].pci.has_value());
  EXPECT_EQ(found[2].speed_mbps, 50000);
  EXPECT_TRUE(found[2].up) << "a carrier, where the state is unknown";
}

TEST(Rdma, ACardAndASoftwareDeviceOnAnothersInterface) {
  Tree tree;
  const std::string card = tree.pci("pci0000:20/0000:20:00.0/0000:23:00.0", "0x020700", "0x15b3", "0x1021", 0);
  const std::string at = card + "/infiniband/mlx5_0";
  tree.file(at + "/node_guid", "0c42:a103:00ab:cd00\n").file(at + "/fw_ver", "28.39.1002\n").link(at + "/device", card);
  tree.file(at + "/ports/1/state", "4: ACTIVE\n")
      .file(at + "/ports/1/rate", "400 Gb/sec (4X NDR)\n")
      .file(at + "/ports/1/link_layer", "InfiniBand\n");
  tree.file(at + "/ports/1/lid", "0x11\n").file(at + "/ports/1/gids/0", "fe80:0000:0000:0000:0c42:a103:00ab:cd00\n");
  tree.file(at + "/ports/2/state", "1: DOWN\n").file(at + "/ports/2/link_layer", "InfiniBand\n");
  tree.link("/sys/class/infiniband/mlx5_0", at);

  const std::string nic = tree.pci("pci0000:60/0000:60:00.0/0000:63:00.0", "0x020000", "0x1af4", "0x1041", 1);
  tree.file(nic + "/virtio3/net/roce0/type", "1\n")
      .link(nic + "/virtio3/net/roce0/device", nic + "/virtio3")
      .link("/sys/class/net/roce0", nic + "/virtio3/net/roce0");
  const std::string soft = "/sys/devices/virtual/infiniband/rxe0";
  tree.file(soft + "/node_guid", "5054:00ff:fe12:3456\n")
      .file(soft + "/ports/1/state", "4: ACTIVE\n")
      .file(soft + "/ports/1/link_layer", "Ethernet\n");
  tree.file(soft + "/ports/1/rate", "2.5 Gb/sec (1X SDR)\n");
  tree.file(soft + "/ports/1/gids/0", "fe80:0000:0000:0000:5054:00ff:fe12:3456\n")
      .file(soft + "/ports/1/gid_attrs/types/0", "RoCE v2\n");
  tree.file(soft + "/ports/1/gids/1", "0000:0000:0000:0000:0000:ffff:0a4d:0001\n")
      .file(soft + "/ports/1/gid_attrs/types/1", "RoCE v2\n");
  tree.file(soft + "/ports/1/gids/2", "0000:0000:0000:0000:0000:0000:0000:0000\n")
      .file(soft + "/ports/1/gids/3", "not a gid\n");
  tree.file(soft + "/ports/1/gid_attrs/ndevs/0", "roce0\n").file(soft + "/ports/1/gid_attrs/ndevs/1", "roce0\n");
  tree.link("/sys/class/infiniband/rxe0", soft);

  const auto devices = read_rdma(SystemRoot(tree.root()));
  ASSERT_EQ(devices.size(), 2u);
  EXPECT_EQ(devices[0].device.guid, 0x0c42a10300abcd00u);
  EXPECT_EQ(devices[0].pci->text(), "0000:23:00.0");
  EXPECT_FALSE(devices[0].software);
  ASSERT_EQ(devices[0].device.ports.size(), 2u);
  EXPECT_EQ(devices[0].device.ports[0].gbit_per_second, 400);
  EXPECT_EQ(devices[0].device.ports[0].lid, 17u);
  EXPECT_EQ(devices[0].device.ports[0].state, "ACTIVE");
  EXPECT_FALSE(devices[0].device.ports[1].active);
  EXPECT_TRUE(devices[1].software);
  EXPECT_EQ(devices[1].pci->text(), "0000:63:00.0") << "by the interface its GIDs name";
  EXPECT_EQ(devices[1].device.ports[0].gbit_per_second, 2.5);
  ASSERT_EQ(devices[1].device.ports[0].gids.size(), 2u) << "empty and malformed ones are none";
  EXPECT_EQ(devices[1].device.ports[0].gids[1].text(), "::ffff:10.77.0.1");
  EXPECT_EQ(devices[1].device.ports[0].gids[1].type, verbs::GidType::RoCEv2);
}

TEST(VirtualMachine, IsRecognisedByItsProcessorAndNamed) {
  Tree tree;
  tree.file("/proc/cpuinfo", "vendor_id\t: AuthenticAMD\nflags\t\t: fpu hypervisor lm\n");
  tree.file("/sys/class/dmi/id/sys_vendor", "QEMU\n")
      .file("/sys/class/dmi/id/product_name", "Standard PC (Q35 + ICH9, 2009)\n");
  const VirtualMachine machine = read_virtual_machine(SystemRoot(tree.root()));
  EXPECT_TRUE(machine.virtual_machine);
  EXPECT_EQ(machine.product, "QEMU Standard PC (Q35 + ICH9, 2009)");

  PciEntry flat, deep;
  deep.bridges.push_back({});
  EXPECT_THAT(hidden_pci_note(machine, {&flat, &deep}),
              AllOf(HasSubstr("hides the PCI tree: 1 of 2"), HasSubstr("QEMU")));
  EXPECT_EQ(hidden_pci_note(machine, {&deep}), "");
  EXPECT_EQ(hidden_pci_note(machine, {}), "");
  EXPECT_EQ(hidden_pci_note({}, {&flat}), "") << "no virtual machine";

  tree.file("/proc/cpuinfo", "vendor_id\t: AuthenticAMD\nflags\t\t: fpu nohypervisors lm\n");
  EXPECT_FALSE(read_virtual_machine(SystemRoot(tree.root())).virtual_machine) << "Dell's machines have a vendor too";
  tree.file("/proc/cpuinfo", "CPU implementer\t: 0x41\n");
  EXPECT_TRUE(read_virtual_machine(SystemRoot(tree.root())).virtual_machine) << "Arm has no flag: the firmware says it";
}

TEST(Hwloc, AgreesWithSysfsOnThisMachine) {
  const auto view = read_hwloc("");
  if (!view.ok()) GTEST_SKIP() << view.status().message();
  CpuView cpus = read_cpus(SystemRoot());
  ASSERT_EQ(view->nodes.size(), cpus.nodes.size());
  for (size_t i = 0; i < cpus.nodes.size(); ++i) {
    EXPECT_EQ(view->nodes[i].id, cpus.nodes[i].id);
    EXPECT_EQ(view->nodes[i].cpus, cpus.nodes[i].cpus);
  }
  const std::vector<PciEntry> pci = read_pci(SystemRoot());
  for (const PciEntry& theirs : view->pci) {
    const PciEntry* ours = find(pci, theirs.address);
    ASSERT_NE(ours, nullptr) << theirs.address.text();
    EXPECT_EQ(ours->vendor, theirs.vendor);
    EXPECT_EQ(ours->bridges, theirs.bridges) << theirs.address.text();
  }
  complete_from_hwloc(cpus, *view);
  EXPECT_EQ(cpus.source, Source::Hwloc);
}

TEST(Hwloc, AMissingLibraryIsToldAndAWrongOneRefused) {
  EXPECT_THAT(read_hwloc("/nonexistent/libhwloc.so").status().message(), HasSubstr("hwloc"));
  EXPECT_THAT(read_hwloc("libm.so.6").status().message(), HasSubstr("hwloc"));
}

}  // namespace
}  // namespace tutti::topology
