// SPDX-License-Identifier: Apache-2.0
// RdmaRail: one way of a connection: a queue pair here, one at the peer, between two ports.
//
//   Down --offer()--> Offered --connect()--> Connected --peer_ready()--> Up
//     ^                                                                  | a failure, or the peer's word of one
//     '------------- settle() -------------- Closing <----- close() -----'
//
// Offers, readiness and failures travel as words of the connection (rdma_connection.h). Nothing is sent on a rail
// before the peer has said that its queue pair listens. After a failure both ends close before anything is sent again
// on another rail: a closed queue pair places nothing any more, so no late write can meet the slots' next messages.
//
// A rail that is down can be offered again, with a fresh queue pair of the next generation, and its address is looked
// up again then: where the addresses of a port have changed places the same one is used.
#pragma once

#include <cstdint>
#include <string>

#include "transports/rdma/rdma_devices.h"

namespace tutti {

// What a work request says of itself when it completes.
struct RdmaTicket {
  enum class Kind : uint8_t { Letter, Payload, Credit, Landings, Receive };
  uint32_t connection = 0;
  uint8_t rail = 0, generation = 0;
  Kind kind = Kind::Receive;
  uint8_t slot = 0;  // position of the message, modulo SimpleMemory::kMostInFlight

  uint64_t encode() const {
    return uint64_t{connection} << 32 | uint64_t{rail} << 24 | uint64_t{generation} << 16 |
           static_cast<uint64_t>(kind) << 8 | slot;
  }
  static RdmaTicket decode(uint64_t bits) {
    return {static_cast<uint32_t>(bits >> 32), static_cast<uint8_t>(bits >> 24), static_cast<uint8_t>(bits >> 16),
            static_cast<Kind>(bits >> 8 & 0xff), static_cast<uint8_t>(bits)};
  }
};

// What a peer has to know of a queue pair to connect to it.
struct RailOffer {
  uint32_t generation = 0;
  uint32_t queue_pair = 0;
  uint32_t packet_sequence = 0;
  uint32_t lid = 0;
  uint32_t mtu = 0;  // bytes
  std::array<uint8_t, 16> gid{};
};

// A message: a payload into a slot or to where it lands (none, if it travels in the letter), then a letter with an
// immediate.
struct RailMessage {
  const std::byte* payload = nullptr;
  uint64_t payload_bytes = 0;
  uint32_t payload_key = 0;
  uint64_t remote_payload = 0;
  const std::byte* letter = nullptr;
  uint32_t letter_bytes = 0;
  uint64_t remote_letter = 0;
  uint32_t letter_key = 0, remote_key = 0, remote_payload_key = 0;
  uint32_t immediate = 0;
  uint8_t slot = 0;
};

class RdmaRail {
 public:
  enum class Phase : uint8_t { Down, Offered, Connected, Up, Closing };

  struct Place {
    RdmaDevices* devices = nullptr;
    const RdmaSettings* settings = nullptr;
    int port = 0;     // mine
    RdmaPort theirs;  // the peer's
    uint32_t connection = 0;
    uint8_t number = 0;     // of the rail in its connection
    uint64_t capacity = 0;  // bytes of the connection's slots
  };
  explicit RdmaRail(Place place);
  RdmaRail(const RdmaRail&) = delete;
  ~RdmaRail();

  Phase phase() const { return phase_; }
  bool alive() const { return phase_ == Phase::Offered || phase_ == Phase::Connected || phase_ == Phase::Up; }
  uint32_t generation() const { return generation_; }
  RdmaNic& nic() const { return place_.devices->nic_of(place_.port); }
  const RdmaPort& port() const { return place_.devices->ports()[static_cast<size_t>(place_.port)]; }
  const ibv_qp* queue_pair() const { return queue_pair_.get(); }
  // "mlx5_0 port 1 to mlx5_1 port 1"
  std::string text() const { return port().text() + " to " + place_.theirs.text(); }

  // Down, and nothing of the last queue pair is still to be heard of.
  bool can_offer() const { return phase_ == Phase::Down && receives_ == 0; }
  Result<RailOffer> offer();
  Status connect(const RailOffer& theirs);
  void peer_ready() { phase_ = Phase::Up; }
  void close();
  void settle() { phase_ = Phase::Down; }
  // Down: the peer has made and closed a queue pair that this end had none for.
  void skip_generation() { ++generation_; }

  // Up. An error is the queue pair's: the rail has to be closed.
  Status post(const RailMessage& message);
  bool can_post_credit() const { return !credit_out_; }
  Status post_credit(uint32_t immediate);
  // Entries of the peer's table of landings, from registered memory of ours.
  struct TablePart {
    const std::byte* from = nullptr;
    uint32_t bytes = 0, key = 0;
    uint64_t remote = 0;
    uint32_t remote_key = 0;
  };
  Status post_landings(const TablePart& part, uint32_t immediate);

  // A completion of this rail's, of any generation: what it means for the rail alone.
  void credit_done() { credit_out_ = false; }
  Status receive_done(uint32_t generation);

 private:
  Status make_queue_pair();
  Status initialise();
  Status post_receive();
  Status post_send(ibv_send_wr& first);
  uint64_t ticket(RdmaTicket::Kind kind, uint8_t slot) const;
  Status failure(std::string_view call, int number) const;
  int send_work() const;

  Place place_;
  Phase phase_ = Phase::Down;
  uint32_t generation_ = 0;  // of the queue pair
  verbs::QueuePair queue_pair_;
  ibv_cq* completions_ = nullptr;
  uint32_t most_inline_ = 0;
  uint32_t packet_sequence_ = 0;
  RdmaDevices::Now now_;  // of my port, when last offered
  int receives_ = 0;      // posted and not completed
  bool credit_out_ = false;
};

}  // namespace tutti
