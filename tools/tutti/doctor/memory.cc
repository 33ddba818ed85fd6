// SPDX-License-Identifier: Apache-2.0
// Checks of memory: objects shared between processes, limits on pinning, huge pages, copies between processes.
#include <charconv>

#include "tools/tutti/doctor/doctor_checks.h"

namespace tutti::doctor {

namespace {
constexpr uint64_t kMiB = 1 << 20;
constexpr int kCapIpcLock = 14;

// The word in brackets of "always [madvise] never".
std::string chosen_word(const std::string& text) {
  const size_t begin = text.find('['), end = text.find(']');
  return begin < end && end != std::string::npos ? text.substr(begin + 1, end - begin - 1) : text;
}
}  // namespace

std::string size_text(uint64_t bytes) {
  if (bytes == UINT64_MAX) return "unlimited";
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  const double rounded = static_cast<double>(static_cast<int64_t>(value * 10 + 0.5)) / 10;
  return fmt::format("{:g} {}", rounded, kUnits[unit]);
}

std::string list_text(const std::vector<std::string>& names) {
  constexpr size_t kMost = 8;
  std::string text;
  for (size_t i = 0; i < names.size() && i < kMost; ++i) text += fmt::format("{}{}", i == 0 ? "" : ", ", names[i]);
  if (names.size() > kMost) text += fmt::format(" and {} more", names.size() - kMost);
  return text;
}

bool has_capability(const Probes& probes, int capability) {
  const std::string status = probes.root.text("/proc/self/status").value_or("");
  const size_t at = status.find("CapEff:\t");
  if (at == std::string::npos) return false;
  uint64_t mask = 0;
  const char* begin = status.data() + at + 8;
  (void)std::from_chars(begin, status.data() + status.size(), mask, 16);
  return (mask >> capability & 1) != 0;
}

std::vector<Finding> look_at_memory_object(const Probes& probes) {
  if (probes.memory_object.ok())
    return {good("processes of this host can share memory", "memfd_create, sealing and mapping 1 MiB worked")};
  const bool fall_back = probes.shared_memory && probes.shared_memory->free >= 64 * kMiB;
  return {found(
      fall_back ? Severity::Note : Severity::Broken,
      fall_back
          ? "memory objects without a name are refused; /dev/shm is used instead"
          : "memory objects are refused and /dev/shm cannot replace them: processes of one host cannot share memory",
      probes.memory_object.message(),
      "allow memfd_create in the container's seccomp profile, or give it a larger /dev/shm (docker run "
      "--shm-size=1g)")};
}

std::vector<Finding> look_at_shared_memory(const Probes& probes) {
  const Severity lacking = probes.memory_object.ok() ? Severity::Note : Severity::Slow;
  if (!probes.shared_memory)
    return {found(lacking, "there is no /dev/shm", "statvfs failed",
                  "mount a tmpfs on /dev/shm; other libraries need it too")};
  const Space& space = *probes.shared_memory;
  const std::string seen =
      fmt::format("statvfs(/dev/shm): {} free of {}", size_text(space.free), size_text(space.total));
  if (space.free < 16 * kMiB)
    return {found(lacking, "/dev/shm is full", seen,
                  "remove what earlier jobs left there (ls -l /dev/shm), or enlarge it")};
  if (space.total <= 64 * kMiB)
    return {found(
        lacking, "/dev/shm has a container's default size", seen,
        "enough for Tutti, which uses memfd; other libraries fail with it: docker run --shm-size=1g, or --ipc=host")};
  return {good(fmt::format("/dev/shm has {}", size_text(space.total)), seen)};
}

std::vector<Finding> look_at_locked_memory(const Probes& probes) {
  const Limit& limit = probes.locked_memory;
  const std::string seen = fmt::format("RLIMIT_MEMLOCK: {} (hard {})", size_text(limit.soft), size_text(limit.hard));
  if (limit.soft == UINT64_MAX) return {good("pinned memory is not limited", seen)};
  if (has_capability(probes, kCapIpcLock))
    return {good("this process may pin memory beyond the limit", seen + "; CAP_IPC_LOCK in /proc/self/status")};
  const std::string remedy =
      "set memlock to unlimited: /etc/security/limits.conf (* - memlock unlimited) and LimitMEMLOCK=infinity for "
      "slurmd or the "
      "container engine; docker run --ulimit memlock=-1";
  if (!probes.sources.rdma.empty())
    return {found(Severity::Broken, "RDMA needs to pin more memory than this process may", seen, remedy)};
  if (probes.sources.gpus && !probes.sources.gpus->empty())
    return {found(Severity::Slow, "pinned memory is limited: large windows and staging buffers may be refused", seen,
                  remedy)};
  return {good("pinned memory is limited, and nothing here needs it (no RDMA device, no GPU)", seen)};
}

std::vector<Finding> look_at_huge_pages(const Probes& probes) {
  std::vector<Finding> findings;
  constexpr const char* kThp = "/sys/kernel/mm/transparent_hugepage/enabled";
  constexpr const char* kShmem = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
  const auto thp = probes.root.text(kThp), shmem = probes.root.text(kShmem);
  if (!thp) {
    return {found(Severity::Note, "the kernel has no transparent huge pages", fmt::format("{} is not there", kThp),
                  "none needed; large buffers cost more TLB misses than elsewhere")};
  }
  const std::string seen = fmt::format("{}: {}", kThp, *thp);
  if (chosen_word(*thp) == "never")
    findings.push_back(
        found(Severity::Slow, "transparent huge pages are off", seen, fmt::format("echo madvise > {}", kThp)));
  else
    findings.push_back(good("buffers can have huge pages", seen));
  if (shmem && (chosen_word(*shmem) == "never" || chosen_word(*shmem) == "deny"))
    findings.push_back(found(Severity::Note, "shared memory has no huge pages", fmt::format("{}: {}", kShmem, *shmem),
                             fmt::format("echo advise > {}", kShmem)));
  else if (shmem)
    findings.push_back(good("shared memory can have huge pages", fmt::format("{}: {}", kShmem, *shmem)));
  return findings;
}

std::vector<Finding> look_at_single_copy(const Probes& probes) {
  if (probes.copy_from_peer.ok())
    return {good("processes can copy from each other directly", "process_vm_readv from a child to its parent worked")};
  constexpr const char* kYama = "/proc/sys/kernel/yama/ptrace_scope";
  const int64_t scope = probes.root.number(kYama).value_or(0);
  std::string seen = probes.copy_from_peer.message(), remedy;
  if (scope > 0) {
    seen += fmt::format("; {}: {}", kYama, scope);
    remedy = "sysctl kernel.yama.ptrace_scope=0; in a container also --cap-add=SYS_PTRACE";
  } else {
    remedy =
        "the container's seccomp profile refuses it: docker run --cap-add=SYS_PTRACE, or a profile that allows "
        "process_vm_readv";
  }
  return {found(Severity::Slow,
                "processes cannot copy from each other directly: large messages are copied twice through shared memory",
                seen, remedy)};
}

}  // namespace tutti::doctor
