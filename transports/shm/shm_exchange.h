// SPDX-License-Identifier: Apache-2.0
// The words between the leader of a host and the ranks that fetch its memory object (shm_setup.cc speaks them).
//
// Over the abstract socket, one message each (SOCK_SEQPACKET keeps them whole):
//
//   fetcher                                     leader
//   Hello     {local rank, nonce F}       ->
//                                         <-    Challenge {nonce L, MAC(leader, rank, F, L)}
//   Proof     {MAC(fetcher, rank, F, L)}  ->
//                                         <-    Grant {bytes, kind} + descriptor
//
// The MAC is keyed with the communicator's secret and covers its tag. A peer of another user, with a wrong MAC or a
// malformed message is dropped and logged; it costs the leader a descriptor for that long, and no rank its place.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstdint>

#include "transports/shm/shm_transport.h"

namespace tutti::shm {

using Nonce = std::array<unsigned char, 32>;
using Mac = std::array<unsigned char, 32>;

inline constexpr std::array<char, 8> kMagic = {'t', 'u', 't', 't', 'i', 's', 'h', '1'};

struct Hello {
  std::array<char, 8> magic;
  int64_t local_rank;
  Nonce nonce;
};
struct Challenge {
  Nonce nonce;
  Mac mac;
};
struct Proof {
  Mac mac;
};
struct Grant {
  uint64_t bytes;
  uint64_t is_file;  // 1: a file of /dev/shm, 0: a memfd
};

enum class Role : unsigned char { Leader = 'L', Fetcher = 'F' };

struct Transcript {
  int64_t leader_rank, local_rank;
  Nonce fetchers, leaders;
};

Mac prove(const ShmKey& key, Role role, const Transcript& said);

// The abstract name: a stranger who does not know the secret can neither guess nor occupy it.
struct AbstractAddress {
  sockaddr_un address{};
  socklen_t size = 0;
};
AbstractAddress abstract_address(const ShmKey& key, int leader_rank);

}  // namespace tutti::shm
