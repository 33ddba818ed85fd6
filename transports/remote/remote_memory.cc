// SPDX-License-Identifier: Apache-2.0
// The copy by the kernel, and the attempt at initialisation.
#include "transports/remote/remote_memory.h"

#include <sys/random.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "base/atomic.h"

namespace tutti {
namespace {

// The kernel copies page by page and stops at the first that is missing: 0, or errno.
int copy_from(pid_t process, void* to, uint64_t address, uint64_t bytes) {
  auto* target = static_cast<std::byte*>(to);
  while (bytes > 0) {
    iovec local{target, bytes};
    iovec remote{reinterpret_cast<void*>(address), bytes};
    const ssize_t got = ::process_vm_readv(process, &local, 1, &remote, 1, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got < 0 ? errno : EFAULT;
    target += got;
    address += static_cast<uint64_t>(got);
    bytes -= static_cast<uint64_t>(got);
  }
  return 0;
}

std::string text_of(int number) { return std::generic_category().message(number); }

}  // namespace

uint32_t RemoteMemory::add_window(std::vector<std::byte*> bases) {
  windows_.push_back(std::move(bases));
  return static_cast<uint32_t>(windows_.size());
}

Status RemoteMemory::read(int rank, void* to, uint64_t address, uint64_t bytes) const {
  const pid_t process = processes_[static_cast<size_t>(rank)];
  const int failure = copy_from(process, to, address, bytes);
  if (failure == 0) [[likely]]
    return {};
  if (failure == ESRCH)
    return remote_error(
        "rank {} (process {}) ended while its buffer was being read; look at its own output for the "
        "cause",
        rank, process);
  if (failure == EFAULT)
    return remote_error(
        "rank {} (process {}): {} bytes at {:#x} of its buffer cannot be read: it has unmapped memory "
        "that it passed to a call, or passed fewer bytes than the count says",
        rank, process, bytes, address);
  return system_error(
      "process_vm_readv of {} bytes of rank {} (process {}): {} (errno {}); TUTTI_PROTO=^rma does "
      "without",
      bytes, rank, process, text_of(failure), failure);
}

MemoryProbe offer_probe() {
  static const uint64_t* const number = [] {
    auto* made = new uint64_t(0);  // never freed: a peer may read late
    while (::getrandom(made, sizeof *made, 0) != sizeof *made || *made == 0) continue;
    return made;
  }();
  return {reinterpret_cast<uint64_t>(number), *number, ::getpid()};
}

std::string try_probes(std::span<const MemoryProbe> probes, const std::vector<bool>& try_rank) {
  for (size_t rank = 0; rank < probes.size(); ++rank) {
    if (!try_rank[rank]) continue;
    const MemoryProbe& probe = probes[rank];
    uint64_t word = 0;
    const int failure = copy_from(static_cast<pid_t>(probe.process), &word, probe.address, sizeof word);
    if (failure != 0) return fmt::format("process_vm_readv of rank {}: {}", rank, text_of(failure));
    if (word != probe.word) return fmt::format("the process id of rank {} means another process here", rank);
  }
  return {};
}

}  // namespace tutti
