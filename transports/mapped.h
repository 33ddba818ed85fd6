// SPDX-License-Identifier: Apache-2.0
// MappedTransport: connections between ranks that map the same arena. inproc and shm differ only in how they get it.
//
// An end is a few offsets: making one sends no message and waits for no one. progress() has nothing to do.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "transports/arena.h"
#include "transports/transport.h"

namespace tutti {

// The ranks of a communicator that share a host. A rank's index in `ranks` is its local rank; the first one leads.
struct HostGroup {
  int me = 0;              // my rank in the communicator
  std::vector<int> ranks;  // ranks in the communicator, ascending, `me` among them

  // -1: not on this host.
  int local(int rank) const;
  int my_local() const { return local(me); }
  bool leads() const { return ranks.front() == me; }
};
// Ascending, free of doubles, containing `me`, as many as the layout has places for.
Status check_group(const HostGroup& group, const ArenaLayout& layout);

class MappedTransport : public Transport {
 public:
  bool reaches(int peer) const override { return peer != group_.me && group_.local(peer) >= 0; }
  bool mapped() const override { return true; }
  const TransportLimits& limits() const override { return layout_.limits(); }

  Result<SendEnd*> send_end(int peer, int channel, Use use) override;
  Result<ReceiveEnd*> receive_end(int peer, int channel, Use use) override;
  Result<SendEnd*> fan_send_end(int channel) override;
  Result<ReceiveEnd*> fan_receive_end(int peer, int channel) override;

  Result<bool> progress() override { return false; }
  bool flushed() const override { return true; }
  void wait(int) override {}

  uint64_t* core_word(int rank) const override;
  // 4 KiB that `rank` (of this host) writes and all others read; zeroed at the start.
  std::span<std::byte> control_page(int rank) const;
  // False: the process of that rank of this host has ended, or the rank has destroyed its transport. Costs a system
  // call; always true where ranks share a process.
  virtual bool alive(int /*rank*/) const { return true; }
  const HostGroup& group() const { return group_; }
  const ArenaLayout& layout() const { return layout_; }

 protected:
  MappedTransport(HostGroup group, const ArenaLayout& layout, std::byte* base);
  // Called before [begin, begin + bytes) of the arena is used for the first time by this rank.
  virtual Status reserve(uint64_t begin, uint64_t bytes, std::string_view what) = 0;

 private:
  Result<int> local_peer(int peer, int channel, Use use) const;

  HostGroup group_;
  ArenaLayout layout_;
  std::byte* base_;
  int my_local_;
  std::vector<std::unique_ptr<SendEnd>> send_;  // [local peer][pair index]; null until first asked for
  std::vector<std::unique_ptr<ReceiveEnd>> receive_;
  std::vector<std::unique_ptr<SendEnd>> fan_send_;        // [channel]
  std::vector<std::unique_ptr<ReceiveEnd>> fan_receive_;  // [local peer][channel]
};

}  // namespace tutti
