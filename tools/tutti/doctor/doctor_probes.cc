// SPDX-License-Identifier: Apache-2.0
// What doctor knows of the machine before it judges: one pass over the sources, and the three things that only trying
// them can tell.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/handle.h"
#include "tools/tutti/doctor/doctor.h"
#include "topology/detect/hwloc_source.h"

namespace tutti::doctor {
namespace {

Limit limit_of(int resource) {
  rlimit limit{};
  if (::getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0) return {};
  const auto value = [](rlim_t raw) { return raw == RLIM_INFINITY ? UINT64_MAX : static_cast<uint64_t>(raw); };
  return {value(limit.rlim_cur), value(limit.rlim_max)};
}

std::optional<Space> space_of(const char* path) {
  struct statvfs info {};
  if (::statvfs(path, &info) != 0) return std::nullopt;
  return Space{info.f_blocks * info.f_frsize, info.f_bavail * info.f_frsize};
}

// What a transport of one host does first: a memory object that has no name, of fixed size.
Status try_memory_object() {
  const UniqueFd fd(::memfd_create("tutti-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return errno_status("memfd_create", "a memory object");
  if (::ftruncate(fd.get(), 1 << 20) != 0) return errno_status("ftruncate", "a memory object");
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0)
    return errno_status("fcntl(F_ADD_SEALS)", "a memory object");
  void* mapped = ::mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (mapped == MAP_FAILED) return errno_status("mmap", "a memory object");
  std::memset(mapped, 1, 4096);
  ::munmap(mapped, 1 << 20);
  return {};
}

// A child reads its parent's memory. The other way round would always be allowed: ranks are siblings, and what a
// process may do to its own children says nothing about them.
Status try_copy_from_peer() {
  constexpr int kDifferent = 255;
  uint64_t word = 0x7475747469;
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) return errno_status("fork", "a process to copy from");
  if (child == 0) {
    uint64_t copy = 0;
    iovec local{&copy, sizeof copy}, remote{&word, sizeof word};
    const ssize_t count = ::process_vm_readv(parent, &local, 1, &remote, 1, 0);
    ::_exit(count == sizeof copy ? (copy == word ? 0 : kDifferent) : (errno > 0 && errno < kDifferent ? errno : EPERM));
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status))
    return system_error("process_vm_readv: the process was killed by signal {}", WTERMSIG(status));
  if (WEXITSTATUS(status) == 0) return {};
  if (WEXITSTATUS(status) == kDifferent) return system_error("process_vm_readv: read something else than was there");
  errno = WEXITSTATUS(status);
  return errno_status("process_vm_readv", "another process of this user");
}

}  // namespace

Result<Probes> Probes::read(const topology::DetectOptions& options) {
  Probes probes;
  // First: a fork before any driver has started threads.
  probes.copy_from_peer = try_copy_from_peer();
  probes.memory_object = try_memory_object();
  probes.locked_memory = limit_of(RLIMIT_MEMLOCK);
  probes.open_files = limit_of(RLIMIT_NOFILE);
  probes.shared_memory = space_of("/dev/shm");

  probes.root = topology::SystemRoot(options.root);
  topology::Sources& sources = probes.sources;
  sources.machine = topology::read_virtual_machine(probes.root);
  sources.cpus = topology::read_cpus(probes.root);
  sources.pci = topology::read_pci(probes.root);
  sources.interfaces = topology::read_interfaces(probes.root);
  sources.rdma = topology::read_rdma(probes.root);
  const bool live = probes.root.live();
  if ((live && !sources.rdma.empty()) || !options.verbs_library.empty()) {
    const auto opened = verbs::read_devices(options.verbs_library, probes.verbs_notes);
    probes.verbs = opened.status();
    if (opened.ok()) topology::complete_from_verbs(sources.rdma, *opened);
  }
  if (live || !options.nvml_library.empty()) {
    const auto nvml = gpu::Nvml::open(options.nvml_library);
    probes.nvml = nvml.status();
    if (nvml.ok()) {
      probes.driver_version = nvml->driver_version();
      std::vector<std::string> notes;
      if (auto devices = nvml->devices(notes); devices.ok()) {
        sources.peers = nvml->peers(*devices);
        sources.gpus = std::move(*devices);
      }
    }
  }
  // The driver is asked only where there is a GPU: it takes its time.
  if ((live && sources.gpus && !sources.gpus->empty()) || !options.cuda_library.empty()) {
    auto machine = gpu::read_cuda_machine(options.cuda_library);
    probes.cuda = machine.status();
    if (machine.ok()) sources.cuda = std::move(*machine);
  }
  return probes;
}

}  // namespace tutti::doctor
