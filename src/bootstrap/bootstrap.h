// SPDX-License-Identifier: Apache-2.0
// Bootstrap: a rank among its peers, before there is any transport: who they are, and an all-gather and a barrier out
// of band.
//
// join() asks the rendezvous (rendezvous.h) for its place, then connects to the neighbours in a binary tree (the parent
// of rank r is (r - 1) / 2), through which the table of all ranks comes. From then on the rendezvous is not needed.
// Setting up, splitting and tearing down use the tree; data never does.
//
// Threads: one at a time. Calls block, at most until their deadline.
#pragma once

#include <poll.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
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
inline constexpr uint32_t kPurposeRendezvous = 1, kPurposeTree = 2, kPurposeShrink = 3;

// Set by another thread (an abort): waits end with an error.
using CancelFlag = std::shared_ptr<std::atomic<bool>>;

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

  CancelFlag cancelled;  // null: nobody will

  // Timeout from the environment table.
  static JoinOptions with(const UniqueId& id, int ranks, int rank);
};

// What a rank says of the child it wants. The configuration is as in JoinOptions: equal on all ranks of the child.
struct ChildOptions {
  int color = -1;  // split: ranks of equal colour form a child; negative: none for me
  int key = 0;     // split: the order of the ranks in the child, then by rank in the parent
  uint64_t config_digest = 0;
  std::string config_text;
  uint32_t library_version = 0;
};

class Bootstrap {
 public:
  static Result<std::unique_ptr<Bootstrap>> join(const JoinOptions& options);
  // Collective. Null for a rank without a colour.
  Result<std::unique_ptr<Bootstrap>> split(const ChildOptions& wish);
  // Collective over the ranks that are not excluded (ascending, without doubles, without me); needs no other rank.
  Result<std::unique_ptr<Bootstrap>> shrink(const std::vector<int>& excluded, const ChildOptions& wish);

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
  // From now on this flag ends waits.
  void set_cancel_flag(CancelFlag cancelled) { cancelled_ = std::move(cancelled); }

 private:
  friend class Join;
  friend class Reunion;
  struct Neighbour {
    int rank = -1;
    UniqueFd fd;
  };

  Bootstrap() = default;
  Deadline deadline(int64_t timeout_ms) const { return Deadline::in_ms(timeout_ms).or_when(cancelled_.get()); }
  Status cancelled_error() const;
  // The tree of a fresh bootstrap through its own listener: who is dialed, then step by step.
  void begin_tree(std::optional<Dialer>& to_parent, const Deadline& deadline);
  Result<Poll> advance_tree(std::optional<Dialer>& to_parent);
  Status connect_tree(const Deadline& deadline);
  void take_table(std::vector<TableEntry> table);
  Status missing_neighbours() const;
  std::unique_ptr<Bootstrap> child_of(const std::vector<int>& ranks, const Secret& secret) const;
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
  CancelFlag cancelled_;
};

}  // namespace tutti
