// SPDX-License-Identifier: Apache-2.0
// How the ranks of a host come to map one memory object (shm_transport.h tells when which way is taken).
// Each of the connections below goes through the exchange of shm_exchange.h.
#include <fcntl.h>
#include <poll.h>
#include <sodium.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <ctime>
#include <vector>

#include "base/atomic.h"
#include "base/log.h"
#include "transports/shm/descriptor_passing.h"
#include "transports/shm/shm_transport.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

namespace tutti {

using namespace shm;

namespace {

Nonce random_nonce() {
  Nonce nonce;
  randombytes_buf(nonce.data(), nonce.size());
  return nonce;
}

std::string hex(const unsigned char* bytes, size_t count) {
  std::string text(2 * count + 1, '\0');
  sodium_bin2hex(text.data(), text.size(), bytes, count);
  text.pop_back();
  return text;
}

constexpr int kMilli = 1'000'000;  // ns
void nap() {
  const timespec time{0, kMilli};
  ::nanosleep(&time, nullptr);
}

int make_memfd() {
  const int fd = ::memfd_create("tutti", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
  if (fd >= 0 || errno != EINVAL) return fd;
  return ::memfd_create("tutti", MFD_CLOEXEC | MFD_ALLOW_SEALING);  // kernels before 6.3
}

}  // namespace

Result<ShmSetup> ShmSetup::begin(const ShmKey& key, HostGroup group, const ArenaLayout& layout, ShmOptions options) {
  TUTTI_TRY(check_group(group, layout));
  if (sodium_init() < 0) return system_error("libsodium cannot start: no source of random numbers");
  ShmSetup setup;
  setup.key_ = key;
  setup.group_ = std::move(group);
  setup.layout_ = layout;
  setup.options_ = std::move(options);
  if (setup.group_.leads()) TUTTI_TRY(setup.make_object());
  return setup;
}

// Takes the first row of the table in shm_transport.h that works.
Status ShmSetup::make_object() {
  Result<UniqueFd> listening =
      options_.allow_socket ? passing().listen() : system_error("Unix sockets are switched off");
  if (listening.ok()) {
    listener_ = std::move(*listening);
    offer_.kind = ShmOffer::Kind::Socket;
    object_.reset(options_.allow_memfd ? make_memfd() : -1);
    if (!object_) TUTTI_TRY(make_file(false));
  } else {
    log_warn(Subsystem::Transport, "shared memory falls back to a named file in {}: {}", options_.directory,
             listening.status().message());
    TUTTI_TRY(make_file(true));
    offer_.kind = ShmOffer::Kind::File;
  }
  if (::ftruncate(object_.get(), static_cast<off_t>(layout_.bytes())) != 0)
    return errno_status("ftruncate",
                        fmt::format("shared memory of {} bytes (is `ulimit -f` too low?)", layout_.bytes()));
  if (!is_file_ && ::fcntl(object_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    return errno_status("fcntl(F_ADD_SEALS)", "the shared memory object");
  if (is_file_)
    TUTTI_TRY(reserve_file(object_.get(), 0, layout_.shared_head_bytes(), "control pages", options_.directory));
  return {};
}

Status ShmSetup::make_file(bool named) {
  is_file_ = true;
  UniqueFd directory{::open(options_.directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!directory) return errno_status("open", options_.directory);
  const int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
  if (!named) {
    object_.reset(::openat(directory.get(), ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600));
    if (object_) return {};
  }
  const Nonce random = random_nonce();
  const std::string name = "tutti-" + hex(random.data(), 16);
  object_.reset(::openat(directory.get(), name.c_str(), flags, 0600));
  if (!object_)
    return errno_status("open",
                        fmt::format("{}/{} (shared memory of the ranks of this host; memfd_create is refused, so "
                                    "this directory must be writable)",
                                    options_.directory, name));
  if (!named) {  // no O_TMPFILE here
    ::unlinkat(directory.get(), name.c_str(), 0);
    return {};
  }
  std::memcpy(offer_.file, name.c_str(), name.size() + 1);
  directory_ = std::move(directory);
  return {};
}

ShmSetup::~ShmSetup() {
  if (directory_) ::unlinkat(directory_.get(), offer_.file, 0);  // set-up ended, well or badly: the name goes
}

Result<std::unique_ptr<ShmTransport>> ShmSetup::finish(const ShmOffer& leaders_offer, Deadline deadline) {
  const int leader = group_.ranks.front();
  UniqueFd object;
  bool is_file = is_file_;
  if (group_.leads()) {
    if (leaders_offer.kind == ShmOffer::Kind::Socket)
      TUTTI_TRY(passing().serve(std::move(listener_), object_.get(), {layout_.bytes(), is_file_}, deadline));
    object = std::move(object_);
  } else if (leaders_offer.kind == ShmOffer::Kind::Socket) {
    Grant grant{};
    TUTTI_ASSIGN_OR_RETURN(object, passing().fetch(deadline, grant));
    if (grant.bytes != layout_.bytes())
      return invalid_usage(
          "rank {} computed an arena of {} bytes, this rank one of {}: give all ranks the same channels and "
          "TUTTI_BUFFER_BYTES",
          leader, grant.bytes, layout_.bytes());
    is_file = grant.is_file != 0;
  } else if (leaders_offer.kind == ShmOffer::Kind::File) {
    TUTTI_ASSIGN_OR_RETURN(object, open_file(leaders_offer));
    is_file = true;
  } else {
    return remote_error("rank {} could not make the shared memory of this host; its own error says why", leader);
  }
  TUTTI_TRY(check_shared_object(object.get(), layout_.bytes(), is_file));
  TUTTI_ASSIGN_OR_RETURN(Mapping memory, Mapping::shared(object.get(), layout_.bytes(), "shared memory"));
  // Before this rank says that it has joined: from then on its peers take a free lock for its death.
  TUTTI_ASSIGN_OR_RETURN(LifeLock life, LifeLock::take(object.get(), group_.my_local()));
  auto* const joined = reinterpret_cast<CounterLine*>(memory.base() + layout_.joined_line(group_.my_local()));
  store_release(joined->value, 1);  // pairs with await_joined()
  if (directory_) {
    const Status all = await_joined(memory, deadline);
    ::unlinkat(directory_.get(), offer_.file, 0);
    directory_.reset();
    TUTTI_TRY(all);
  }
  if (!is_file) object.reset();
  return std::unique_ptr<ShmTransport>(
      new ShmTransport(group_, layout_, std::move(memory), std::move(object), options_.directory, std::move(life)));
}

Status check_shared_object(int fd, uint64_t bytes, bool is_file) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return errno_status("fstat", "the shared memory object");
  if (static_cast<uint64_t>(info.st_size) != bytes)
    return invalid_usage(
        "the shared memory object has {} bytes, this rank computed {}: give all ranks the same "
        "channels and TUTTI_BUFFER_BYTES",
        info.st_size, bytes);
  if (info.st_uid != ::geteuid()) return system_error("the shared memory object belongs to user {}", info.st_uid);
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (!is_file && (seals < 0 || (seals & F_SEAL_SHRINK) == 0))
    return system_error("the shared memory object is not sealed against shrinking");
  return {};
}

DescriptorPassing ShmSetup::passing() const {
  return {key_, group_.ranks, 0, group_.my_local(), "the shared memory of this host"};
}

Result<UniqueFd> ShmSetup::open_file(const ShmOffer& offer) const {
  // The name came from a peer: take nothing but the form that make_file() gives it.
  const std::string_view name(offer.file, ::strnlen(offer.file, sizeof offer.file));
  constexpr std::string_view kPrefix = "tutti-";
  if (!name.starts_with(kPrefix) || name.size() == sizeof offer.file ||
      name.find_first_not_of("0123456789abcdef", kPrefix.size()) != std::string_view::npos)
    return remote_error("rank {} offered a shared memory file with an impossible name", group_.ranks.front());
  const std::string path = fmt::format("{}/{}", options_.directory, name);
  UniqueFd object{::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW)};
  if (!object) return errno_status("open", path);
  return object;
}

// Leader of a named file: until every rank has mapped it, so that the name can go.
Status ShmSetup::await_joined(const Mapping& memory, Deadline deadline) const {
  for (int local = 0; local < layout_.local_ranks(); ++local) {
    const auto* line = reinterpret_cast<const CounterLine*>(memory.base() + layout_.joined_line(local));
    while (load_acquire(line->value) == 0) {
      if (deadline.passed())
        return remote_error(
            "rank {} did not map the shared memory of this host in time; raise TUTTI_INIT_TIMEOUT if it is "
            "alive",
            group_.ranks[local]);
      nap();
    }
  }
  return {};
}

}  // namespace tutti
