// SPDX-License-Identifier: Apache-2.0
// TcpConnection: one socket between two ranks and the FIFOs at this end (tcp_transport.h).
//
// On the wire, each direction: messages of a header and its payload, and a last header, the farewell.
//
//   header   bytes  flag  cut.bytes  cut.count     64 bits each, the hosts' byte order (init compares it)
//   goodbye  0      0     0          0             no flag of a slot is 0 (make_flag)
//   lost     1      0     a rank     0             I have failed, because of that rank
//
// A stream that ends after a goodbye is an end; one that ends without a farewell is a failure of the peer. A rank that
// fails tells its peers at once whom it lost, they tell theirs, and so on: all name the same rank, also those that have
// no connection to it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/handle.h"
#include "proto/slots.h"
#include "transports/arena.h"
#include "transports/network.h"
#include "transports/transport.h"

namespace tutti {

struct TcpHeader {
  uint64_t bytes = 0;
  uint64_t flag = 0;
  SlotCut cut;
};
static_assert(sizeof(TcpHeader) == 32);

// A FIFO in memory of this process, between a lane and progress(). Allocated when its end is first asked for.
class LocalFifo {
 public:
  // `rotation` spreads the counters of many FIFOs, which progress() polls in turn, over the sets of the L1 cache.
  static Result<LocalFifo> create(uint64_t capacity, uint64_t rotation);
  const SimpleMemory& memory() const { return memory_; }
  std::span<std::byte> mapped() const { return {mapping_.base(), mapping_.bytes()}; }
  // Of the slots that are not released, if there are any: the sender drains before it cuts anew.
  const SlotCut& cut() const { return memory_.tail->cut; }
  bool empty() const { return load_relaxed(memory_.tail->value) == load_relaxed(memory_.heads->value); }

 private:
  Mapping mapping_;
  SimpleMemory memory_;
};

class TcpConnection {
 public:
  struct Role {
    int peer = 0;
    uint32_t purpose = 0;  // of the handshake; tells the connections of a pair apart
    std::string label;     // "rank 3 (node7, process 4242) at 192.0.2.1:4000"
    uint64_t capacity = 0;
    int me = 0;
    const std::vector<NetworkPeer>* peers = nullptr;  // of the transport
  };
  TcpConnection(Role role, SocketSetup setup);
  // Open from the start, over a socket whose handshake is done.
  TcpConnection(Role role, UniqueFd socket);

  Result<SendEnd*> send_end();
  Result<ReceiveEnd*> receive_end();

  // Not open yet: carries the set-up. True: it has got its socket.
  Result<bool> advance_setup(PeerListener& listener);
  const SocketSetup& setup() const { return *setup_; }
  int socket() const { return socket_.get(); }

  // What the event set says about the socket.
  void note_events(uint32_t epoll_events);
  // A lane waits for the next bytes: to try to read them costs what asking the event set costs, and finds them at once.
  bool awaited() const;
  void try_reading() { readable_ = true; }
  // Slots wait for room in the kernel's buffer, of which an event will tell.
  bool stuck() const { return !writable_ && !flushed(); }
  // What to poll for: 0 if nothing that may happen to the socket lets carry() do more.
  short wanted_events() const;
  bool can_send() const { return writable_ && !flushed(); }
  // Moves slots both ways as far as sockets and FIFOs allow. True: something moved.
  Result<bool> carry();
  // carry() has something to do without waiting for an event.
  bool can_carry();
  bool flushed() const { return out_ == nullptr || out_->fifo.empty(); }
  // The last words to the peer, as far as they can be said at once: an end in order, or the rank that was lost.
  void say_goodbye();
  void say_lost(int rank);
  // After an error: the rank that it is about.
  int culprit() const { return culprit_; }

 private:
  struct Out {
    LocalFifo fifo;
    SendEnd end;
    SimpleReceiver drain;  // progress() takes the slots here
    Loans loans = {};
    uint64_t sent_head = 0;  // bytes of the next message that the kernel has taken
  };
  struct In {
    LocalFifo fifo;
    ReceiveEnd end;
    SimpleSender fill;  // progress() puts the slots here
    Landing landing = {};
  };
  // What the next bytes of the stream are.
  enum class Expect : uint8_t {
    Header,
    Room,  // the header is there; its slot is not free yet, or the receiving end has not been asked for
    Payload,
    Nothing,  // the peer has said farewell
  };

  // Expect::Room: the header's slot is free.
  bool has_room() { return in_ != nullptr && in_->fill.cut(header_.cut) && in_->fill.has_room(); }
  void begin_payload();
  const std::byte* payload_of(uint64_t ahead) const;
  // One system call for up to `messages` slots. Bytes sent, 0 if the socket is full.
  Result<uint64_t> send_slots(uint64_t messages);
  Result<bool> push();
  Result<bool> pull();
  Status take_header();
  Status lost(uint64_t rank);
  bool can_say_farewell() const;
  void say(const TcpHeader& farewell);
  // One recvmsg: the rest of a payload, then the stage. 0: nothing there now.
  Result<size_t> receive(std::byte* payload, uint64_t payload_bytes);
  Status failure(std::string_view call) const;

  Role role_;
  int culprit_ = role_.peer;
  std::optional<SocketSetup> setup_;  // until it has its socket
  UniqueFd socket_;
  bool readable_ = true, writable_ = true;  // until the kernel says otherwise
  bool hung_up_ = false;                    // the stream's end has come: read up to it

  std::unique_ptr<Out> out_;
  std::unique_ptr<In> in_;
  Expect expect_ = Expect::Header;
  TcpHeader header_;                 // Room, Payload: of the current message
  uint64_t arrived_ = 0;             // messages whose header has been taken
  std::byte* payload_to_ = nullptr;  // Payload: where it goes
  uint64_t payload_got_ = 0;

  // Bytes that came with what was asked for. Small messages pass through here, several per system call; of a large one
  // at most this much is copied twice.
  static constexpr size_t kStageBytes = 4096;
  std::array<std::byte, kStageBytes> stage_;
  size_t stage_begin_ = 0, stage_end_ = 0;
};

}  // namespace tutti
