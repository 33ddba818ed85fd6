// SPDX-License-Identifier: Apache-2.0
// shm: the ranks of a host are processes (or threads) that map one shared memory object.
//
// Set-up has two halves with an exchange between them (the bootstrap's all-gather), so that it needs no thread:
//
//   every rank   ShmSetup::begin()     the leader (lowest rank of the host) makes the object and listens
//                all-gather of offer() the others learn where; no one connects before the leader listens
//   every rank   setup.finish(offer)   the others fetch the object, the leader serves until all have it
//
//   how the object is found                     when                            left behind by kill -9
//   memfd over an abstract Unix socket          always, unless refused          nothing
//   nameless file of /dev/shm over the socket   memfd refused (seccomp)         nothing
//   file of /dev/shm with a random name         Unix sockets refused as well    the file, if killed during set-up
//
// Over the socket both ends prove with a keyed MAC that they know the communicator's secret before the descriptor is
// passed (shm_setup.cc), and the kernel vouches that both run as the same user. The name of the socket derives from the
// secret. A named file is created exclusively with mode 0600, and unlinked as soon as all ranks have mapped it.
//
// Memory of a memfd is not limited by the size of /dev/shm. In a file of /dev/shm each connection is reserved before
// its first use, so that a full /dev/shm is an error with a remedy and not a bus error.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string>

#include "base/deadline.h"
#include "base/handle.h"
#include "transports/mapped.h"
#include "transports/shm/life_lock.h"

namespace tutti {

namespace shm {
struct DescriptorPassing;
}

// Who may share: ranks that know the communicator's secret and its tag (which tells communicators of one secret apart).
struct ShmKey {
  std::array<std::byte, 32> secret;
  std::array<std::byte, 16> tag;
};

struct ShmOptions {
  std::string directory = "/dev/shm";  // of the fall-back
  bool allow_memfd = true;             // false: behave as if memfd_create was refused
  bool allow_socket = true;            // false: behave as if Unix sockets were refused
};

// What the leader tells the others; trivially copyable, for the all-gather. A leader whose begin() failed sends a
// default one, so that the others end with an error and not at their deadline.
struct ShmOffer {
  enum class Kind : uint32_t { None, Socket, File };
  Kind kind = Kind::None;
  char file[60] = {};  // Kind::File: the name in `directory`, zero-terminated
};
static_assert(sizeof(ShmOffer) == 64);

class ShmTransport final : public MappedTransport {
 public:
  std::string_view name() const override { return "shm"; }
  bool alive(int rank) const override { return life_.held_by(group().local(rank)); }
  // True: the object is a file of /dev/shm, because memfd was refused.
  bool fallen_back() const { return static_cast<bool>(file_); }

 protected:
  Status reserve(uint64_t begin, uint64_t bytes, std::string_view what) override;

 private:
  friend class ShmSetup;
  ShmTransport(HostGroup group, const ArenaLayout& layout, Mapping memory, UniqueFd file, std::string directory,
               LifeLock life);

  Mapping memory_;
  UniqueFd file_;  // only of a /dev/shm file: reserve() needs it
  std::string directory_;
  LifeLock life_;
};

class ShmSetup {
 public:
  static Result<ShmSetup> begin(const ShmKey& key, HostGroup group, const ArenaLayout& layout, ShmOptions options = {});
  ShmSetup(ShmSetup&&) noexcept = default;
  ~ShmSetup();

  // The leader's is what all ranks give to finish(); the others' says nothing.
  const ShmOffer& offer() const { return offer_; }
  // Blocks until I have mapped the arena and, in the leader, until all others have. Call once, on every rank.
  Result<std::unique_ptr<ShmTransport>> finish(const ShmOffer& leaders_offer, Deadline deadline);

 private:
  ShmSetup() = default;
  Status make_object();
  Status make_file(bool named);
  shm::DescriptorPassing passing() const;
  Status await_joined(const Mapping& memory, Deadline deadline) const;
  Result<UniqueFd> open_file(const ShmOffer& offer) const;

  ShmKey key_{};
  HostGroup group_;
  ArenaLayout layout_;
  ShmOptions options_;
  ShmOffer offer_;
  UniqueFd object_;  // leader: the memory object
  bool is_file_ = false;
  UniqueFd listener_;   // leader: Kind::Socket
  UniqueFd directory_;  // holder of a named file: where to unlink it
};

// An object of the right size that no one can shrink under us (a file of ours is trusted to keep its size).
Status check_shared_object(int fd, uint64_t bytes, bool is_file);

// Reserves a part of a shared memory file, so that touching it cannot fail later. `directory` for the error's text.
Status reserve_file(int fd, uint64_t begin, uint64_t bytes, std::string_view what, std::string_view directory);

}  // namespace tutti
