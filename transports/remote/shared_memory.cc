// SPDX-License-Identifier: Apache-2.0
#include "transports/remote/shared_memory.h"
#include "base/fork.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <fstream>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

namespace tutti {
namespace {

constexpr uint64_t kHugePage = 2 << 20;
constexpr const char* kDirectory = "/dev/shm";

struct List {
  std::mutex mutex;
  std::map<uintptr_t, std::shared_ptr<SharedMemory>> by_address;  // guarded by mutex
};
List& list() {
  static List& only = *[] {
    auto* const made = new List;  // never destroyed: memory may outlive static destruction
    guard_at_fork(made->mutex);
    return made;
  }();
  return only;
}

uint64_t round_up(uint64_t bytes, uint64_t unit) { return (bytes + unit - 1) / unit * unit; }

int memfd(unsigned extra) {
  const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | extra;
  const int fd = ::memfd_create("tutti-window", flags | MFD_NOEXEC_SEAL);
  if (fd >= 0 || errno != EINVAL) return fd;
  return ::memfd_create("tutti-window", flags);  // kernels before 6.3
}

// 0, or errno. Fills the object with pages, all or none.
int fill(int fd, uint64_t bytes) {
  if (::ftruncate(fd, static_cast<off_t>(bytes)) != 0) return errno;
  while (::fallocate(fd, 0, 0, static_cast<off_t>(bytes)) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

// Filling an object takes pages until there are none, and then the kernel ends processes: so it is not tried.
uint64_t available_bytes() {
  std::ifstream info("/proc/meminfo");
  uint64_t kib = 0;
  for (std::string word; info >> word;) {
    if (word == "MemAvailable:" && info >> kib) return kib * 1024;
  }
  return INT64_MAX;  // unknown
}

}  // namespace

Result<std::shared_ptr<SharedMemory>> SharedMemory::create(uint64_t bytes) {
  const uint64_t available = available_bytes();
  if (bytes > available || bytes > INT64_MAX - kHugePage)
    return system_error("cannot allocate {} bytes: {} are available; free memory, or ask for less", bytes, available);
  std::shared_ptr<SharedMemory> made(new SharedMemory);
  uint64_t size = round_up(bytes, kPageBytes);
  if (bytes >= kHugePage) {
    made->descriptor_.reset(memfd(MFD_HUGETLB));
    if (made->descriptor_ && fill(made->descriptor_.get(), round_up(bytes, kHugePage)) == 0) {
      size = round_up(bytes, kHugePage);
    } else {
      made->descriptor_.reset();
    }
  }
  if (!made->descriptor_) {
    made->descriptor_.reset(memfd(0));
    if (!made->descriptor_) {
      made->descriptor_.reset(::open(kDirectory, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600));
      made->is_file_ = true;
    }
    if (!made->descriptor_) return errno_status("open", "a nameless file in /dev/shm (memfd_create is refused)");
    if (const int failure = fill(made->descriptor_.get(), size); failure != 0) {
      errno = failure;
      return system_error("cannot allocate {} bytes: {}; free memory{}, or ask for less", bytes,
                          errno_status("fallocate", "shared memory").message(),
                          made->is_file_ ? " (or enlarge /dev/shm)" : "");
    }
  }
  if (!made->is_file_ && ::fcntl(made->descriptor_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    return errno_status("fcntl(F_ADD_SEALS)", "shared memory");
  TUTTI_ASSIGN_OR_RETURN(made->mapping_, Mapping::shared(made->descriptor_.get(), size, "shared memory"));
  made->mapping_.populate();
  return made;
}

void keep_shared_memory(std::shared_ptr<SharedMemory> memory) {
  const std::lock_guard lock(list().mutex);
  const auto address = reinterpret_cast<uintptr_t>(memory->base());
  list().by_address[address] = std::move(memory);
}

std::shared_ptr<SharedMemory> drop_shared_memory(const void* base) {
  const std::lock_guard lock(list().mutex);
  auto node = list().by_address.extract(reinterpret_cast<uintptr_t>(base));
  return node.empty() ? nullptr : std::move(node.mapped());
}

std::shared_ptr<SharedMemory> find_shared_memory(const void* address, uint64_t bytes) {
  const std::lock_guard lock(list().mutex);
  const auto at = reinterpret_cast<uintptr_t>(address);
  auto next = list().by_address.upper_bound(at);
  if (next == list().by_address.begin()) return nullptr;
  const std::shared_ptr<SharedMemory>& memory = std::prev(next)->second;
  const uint64_t offset = at - reinterpret_cast<uintptr_t>(memory->base());
  return offset < memory->bytes() && bytes <= memory->bytes() - offset ? memory : nullptr;
}

}  // namespace tutti
