// SPDX-License-Identifier: Apache-2.0
// RdmaConnection: two ranks, the FIFOs at this end, and the rails between them (rdma_transport.h, rdma_rail.h).
//
// Registered memory of a FIFO, the same at both ends:
//
//   letters   one per slot position:  header {bytes, flag, cut, credit}, then the payload of a small message
//   slots     `capacity` bytes, cut as the lanes have agreed; behind the letters, or in memory of a GPU (GpuSlots)
//
// A message at position p goes on one rail: its payload into slot p % cut.count, then, behind it on the same queue
// pair, letter p % 64 with the immediate p. The completion of the immediate at the receiver says that both are in
// place. A credit is an immediate alone (or rides in a letter): the number of messages whose slots are free again.
//
//   immediate   bits 30, 31: what it is     bits 0 .. 29: position, or number of messages, of which the low bits do
//
// Where slices land (Landings, transport.h): the receiver writes into a table in the sender's memory where the messages
// of the next positions shall go, and an immediate that says of which. A message of which the sender has been told goes
// there instead of into its slot, which stays empty, and its immediate says so. Who is told too late uses the slot.
//
//   receiver                                        sender
//   lane wishes p .. q                              (has written p - 1)
//   --- entries p .. q -> table, immediate --->     completion: positions p .. q have entries
//   <--- payload p -> memory of the user, letter p, immediate p "landed" ---
//
// Rails may overtake each other: messages are published in the order of their positions. When a rail has failed at both
// ends, what was on its way is written again on another; a message that had arrived all the same is known by its
// position. It is written again into its slot, never where it was to land: that memory may be the user's again.
//
// Slots in memory of a GPU, at either end, are filled and read by kernels and devices alone: then no payload rides in a
// letter. And where the GPU asks for it, what has arrived is flushed before it is published.
//
// On the socket: RdmaWord, in either direction, and last a farewell (as tcp_connection.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/deadline.h"
#include "base/handle.h"
#include "proto/slots.h"
#include "transports/arena.h"
#include "transports/network.h"
#include "transports/rdma/rdma_gpu.h"
#include "transports/rdma/rdma_rail.h"
#include "transports/rdma/rdma_transport.h"
#include "transports/rdma/user_memory.h"
#include "transports/transport.h"

namespace tutti {

struct RdmaHeader {
  uint32_t bytes = 0;      // of a slot, which has at most 256 MiB
  uint32_t in_letter = 0;  // 1: they follow here
  uint64_t flag = 0;
  SlotCut cut;
  uint64_t credit = 0;  // messages of the other direction whose slots are free again
};
inline constexpr uint64_t kLetterBytes = 256;
inline constexpr uint64_t kLetterPayload = kLetterBytes - sizeof(RdmaHeader);
static_assert(sizeof(RdmaHeader) == 40);

// One entry of the table of landings: where the message at one position may go, if it is this one.
struct RdmaLanding {
  static constexpr size_t kMostRails = 8;
  uint64_t flag = 0, bytes = 0, address = 0;
  std::array<uint32_t, kMostRails> keys{};  // by rail
  uint64_t unused = 0;
};
static_assert(sizeof(RdmaLanding) == 64);

struct RdmaWord {
  enum class Kind : uint32_t {
    Offer = 1,  // a queue pair of this rail
    Ready,      // my queue pair is connected to yours
    Memory,     // where my FIFO is, and its key for this rail
    Slots,      // before Memory: my slots are not there, but in memory of a GPU, with this key for this rail
    Closed,     // my queue pair has failed (`status`) or followed yours: it places nothing any more
    Goodbye,    // all is sent: an end in order
    Lost,       // I have failed, because of `rank`
    WantTable,  // I have landings to tell
    Table,      // where to write them, and the key for this rail
  };
  Kind kind = Kind::Goodbye;
  uint32_t rail = 0;
  RailOffer offer{};     // Offer; Ready, Closed: its generation
  uint32_t key = 0;      // Memory, Slots, Table
  uint64_t address = 0;  // Memory, Slots, Table
  uint64_t bytes = 0;    // Memory, Slots
  uint32_t status = 0;   // Closed: an ibv_wc_status, or a kClosed*
  uint32_t rank = 0;     // Lost
};
static_assert(sizeof(RdmaWord) == 72);

// One piece of memory, registered with each device of some rails.
class RdmaRegions {
 public:
  static Result<RdmaRegions> create(std::byte* base, uint64_t bytes, const std::deque<RdmaRail>& rails,
                                    RdmaNic::Access access);
  // Memory of a GPU. All devices have it, or none: a message may have to go by any of the rails. `how`: for the log.
  static Result<RdmaRegions> create(const GpuSlots& slots, RdmaGpu& gpu, const std::deque<RdmaRail>& rails,
                                    RdmaNic::Access access, std::string& how);
  const ibv_mr* of(const RdmaNic& nic) const;

 private:
  std::vector<std::pair<const RdmaNic*, verbs::MemoryRegion>> regions_;
};

// A FIFO between a lane and progress(), whose letters and slots devices may reach.
class RdmaFifo {
 public:
  static Result<RdmaFifo> create(uint64_t capacity, const std::deque<RdmaRail>& rails);
  // With its slots in memory of a GPU.
  static Result<RdmaFifo> create(uint64_t capacity, const std::deque<RdmaRail>& rails, std::shared_ptr<GpuSlots> slots,
                                 RdmaRegions regions);
  const SimpleMemory& memory() const { return memory_; }
  std::span<std::byte> mapped() const { return {mapping_.base(), mapping_.bytes()}; }
  // Of the slots that are not released, if there are any: the sender drains before it cuts anew.
  const SlotCut& cut() const { return memory_.tail->cut; }
  std::byte* letter(uint64_t position) const {
    return letters() + position % SimpleMemory::kMostInFlight * kLetterBytes;
  }
  bool empty() const { return load_relaxed(memory_.tail->value) == load_relaxed(memory_.heads->value); }
  std::byte* letters() const { return mapping_.base() + kPageBytes; }
  static constexpr uint64_t kLettersBytes = SimpleMemory::kMostInFlight * kLetterBytes;
  uint64_t registered_bytes() const { return kLettersBytes + (on_gpu() ? 0 : memory_.capacity); }
  const ibv_mr& region(const RdmaNic& nic) const { return *regions_.of(nic); }
  GpuSlots* gpu_slots() const { return slots_.get(); }
  bool on_gpu() const { return slots_ != nullptr; }
  const ibv_mr& slot_region(const RdmaNic& nic) const { return on_gpu() ? *slot_regions_.of(nic) : region(nic); }

 private:
  Status place(uint64_t capacity, const std::deque<RdmaRail>& rails);

  Mapping mapping_;
  std::shared_ptr<GpuSlots> slots_;  // null: behind the letters
  SimpleMemory memory_;
  RdmaRegions regions_, slot_regions_;
};

// A table of landings that devices may read, or peers write: one entry for each position, modulo their number.
class LandingTable {
 public:
  static Result<LandingTable> create(const std::deque<RdmaRail>& rails, RdmaNic::Access access);
  static uint64_t place(uint64_t position) { return position % SimpleMemory::kMostInFlight; }
  RdmaLanding& at(uint64_t position) const { return entries()[place(position)]; }
  RdmaLanding* entries() const { return reinterpret_cast<RdmaLanding*>(mapping_.base()); }
  const ibv_mr& region(const RdmaNic& nic) const { return *regions_.of(nic); }

 private:
  Mapping mapping_;
  RdmaRegions regions_;
};

class RdmaConnection {
 public:
  struct Role {
    int peer = 0;
    uint32_t purpose = 0;  // of the handshake; tells the connections of a pair apart
    uint32_t index = 0;    // of the connection in the transport (RdmaTicket)
    uint32_t turn = 0;     // which pair of ports is the first; equal at both ends
    std::string label;     // "rank 3 (node7, process 4242) at 192.0.2.1:4000"
    uint64_t capacity = 0;
    int me = 0;
    const std::vector<RdmaPeer>* peers = nullptr;  // of the transport
    RdmaDevices* devices = nullptr;
    const RdmaSettings* settings = nullptr;
    UserMemory* user_memory = nullptr;
    RdmaGpu* gpu = nullptr;
  };
  // `deadline`: for the first way.
  RdmaConnection(Role role, SocketSetup setup, Deadline deadline);
  // Over a socket whose handshake is done: begin() is next.
  RdmaConnection(Role role, UniqueFd socket);
  ~RdmaConnection();

  // `slots`: memory of a GPU for those of an end that is not made yet.
  Result<SendEnd*> send_end(std::shared_ptr<GpuSlots> slots = nullptr);
  Result<ReceiveEnd*> receive_end(std::shared_ptr<GpuSlots> slots = nullptr);

  // A rail has been up: messages have a way. Or the peer has left already.
  bool made() const { return made_ || ended_; }
  // Not open yet: carries the set-up. True: it has got its socket, and its rails have begun.
  Result<bool> advance_setup(PeerListener& listener);
  // It has its socket: offers its rails.
  Status begin();
  const SocketSetup& setup() const { return *setup_; }
  // Open, not made: an error when the deadline has passed.
  Status check_deadline() const;
  int socket() const { return socket_.get(); }

  void note_readable() { readable_ = true; }
  // Takes words, and moves slots and credits as far as room and credit allow. True: something moved.
  Result<bool> carry();
  // carry() has something to do without waiting for an event.
  bool can_carry();
  // It has something to send and waits for a word of the peer first.
  bool expects_word() const;
  Status complete(const ibv_wc& completion);
  // What a device reports of a port, or of one queue pair (null: of all on that port; port 0: of the whole device).
  Status device_event(const RdmaNic& nic, int port, const ibv_qp* queue_pair, ibv_event_type event, bool down);
  bool flushed() const { return out_ == nullptr || out_->fifo.empty(); }
  // The last words to the peer, as far as they can be said at once: an end in order, or the rank that was lost.
  void say_goodbye();
  void say_lost(int rank);
  // After an error: nothing of the peer's goes into memory of the user any more.
  void end_landings();
  // After an error: the rank that it is about.
  int culprit() const { return culprit_; }

 private:
  struct Flight {
    enum class State : uint8_t { Done, Posted, Lost } state = State::Done;
    uint8_t rail = 0;
    UserMemory::Lease lease = {};  // of a loan, while a device may read it
  };
  struct Out {
    RdmaFifo fifo;
    SendEnd end;
    SimpleReceiver drain;  // progress() takes the slots here
    Loans loans = {};
    uint64_t released = 0;  // positions below have been written, and are free for the lane
    uint64_t posted = 0;    // positions below are written or on their way
    uint64_t credited = 0;  // positions below are free at the peer
    SlotCut peer_cut{};     // of what is at the peer
    std::array<Flight, SimpleMemory::kMostInFlight> flights{};  // of the positions from `released` to `posted`
    int lost = 0;                                               // of them in State::Lost
  };
  // What the peer has told of where messages shall land.
  struct Told {
    LandingTable table;
    std::array<uint64_t, SimpleMemory::kMostInFlight> until{};  // by place: one more than the position of a whole entry
  };
  // What it is told of my landings.
  struct Telling {
    LandingTable table;  // the peer's gets its entries from here
    uint64_t told = 0;   // positions below have been told, or passed over
    int rail = -1;       // all on one, so that none overtakes another; -1: of the next that is up
    bool busy = false;   // the last has not completed
    // By place: what keeps memory registered that the peer may write.
    std::array<std::array<UserMemory::Lease, RdmaLanding::kMostRails>, SimpleMemory::kMostInFlight> leases{};
  };
  struct In {
    RdmaFifo fifo;
    ReceiveEnd end;
    SimpleSender fill;  // progress() publishes here what devices have put in place
    uint64_t published = 0;
    uint64_t credited = 0;  // told to the peer
    enum class Arrival : uint8_t { None, InSlot, Landed };
    std::array<Arrival, SimpleMemory::kMostInFlight> arrived{};  // positions from `published` on
    Landings landings = {};
    std::optional<Telling> telling = {};  // once there is something to tell, and the peer has a table
    bool wants_table = false;             // and has said so
    uint64_t landed = 0;                  // messages, for the log
    bool flush = false;                   // what has arrived has to be flushed before it is published
    uint64_t freed() const { return load_acquire(fifo.memory().heads->value); }  // pairs with SimpleReceiver::release
  };
  // The peer's side of a rail.
  struct Far {
    std::optional<RailOffer> offer;  // not connected to yet
    bool closed = false;             // of the current generation
    bool revive = false;             // the port has come back, or the peer's: worth an offer when this is down
    bool known = false;              // its FIFO, which follows
    uint64_t letters = 0;
    uint32_t key = 0;
    uint64_t slots = 0;  // in memory of a GPU; 0: behind the letters
    uint32_t slots_key = 0;
    uint64_t table = 0;  // of landings
    uint32_t table_key = 0;
  };

  void place_rails();
  Result<RdmaFifo> make_fifo(Flow flow, std::shared_ptr<GpuSlots> slots);
  Status begin_rails();
  Status offer_rail(size_t which);
  Status connect_rail(size_t which);
  void tell_memory();
  // The rail has failed here, or the peer's end has. An error: no way is left.
  Status close_rail(size_t which, std::string cause, uint32_t status);
  void settle_rail(size_t which);
  Status revive_rails();
  Status no_way_left(const std::string& cause);

  Result<bool> take_words();
  Status take_word(const RdmaWord& word);
  Status lost(uint32_t rank);
  void say(const RdmaWord& word);
  void flush_words();
  Status gone() const;

  Result<bool> push();
  bool has_room(uint64_t position, const SlotCut& cut);
  // `landing`: where its payload goes; null: into its slot.
  Status post(size_t which, uint64_t position, const SlotCut& cut, const RdmaLanding* landing);
  const std::byte* payload_of(uint64_t position, const RdmaNic& nic, UserMemory::Lease& lease);
  Result<bool> push_credit();
  // Landings, of messages out and of messages in.
  Status make_table();
  const RdmaLanding* landing_of(uint64_t position, const SlotDescriptor& slot, size_t which) const;
  Result<bool> tell_landings();
  bool write_entry(uint64_t position);
  // The next rail in turn that is up and that can reach the peer's memory; -1: none.
  int next_rail(bool for_message);
  void release_done();

  Status take_immediate(uint32_t immediate);
  Status take_message(uint64_t position, bool landed);
  void take_landings(uint32_t number);
  Status publish_arrived();
  Status publish_flushed();
  void take_credit(uint64_t credit);

  Role role_;
  int culprit_ = role_.peer;
  std::optional<SocketSetup> setup_;  // until it has its socket
  Deadline deadline_;
  UniqueFd socket_;
  bool readable_ = false;
  bool made_ = false;
  bool ended_ = false;  // the peer has said farewell
  bool told_memory_ = false;
  std::vector<std::byte> unsaid_;  // words that the socket had no room for
  std::array<std::byte, sizeof(RdmaWord)> word_;
  size_t word_got_ = 0;

  std::unique_ptr<Out> out_;
  std::unique_ptr<In> in_;
  std::optional<Told> told_;    // once the peer has asked for a table
  std::deque<RdmaRail> rails_;  // after the memory that they write: queue pairs go first
  std::vector<Far> far_;        // by rail
  size_t turn_ = 0;             // of the rails, for messages
};

}  // namespace tutti
