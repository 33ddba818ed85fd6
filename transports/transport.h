// SPDX-License-Identifier: Apache-2.0
// The contract of a transport: it makes connections (directed FIFOs of slots between two ranks) and, where peers cannot
// map each other's memory, carries the slots.
//
// A connection is known by (sender, receiver, channel, use). Both ranks ask for their end when a schedule first needs
// it; neither call waits for the peer. A transport whose peers map the slots (`mapped`) also offers LL, and fan-out
// connections (one sender, all other members of the transport's group read).
//
// Threads: one at a time per transport object. Ends live as long as the transport.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/status.h"
#include "proto/slots.h"
#include "transports/gpu_slots.h"

namespace tutti {

// Point-to-point has one connection per ordered pair: its channel is 0.
enum class Use : uint8_t { Collective, PointToPoint };

// What the connections of a transport offer, known before one is made: inputs of the planner.
struct TransportLimits {
  int channels = 0;           // collective channels are 0 .. channels - 1
  uint64_t capacity = 0;      // bytes of Simple slots of a pair connection
  uint64_t fan_capacity = 0;  // the same of a fan-out connection; 0: there are none
  uint64_t ll_slots = 0;      // LL slots of a connection; 0: no LL
  bool operator==(const TransportLimits&) const = default;
};

// Networks only: slices that travel without passing through the slots at either end. A slot still goes with each.
//
// A loan is a slice that is sent from where it lies. Its bytes stay as they are until the slot is released; flushed()
// says so of all.
struct Loans {
  std::array<const std::byte*, SimpleMemory::kMostInFlight> at{};  // by SimpleSender::place(); null: in the slot

  void lend(uint64_t place, const std::byte* bytes) { at[place] = bytes; }
};
// A landing is where the next slice shall go, if it is of this length and call. Asked for by a lane that waits for it.
struct Landing {
  std::byte* to = nullptr;
  uint64_t bytes = 0, flag = 0;
  std::array<const std::byte*, SimpleMemory::kMostInFlight> landed{};  // by SimpleReceiver::place(); null: in the slot

  bool takes(uint64_t arriving, uint64_t its_flag) const {
    return to != nullptr && arriving == bytes && its_flag == flag;
  }
};
// The same ahead of time, where the peer itself writes to it and has to be told: a lane says of each of the next
// positions where its slice shall go, as far ahead as it knows. A slice lands if its sender has heard of it in time.
struct Landings {
  static constexpr uint64_t kMostAhead = SimpleMemory::kMostInFlight;
  struct Wish {
    std::byte* to = nullptr;  // null: in the slot
    uint64_t bytes = 0, flag = 0;
  };
  std::array<Wish, SimpleMemory::kMostInFlight> wishes{};              // by position, modulo their number
  uint64_t wished = 0;                                                 // positions below have been spoken of
  std::array<const std::byte*, SimpleMemory::kMostInFlight> landed{};  // by SimpleReceiver::place(); null: in the slot
};
// Shorter slices are copied: that costs less than looking after them.
inline constexpr uint64_t kLendFrom = 8 << 10;

struct SendEnd {
  SimpleSender simple;
  LLSender ll;             // mapped transports only
  uint64_t capacity = 0;   // bytes of Simple slots
  Loans* loans = nullptr;  // networks only
  // The pages that the FIFO has for itself: what a device has to map that shall use this end. Pairs only.
  std::span<std::byte> mapped = {};
  bool slots_on_gpu = false;  // the slots lie in GpuSlots, at the address that kernels use, and not in these pages
  // Of a fan-out with near slots (LLMemory::near): every message goes into these as well.
  LLSender ll_near = {};
  bool has_near = false;
};
struct ReceiveEnd {
  SimpleReceiver simple;
  LLReceiver ll;
  uint64_t capacity = 0;
  Landing* landing = nullptr;        // tcp only
  Landings* landings = nullptr;      // rdma only
  std::span<std::byte> mapped = {};  // as of a SendEnd
  bool slots_on_gpu = false;         // the same
};

class Transport {
 public:
  virtual ~Transport() = default;

  virtual std::string_view name() const = 0;
  virtual bool reaches(int peer) const = 0;
  virtual bool mapped() const = 0;
  virtual const TransportLimits& limits() const = 0;

  // The ends of the connection to or from `peer`; made on first use, the same object ever after.
  virtual Result<SendEnd*> send_end(int peer, int channel, Use use) = 0;
  virtual Result<ReceiveEnd*> receive_end(int peer, int channel, Use use) = 0;
  // Of a rank on a GPU: so many bytes of its memory are wanted for the slots of an end; 0: none.
  virtual uint64_t wants_gpu_slots(int /*peer*/, Flow /*flow*/) const { return 0; }
  // The same ends, with such memory offered to who makes them; slots_on_gpu says whether it is used.
  virtual Result<SendEnd*> send_end_on_gpu(int peer, int channel, Use use, std::shared_ptr<GpuSlots> /*slots*/) {
    return send_end(peer, channel, use);
  }
  virtual Result<ReceiveEnd*> receive_end_on_gpu(int peer, int channel, Use use, std::shared_ptr<GpuSlots> /*slots*/) {
    return receive_end(peer, channel, use);
  }
  // Fan-out: my end as the sender, and my end as a reader of `peer`'s. Mapped transports only.
  virtual Result<SendEnd*> fan_send_end(int channel) = 0;
  virtual Result<ReceiveEnd*> fan_receive_end(int peer, int channel) = 0;

  // A word that `rank` writes and all others of its host read: its place in a CoreMap. Mapped transports only.
  virtual uint64_t* core_word(int /*rank*/) const { return nullptr; }

  // Carries slots without ever blocking. True: something moved. An error names the peer and the cause. No-op if mapped.
  virtual Result<bool> progress() = 0;
  // Nothing of ours is still waiting to leave, no connection is half made: a blocking call may return. Always true if
  // mapped.
  virtual bool flushed() const = 0;
  // Blocks up to `timeout_ms` until progress() may do something (the last stage of waiting). No-op if mapped.
  virtual void wait(int timeout_ms) = 0;
};

}  // namespace tutti
