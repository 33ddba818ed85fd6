// SPDX-License-Identifier: Apache-2.0
// A rank that fetches the shared memory of its host, against whoever answers on the leader's socket: any messages, and
// with a right challenge, so that the grant behind it is reached. The memory it ends up with is a memory of its size.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <thread>

#include "fuzz/target.h"
#include "transports/shm/shm_exchange.h"

using namespace tutti;

namespace {

enum Mode : uint8_t { kRightChallenge = 1, kDescriptor = 2, kSealed = 4, kRightGrant = 8 };

const ShmKey kKey{{std::byte{1}}, {}};

// An object that no peer of ours would make, or just the right one.
UniqueFd make_object(uint64_t bytes, bool sealed) {
  UniqueFd object(::memfd_create("tutti", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!object || ::ftruncate(object.get(), static_cast<off_t>(bytes)) != 0) std::abort();
  if (sealed && ::fcntl(object.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) std::abort();
  return object;
}

void send_with(int socket, std::span<const uint8_t> bytes, int fd) {
  iovec part{const_cast<uint8_t*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  (void)::sendmsg(socket, &message, MSG_NOSIGNAL);
}

void play_leader(int listener, fuzz::Choices input, uint64_t right_bytes) {
  const uint8_t mode = input.byte();
  const UniqueFd socket(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  shm::Hello hello{};
  if (::recv(socket.get(), &hello, sizeof hello, 0) != sizeof hello) std::abort();
  shm::Challenge challenge{};
  fuzz::Input first;
  if ((mode & kRightChallenge) != 0) {
    const shm::Transcript said{0, hello.local_rank, hello.nonce, challenge.nonce};
    challenge.mac = shm::prove(kKey, shm::Role::Leader, said);
    first = fuzz::input_of(std::as_bytes(std::span(&challenge, 1)));
  } else {
    const auto given = input.some(input.up_to(256));
    first.assign(given.begin(), given.end());
  }
  if (first.empty()) return;
  send_with(socket.get(), first, -1);
  shm::Proof proof{};
  if (::recv(socket.get(), &proof, sizeof proof, 0) != sizeof proof) return;
  fuzz::require((mode & kRightChallenge) != 0, "a leader without the secret was believed");
  fuzz::Input second;
  if ((mode & kRightGrant) != 0) {
    const shm::Grant grant{right_bytes, 0};
    second = fuzz::input_of(std::as_bytes(std::span(&grant, 1)));
  } else {
    const auto given = input.some(input.up_to(64));
    second.assign(given.begin(), given.end());
  }
  if (second.empty()) return;
  const UniqueFd object =
      make_object((mode & kRightGrant) != 0 && (mode & kSealed) != 0 ? right_bytes : 4096, (mode & kSealed) != 0);
  send_with(socket.get(), second, (mode & kDescriptor) != 0 ? object.get() : -1);
}

}  // namespace

std::vector<fuzz::Input> tutti::fuzz::seeds() {
  std::vector<Input> seeds;
  for (uint8_t mode = 0; mode < 16; ++mode) {
    Input input{mode};
    if ((mode & kRightChallenge) == 0) input = input + Input{64, 0} + Input(64, 3);
    if ((mode & kRightGrant) == 0) input = input + Input{16, 0} + Input(16, 1);
    seeds.push_back(input);
  }
  return seeds;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  setenv("TUTTI_DEBUG", "none", 1);
  const auto layout = ArenaLayout::compute({2, 0, 64 << 10});
  if (!layout.ok()) std::abort();
  auto setup = ShmSetup::begin(kKey, HostGroup{1, {0, 1}}, *layout);
  if (!setup.ok()) std::abort();
  const UniqueFd listener(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  shm::AbstractAddress name = shm::abstract_address(kKey, 0);
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&name.address), name.size) != 0 ||
      ::listen(listener.get(), 1) != 0)
    std::abort();
  std::thread leader([&] { play_leader(listener.get(), fuzz::Choices(data, size), layout->bytes()); });
  ShmOffer offer;
  offer.kind = ShmOffer::Kind::Socket;
  const auto transport = setup->finish(offer, Deadline::never());
  leader.join();
  constexpr uint8_t kAll = kRightChallenge | kDescriptor | kSealed | kRightGrant;
  const bool right = size > 0 && (data[0] & kAll) == kAll;
  fuzz::require(transport.ok() || !right, "the right leader was refused");
  return 0;
}
