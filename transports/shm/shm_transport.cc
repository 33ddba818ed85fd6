// SPDX-License-Identifier: Apache-2.0
// The transport once the memory is mapped; how it is found is in shm_setup.cc.
#include "transports/shm/shm_transport.h"

#include <fcntl.h>

#include <cerrno>

namespace tutti {

ShmTransport::ShmTransport(HostGroup group, const ArenaLayout& layout, Mapping memory, UniqueFd file,
                           std::string directory, LifeLock life)
    : MappedTransport(std::move(group), layout, memory.base()),
      memory_(std::move(memory)),
      file_(std::move(file)),
      directory_(std::move(directory)),
      life_(std::move(life)) {}

Status ShmTransport::reserve(uint64_t begin, uint64_t bytes, std::string_view what) {
  if (!file_) return {};  // a memfd has no size limit to run into
  return reserve_file(file_.get(), begin, bytes, what, directory_);
}

Status reserve_file(int fd, uint64_t begin, uint64_t bytes, std::string_view what, std::string_view directory) {
  int failure = 0;
  do failure = ::posix_fallocate(fd, static_cast<off_t>(begin), static_cast<off_t>(bytes));
  while (failure == EINTR);
  if (failure == 0) return {};
  if (failure == ENOSPC)
    return system_error(
        "{} is full: {} KiB for {} do not fit. Remove stale files there, enlarge it (mount -o remount,size=2G {}; "
        "docker run --shm-size=2g), allow memfd_create in the seccomp profile, or set a smaller TUTTI_BUFFER_BYTES",
        directory, bytes / 1024, what, directory);
  errno = failure;
  return errno_status("posix_fallocate", fmt::format("{} KiB of {}", bytes / 1024, directory));
}

}  // namespace tutti
