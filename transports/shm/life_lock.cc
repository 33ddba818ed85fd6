// SPDX-License-Identifier: Apache-2.0
#include "transports/shm/life_lock.h"

#include <fcntl.h>
#include <fmt/format.h>

namespace tutti {
namespace {

struct flock lock_of(int local) {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = local;
  lock.l_len = 1;
  return lock;
}

}  // namespace

Result<LifeLock> LifeLock::take(int object, int local) {
  // A descriptor that came over a socket shares its description with the leader's; this path makes another.
  const std::string path = fmt::format("/proc/self/fd/{}", object);
  UniqueFd own{::open(path.c_str(), O_RDWR | O_CLOEXEC)};
  if (!own) {
    const Status failed = errno_status("open", path);
    return system_error("{}: by this the ranks of a host learn that one has died; is /proc mounted?", failed.message());
  }
  LifeLock made;
  made.own_ = std::move(own);
  struct flock lock = lock_of(local);
  if (::fcntl(made.own_.get(), F_OFD_SETLK, &lock) != 0)
    return errno_status("fcntl(F_OFD_SETLK)", "the shared memory object");
  return made;
}

Status LifeLock::also(int number) {
  struct flock lock = lock_of(number);
  if (::fcntl(own_.get(), F_OFD_SETLK, &lock) != 0)
    return errno_status("fcntl(F_OFD_SETLK)", "the shared memory object");
  return {};
}

bool LifeLock::held_by(int local) const {
  struct flock lock = lock_of(local);
  return ::fcntl(own_.get(), F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

void LifeLock::release(int local) {
  struct flock lock = lock_of(local);
  lock.l_type = F_UNLCK;
  (void)::fcntl(own_.get(), F_OFD_SETLK, &lock);
}

}  // namespace tutti
