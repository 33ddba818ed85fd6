// SPDX-License-Identifier: Apache-2.0
// The set-up of a connection, the movement of its slots, and what becomes of them when a rail fails
// (rdma_connection.h).
#include "transports/rdma/rdma_connection.h"

#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/log.h"

namespace tutti {
namespace {

constexpr size_t kMostRails = RdmaLanding::kMostRails;  // chosen: the ports of a host for training, a queue pair each
// Immediates: a message that is in its slot, one that has landed, a credit, and landings that are told.
constexpr uint32_t kMessage = 0u << 30, kLandedMessage = 1u << 30, kCredit = 2u << 30, kLandings = 3u << 30;
constexpr uint32_t kKindMask = 3u << 30, kNumberMask = ~kKindMask;
// The number of landings: of how many positions, less one, and which is the first.
constexpr int kFirstBits = 24;
constexpr uint64_t kMostTold = 16;  // chosen: 1 KiB, and more than the slots that most plans use
static_assert(kMostTold <= 1u << (30 - kFirstBits));
// RdmaWord::status beside ibv_wc_status.
// Beyond ibv_wc_status: this plus an ibv_event_type; a call to the device failed; the peer had closed first.
constexpr uint32_t kClosedByEvent = 1000, kClosedByCall = 1100, kClosedFollowing = 1101;

// Of a Closed word: one of those above.
bool known_cause(uint32_t status) {
  if (status < kClosedByEvent) return status <= IBV_WC_TM_RNDV_INCOMPLETE;
  if (status < kClosedByCall) return status - kClosedByEvent <= IBV_EVENT_WQ_FATAL;
  return status <= kClosedFollowing;
}

// The 64-bit number next to `near` whose low bits these are.
uint64_t widen(uint32_t low, uint64_t near, int bits = 30) {
  const uint64_t span = uint64_t{1} << bits;
  const uint64_t ahead = (low - near) & (span - 1);
  return ahead < span / 2 ? near + ahead : near + ahead - span;
}

std::string cause_of(const verbs::VerbsApi& api, uint32_t status, uint32_t vendor) {
  const char* const words = api.wc_status_str(static_cast<ibv_wc_status>(status));
  switch (status) {
    case IBV_WC_RETRY_EXC_ERR:
      return fmt::format(
          "{}: nothing came back in time (TUTTI_RDMA_TIMEOUT, TUTTI_RDMA_RETRY_COUNT); is the cable or a "
          "switch down, or is the address of another network (TUTTI_RDMA_GID_INDEX)?",
          words);
    case IBV_WC_REM_ACCESS_ERR:
      return fmt::format("{}: the memory there is no longer registered; has that process failed?", words);
    default:
      return fmt::format("{} (status {}, vendor's {})", words, status, vendor);
  }
}

// What it told of its end in a Closed word.
std::string cause_at_peer(const verbs::VerbsApi& api, uint32_t status) {
  if (status < kClosedByEvent) return "the peer's device says: " + cause_of(api, status, 0);
  if (status < kClosedByCall)
    return fmt::format("the peer's device reports: {}",
                       api.event_type_str(static_cast<ibv_event_type>(status - kClosedByEvent)));
  return "the peer could not use its end; its own output says why";
}

}  // namespace

Result<RdmaRegions> RdmaRegions::create(std::byte* base, uint64_t bytes, const std::deque<RdmaRail>& rails,
                                        RdmaNic::Access access) {
  RdmaRegions made;
  for (const RdmaRail& rail : rails) {
    if (made.of(rail.nic()) != nullptr) continue;
    TUTTI_ASSIGN_OR_RETURN(verbs::MemoryRegion region, rail.nic().register_memory(base, bytes, access));
    made.regions_.emplace_back(&rail.nic(), std::move(region));
  }
  return made;
}

Result<RdmaRegions> RdmaRegions::create(const GpuSlots& slots, RdmaGpu& gpu, const std::deque<RdmaRail>& rails,
                                        RdmaNic::Access access, std::string& how) {
  RdmaRegions made;
  for (const RdmaRail& rail : rails) {
    if (made.of(rail.nic()) != nullptr) continue;
    TUTTI_ASSIGN_OR_RETURN(RdmaGpu::Attached attached, gpu.attach(rail.nic(), slots, access));
    how += (how.empty() ? "" : ", ") + attached.how;
    made.regions_.emplace_back(&rail.nic(), std::move(attached.region));
  }
  return made;
}

const ibv_mr* RdmaRegions::of(const RdmaNic& nic) const {
  const auto found = std::find_if(regions_.begin(), regions_.end(), [&](const auto& one) { return one.first == &nic; });
  return found != regions_.end() ? found->second.get() : nullptr;
}

Result<RdmaFifo> RdmaFifo::create(uint64_t capacity, const std::deque<RdmaRail>& rails) {
  RdmaFifo fifo;
  TUTTI_TRY(fifo.place(capacity, rails));
  return fifo;
}

Result<RdmaFifo> RdmaFifo::create(uint64_t capacity, const std::deque<RdmaRail>& rails, std::shared_ptr<GpuSlots> slots,
                                  RdmaRegions regions) {
  RdmaFifo fifo;
  fifo.slots_ = std::move(slots);
  fifo.slot_regions_ = std::move(regions);
  TUTTI_TRY(fifo.place(capacity, rails));
  return fifo;
}

Status RdmaFifo::place(uint64_t capacity, const std::deque<RdmaRail>& rails) {
  TUTTI_ASSIGN_OR_RETURN(mapping_, Mapping::anonymous(kPageBytes + kLettersBytes + (on_gpu() ? 0 : capacity)));
  std::byte* const base = mapping_.base();
  // Counters and descriptors are this process's alone; what devices reach begins with the letters.
  memory_ = {.tail = reinterpret_cast<TailLine*>(base),
             .heads = reinterpret_cast<CounterLine*>(base + sizeof(TailLine)),
             .readers = 1,
             .descriptors = reinterpret_cast<SlotDescriptor*>(base + sizeof(TailLine) + sizeof(CounterLine)),
             .slots = on_gpu() ? slots_->base() : base + kPageBytes + kLettersBytes,
             .capacity = capacity};
  static_assert(sizeof(TailLine) + sizeof(CounterLine) + SimpleMemory::kMostInFlight * sizeof(SlotDescriptor) <=
                kPageBytes);
  // A forked child must not share the pages: the parent's next write would move it to copies that no device knows.
  if (::madvise(letters(), registered_bytes(), MADV_DONTFORK) != 0)
    return errno_status("madvise(MADV_DONTFORK)", "the slots of a connection");
  TUTTI_ASSIGN_OR_RETURN(regions_,
                         RdmaRegions::create(letters(), registered_bytes(), rails, RdmaNic::Access::PeersWrite));
  return {};
}

Result<LandingTable> LandingTable::create(const std::deque<RdmaRail>& rails, RdmaNic::Access access) {
  constexpr uint64_t kBytes = SimpleMemory::kMostInFlight * sizeof(RdmaLanding);
  static_assert(kBytes % kPageBytes == 0);
  LandingTable table;
  TUTTI_ASSIGN_OR_RETURN(table.mapping_, Mapping::anonymous(kBytes));
  if (::madvise(table.mapping_.base(), kBytes, MADV_DONTFORK) != 0)  // as above
    return errno_status("madvise(MADV_DONTFORK)", "the landings of a connection");
  TUTTI_ASSIGN_OR_RETURN(table.regions_, RdmaRegions::create(table.mapping_.base(), kBytes, rails, access));
  return table;
}

RdmaConnection::RdmaConnection(Role role, SocketSetup setup, Deadline deadline)
    : role_(std::move(role)), setup_(std::move(setup)), deadline_(deadline) {
  place_rails();
}

RdmaConnection::RdmaConnection(Role role, UniqueFd socket)
    : role_(std::move(role)), deadline_(Deadline::never()), socket_(std::move(socket)) {
  place_rails();
}

RdmaConnection::~RdmaConnection() {
  if (in_ != nullptr && in_->landed > 0)
    log_info(Subsystem::Transport, "RDMA from {}: {} of {} messages were written to where they stay", role_.label,
             in_->landed, in_->published);
}

// Down, all of them.
void RdmaConnection::place_rails() {
  const std::vector<RdmaPort>& mine = role_.devices->ports();
  const std::vector<RdmaPort>& theirs = (*role_.peers)[static_cast<size_t>(role_.peer)].ports;
  const bool lower = role_.me < role_.peer;
  const std::vector<PortPair> pairs = lower ? pair_ports(mine, theirs) : pair_ports(theirs, mine);
  const size_t each = static_cast<size_t>(role_.settings->queue_pairs);
  const size_t count = std::min(pairs.size() * each, kMostRails);
  // Connections begin with different pairs, so that few of them use all ports.
  for (size_t i = 0; i < count; ++i) {
    const PortPair& pair = pairs[(role_.turn + i) % pairs.size()];
    rails_.emplace_back(RdmaRail::Place{.devices = role_.devices,
                                        .settings = role_.settings,
                                        .port = lower ? pair.lower : pair.higher,
                                        .theirs = theirs[static_cast<size_t>(lower ? pair.higher : pair.lower)],
                                        .connection = role_.index,
                                        .number = static_cast<uint8_t>(i),
                                        .capacity = role_.capacity});
  }
  far_.resize(rails_.size());
}

// In memory of the GPU if that is offered and all devices take it, else in the host's.
Result<RdmaFifo> RdmaConnection::make_fifo(Flow flow, std::shared_ptr<GpuSlots> slots) {
  RdmaGpu* const gpu = role_.gpu;
  const char* const way = flow == Flow::Out ? "to" : "from";
  if (slots != nullptr && gpu != nullptr && gpu->wanted(flow) && slots->bytes() >= role_.capacity) {
    std::string how;
    Result<RdmaRegions> regions = RdmaRegions::create(
        *slots, *gpu, rails_, flow == Flow::In ? RdmaNic::Access::PeersWrite : RdmaNic::Access::Read, how);
    slots->registered();
    if (regions.ok()) {
      log_info(Subsystem::Transport, "RDMA {} {}: slots in memory of {}: {}{}", way, role_.label, gpu->name(), how,
               flow == Flow::In && gpu->flushes() ? "; what arrives is flushed" : "");
      return RdmaFifo::create(role_.capacity, rails_, std::move(slots), std::move(*regions));
    }
  }
  if (gpu != nullptr && !gpu->name().empty())
    log_info(Subsystem::Transport, "RDMA {} {}: slots of {} are staged in memory of the host: {}", way, role_.label,
             gpu->name(), gpu->why_staged(flow).empty() ? "none of its memory was offered" : gpu->why_staged(flow));
  return RdmaFifo::create(role_.capacity, rails_);
}

Result<SendEnd*> RdmaConnection::send_end(std::shared_ptr<GpuSlots> slots) {
  if (out_ == nullptr) {
    TUTTI_ASSIGN_OR_RETURN(RdmaFifo fifo, make_fifo(Flow::Out, std::move(slots)));
    const SimpleMemory memory = fifo.memory();
    out_ = std::make_unique<Out>(Out{.fifo = std::move(fifo),
                                     .end = {.simple = SimpleSender(memory), .ll = {}, .capacity = role_.capacity},
                                     .drain = SimpleReceiver(memory, 0)});
    out_->end.slots_on_gpu = out_->fifo.on_gpu();
    if (!out_->fifo.on_gpu()) out_->end.loans = &out_->loans;
    out_->end.mapped = out_->fifo.mapped();
  }
  return &out_->end;
}

Result<ReceiveEnd*> RdmaConnection::receive_end(std::shared_ptr<GpuSlots> slots) {
  if (in_ == nullptr) {
    TUTTI_ASSIGN_OR_RETURN(RdmaFifo fifo, make_fifo(Flow::In, std::move(slots)));
    const SimpleMemory memory = fifo.memory();
    in_ = std::make_unique<In>(In{.fifo = std::move(fifo),
                                  .end = {.simple = SimpleReceiver(memory, 0), .ll = {}, .capacity = role_.capacity},
                                  .fill = SimpleSender(memory)});
    in_->end.slots_on_gpu = in_->fifo.on_gpu();
    in_->flush = in_->fifo.on_gpu() && role_.gpu->flushes();
    if (!in_->fifo.on_gpu()) in_->end.landings = &in_->landings;
    in_->end.mapped = in_->fifo.mapped();
    tell_memory();
  }
  return &in_->end;
}

// --- set-up ---

Result<bool> RdmaConnection::advance_setup(PeerListener& listener) {
  TUTTI_ASSIGN_OR_RETURN(socket_, setup_->advance(listener));
  if (!socket_) return false;
  setup_.reset();
  TUTTI_TRY(begin());
  return true;
}

Status RdmaConnection::begin() {
  readable_ = true;
  TUTTI_TRY(begin_rails());
  tell_memory();
  return {};
}

Status RdmaConnection::check_deadline() const { return deadline_.passed() ? late_error(role_.label) : Status(); }

// Those whose port is up; the others wait for that (device_event).
Status RdmaConnection::begin_rails() {
  Status refused;
  for (size_t which = 0; which < rails_.size(); ++which)
    if (Status offered = offer_rail(which); !offered.ok()) refused = std::move(offered);
  const bool any = std::any_of(rails_.begin(), rails_.end(), [](const RdmaRail& rail) { return rail.alive(); });
  return any ? Status() : no_way_left(refused.message());
}

Status RdmaConnection::offer_rail(size_t which) {
  TUTTI_ASSIGN_OR_RETURN(const RailOffer offer, rails_[which].offer());
  far_[which].closed = far_[which].revive = false;
  say({.kind = RdmaWord::Kind::Offer, .rail = static_cast<uint32_t>(which), .offer = offer});
  return connect_rail(which);
}

// Once both have offered.
Status RdmaConnection::connect_rail(size_t which) {
  RdmaRail& rail = rails_[which];
  Far& far = far_[which];
  if (rail.phase() != RdmaRail::Phase::Offered || !far.offer) return {};
  if (far.offer->generation != rail.generation())
    return error(Code::InternalError, "rdma: {} counts {} queue pairs of {}, this rank {}", role_.label,
                 far.offer->generation, rail.text(), rail.generation());
  const Status connected = rail.connect(*far.offer);
  far.offer.reset();
  far.revive = false;  // from here on only a port that comes back is worth another try
  if (!connected.ok()) return close_rail(which, connected.message(), kClosedFollowing);
  say({.kind = RdmaWord::Kind::Ready,
       .rail = static_cast<uint32_t>(which),
       .offer = {.generation = rail.generation()}});
  return {};
}

void RdmaConnection::tell_memory() {
  if (in_ == nullptr || setup_ || told_memory_) return;
  told_memory_ = true;
  for (size_t which = 0; which < rails_.size(); ++which) {
    if (in_->fifo.on_gpu())
      say({.kind = RdmaWord::Kind::Slots,
           .rail = static_cast<uint32_t>(which),
           .key = in_->fifo.slot_region(rails_[which].nic()).rkey,
           .address = reinterpret_cast<uint64_t>(in_->fifo.memory().slots),
           .bytes = role_.capacity});
    say({.kind = RdmaWord::Kind::Memory,
         .rail = static_cast<uint32_t>(which),
         .key = in_->fifo.region(rails_[which].nic()).rkey,
         .address = reinterpret_cast<uint64_t>(in_->fifo.letters()),
         .bytes = in_->fifo.registered_bytes()});
  }
}

// --- rails that fail ---

Status RdmaConnection::close_rail(size_t which, std::string cause, uint32_t status) {
  RdmaRail& rail = rails_[which];
  if (!rail.alive()) return {};
  rail.close();
  if (ended_) return flushed() ? Status() : left_error(role_.label);  // nobody is there to write it to again
  say({.kind = RdmaWord::Kind::Closed,
       .rail = static_cast<uint32_t>(which),
       .offer = {.generation = rail.generation()},
       .status = status});
  if (far_[which].closed) settle_rail(which);
  const auto left = std::count_if(rails_.begin(), rails_.end(), [](const RdmaRail& one) { return one.alive(); });
  if (left == 0) return no_way_left(fmt::format("{}: {}", rail.text(), cause));
  log_warn(Subsystem::Transport, "RDMA to {} goes on without {} ({} of {} ways are left): {}", role_.label, rail.text(),
           left, rails_.size(), cause);
  return {};
}

// Both ends are closed: what was on its way on this rail may be written again.
void RdmaConnection::settle_rail(size_t which) {
  rails_[which].settle();
  if (in_ != nullptr) {
    in_->credited = 0;  // a credit may be lost: tell all again
    // Landings that are lost are not missed. Nothing of theirs can come any more: another rail may go on.
    if (in_->telling && in_->telling->rail == static_cast<int>(which)) {
      in_->telling->rail = -1;
      in_->telling->busy = false;
    }
  }
  if (out_ == nullptr) return;
  for (uint64_t position = out_->released; position < out_->posted; ++position) {
    Flight& flight = out_->flights[position % SimpleMemory::kMostInFlight];
    if (flight.state != Flight::State::Posted || flight.rail != which) continue;
    flight.state = Flight::State::Lost;
    ++out_->lost;
  }
}

// Offers again what is down, once nothing of the last queue pairs is to be heard of at both ends.
Status RdmaConnection::revive_rails() {
  for (size_t which = 0; which < rails_.size(); ++which) {
    Far& far = far_[which];
    if (!far.revive || !rails_[which].can_offer() || (rails_[which].generation() != 0 && !far.closed)) continue;
    far.revive = false;
    const Status offered = offer_rail(which);
    if (offered.ok()) continue;
    if (!rails_[which].can_offer()) return offered;
    log_info(Subsystem::Transport, "RDMA to {}: {}", role_.label, offered.message());  // its port is down here
  }
  return {};
}

Status RdmaConnection::no_way_left(const std::string& cause) {
  // Perhaps the peer has ended: its last words, or the end of its socket, say more than a queue pair can.
  if (!setup_) {
    readable_ = true;
    const Result<bool> heard = take_words();
    if (!heard.ok() && culprit_ != role_.me) return heard.status();
    if (heard.ok() && ended_) return flushed() ? Status() : left_error(role_.label);
    culprit_ = role_.peer;  // which cannot reach this rank either, and says so: the cause says more
  }
  return remote_error("{} can no longer be reached over RDMA: {}", role_.label, cause);
}

Status RdmaConnection::device_event(const RdmaNic& nic, int port, const ibv_qp* queue_pair, ibv_event_type event,
                                    bool down) {
  for (size_t which = 0; which < rails_.size(); ++which) {
    RdmaRail& rail = rails_[which];
    if (&rail.nic() != &nic || (queue_pair != nullptr && rail.queue_pair() != queue_pair)) continue;
    if (queue_pair == nullptr && port != 0 && rail.port().number != port) continue;
    if (!down) {
      far_[which].revive = true;  // also of one that has not yet failed for it
      continue;
    }
    // A port that is down may come back before the device gives up: only with another way left is it not waited for.
    const auto others = std::count_if(rails_.begin(), rails_.end(), [&](const RdmaRail& one) {
      return &one != &rail && one.phase() == RdmaRail::Phase::Up;
    });
    if (others > 0 || queue_pair != nullptr || port == 0)
      TUTTI_TRY(close_rail(which, nic.api().event_type_str(event), kClosedByEvent + static_cast<uint32_t>(event)));
  }
  return {};
}

// --- words ---

void RdmaConnection::say(const RdmaWord& word) {
  if (setup_ || ended_) return;
  const auto* const raw = reinterpret_cast<const std::byte*>(&word);
  unsaid_.insert(unsaid_.end(), raw, raw + sizeof word);
  flush_words();
}

void RdmaConnection::flush_words() {
  while (!unsaid_.empty()) {
    const ssize_t sent = ::send(socket_.get(), unsaid_.data(), unsaid_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) return;
    if (sent < 0) {  // it hears nothing any more: what it said last, perhaps a goodbye, is still to be read
      unsaid_.clear();
      readable_ = true;
      return;
    }
    unsaid_.erase(unsaid_.begin(), unsaid_.begin() + sent);
  }
}

Status RdmaConnection::gone() const {
  return remote_error(
      "{} closed its RDMA connection without a goodbye: its process ended or failed; see its own output", role_.label);
}

Result<bool> RdmaConnection::take_words() {
  bool moved = false;
  while (readable_ && !ended_) {
    const ssize_t got = ::recv(socket_.get(), word_.data() + word_got_, word_.size() - word_got_, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) {
      readable_ = false;
      break;
    }
    if (got <= 0) return gone();
    word_got_ += static_cast<size_t>(got);
    if (word_got_ < word_.size()) continue;
    word_got_ = 0;
    RdmaWord word;
    std::memcpy(&word, word_.data(), sizeof word);
    TUTTI_TRY(take_word(word));
    moved = true;
  }
  if (ended_) socket_.reset();  // it would stay readable for ever
  return moved;
}

// Nothing in it is believed before it is checked.
Status RdmaConnection::take_word(const RdmaWord& word) {
  const Status impossible = remote_error(
      "{} sent an impossible word over RDMA's socket (kind {}, rail {} of {}, generation {}, {} bytes): do "
      "both run the same version with the same TUTTI_BUFFER_BYTES?",
      role_.label, static_cast<uint32_t>(word.kind), word.rail, rails_.size(), word.offer.generation, word.bytes);
  const bool about_a_rail = word.kind != RdmaWord::Kind::Goodbye && word.kind != RdmaWord::Kind::Lost &&
                            word.kind != RdmaWord::Kind::WantTable;
  if (about_a_rail && word.rail >= rails_.size()) return impossible;
  RdmaRail* const rail = about_a_rail ? &rails_[word.rail] : nullptr;
  Far* const far = about_a_rail ? &far_[word.rail] : nullptr;
  switch (word.kind) {
    case RdmaWord::Kind::Offer:
      if (far->offer || word.offer.mtu < 256) return impossible;
      far->offer = word.offer;
      // Its port has come back: an offer of mine makes it a rail, if my port is up as well.
      far->revive = true;
      return connect_rail(word.rail);
    case RdmaWord::Kind::Ready:
      if (word.offer.generation != rail->generation()) return impossible;
      if (rail->phase() != RdmaRail::Phase::Connected) return rail->alive() ? impossible : Status();
      rail->peer_ready();
      made_ = true;
      log_info(Subsystem::Transport, "RDMA to {}: {} is up", role_.label, rail->text());
      return {};
    case RdmaWord::Kind::Memory:
      if (far->known || word.bytes != RdmaFifo::kLettersBytes + (far->slots != 0 ? 0 : role_.capacity))
        return impossible;
      far->known = true;
      far->letters = word.address;
      far->key = word.key;
      return {};
    case RdmaWord::Kind::Slots:
      if (far->known || far->slots != 0 || word.address == 0 || word.bytes != role_.capacity) return impossible;
      far->slots = word.address;
      far->slots_key = word.key;
      return {};
    case RdmaWord::Kind::Closed: {
      if (!known_cause(word.status)) return impossible;
      if (far->offer && word.offer.generation == rail->generation() + 1 && !rail->alive()) {
        // An offer that this rank could not take up, its own port being down, and that is withdrawn.
        far->offer.reset();
        far->closed = true;
        rail->skip_generation();
        say({.kind = RdmaWord::Kind::Closed,
             .rail = word.rail,
             .offer = {.generation = rail->generation()},
             .status = kClosedFollowing});
        return {};
      }
      if (word.offer.generation != rail->generation() || far->closed) return impossible;
      far->closed = true;
      far->offer.reset();
      if (rail->phase() == RdmaRail::Phase::Closing) {
        settle_rail(word.rail);
        return {};
      }
      return close_rail(word.rail, cause_at_peer(rail->nic().api(), word.status), kClosedFollowing);
    }
    case RdmaWord::Kind::Goodbye:
      ended_ = true;
      return {};
    case RdmaWord::Kind::Lost:
      if (word.rank >= role_.peers->size()) return impossible;
      ended_ = true;
      return lost(word.rank);
    case RdmaWord::Kind::WantTable:
      if (told_) return impossible;
      return make_table();
    case RdmaWord::Kind::Table:
      if (in_ == nullptr || !in_->wants_table || far->table != 0 || word.address == 0) return impossible;
      far->table = word.address;
      far->table_key = word.key;
      return {};
  }
  return impossible;
}

// The peer has failed, and says because of whom.
Status RdmaConnection::lost(uint32_t rank) {
  culprit_ = static_cast<int>(rank);
  return lost_error(role_.me, role_.peer, role_.label, culprit_, (*role_.peers)[rank].label);
}

void RdmaConnection::say_goodbye() {
  if (flushed()) say({.kind = RdmaWord::Kind::Goodbye});
}

void RdmaConnection::end_landings() {
  if (in_ == nullptr || !in_->telling) return;
  for (RdmaRail& rail : rails_)
    if (rail.alive()) rail.close();
}

void RdmaConnection::say_lost(int rank) { say({.kind = RdmaWord::Kind::Lost, .rank = static_cast<uint32_t>(rank)}); }

// --- messages out ---

bool RdmaConnection::expects_word() const {
  const bool unsettled = std::any_of(rails_.begin(), rails_.end(), [](const RdmaRail& rail) {
    return rail.phase() == RdmaRail::Phase::Closing || rail.phase() == RdmaRail::Phase::Offered ||
           rail.phase() == RdmaRail::Phase::Connected;
  });
  const bool no_table = in_ != nullptr && in_->wants_table && far_.front().table == 0;
  return !ended_ && (unsettled || !made_ || no_table || (!flushed() && !far_.front().known));
}

Result<bool> RdmaConnection::carry() {
  if (!unsaid_.empty() && !ended_) flush_words();
  TUTTI_ASSIGN_OR_RETURN(const bool heard, take_words());
  TUTTI_TRY(publish_flushed());
  if (!ended_) TUTTI_TRY(revive_rails());
  TUTTI_ASSIGN_OR_RETURN(const bool pushed, push());
  TUTTI_ASSIGN_OR_RETURN(const bool told, tell_landings());
  TUTTI_ASSIGN_OR_RETURN(const bool credited, push_credit());
  return heard || pushed || told || credited;
}

bool RdmaConnection::can_carry() {
  if (readable_ && !ended_) return true;
  if (out_ == nullptr || next_rail(true) < 0) return false;
  const uint64_t tail = load_acquire(out_->fifo.memory().tail->value);
  return out_->lost > 0 || (out_->posted < tail && has_room(out_->posted, out_->fifo.cut()));
}

int RdmaConnection::next_rail(bool for_message) {
  for (size_t tries = 0; tries < rails_.size(); ++tries) {
    const size_t which = turn_++ % rails_.size();
    if (rails_[which].phase() != RdmaRail::Phase::Up) continue;
    if (for_message ? far_[which].known : rails_[which].can_post_credit()) return static_cast<int>(which);
  }
  return -1;
}

// The peer's slots obey the same rule as a FIFO's own: a new cut when all of the last are free.
bool RdmaConnection::has_room(uint64_t position, const SlotCut& cut) {
  if (out_->peer_cut != cut) {
    if (out_->credited != position) return false;
    out_->peer_cut = cut;
  }
  return position - out_->credited < cut.count;
}

Result<bool> RdmaConnection::push() {
  if (out_ == nullptr) return false;
  Out& out = *out_;
  // What is on its way may have arrived: its completion tells.
  if (ended_ && (out.lost > 0 || out.posted < load_acquire(out.fifo.memory().tail->value)))
    return left_error(role_.label);
  bool moved = false;
  for (uint64_t position = out.released; out.lost > 0 && position < out.posted; ++position) {
    Flight& flight = out.flights[position % SimpleMemory::kMostInFlight];
    if (flight.state != Flight::State::Lost) continue;
    if (position < out.credited) {  // it had arrived, and has been used
      flight.state = Flight::State::Done;
      --out.lost;
      continue;
    }
    const int which = next_rail(true);
    if (which < 0) return moved;
    --out.lost;
    TUTTI_TRY(post(static_cast<size_t>(which), position, out.fifo.cut(), nullptr));
    moved = true;
  }
  release_done();
  const uint64_t tail = out.released + out.drain.readable();
  if (out.posted == tail) return moved;
  const SlotCut cut = out.fifo.cut();  // after the tail: a sender that had nothing here may just have cut anew
  out.drain.cut(cut);
  while (out.posted < tail && has_room(out.posted, cut)) {
    const int which = next_rail(true);
    if (which < 0) return moved;
    const uint64_t position = out.posted++;
    const SlotDescriptor& slot = out.drain.descriptor(position - out.released);
    TUTTI_TRY(post(static_cast<size_t>(which), position, cut, landing_of(position, slot, static_cast<size_t>(which))));
    moved = true;
  }
  return moved;
}

// From where a message's bytes leave: its slot; or where they are lent, with a lease, if the device may read them
// there. Else they are copied to their slot here, instead of by the lane.
const std::byte* RdmaConnection::payload_of(uint64_t position, const RdmaNic& nic, UserMemory::Lease& lease) {
  Out& out = *out_;
  const uint64_t ahead = position - out.released;
  const std::byte* const lent = out.loans.at[out.drain.place(ahead)];
  auto* const slot = const_cast<std::byte*>(out.drain.slot(ahead));
  if (lent == nullptr) return slot;
  const uint64_t bytes = out.drain.descriptor(ahead).bytes;
  if (bytes > kLetterPayload) lease = role_.user_memory->lease(nic, lent, bytes);
  if (lease != nullptr) return lent;
  std::memcpy(slot, lent, bytes);
  return slot;
}

Status RdmaConnection::post(size_t which, uint64_t position, const SlotCut& cut, const RdmaLanding* landing) {
  Out& out = *out_;
  RdmaRail& rail = rails_[which];
  out.drain.cut(cut);
  const uint64_t ahead = position - out.released;
  const SlotDescriptor& slot = out.drain.descriptor(ahead);
  const Far& far = far_[which];
  // The CPU touches no payload that comes from a GPU's memory, or goes there.
  const bool in_letter = slot.bytes <= kLetterPayload && !out.fifo.on_gpu() && far.slots == 0;
  RdmaHeader header{
      .bytes = static_cast<uint32_t>(slot.bytes), .in_letter = in_letter ? 1U : 0U, .flag = slot.flag, .cut = cut};
  if (in_ != nullptr) header.credit = in_->credited = in_->freed();
  std::byte* const letter = out.fifo.letter(position);
  UserMemory::Lease lease;
  const std::byte* const payload = payload_of(position, rail.nic(), lease);
  std::memcpy(letter, &header, sizeof header);
  if (in_letter) std::memcpy(letter + sizeof header, payload, slot.bytes);

  const uint32_t letters_key = out.fifo.region(rail.nic()).lkey;
  const uint64_t remote_letter = far.letters + static_cast<uint64_t>(letter - out.fifo.letters());
  const uint64_t remote_slot = (far.slots != 0 ? far.slots : far.letters + RdmaFifo::kLettersBytes) +
                               static_cast<uint64_t>(out.drain.slot(ahead) - out.fifo.memory().slots);
  const uint32_t remote_slots_key = far.slots != 0 ? far.slots_key : far.key;
  const Status posted = rail.post(
      {.payload = payload,
       .payload_bytes = in_letter ? 0 : slot.bytes,
       .payload_key = lease != nullptr ? lease->lkey : out.fifo.slot_region(rail.nic()).lkey,
       .remote_payload = landing != nullptr ? landing->address : remote_slot,
       .letter = letter,
       .letter_bytes = static_cast<uint32_t>(sizeof header + (in_letter ? slot.bytes : 0)),
       .remote_letter = remote_letter,
       .letter_key = letters_key,
       .remote_key = far.key,
       .remote_payload_key = landing != nullptr ? landing->keys[which] : remote_slots_key,
       .immediate = (landing != nullptr ? kLandedMessage : kMessage) | (static_cast<uint32_t>(position) & kNumberMask),
       .slot = static_cast<uint8_t>(position % SimpleMemory::kMostInFlight)});
  out.flights[position % SimpleMemory::kMostInFlight] = {Flight::State::Posted, static_cast<uint8_t>(which),
                                                         std::move(lease)};
  if (posted.ok()) return {};
  return close_rail(which, posted.message(), kClosedByCall);  // and the message is among what was on its way
}

void RdmaConnection::release_done() {
  while (out_->released < out_->posted &&
         out_->flights[out_->released % SimpleMemory::kMostInFlight].state == Flight::State::Done) {
    out_->flights[out_->released % SimpleMemory::kMostInFlight].lease.reset();
    out_->drain.release();
    ++out_->released;
  }
}

// --- messages in ---

// Credit is told when half of the slots are free, or all: the sender may wait for all, to cut anew. Between two ranks
// that answer each other it rides in the answer.
Result<bool> RdmaConnection::push_credit() {
  if (in_ == nullptr || ended_) return false;
  In& in = *in_;
  const uint64_t freed = in.freed();
  if (freed == in.credited) return false;
  if (freed != in.published && freed - in.credited < std::max<uint64_t>(in.fill.current_cut().count / 2, 1))
    return false;
  const int which = next_rail(false);
  if (which < 0) return false;
  const Status posted =
      rails_[static_cast<size_t>(which)].post_credit(kCredit | (static_cast<uint32_t>(freed) & kNumberMask));
  in.credited = freed;
  if (!posted.ok()) TUTTI_TRY(close_rail(static_cast<size_t>(which), posted.message(), kClosedByCall));
  return true;
}

void RdmaConnection::take_credit(uint64_t credit) {
  if (out_ != nullptr && credit > out_->credited && credit <= out_->posted) out_->credited = credit;
}

Status RdmaConnection::complete(const ibv_wc& completion) {
  const RdmaTicket ticket = RdmaTicket::decode(completion.wr_id);
  if (ticket.rail >= rails_.size()) return {};
  RdmaRail& rail = rails_[ticket.rail];
  const bool current = ticket.generation == (rail.generation() & 0xff);
  Status closed;
  if (completion.status != IBV_WC_SUCCESS && current)
    closed = close_rail(ticket.rail, cause_of(rail.nic().api(), completion.status, completion.vendor_err),
                        completion.status);
  if (ticket.kind == RdmaTicket::Kind::Receive) {
    const Status posted = rail.receive_done(ticket.generation);
    if (!posted.ok() && closed.ok()) closed = close_rail(ticket.rail, posted.message(), kClosedByCall);
  }
  if (completion.status != IBV_WC_SUCCESS) return closed;
  TUTTI_TRY(closed);
  switch (ticket.kind) {
    case RdmaTicket::Kind::Receive:  // of an earlier generation as well: the peer holds it for delivered
      return take_immediate(__builtin_bswap32(completion.imm_data));
    case RdmaTicket::Kind::Credit:
      if (current) rail.credit_done();
      return {};
    case RdmaTicket::Kind::Landings:
      if (current && in_->telling->rail == ticket.rail) in_->telling->busy = false;
      return {};
    case RdmaTicket::Kind::Letter: {
      Flight& flight = out_->flights[ticket.slot];
      if (!current || flight.state != Flight::State::Posted || flight.rail != ticket.rail) return {};
      flight.state = Flight::State::Done;
      release_done();
      return {};
    }
    case RdmaTicket::Kind::Payload:
      return {};
  }
  return {};
}

Status RdmaConnection::take_immediate(uint32_t immediate) {
  const uint32_t number = immediate & kNumberMask, kind = immediate & kKindMask;
  if (kind == kCredit) {
    if (out_ != nullptr) take_credit(widen(number, out_->credited));
    return {};
  }
  if (kind == kLandings) {
    take_landings(number);
    return {};
  }
  if (in_ == nullptr)
    return remote_error("{} sent a message over RDMA before it was told where to: do both run the same version?",
                        role_.label);
  const uint64_t position = widen(number, in_->published);
  if (position < in_->published) return {};  // written again, and had arrived all the same
  return take_message(position, kind == kLandedMessage);
}

Status RdmaConnection::take_message(uint64_t position, bool landed) {
  if (position - in_->published >= SimpleMemory::kMostInFlight)
    return remote_error("{} sent message {} over RDMA, when {} was the next: do both run the same version?",
                        role_.label, position, in_->published);
  In::Arrival& arrival = in_->arrived[position % SimpleMemory::kMostInFlight];
  // Arrived twice, it is in both places: it had landed, and was written again into its slot.
  if (arrival == In::Arrival::None) arrival = landed ? In::Arrival::Landed : In::Arrival::InSlot;
  return in_->flush ? Status() : publish_arrived();  // flushed for all that have arrived together: carry() is next
}

// A flush is of all that had arrived when it began, so it comes after the completions and before the first of them is
// published.
Status RdmaConnection::publish_flushed() {
  if (in_ == nullptr || !in_->flush) return {};
  if (in_->arrived[in_->published % SimpleMemory::kMostInFlight] == In::Arrival::None) return {};
  if (Status flushed = in_->fifo.gpu_slots()->flush(); !flushed.ok()) {
    culprit_ = role_.me;
    return flushed;
  }
  return publish_arrived();
}

Status RdmaConnection::publish_arrived() {
  In& in = *in_;
  for (uint64_t place = in.published % SimpleMemory::kMostInFlight; in.arrived[place] != In::Arrival::None;
       place = ++in.published % SimpleMemory::kMostInFlight) {
    RdmaHeader header;
    const std::byte* const letter = in.fifo.letter(in.published);
    std::memcpy(&header, letter, sizeof header);
    const SlotCut& cut = header.cut;
    const bool landed = in.arrived[place] == In::Arrival::Landed;
    const Landings::Wish& wish = in.landings.wishes[place];
    const bool fits = cut.count >= 1 && cut.count <= SimpleMemory::kMostInFlight && cut.bytes >= 1 &&
                      cut.bytes <= role_.capacity / cut.count && header.bytes <= cut.bytes;
    const bool placed =
        header.in_letter == 0 || (header.in_letter == 1 && header.bytes <= kLetterPayload && !in.fifo.on_gpu());
    const bool in_turn = header.flag == make_flag(in.published, identity_of(header.flag));
    const bool wished = !landed || (in.telling && in.published < in.telling->told && wish.to != nullptr &&
                                    wish.flag == header.flag && wish.bytes == header.bytes);
    if (!fits || !placed || !in_turn || !wished || !in.fill.cut(cut) || !in.fill.has_room())
      return remote_error(
          "{} sent an impossible letter over RDMA ({} bytes in {} slots of {} at position {}; this rank has {} bytes "
          "of "
          "slots and expects position {}): do both run the same version with the same TUTTI_BUFFER_BYTES?",
          role_.label, header.bytes, cut.count, cut.bytes, (header.flag & kPositionMask) - 1, role_.capacity,
          in.published);
    if (header.in_letter == 1) std::memcpy(in.fill.slot(), letter + sizeof header, header.bytes);
    in.landings.landed[place] = landed ? wish.to : nullptr;
    in.landed += landed;
    if (in.telling)
      for (UserMemory::Lease& lease : in.telling->leases[place]) lease.reset();
    in.fill.publish(header.bytes, identity_of(header.flag));
    in.arrived[place] = In::Arrival::None;
    take_credit(header.credit);
  }
  return {};
}

// --- landings ---

// The peer has something to tell. Without a table it tells nothing, and all goes through slots.
Status RdmaConnection::make_table() {
  Result<LandingTable> table = LandingTable::create(rails_, RdmaNic::Access::PeersWrite);
  if (!table.ok()) {
    log_info(Subsystem::Transport, "RDMA to {}: all goes through slots there: {}", role_.label,
             table.status().message());
    return {};
  }
  told_.emplace(Told{.table = std::move(*table)});
  for (size_t which = 0; which < rails_.size(); ++which)
    say({.kind = RdmaWord::Kind::Table,
         .rail = static_cast<uint32_t>(which),
         .key = told_->table.region(rails_[which].nic()).rkey,
         .address = reinterpret_cast<uint64_t>(told_->table.entries())});
  return {};
}

void RdmaConnection::take_landings(uint32_t number) {
  if (!told_) return;
  const uint64_t first = widen(number & ((1u << kFirstBits) - 1), out_ != nullptr ? out_->posted : 0, kFirstBits);
  const uint64_t count = (number >> kFirstBits) + 1;
  for (uint64_t position = first; position < first + count; ++position) {
    // Of an earlier rail it may come late: the entry of a later position has taken the place of this one.
    uint64_t& until = told_->until[LandingTable::place(position)];
    until = std::max(until, position + 1);
  }
}

// Null: into its slot.
const RdmaLanding* RdmaConnection::landing_of(uint64_t position, const SlotDescriptor& slot, size_t which) const {
  if (!told_ || slot.bytes <= kLetterPayload || told_->until[LandingTable::place(position)] != position + 1)
    return nullptr;
  const RdmaLanding& entry = told_->table.at(position);
  return entry.flag == slot.flag && entry.bytes == slot.bytes && entry.keys[which] != 0 ? &entry : nullptr;
}

// False: the message at this position stays in its slot.
bool RdmaConnection::write_entry(uint64_t position) {
  Telling& telling = *in_->telling;
  RdmaLanding& entry = telling.table.at(position);
  entry = {};
  const Landings::Wish& wish = in_->landings.wishes[LandingTable::place(position)];
  if (wish.to == nullptr) return false;
  auto& leases = telling.leases[LandingTable::place(position)];
  bool any = false;
  for (size_t which = 0; which < rails_.size(); ++which) {
    leases[which] = role_.user_memory->lease(rails_[which].nic(), wish.to, wish.bytes, RdmaNic::Access::PeersWrite);
    if (leases[which] == nullptr) continue;  // what comes over this rail goes into the slot
    entry.keys[which] = leases[which]->rkey;
    any = true;
  }
  if (!any) return false;
  entry.flag = wish.flag;
  entry.bytes = wish.bytes;
  entry.address = reinterpret_cast<uint64_t>(wish.to);
  return true;
}

Result<bool> RdmaConnection::tell_landings() {
  if (in_ == nullptr || ended_ || setup_) return false;
  In& in = *in_;
  const uint64_t wished = in.landings.wished;
  if (wished <= in.published || (in.telling && wished <= in.telling->told)) return false;
  if (!in.wants_table) {
    in.wants_table = true;
    say({.kind = RdmaWord::Kind::WantTable});
  }
  if (std::any_of(far_.begin(), far_.end(), [](const Far& far) { return far.table == 0; })) return false;
  if (!in.telling) {
    TUTTI_ASSIGN_OR_RETURN(LandingTable table, LandingTable::create(rails_, RdmaNic::Access::Read));
    in.telling.emplace(Telling{.table = std::move(table)});
  }
  Telling& telling = *in.telling;
  if (telling.busy) return false;
  if (telling.rail < 0) telling.rail = next_rail(false);
  if (telling.rail < 0) return false;
  const auto which = static_cast<size_t>(telling.rail);
  RdmaRail& rail = rails_[which];
  if (rail.phase() != RdmaRail::Phase::Up) return false;  // until it is settled

  // A run of positions whose entries lie side by side, without those at its begin that stay in their slots.
  uint64_t first = std::max(telling.told, in.published);
  while (first < wished && !write_entry(first)) ++first;
  uint64_t end = first;
  for (const uint64_t most = first + std::min(kMostTold, SimpleMemory::kMostInFlight - LandingTable::place(first));
       end < std::min(wished, most) && (end == first || write_entry(end));)
    ++end;
  telling.told = end;
  if (first == end) return false;
  const uint64_t offset = LandingTable::place(first) * sizeof(RdmaLanding);
  const Status posted = rail.post_landings({.from = reinterpret_cast<const std::byte*>(&telling.table.at(first)),
                                            .bytes = static_cast<uint32_t>((end - first) * sizeof(RdmaLanding)),
                                            .key = telling.table.region(rail.nic()).lkey,
                                            .remote = far_[which].table + offset,
                                            .remote_key = far_[which].table_key},
                                           kLandings | static_cast<uint32_t>(end - first - 1) << kFirstBits |
                                               (static_cast<uint32_t>(first) & ((1u << kFirstBits) - 1)));
  telling.busy = true;
  if (!posted.ok()) TUTTI_TRY(close_rail(which, posted.message(), kClosedByCall));
  return true;
}

}  // namespace tutti
