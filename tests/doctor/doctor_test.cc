// SPDX-License-Identifier: Apache-2.0
// Each check of `tutti doctor`, on machines where it finds something and on machines where it does not.
#include "tools/tutti/doctor/doctor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "tests/fakes/tree.h"

namespace tutti::doctor {
namespace {

using fakes::Tree;
using ::testing::AllOf;
using ::testing::HasSubstr;

// A sound machine of two sockets: 4 CPUs, huge pages, TSC, one fast interface; no GPU, no RDMA. Tests spoil it.
class Doctor : public ::testing::Test {
 protected:
  Doctor() {
    tree.file("/proc/cpuinfo",
              "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\nflags\t\t: fpu tsc\n");
    tree.file("/proc/self/status", "Name:\tx\nCapEff:\t0000000000000000\nCpus_allowed_list:\t0-3\n");
    tree.file("/proc/self/cgroup", "0::/\n");
    tree.file("/sys/devices/system/node/node0/cpulist", "0-1\n")
        .file("/sys/devices/system/node/node1/cpulist", "2-3\n");
    tree.file("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
    tree.file("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "always within_size [advise] never deny force\n");
    tree.file("/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n");
    tree.file("/proc/sys/kernel/numa_balancing", "0\n");
    interface("eth0", "0000:50:00.0", "100000", "9000", "up");
  }
  void interface(const std::string& name, const std::string& address, const std::string& speed, const std::string& mtu,
                 const std::string& state) {
    const std::string device = tree.pci("pci0000:50/" + address, "0x020000", "0x15b3", "0x1017", 0);
    tree.file(device + "/net/" + name + "/type", "1\n").file(device + "/net/" + name + "/speed", speed + "\n");
    tree.file(device + "/net/" + name + "/mtu", mtu + "\n").file(device + "/net/" + name + "/operstate", state + "\n");
    tree.link(device + "/net/" + name + "/device", device);
    tree.link("/sys/class/net/" + name, device + "/net/" + name);
  }
  std::string rdma(const std::string& name, const std::string& chain, const std::string& state,
                   const std::string& layer = "InfiniBand") {
    const std::string device = tree.pci(chain, "0x020700", "0x15b3", "0x1021", 0, "32.0 GT/s PCIe", "16");
    const std::string at = device + "/infiniband/" + name;
    tree.file(at + "/node_guid", "0c42:a103:00ab:cd00\n").link(at + "/device", device);
    tree.file(at + "/ports/1/state", state + "\n").file(at + "/ports/1/link_layer", layer + "\n");
    tree.file(at + "/ports/1/rate", "400 Gb/sec (4X NDR)\n");
    tree.file(at + "/ports/1/gids/0", "fe80:0000:0000:0000:0c42:a103:00ab:cd00\n");
    tree.link("/sys/class/infiniband/" + name, at);
    return at;
  }
  std::string gpu(const std::string& chain) {
    return tree.pci(chain, "0x030200", "0x10de", "0x2330", 0, "32.0 GT/s PCIe", "16");
  }

  // Limits and what has to be tried are sound unless a test says otherwise.
  Probes probes(topology::DetectOptions options = {}) {
    options.root = tree.root();
    auto read = Probes::read(options);
    EXPECT_TRUE(read.ok()) << read.status().message();
    read->locked_memory = {UINT64_MAX, UINT64_MAX};
    read->open_files = {65536, 65536};
    read->shared_memory = Space{8ull << 30, 8ull << 30};
    read->memory_object = {};
    read->copy_from_peer = {};
    return *read;
  }
  // The worst finding of a check.
  static Finding look(const Probes& probes, const std::string& check) {
    Finding worst_one;
    bool any = false;
    for (const Finding& finding : examine(probes)) {
      if (finding.check != check || (any && finding.severity <= worst_one.severity)) continue;
      worst_one = finding;
      any = true;
    }
    EXPECT_TRUE(any) << "no finding of " << check;
    return worst_one;
  }

  Tree tree;
};

#define EXPECT_FINDING(finding, severity_, what_, seen_, remedy_)                       \
  do {                                                                                  \
    const Finding one = (finding);                                                      \
    EXPECT_STREQ(name(one.severity), name(severity_)) << one.what << " | " << one.seen; \
    EXPECT_THAT(one.what, HasSubstr(what_));                                            \
    EXPECT_THAT(one.seen, HasSubstr(seen_));                                            \
    EXPECT_THAT(one.remedy, HasSubstr(remedy_));                                        \
  } while (false)

TEST_F(Doctor, ASoundMachineHasNothingToSay) {
  const auto findings = examine(probes());
  for (const Finding& finding : findings) {
    EXPECT_EQ(finding.severity, Severity::Good) << finding.check << ": " << finding.what << " | " << finding.seen;
    EXPECT_TRUE(finding.remedy.empty());
    EXPECT_FALSE(finding.seen.empty()) << finding.check;
  }
  EXPECT_GE(findings.size(), checks().size());
  EXPECT_EQ(worst(findings), Severity::Good);
}

TEST_F(Doctor, MemoryObjectsThatSeccompRefuses) {
  Probes machine = probes();
  errno = EPERM;
  machine.memory_object = errno_status("memfd_create", "a memory object");
  EXPECT_FINDING(look(machine, "memory object"), Severity::Note, "/dev/shm is used instead", "memfd_create", "seccomp");
  machine.shared_memory = Space{64 << 20, 1 << 20};
  EXPECT_FINDING(look(machine, "memory object"), Severity::Broken, "cannot share memory", "Operation not permitted",
                 "--shm-size");
  EXPECT_FINDING(look(machine, "shared memory"), Severity::Slow, "full", "1 MiB free of 64 MiB", "ls -l /dev/shm");
}

TEST_F(Doctor, SmallFullAndMissingDevShm) {
  Probes machine = probes();
  machine.shared_memory = Space{64 << 20, 64 << 20};
  EXPECT_FINDING(look(machine, "shared memory"), Severity::Note, "default size", "64 MiB free of 64 MiB", "--shm-size");
  machine.shared_memory.reset();
  EXPECT_FINDING(look(machine, "shared memory"), Severity::Note, "no /dev/shm", "statvfs", "tmpfs");
}

TEST_F(Doctor, LockedMemoryMattersWhereThereIsRdma) {
  Probes machine = probes();
  machine.locked_memory = {8 << 20, 8 << 20};
  EXPECT_EQ(look(machine, "locked memory").severity, Severity::Good) << "nothing here pins memory";
  rdma("mlx5_0", "pci0000:20/0000:20:00.0/0000:23:00.0", "4: ACTIVE");
  machine = probes();
  machine.locked_memory = {8 << 20, UINT64_MAX};
  EXPECT_FINDING(look(machine, "locked memory"), Severity::Broken, "RDMA", "RLIMIT_MEMLOCK: 8 MiB (hard unlimited)",
                 "memlock");
  tree.file("/proc/self/status", "CapEff:\t0000000000004000\nCpus_allowed_list:\t0-3\n");
  machine = probes();
  machine.locked_memory = {8 << 20, 8 << 20};
  EXPECT_EQ(look(machine, "locked memory").severity, Severity::Good) << "CAP_IPC_LOCK";
}

TEST_F(Doctor, HugePagesThatAreOff) {
  tree.file("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
  EXPECT_FINDING(look(probes(), "huge pages"), Severity::Slow, "are off", "[never]", "echo madvise");
  tree.file("/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n");
  tree.file("/sys/kernel/mm/transparent_hugepage/shmem_enabled", "always within_size advise [never] deny force\n");
  EXPECT_FINDING(look(probes(), "huge pages"), Severity::Note, "shared memory has no", "[never]", "echo advise");
  tree.remove("/sys/kernel/mm/transparent_hugepage");
  EXPECT_FINDING(look(probes(), "huge pages"), Severity::Note, "no transparent huge pages", "is not there", "");
}

TEST_F(Doctor, CopiesThatYamaOrSeccompRefuses) {
  Probes machine = probes();
  errno = EPERM;
  machine.copy_from_peer = errno_status("process_vm_readv", "another process of this user");
  EXPECT_FINDING(look(machine, "single copy"), Severity::Slow, "copied twice", "Operation not permitted", "seccomp");
  tree.file("/proc/sys/kernel/yama/ptrace_scope", "1\n");
  machine = probes();
  errno = EPERM;
  machine.copy_from_peer = errno_status("process_vm_readv", "another process of this user");
  EXPECT_FINDING(look(machine, "single copy"), Severity::Slow, "copied twice", "ptrace_scope: 1",
                 "sysctl kernel.yama.ptrace_scope=0");
}

TEST_F(Doctor, ACopyBetweenRealProcessesIsTried) {
  const auto read = Probes::read({.root = tree.root()});
  ASSERT_TRUE(read.ok());
  const Finding finding = look(*read, "single copy");
  EXPECT_EQ(finding.severity == Severity::Good, read->copy_from_peer.ok());
  EXPECT_THAT(finding.seen, HasSubstr("process_vm_readv"));
}

TEST_F(Doctor, CpusThatMayNotBeUsed) {
  tree.file("/proc/self/status", "CapEff:\t0\nCpus_allowed_list:\t2\n");
  EXPECT_FINDING(look(probes(), "cpuset"), Severity::Slow, "bound to one CPU",
                 "Cpus_allowed_list: 2; the machine has 4", "taskset");
  tree.file("/proc/self/status", "CapEff:\t0\nCpus_allowed_list:\t0-1\n");
  EXPECT_FINDING(look(probes(), "cpuset"), Severity::Note, "2 of 4", "0-1", "cpuset");
  tree.remove("/proc/self/status");
  EXPECT_FINDING(look(probes(), "cpuset"), Severity::Note, "not known", "Cpus_allowed_list", "/proc");
}

TEST_F(Doctor, AQuotaOfCpuTimeInEitherVersionOfCgroups) {
  tree.file("/proc/self/cgroup", "0::/kubepods/pod7\n");
  tree.file("/sys/fs/cgroup/kubepods/pod7/cpu.max", "150000 100000\n");
  tree.file("/sys/fs/cgroup/kubepods/pod7/cpu.stat",
            "usage_usec 5\nnr_periods 100\nnr_throttled 42\nthrottled_usec 9\n");
  EXPECT_FINDING(look(probes(), "cpu limit"), Severity::Slow, "1.5 of 4 CPUs", "throttled in 42 periods", "cpuset");
  tree.file("/sys/fs/cgroup/kubepods/pod7/cpu.max", "max 100000\n");
  EXPECT_EQ(look(probes(), "cpu limit").severity, Severity::Good);
  tree.file("/sys/fs/cgroup/kubepods/cpu.max", "100000 100000\n");  // of a folder above
  EXPECT_FINDING(look(probes(), "cpu limit"), Severity::Slow, "1 of 4 CPUs", "/sys/fs/cgroup/kubepods/cpu.max", "");
  tree.file("/sys/fs/cgroup/kubepods/cpu.max", "800000 100000\n");
  EXPECT_EQ(look(probes(), "cpu limit").severity, Severity::Good) << "eight CPUs of quota for four";

  tree.remove("/sys/fs/cgroup").file("/proc/self/cgroup", "4:memory:/\n3:cpu,cpuacct:/docker/abc\n0::/\n");
  tree.file("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "200000\n");
  tree.file("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us", "100000\n");
  EXPECT_FINDING(look(probes(), "cpu limit"), Severity::Slow, "2 of 4 CPUs", "cpu.cfs_quota_us: 200000 of 100000", "");
  tree.file("/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us", "-1\n");
  EXPECT_EQ(look(probes(), "cpu limit").severity, Severity::Good);
}

TEST_F(Doctor, FewDescriptors) {
  Probes machine = probes();
  machine.open_files = {1024, 4096};
  EXPECT_FINDING(look(machine, "open files"), Severity::Note, "some hundred ranks", "RLIMIT_NOFILE: 1024 (hard 4096)",
                 "ulimit -n");
  machine.open_files = {64, 64};
  EXPECT_FINDING(look(machine, "open files"), Severity::Broken, "hardly any", "64", "ulimit -n");
}

TEST_F(Doctor, ASlowClock) {
  tree.file("/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n");
  EXPECT_FINDING(look(probes(), "clock"), Severity::Slow, "system call", "hpet", "tsc");
  tree.file("/sys/devices/system/clocksource/clocksource0/current_clocksource", "kvm-clock\n");
  EXPECT_EQ(look(probes(), "clock").severity, Severity::Good);
}

TEST_F(Doctor, NumaBalancingOnSeveralNodes) {
  tree.file("/proc/sys/kernel/numa_balancing", "1\n");
  EXPECT_FINDING(look(probes(), "NUMA balancing"), Severity::Note, "moves pages", "2 NUMA nodes", "numa_balancing=0");
  tree.remove("/sys/devices/system/node/node1");
  EXPECT_EQ(look(probes(), "NUMA balancing").severity, Severity::Good);
}

TEST_F(Doctor, AVirtualMachineThatHidesItsPciTree) {
  gpu("pci0000:00/0000:00:05.0");
  EXPECT_EQ(look(probes(), "virtual machine").severity, Severity::Good);
  tree.file("/proc/cpuinfo", "vendor_id\t: GenuineIntel\nflags\t\t: fpu hypervisor tsc\n");
  tree.file("/sys/class/dmi/id/sys_vendor", "Amazon EC2\n").file("/sys/class/dmi/id/product_name", "p4d.24xlarge\n");
  EXPECT_FINDING(look(probes(), "virtual machine"), Severity::Slow, "Amazon EC2 p4d.24xlarge", "no bridge above them",
                 "topology file");
}

TEST_F(Doctor, ALinkThatLostLanes) {
  const std::string device = gpu("pci0000:20/0000:20:00.0/0000:23:00.0");
  EXPECT_EQ(look(probes(), "PCIe links").severity, Severity::Good);
  tree.file(device + "/current_link_width", "8\n");
  EXPECT_FINDING(look(probes(), "PCIe links"), Severity::Slow, "0000:23:00.0 runs on 8 lanes of 16",
                 "current_link_width: 8", "reseat");
}

TEST_F(Doctor, AnIommuThatTranslates) {
  const std::string device = gpu("pci0000:20/0000:20:00.0/0000:23:00.0");
  tree.file("/sys/kernel/iommu_groups/7/type", "DMA-FQ\n").link(device + "/iommu_group", "/sys/kernel/iommu_groups/7");
  EXPECT_FINDING(look(probes(), "IOMMU"), Severity::Slow, "root complex", "0000:23:00.0 (DMA-FQ)", "iommu=pt");
  tree.file("/sys/kernel/iommu_groups/7/type", "identity\n");
  EXPECT_EQ(look(probes(), "IOMMU").severity, Severity::Good);
}

// A configuration space with an empty capability at 0x100 that leads to ACS at 0x148.
std::string config_space(uint16_t acs_control, size_t size = 4096) {
  std::string config(4096, '\0');
  const auto put = [&](size_t at, uint16_t word) {
    config[at] = static_cast<char>(word & 0xff);
    config[at + 1] = static_cast<char>(word >> 8);
  };
  put(0x100, 0x0001);
  put(0x102, 0x148 << 4);
  put(0x148, 0x000d);
  put(0x148 + 6, acs_control);
  return config.substr(0, size);
}

TEST_F(Doctor, BridgesThatRedirect) {
  gpu("pci0000:20/0000:20:00.0/0000:23:00.0");
  const std::string port = tree.pci("pci0000:20/0000:20:00.0", "0x060400", "0x8086", "0x0db0", 0);
  tree.file(port + "/config", config_space(0x001d));
  EXPECT_FINDING(look(probes(), "ACS"), Severity::Slow, "root complex", "0000:20:00.0 (0x001d)", "setpci");
  tree.file(port + "/config", config_space(0x0001));
  EXPECT_EQ(look(probes(), "ACS").severity, Severity::Good) << "source validation alone redirects nothing";
  tree.file(port + "/config", config_space(0x001d, 64));
  EXPECT_FINDING(look(probes(), "ACS"), Severity::Note, "not known", "root only", "as root");
  std::string circle = config_space(0);
  circle[0x148] = 1;  // another capability, leading back to the first
  circle[0x14a] = 0x00, circle[0x14b] = 0x10;
  tree.file(port + "/config", circle);
  EXPECT_EQ(look(probes(), "ACS").severity, Severity::Good);
}

TEST_F(Doctor, AGpuWithoutItsDriver) {
  gpu("pci0000:20/0000:20:00.0/0000:23:00.0");
  EXPECT_FINDING(look(probes({.nvml_library = "/nonexistent/libnvidia-ml.so.1"}), "NVIDIA driver"), Severity::Broken,
                 "no driver is loaded", "/sys/module/nvidia is not there", "modprobe nvidia");
  tree.file("/sys/module/nvidia/version", "550.54.15\n");
  EXPECT_FINDING(look(probes({.nvml_library = "/nonexistent/libnvidia-ml.so.1"}), "NVIDIA driver"), Severity::Broken,
                 "does not answer", "cannot be loaded", "container toolkit");
}

TEST_F(Doctor, ADriverWhoseHalvesDiffer) {
  gpu("pci0000:20/0000:20:00.0/0000:23:00.0");
  tree.file("/sys/module/nvidia/version", "535.161.08\n");
  EXPECT_FINDING(look(probes({.nvml_library = FAKE_DRIVER_mismatch}), "NVIDIA driver"), Severity::Broken,
                 "does not answer", "different driver versions", "reboot");
  EXPECT_FINDING(look(probes({.nvml_library = FAKE_DRIVER_pcie4}), "NVIDIA driver"), Severity::Broken,
                 "of different versions", "/sys/module/nvidia/version: 535.161.08; NVML: 550.54.15", "reboot");
  tree.file("/sys/module/nvidia/version", "550.54.15\n");
  EXPECT_EQ(look(probes({.nvml_library = FAKE_DRIVER_pcie4}), "NVIDIA driver").severity, Severity::Good);
  EXPECT_FINDING(
      look(probes({.nvml_library = FAKE_DRIVER_pcie4, .cuda_library = FAKE_DRIVER_mismatch}), "NVIDIA driver"),
      Severity::Broken, "CUDA driver does not", "different driver versions", "libcuda.so.1");
}

TEST_F(Doctor, GpusThatDoNotReachEachOther) {
  EXPECT_FINDING(look(probes({.nvml_library = FAKE_DRIVER_pcie4}), "GPU peers"), Severity::Slow, "4 pairs",
                 "not supported across these PCIe roots", "nvidia-smi topo");
  EXPECT_EQ(look(probes({.nvml_library = FAKE_DRIVER_nvswitch8}), "GPU peers").severity, Severity::Good);
}

TEST_F(Doctor, NvlinksThatAreDownAndGpusThatAreCut) {
  Probes machine = probes({.nvml_library = FAKE_DRIVER_mig});
  machine.sources.gpus->push_back(machine.sources.gpus->front());
  EXPECT_FINDING(look(machine, "GPU peers"), Severity::Slow, "2 of 12 NVLinks are down", "nvmlDeviceGetNvLinkState",
                 "nvidia-smi nvlink");
  for (auto& device : *machine.sources.gpus) device.links.clear();
  EXPECT_FINDING(look(machine, "GPU peers"), Severity::Note, "cut into instances", "2 instances", "nvidia-smi -mig 0");
}

TEST_F(Doctor, GpuMemoryThatNetworkCardsCannotRead) {
  rdma("mlx5_0", "pci0000:20/0000:20:00.0/0000:23:00.0", "4: ACTIVE");
  EXPECT_FINDING(look(probes({.nvml_library = FAKE_DRIVER_pcie4}), "GPUDirect RDMA"), Severity::Slow, "staged",
                 "nvidia_peermem", "modprobe nvidia-peermem");
  EXPECT_EQ(
      look(probes({.nvml_library = FAKE_DRIVER_pcie4, .cuda_library = FAKE_DRIVER_pcie4}), "GPUDirect RDMA").severity,
      Severity::Good)
      << "dma-buf";
  tree.directory("/sys/module/nvidia_peermem");
  EXPECT_EQ(look(probes({.nvml_library = FAKE_DRIVER_pcie4}), "GPUDirect RDMA").severity, Severity::Good);
}

TEST_F(Doctor, RdmaWithoutItsLibraryOrItsDeviceFiles) {
  rdma("mlx5_0", "pci0000:20/0000:20:00.0/0000:23:00.0", "4: ACTIVE");
  EXPECT_FINDING(look(probes({.verbs_library = "/nonexistent/libibverbs.so.1"}), "RDMA access"), Severity::Broken,
                 "libibverbs is not", "cannot be loaded", "rdma-core");
#ifdef FAKE_VERBS
  rdma("mlx5_2", "pci0000:20/0000:20:01.0/0000:24:00.0", "4: ACTIVE");
  EXPECT_FINDING(look(probes({.verbs_library = FAKE_VERBS}), "RDMA access"), Severity::Broken,
                 "1 of 3 RDMA devices do not open", "/dev/infiniband is empty", "--device=/dev/infiniband");
  tree.file("/dev/infiniband/uverbs0", "");
  EXPECT_FINDING(look(probes({.verbs_library = FAKE_VERBS}), "RDMA access"), Severity::Broken, "do not open",
                 "Permission denied", "ibverbs-providers");
#endif
}

TEST_F(Doctor, RdmaPortsThatAreDown) {
  const std::string at = rdma("mlx5_0", "pci0000:20/0000:20:00.0/0000:23:00.0", "1: DOWN");
  EXPECT_FINDING(look(probes(), "RDMA ports"), Severity::Broken, "mlx5_0 port 1 is not active", "DOWN", "cable");
  rdma("mlx5_1", "pci0000:20/0000:20:01.0/0000:24:00.0", "4: ACTIVE");
  EXPECT_FINDING(look(probes(), "RDMA ports"), Severity::Slow, "mlx5_0 port 1 is not active", "DOWN", "cable");
  tree.file(at + "/ports/1/state", "4: ACTIVE\n");
  EXPECT_EQ(look(probes(), "RDMA ports").severity, Severity::Good);
}

TEST_F(Doctor, RoceWithoutAVersion2Gid) {
  const std::string port = rdma("mlx5_0", "pci0000:20/0000:20:00.0/0000:23:00.0", "4: ACTIVE", "Ethernet") + "/ports/1";
  tree.file(port + "/gid_attrs/types/0", "IB/RoCE v1\n");
  EXPECT_FINDING(look(probes(), "RDMA ports"), Severity::Broken, "no RoCE v2 GID", "none of 1 GIDs",
                 "network namespace");
  tree.file(port + "/gid_attrs/types/0", "RoCE v2\n");
  EXPECT_FINDING(look(probes(), "RDMA ports"), Severity::Note, "only a link-local", "1 link-local", "IPv4");
  tree.file(port + "/gids/1", "0000:0000:0000:0000:0000:ffff:0a4d:0001\n")
      .file(port + "/gid_attrs/types/1", "RoCE v2\n");
  EXPECT_EQ(look(probes(), "RDMA ports").severity, Severity::Good);
}

TEST_F(Doctor, InterfacesThatAreDownOrSlow) {
  interface("eth1", "0000:51:00.0", "1000", "1500", "up");
  EXPECT_FINDING(look(probes(), "interfaces"), Severity::Note, "some interfaces are slow", "eth1 (1000 Mb/s)",
                 "TUTTI_SOCKET_IFNAME");
  interface("eth0", "0000:50:00.0", "100000", "1500", "up");
  EXPECT_FINDING(look(probes(), "interfaces"), Severity::Note, "small packets", "mtu 1500", "mtu 9000");
  interface("eth0", "0000:50:00.0", "-1", "1500", "down");
  EXPECT_FINDING(look(probes(), "interfaces"), Severity::Slow, "every interface that is up is slow", "eth1", "ethtool");
  interface("eth1", "0000:51:00.0", "-1", "1500", "down");
  EXPECT_FINDING(look(probes(), "interfaces"), Severity::Note, "no network card is up", "operstate", "ip link set");
}

}  // namespace
}  // namespace tutti::doctor
