// SPDX-License-Identifier: Apache-2.0
// CudaEnds: the connections between ranks on GPUs, and the ends of this process' ranks in device memory.
//
//   part of a connection                memory of      because
//   tail, descriptors, slots, lines     the receiver   it polls them; the sender's stores cross the link once
//   heads                               the sender     it polls them
//   ends                                their owner    nobody else touches them
//
// Two GPUs that cannot map each other's memory have all but the ends in that of a third one, or of the host.
//
// Made when a plan first needs them, the parts of each protocol by themselves, and kept until the communicator ends. A
// connection that is made while kernels run is written into places of the arrays of ends that no running kernel looks
// at: no step of theirs names the peer by this protocol.
//
// Between processes, and where GPUs cannot map each other's memory, that of all connections is there from the start
// (peer_arena.h), and each process makes the ends of its own ranks. Connections to ranks whose slots no kernel reaches
// come from outside (Outside).
// Threads: one at a time.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "algo/catalog.h"
#include "exec/cuda/device_store.h"
#include "exec/cuda/peer_arena.h"
#include "exec/cuda/work.h"
#include "transports/transport.h"

namespace tutti::cuda {

class CudaEnds {
 public:
  // Makes connections that something else than a kernel carries on from here: Simple alone, in memory of the host.
  class Outside {
   public:
    virtual ~Outside() = default;
    // Whether the connection is one of these.
    virtual bool serves(int from, int to) const = 0;
    // The FIFO of rank `me` towards `peer` (or from it), as kernels of its GPU see it: the same each time.
    virtual Result<SimpleMemory> sender(int me, int peer, int channel, Use use) = 0;
    virtual Result<SimpleMemory> receiver(int me, int peer, int channel, Use use) = 0;
  };
  struct Sizes {
    uint64_t simple_bytes = 0;                        // slots of a Simple connection, together
    uint64_t line_payload = 0;                        // of one slot of LL
    uint64_t line_slots = 0;                          // a power of two
    uint64_t line128_payload = 0, line128_slots = 0;  // of LL128; no slots: its lines may be seen in pieces
  };
  // What kernels of one rank's GPU find, by number. Null: an arena that they cannot map; no end of the rank lies there.
  struct Seen {
    std::vector<std::byte*> arenas;  // the host's last
    std::vector<std::byte*> words;   // of each rank; none: heads and tails are in the arenas
  };
  struct Shared {
    PeerMap map;
    std::vector<PeerArena> arenas;  // by number, the host's last
    PeerWords words;
    std::vector<int> ranks;  // that have arenas, ascending: a rank's place here is its number
    std::vector<Seen> seen;  // by rank, of those of this process
  };
  // `stores` by rank, null for ranks of other processes; they outlive this.
  CudaEnds(std::vector<DeviceStore*> stores, Sizes sizes) : stores_(std::move(stores)), sizes_(sizes) {}
  // Connections in arenas.
  CudaEnds(std::vector<DeviceStore*> stores, Sizes sizes, Shared shared)
      : stores_(std::move(stores)), sizes_(sizes), shared_(std::move(shared)) {}
  // `outside` outlives this. Before anything is provided.
  void use_outside(Outside* outside) { outside_ = outside; }

  // Makes what the steps of rank `me` use on this channel, at both sides, where it is missing. In place once the stores
  // have finished.
  Status provide(const AnySchedule& schedule, int me, int channel, Use use, KernelProto proto);

  // Arrays by peer, in the memory of that rank's GPU. After provide() for the rank and channel.
  CudaSendEnd* send(int rank, int channel, Use use) const { return ports(rank, channel, use).send; }
  CudaReceiveEnd* receive(int rank, int channel, Use use) const { return ports(rank, channel, use).receive; }

 private:
  struct Ports {
    CudaSendEnd* send = nullptr;
    CudaReceiveEnd* receive = nullptr;
  };
  struct Channel {
    std::vector<Ports> ports;     // by rank
    std::vector<uint8_t> joined;  // by from * n + to: mask of 1 << KernelProto
  };
  const Ports& ports(int rank, int channel, Use use) const {
    return channels_[static_cast<size_t>(use)][static_cast<size_t>(channel)].ports[static_cast<size_t>(rank)];
  }
  size_t n() const { return stores_.size(); }
  Status reserve(Channel& channel, int rank);
  bool local(int rank) const { return stores_[static_cast<size_t>(rank)] != nullptr; }
  Status join(Channel& channel, int from, int to, KernelProto proto);
  Status join_simple(CudaSendEnd& send, CudaReceiveEnd& receive, DeviceStore& sender, DeviceStore& receiver);
  Status join_lines(CudaSendEnd& send, CudaReceiveEnd& receive, DeviceStore& sender, DeviceStore& receiver,
                    KernelProto proto);
  static Status write_end(DeviceStore& store, CudaSendEnd& end, const LineMemory& memory, KernelProto proto);
  static Status write_end(DeviceStore& store, CudaReceiveEnd& end, const LineMemory& memory, KernelProto proto);
  uint64_t line_slot_bytes(KernelProto proto) const {
    return proto == KernelProto::LL ? ll_slot_bytes(sizes_.line_payload) : ll128_slot_bytes(sizes_.line128_payload);
  }
  uint64_t line_slots(KernelProto proto) const {
    return proto == KernelProto::LL ? sizes_.line_slots : sizes_.line128_slots;
  }
  // The ends of this process' ranks.
  Status join_outside(Channel& channel, int from, int to, int number, Use use, KernelProto proto);
  Status join_shared(Channel& channel, int from, int to, int number, Use use, KernelProto proto);
  int number_of(int rank) const;
  // The end of a rank towards a peer, as a viewer sees it.
  struct SharedEnd {
    const PeerArena& arena;
    std::byte* base;
    uint64_t index;
    PeerArena::Control& control() const {
      return *reinterpret_cast<PeerArena::Control*>(base + arena.control_at(index));
    }
  };
  SharedEnd shared_end(int viewer, int rank, int peer, int channel, Use use) const;
  PeerWords::Words& shared_words(int viewer, int rank, int peer, int channel, Use use) const;
  SimpleMemory shared_simple(int viewer, int from, int to, int channel, Use use) const;
  LineMemory shared_lines(int viewer, int from, int to, int channel, Use use, KernelProto proto) const;

  std::vector<DeviceStore*> stores_;
  Sizes sizes_;
  Shared shared_;  // empty: all ranks are here, or outside
  Outside* outside_ = nullptr;
  std::vector<Channel> channels_[2];  // by Use
};

}  // namespace tutti::cuda
