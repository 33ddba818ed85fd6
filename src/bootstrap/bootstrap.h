// SPDX-License-Identifier: Apache-2.0
// Bootstrap: a rank among its peers, before there is any transport: who they are, and an all-gather and a barrier out
// of band.
//
// join() asks the rendezvous (rendezvous.h) for the table of all ranks, then connects to the neighbours in a binary
// tree (the parent of rank r is (r - 1) / 2). From then on the rendezvous is not needed. Setting up, splitting and
// tearing down use the tree; data never does.
//
// Threads: one at a time. Calls block, at most until their deadline.
#pragma once

#include <poll.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "base/handle.h"
#include "base/status.h"
#include "bootstrap/messages.h"
#include "bootstrap/unique_id.h"
#include "net/dialer.h"
#include "net/peer_listener.h"

namespace tutti {

// Purposes (net/peer_listener.h) of the connections made here.
inline constexpr uint32_t kPurposeRendezvous = 1, kPurposeTree = 2;

struct JoinOptions {
  std::vector<SocketAddress> rendezvous;  // best first
  Secret secret;
  int ranks = 0;
  int rank = -1;
  int64_t timeout_ms = -1;  // for missing ranks, and for each later call; -1: never
  // The rendezvous may come into being later than this rank (environment launch).
  bool keep_trying = false;
  std::string remedy;  // what to check if the rendezvous cannot be reached

  // Must be equal on all ranks; the text ("NAME=value" lines) is for the message if the digest is not.
  uint64_t config_digest = 0;
  std::string config_text;
  std::span<const std::byte> info;  // mine, for all: at most kMaxInfoBytes
  uint32_t library_version = 0;     // TUTTI_VERSION_CODE: must be equal as well

  // Timeout from the environment table.
  static JoinOptions with(const UniqueId& id, int ranks, int rank);
};

class Bootstrap {
 public:
  static Result<std::unique_ptr<Bootstrap>> join(const JoinOptions& options);

  int rank() const { return rank_; }
  int size() const { return static_cast<int>(members_.size()); }
  const std::vector<Member>& members() const { return members_; }
  const std::vector<Bytes>& infos() const { return infos_; }
  std::span<const SocketAddress> addresses_of(int rank) const { return addresses_[static_cast<size_t>(rank)]; }
  const Secret& secret() const { return secret_; }
  const CommTag& tag() const { return tag_; }
  PeerListener& listener() { return *listener_; }
  // For a Dialer to that rank's PeerListener.
  Dialer::Options dial_options(int rank, uint32_t purpose, const Deadline& deadline) const;

  // Blobs of all ranks, in rank order; collective. At most kMaxGatherBytes per rank. After a failure every later call
  // fails in the same way.
  static constexpr size_t kMaxGatherBytes = 16 << 20;
  Result<std::vector<Bytes>> all_gather(std::span<const std::byte> mine);
  // Returns once all ranks have called it.
  Status barrier();

 private:
  friend class Join;
  struct Neighbour {
    int rank = -1;
    UniqueFd fd;
  };

  Bootstrap() = default;
  Result<std::vector<Bytes>> gather_and_spread(std::span<const std::byte> mine);
  Status send(Neighbour& neighbour, std::span<const std::byte> payload, const Deadline& deadline);
  Result<Bytes> receive(Neighbour& neighbour, const Deadline& deadline);
  void tell_neighbours(const Status& failure);
  std::string text_of(int rank) const { return members_[static_cast<size_t>(rank)].text(); }

  int rank_ = -1;
  int64_t timeout_ms_ = -1;
  Secret secret_;
  CommTag tag_;
  std::vector<Member> members_;
  std::vector<Bytes> infos_;
  std::vector<std::vector<SocketAddress>> addresses_;
  std::unique_ptr<PeerListener> listener_;
  std::vector<Neighbour> neighbours_;  // the parent (not on rank 0), then the children
  uint32_t sequence_ = 0;              // of tree operations
  Status failure_;
};

}  // namespace tutti
